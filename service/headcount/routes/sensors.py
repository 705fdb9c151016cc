"""Sensors: heartbeats in; states, incidents and availability out."""

from datetime import UTC, datetime
from urllib.parse import urlencode

from litestar import Response, get, post
from litestar.di import NamedDependency, Provide

from headcount.database import calls
from headcount.database.pool import Client
from headcount.http.answers import encoded, prefers_html, prefers_msgpack, unless_known
from headcount.http.auth import charge
from headcount.http.decoding import admit, decode_heartbeats
from headcount.http.inputs import SLOW_SESSION, DpuId, batch_of, content_of, query_of, session_of
from headcount.http.openapi import described
from headcount.http.requests import HttpRequest, decode, query
from headcount.http.services import services
from headcount.http.sessions import access_of, database
from headcount.ingest.heartbeats import HeartbeatBatch, check
from headcount.routes.page import page_answer
from headcount.sensors.listing import Listed, list_page, place_of
from headcount.web import FOLDER
from headcount.wire import paging
from headcount.wire.bodies import HTML, JSON, MAX_SMALL_BODY, MSGPACK
from headcount.wire.messages.base import Page
from headcount.wire.messages.events import BackfillQuery, EventsRecordedOut
from headcount.wire.messages.sensors import (
    AvailabilityOut,
    AvailabilityQuery,
    HeartbeatIn,
    HeartbeatOut,
    HeartbeatQuery,
    HeartbeatsIn,
    IncidentOut,
    IncidentsQuery,
    SensorOut,
    SensorsQuery,
)

PAGE = FOLDER / "sensors.html"
PAGE_SENSORS = 100


async def _read_heartbeat(request: HttpRequest) -> HeartbeatIn:
    await admit(request, services(request).heartbeats.intake)
    heartbeat = await decode(request, HeartbeatIn, MAX_SMALL_BODY)
    charge(request, 1)
    return heartbeat


def _sensors_params(request: HttpRequest) -> SensorsQuery | None:
    """None where the page is asked for: its query string is its own."""
    return None if prefers_html(request) else query(request, SensorsQuery)


@post(
    "/v1/heartbeats",
    status_code=200,
    dependencies={
        "params": query_of(BackfillQuery),
        "content": batch_of(lambda services: services.heartbeats.intake, decode_heartbeats),
    },
    opt=described(scope="ingest", body=HeartbeatsIn),
)
async def record_heartbeats(
    request: HttpRequest,
    params: NamedDependency[BackfillQuery],
    content: NamedDependency[HeartbeatBatch],
    session: NamedDependency[Client],
) -> EventsRecordedOut:
    """Store heartbeats. The answer comes after the commit, with a verdict for each that was not accepted.

    Up to 10,000. Each names its DPU by `dpu` or by `mac_address`; an unknown MAC address is registered. A heartbeat
    that tells nothing new is a duplicate. A bad heartbeat does not affect the good ones in the same request. With
    `backfill=true` receipt is no sign of life; only the times that the heartbeats tell are.
    """
    token = access_of(request).token
    return await services(request).heartbeats.record(session, content, token, backfill=params.backfill)


@post(
    "/heartbeat",
    status_code=200,
    dependencies={"content": content_of(_read_heartbeat)},
    opt=described(404, scope="ingest"),
)
async def record_heartbeat(
    request: HttpRequest, content: NamedDependency[HeartbeatIn], session: NamedDependency[Client]
) -> HeartbeatOut:
    """Store the heartbeat of one DPU. An unknown MAC address is registered."""
    return await services(request).heartbeats.record_one(session, content, access_of(request).token)


@get(
    "/heartbeat",
    dependencies={"params": query_of(HeartbeatQuery)},
    opt=described(404, scope="ingest", triggers=True),
)
async def get_heartbeat(
    request: HttpRequest, params: NamedDependency[HeartbeatQuery], session: NamedDependency[Client]
) -> HeartbeatOut:
    """Store a heartbeat by GET, for devices that cannot do more. HEAD stores nothing."""
    if request.scope["state"]["is_head"]:
        return HeartbeatOut(check(params).dpu or "", datetime.now(UTC))
    charge(request, 1)
    return await services(request).heartbeats.record_one(session, params, access_of(request).token)


@get(
    "/sensors",
    dependencies={"params": Provide(_sensors_params, sync_to_thread=False)},
    opt=described(
        404,
        scope="read",
        answer=list[SensorOut],
        cached=True,
        gives_headers=("NextPage",),
        media_types=(JSON, MSGPACK, HTML),
    ),
)
async def list_sensors(request: HttpRequest, params: NamedDependency[SensorsQuery | None]) -> Response[bytes]:
    """List the sensors: offline ones first, then by id. Browsers that prefer text/html get the page.

    With `limit` or `after` the answer is one page of the list. The header Link has the address of the next page
    (rel="next"). A sensor that goes offline or comes back between two pages changes its place.
    """
    if params is None:
        return page_answer(request, PAGE)
    session = database(request, is_slow=True)
    if params.is_paged:
        return unless_known(request, await page_of(request, session, params))
    return unless_known(request, await whole(request, await services(request).sensors.list(session, params)))


async def whole(request: HttpRequest, listed: Listed) -> Response[bytes]:
    as_msgpack = prefers_msgpack(request)
    content, tag = await listed.encoded(as_msgpack)
    return Response(content, media_type=MSGPACK if as_msgpack else JSON, headers={"ETag": tag})


async def page_of(request: HttpRequest, session: Client, params: SensorsQuery) -> Response[bytes]:
    limit = params.limit or PAGE_SENSORS
    found = await list_page(session, params, limit + 1)
    content, media_type = encoded(request, found[:limit])
    response = Response(content, media_type=media_type)
    if len(found) > limit:
        more = {
            "space": params.space,
            "state": params.state,
            "limit": limit,
            "after": paging.write(place_of(found[limit - 1])),
        }
        given = urlencode({name: value for name, value in more.items() if value is not None})
        response.headers["Link"] = f'<{request.url.path}?{given}>; rel="next"'
    return response


# For a limited token the ids of all incidents that its sensors ever had are read.
_INCIDENTS_SESSION = session_of(lambda request, _: database(request, is_slow=access_of(request).is_limited))


@get(
    "/v1/incidents",
    dependencies={"params": query_of(IncidentsQuery), "session": _INCIDENTS_SESSION},
    opt=described(scope="read"),
)
async def list_incidents(
    params: NamedDependency[IncidentsQuery], session: NamedDependency[Client]
) -> Page[IncidentOut]:
    """List the incidents of sensors, the newest first; with `open=true` only those that are open."""
    after = paging.read(params.after, int) if params.after else None
    rows = await calls.list_incidents(session, params.open, after, params.limit + 1)
    return paging.page(rows, params.limit, lambda incident: int(incident.id))


@get(
    "/v1/dpus/{dpu:str}/availability",
    dependencies={"params": query_of(AvailabilityQuery), "session": SLOW_SESSION},
    opt=described(404, scope="read"),
)
async def get_availability(
    dpu: DpuId, params: NamedDependency[AvailabilityQuery], session: NamedDependency[Client]
) -> AvailabilityOut:
    """Get how long a DPU was online in [from, to), with its outages. Default: the last 24 hours."""
    return await calls.get_availability(session, dpu, params.from_, params.to)


HANDLERS = [record_heartbeats, record_heartbeat, get_heartbeat, list_sensors, list_incidents, get_availability]
