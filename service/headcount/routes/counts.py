"""How many people are, or were, in a space."""

from datetime import UTC, datetime

from litestar import get
from litestar.di import NamedDependency
from litestar.response import Stream
from litestar.types import ASGIApp

from headcount.database import calls
from headcount.database.pool import Client
from headcount.database.replica import ReplicaSession
from headcount.http.answers import Answer, csv_answer, prefers_csv
from headcount.http.auth import end_admission
from headcount.http.inputs import SLOW_READING, ReadingSession, SpaceId, query_of, session_of
from headcount.http.openapi import LAST_EVENT_ID, described
from headcount.http.requests import HttpRequest
from headcount.http.services import services
from headcount.http.sessions import access_of, database, reading
from headcount.live.events import MEDIA_TYPE
from headcount.live.selections import Subscription
from headcount.wire.bodies import CSV, JSON, MSGPACK
from headcount.wire.messages.counts import (
    BucketOut,
    CountOut,
    CountQuery,
    CountsOut,
    CountsQuery,
    LiveQuery,
    SpaceCountsOut,
    SpaceCountsQuery,
)


def _for_count(request: HttpRequest, params: CountQuery) -> Client | ReplicaSession:
    return reading(request, params.max_staleness, is_now=params.is_now, is_slow=params.known_at is not None)


def _for_counts(request: HttpRequest, params: CountsQuery) -> Client | ReplicaSession:
    limited_to = database(request).limited_to
    is_slow = not params.is_now or services(request).reader.is_slow(limited_to, params.space, params.under)
    return reading(request, params.max_staleness, is_now=params.is_now, is_slow=is_slow)


@get(
    "/v1/spaces/{space:str}/count",
    dependencies={"params": query_of(CountQuery), "session": session_of(_for_count)},
    opt=described(404, scope="read", is_direct=True),
)
async def get_count(
    request: HttpRequest, space: SpaceId, params: NamedDependency[CountQuery], session: ReadingSession
) -> CountOut:
    """Get the count of a space: now, or at the instant `at`, from what was known at `known_at`."""
    return await services(request).reader.get_count(session, space, params.at, params.known_at)


@get(
    "/v1/counts",
    dependencies={"params": query_of(CountsQuery), "session": session_of(_for_counts)},
    opt=described(404, scope="read"),
)
async def list_counts(request: HttpRequest, params: NamedDependency[CountsQuery], session: ReadingSession) -> CountsOut:
    """Get the counts of some spaces, of a space and all below it, or of all, from one snapshot."""
    reader = services(request).reader
    counts = await reader.list_counts(session, params.space, params.under, params.at, params.known_at)
    if params.space is None:
        reader.note_number(database(request).limited_to, params.under, len(counts))
    return CountsOut(counts[0].at if counts else params.at or datetime.now(UTC), counts)


@get(
    "/v1/spaces/{space:str}/counts",
    dependencies={"params": query_of(SpaceCountsQuery), "session": SLOW_READING},
    opt=described(404, scope="read", media_types=(JSON, MSGPACK, CSV)),
)
async def list_space_counts(
    request: HttpRequest, space: SpaceId, params: NamedDependency[SpaceCountsQuery], session: ReadingSession
) -> Answer[SpaceCountsOut] | Stream:
    """Get how the count of a space went in [from, to): buckets of local time, at most 10,000.

    `to` is now by default; `from` is 24 hours before `to`; `time_zone` is that of the space. Days, weeks (from Monday)
    and months begin at local midnight; a day can have 23 or 25 hours. The last bucket can be unfinished: it tells what
    has happened so far. Send `Accept: text/csv` or `format=csv` for CSV.
    """
    found = await calls.list_space_counts(session, space, params.from_, params.to, params.interval, params.time_zone)
    if params.format == "csv" or (params.format is None and prefers_csv(request)):
        return csv_answer(found.buckets, BucketOut)
    return Answer(found)


@get(
    "/v1/live",
    dependencies={"params": query_of(LiveQuery)},
    opt=described(404, scope="read", takes_headers=(LAST_EVENT_ID,), media_types=(MEDIA_TYPE,)),
)
async def stream_counts(request: HttpRequest, params: NamedDependency[LiveQuery]) -> ASGIApp:
    """Stream the counts of some spaces, of a space and all below it, or of all.

    Server-sent events. `count` has what GET /v1/spaces/{id}/count answers: once for each space, then within a second
    of every change. `space` with `{space, deleted}`: the space itself was created, changed or deleted. `dpu` with
    `{dpu, state, last_seen, at, space}`: a sensor went offline, came back or is new. `list` with `{reason}`: changes
    may have been missed, so list spaces and sensors again. With `Last-Event-ID` the stream begins with what changed
    since; after more than 2 minutes it begins with `list` and all counts. A comment comes every 10 seconds while
    nothing else is sent.
    """
    # in one order, whoever asks: those who ask for the same share it
    spaces = tuple(sorted(set(params.space))) if params.space is not None else None
    last_id = request.headers.get("last-event-id")
    listener = await services(request).live.listen(Subscription(spaces, params.under), access_of(request), last_id)
    end_admission(request)
    return listener


HANDLERS = [get_count, list_counts, list_space_counts, stream_counts]
