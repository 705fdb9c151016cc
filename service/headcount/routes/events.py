"""Events in and out."""

from datetime import datetime

from litestar import Response, get, post

from headcount.database import calls
from headcount.http.auth import charge
from headcount.http.decoding import admit, decode_events, decode_rerun
from headcount.http.openapi import described
from headcount.http.requests import HttpRequest, answer, query
from headcount.http.services import services
from headcount.http.sessions import database, reading
from headcount.ingest import rejected
from headcount.wire import paging
from headcount.wire.messages import (
    BackfillQuery,
    EventOut,
    EventsIn,
    EventsQuery,
    EventsRecordedOut,
    Id,
    Page,
    RejectedEventOut,
    RejectedQuery,
    RerunIn,
    RerunOut,
    RerunQuery,
)


@post("/v1/events", opt=described(EventsRecordedOut, scope="ingest", query=BackfillQuery, body=EventsIn))
async def record_events(request: HttpRequest) -> Response[bytes]:
    """Store events. The answer comes after the commit, with a verdict for each that was not accepted.

    JSON, MessagePack, NDJSON or CSV, each also as gzip; up to 10,000 events or 8 MiB inflated. A bad event does not
    affect the good ones in the same request. With `backfill=true` receipt is no sign of life of the DPUs.
    """
    asked = query(request, BackfillQuery)
    await admit(request, services(request).writer.intake)
    batch = await decode_events(request)
    charge(request, batch.received)
    return answer(request, await services(request).writer.record(database(request), batch, backfill=asked.backfill))


@get("/v1/events", opt=described(Page[EventOut], 404, scope="read", query=EventsQuery))
async def list_events(request: HttpRequest) -> Response[bytes]:
    """List the events of a DPU, or those that counted for a space, in [from, to), in time order."""
    asked = query(request, EventsQuery)
    none = (None, None, None)
    time, dpu, sequence = paging.read(asked.after, tuple[datetime, Id, int]) if asked.after else none
    session = reading(request, asked.max_staleness, is_slow=True)
    rows = await calls.list_events(
        session, asked.dpu, asked.space, asked.from_, asked.to, time, dpu, sequence, asked.limit + 1
    )
    return answer(request, paging.page(rows, asked.limit, lambda e: (e.timestamp, e.dpu, e.sequence)))


@get("/v1/rejected", opt=described(Page[RejectedEventOut], scope="read", query=RejectedQuery))
async def list_rejected(request: HttpRequest) -> Response[bytes]:
    """List refused events with their reasons, the latest receipt first. They are kept for 30 days."""
    asked = query(request, RejectedQuery)
    at, id = paging.read(asked.after, tuple[datetime, int]) if asked.after else (None, None)
    rows = await calls.list_rejected(
        database(request),
        asked.dpu,
        asked.source,
        asked.code,
        asked.from_,
        asked.to,
        at,
        id,
        asked.rerun,
        asked.limit + 1,
    )
    return answer(request, paging.page(rows, asked.limit, lambda e: (e.received_at, int(e.id))))


@post(
    "/v1/rejected/rerun",
    status_code=200,
    opt=described(RerunOut, scope="admin", query=RerunQuery, body=RerunIn),
)
async def rerun_rejected(request: HttpRequest) -> Response[bytes]:
    """Run refused events again after the reason was corrected: by a filter, or by their ids.

    The filter comes in the body or in the query string. Events that are accepted leave the list. This is no sign of
    life. Events that could not be decoded stay in the list: correct them and send them again.
    """
    auto_register = services(request).writer.settings.auto_register
    asked = await decode_rerun(request)
    return answer(request, await rejected.rerun(database(request, is_slow=True), asked, auto_register=auto_register))


HANDLERS = [record_events, list_events, list_rejected, rerun_rejected]
