"""Polls in."""

from litestar import Response, post

from headcount.http.auth import charge
from headcount.http.decoding import admit, decode_polls
from headcount.http.openapi import described
from headcount.http.requests import HttpRequest, answer, no_query
from headcount.http.services import services
from headcount.http.sessions import database
from headcount.wire.messages import EventsRecordedOut, PollsIn


@post("/v1/polls", opt=described(EventsRecordedOut, scope="ingest", body=PollsIn))
async def record_polls(request: HttpRequest) -> Response[bytes]:
    """Store polls. The answer comes after the commit, with a verdict for each that was not accepted.

    JSON, MessagePack, NDJSON or CSV, each also as gzip; up to 10,000 polls or 8 MiB inflated. Two polls of one
    instant that disagree are both kept. A bad poll does not affect the good ones in the same request.
    """
    no_query(request)
    await admit(request, services(request).writer.intake)
    batch = await decode_polls(request)
    charge(request, batch.received)
    return answer(request, await services(request).writer.record_polls(database(request), batch))


HANDLERS = [record_polls]
