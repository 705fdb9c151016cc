"""Polls in."""

from litestar import post
from litestar.di import NamedDependency

from headcount.database.pool import Client
from headcount.http.decoding import decode_polls
from headcount.http.inputs import batch_of
from headcount.http.openapi import described
from headcount.http.requests import HttpRequest
from headcount.http.services import services
from headcount.ingest.polls import PollBatch
from headcount.wire.messages.events import EventsRecordedOut
from headcount.wire.messages.uptime import PollsIn


@post(
    "/v1/polls",
    status_code=200,
    dependencies={"content": batch_of(lambda services: services.writer.intake, decode_polls)},
    opt=described(scope="ingest", body=PollsIn),
)
async def record_polls(
    request: HttpRequest, content: NamedDependency[PollBatch], session: NamedDependency[Client]
) -> EventsRecordedOut:
    """Store polls. The answer comes after the commit, with a verdict for each that was not accepted.

    JSON, MessagePack, NDJSON or CSV, each also as gzip; up to 10,000 polls or 8 MiB inflated. Two polls of one
    instant that disagree are both kept. A bad poll does not affect the good ones in the same request.
    """
    return await services(request).writer.record_polls(session, content)


HANDLERS = [record_polls]
