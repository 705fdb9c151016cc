"""Polls in."""

from litestar import Response, post

from headcount.database.pool import database
from headcount.http.auth import charge
from headcount.http.openapi import described
from headcount.ingest import polls
from headcount.ingest.writer import writer
from headcount.wire.messages import EventsRecordedOut, PollsIn
from headcount.wire.negotiation import HttpRequest, answer, no_query


@post("/v1/polls", opt=described(EventsRecordedOut, scope="ingest", body=PollsIn))
async def record_polls(request: HttpRequest) -> Response[bytes]:
    """Stores polls and answers after the commit, with a verdict for each that was not accepted.

    JSON, MessagePack, NDJSON or CSV, each also as gzip; up to 10,000 polls or 8 MiB inflated. Two polls of one
    instant that disagree are both kept. One bad poll never costs the good ones beside it.
    """
    no_query(request)
    await writer(request).room.admit(request)
    batch = await polls.decode_polls(request)
    charge(request, batch.received)
    return answer(request, await writer(request).record_polls(database(request), batch))


HANDLERS = [record_polls]
