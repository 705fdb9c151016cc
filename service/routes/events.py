"""Events in and out."""

from datetime import datetime

from litestar import Response, get, post

from service import calls, cursor, ingest
from service.auth import charge
from service.db import database
from service.messages import EventOut, EventsIn, EventsQuery, EventsRecordedOut, Id, Page
from service.negotiation import HttpRequest, answer, no_query, query
from service.openapi import described
from service.replica import reading
from service.writer import writer


@post("/v1/events", opt=described(EventsRecordedOut, scope="ingest", body=EventsIn))
async def record_events(request: HttpRequest) -> Response[bytes]:
    """Stores events and answers after the commit, with a verdict for each that was not accepted.

    JSON, MessagePack, NDJSON or CSV, each also as gzip; up to 10,000 events or 8 MiB inflated.
    One bad event never costs the good ones beside it.
    """
    no_query(request)
    await writer(request).room.admit(request)
    batch = await ingest.decode_events(request)
    charge(request, batch.received)
    return answer(request, await writer(request).record(database(request), batch))


@get("/v1/events", opt=described(Page[EventOut], 404, scope="read", query=EventsQuery))
async def list_events(request: HttpRequest) -> Response[bytes]:
    """Raw events of a DPU, or those that counted for a space, in [from, to), in time order."""
    asked = query(request, EventsQuery)
    none = (None, None, None)
    time, dpu, sequence = cursor.read(asked.after, tuple[datetime, Id, int]) if asked.after else none
    session = reading(request, asked.max_staleness)
    rows = await calls.list_events(
        session, asked.dpu, asked.space, asked.from_, asked.to, time, dpu, sequence, asked.limit + 1
    )
    return answer(request, cursor.page(rows, asked.limit, lambda e: (e.timestamp, e.dpu, e.sequence)))


HANDLERS = [record_events, list_events]
