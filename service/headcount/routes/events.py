"""Events in and out."""

from datetime import datetime

from litestar import get, post
from litestar.di import NamedDependency, Provide
from litestar.params import SkipValidation

from headcount.database import calls
from headcount.database.pool import Client
from headcount.http.decoding import decode_events, decode_rerun
from headcount.http.inputs import SLOW_READING, SLOW_SESSION, ReadingSession, batch_of, query_of
from headcount.http.openapi import described
from headcount.http.requests import HttpRequest
from headcount.http.services import services
from headcount.ingest import rejected
from headcount.ingest.formats import EventBatch
from headcount.wire import paging
from headcount.wire.messages.base import Id, Page
from headcount.wire.messages.events import (
    BackfillQuery,
    EventOut,
    EventsIn,
    EventsQuery,
    EventsRecordedOut,
    RejectedEventOut,
    RejectedQuery,
    RerunIn,
    RerunOut,
    RerunQuery,
)


@post(
    "/v1/events",
    status_code=200,
    dependencies={
        "params": query_of(BackfillQuery),
        "content": batch_of(lambda services: services.writer.intake, decode_events),
    },
    opt=described(scope="ingest", body=EventsIn, is_direct=True),
)
async def record_events(
    request: HttpRequest,
    params: NamedDependency[BackfillQuery],
    content: NamedDependency[EventBatch],
    session: NamedDependency[Client],
) -> EventsRecordedOut:
    """Store events. The answer comes after the commit, with a verdict for each that was not accepted.

    JSON, MessagePack, NDJSON or CSV, each also as gzip; up to 10,000 events or 8 MiB inflated. A bad event does not
    affect the good ones in the same request. With `backfill=true` receipt is no sign of life of the DPUs.
    """
    return await services(request).writer.record(session, content, backfill=params.backfill)


@get(
    "/v1/events",
    dependencies={"params": query_of(EventsQuery), "session": SLOW_READING},
    opt=described(404, scope="read"),
)
async def list_events(params: NamedDependency[EventsQuery], session: ReadingSession) -> Page[EventOut]:
    """List the events of a DPU, or those that counted for a space, in [from, to), in time order."""
    none = (None, None, None)
    time, dpu, sequence = paging.read(params.after, tuple[datetime, Id, int]) if params.after else none
    rows = await calls.list_events(
        session, params.dpu, params.space, params.from_, params.to, time, dpu, sequence, params.limit + 1
    )
    return paging.page(rows, params.limit, lambda e: (e.timestamp, e.dpu, e.sequence))


@get("/v1/rejected", dependencies={"params": query_of(RejectedQuery)}, opt=described(scope="read"))
async def list_rejected(
    params: NamedDependency[RejectedQuery], session: NamedDependency[Client]
) -> Page[RejectedEventOut]:
    """List refused events with their reasons, the latest receipt first. They are kept for 30 days."""
    at, id = paging.read(params.after, tuple[datetime, int]) if params.after else (None, None)
    rows = await calls.list_rejected(
        session,
        params.dpu,
        params.source,
        params.code,
        params.from_,
        params.to,
        at,
        id,
        params.rerun,
        params.limit + 1,
    )
    return paging.page(rows, params.limit, lambda e: (e.received_at, int(e.id)))


@post(
    "/v1/rejected/rerun",
    status_code=200,
    dependencies={"params": Provide(decode_rerun), "session": SLOW_SESSION},
    opt=described(scope="admin", query=RerunQuery, body=RerunIn),
)
async def rerun_rejected(
    request: HttpRequest, params: NamedDependency[SkipValidation[RerunIn]], session: NamedDependency[Client]
) -> RerunOut:
    """Run refused events again after the reason was corrected: by a filter, or by their ids.

    The filter comes in the body or in the query string. Events that are accepted leave the list. This is no sign of
    life. Events that could not be decoded stay in the list: correct them and send them again.
    """
    auto_register = services(request).writer.settings.auto_register
    return await rejected.rerun(session, params, auto_register=auto_register)


HANDLERS = [record_events, list_events, list_rejected, rerun_rejected]
