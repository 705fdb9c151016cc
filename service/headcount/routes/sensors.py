"""Sensors: heartbeats in; states, incidents and availability out."""

from datetime import UTC, datetime
from urllib.parse import urlencode

from litestar import Response, get, post

from headcount.database import calls
from headcount.http.auth import charge
from headcount.http.decoding import admit, decode_heartbeats
from headcount.http.openapi import described
from headcount.http.requests import (
    HttpRequest,
    answer,
    decode,
    no_query,
    path_id,
    prefers_html,
    prefers_msgpack,
    query,
    unless_known,
)
from headcount.http.services import services
from headcount.http.sessions import access_of, database
from headcount.ingest.heartbeats import check
from headcount.routes.page import page_answer
from headcount.sensors.listing import Listed, Place, place_of
from headcount.web import FOLDER
from headcount.wire import paging
from headcount.wire.bodies import HTML, JSON, MAX_SMALL_BODY, MSGPACK
from headcount.wire.messages import (
    AvailabilityOut,
    AvailabilityQuery,
    BackfillQuery,
    EventsRecordedOut,
    HeartbeatIn,
    HeartbeatOut,
    HeartbeatQuery,
    HeartbeatsIn,
    IncidentOut,
    IncidentsQuery,
    Page,
    SensorOut,
    SensorsQuery,
)

PAGE = FOLDER / "sensors.html"
PAGE_SENSORS = 100


@post("/v1/heartbeats", opt=described(EventsRecordedOut, scope="ingest", query=BackfillQuery, body=HeartbeatsIn))
async def record_heartbeats(request: HttpRequest) -> Response[bytes]:
    """Store heartbeats. The answer comes after the commit, with a verdict for each that was not accepted.

    Up to 10,000. Each names its DPU by `dpu` or by `mac_address`; an unknown MAC address is registered. A heartbeat
    that tells nothing new is a duplicate. A bad heartbeat does not affect the good ones in the same request. With
    `backfill=true` receipt is no sign of life; only the times that the heartbeats tell are.
    """
    asked = query(request, BackfillQuery)
    await admit(request, services(request).heartbeats.intake)
    batch = await decode_heartbeats(request)
    charge(request, batch.received)
    found = await services(request).heartbeats.record(
        database(request), batch, access_of(request).token, backfill=asked.backfill
    )
    return answer(request, found)


@post("/heartbeat", opt=described(HeartbeatOut, 404, scope="ingest", body=HeartbeatIn))
async def record_heartbeat(request: HttpRequest) -> Response[bytes]:
    """Store the heartbeat of one DPU. An unknown MAC address is registered."""
    no_query(request)
    await admit(request, services(request).heartbeats.intake)
    heartbeat = await decode(request, HeartbeatIn, MAX_SMALL_BODY)
    charge(request, 1)
    return answer(
        request, await services(request).heartbeats.record_one(database(request), heartbeat, access_of(request).token)
    )


@get("/heartbeat", opt=described(HeartbeatOut, 404, scope="ingest", query=HeartbeatQuery, triggers=True))
async def get_heartbeat(request: HttpRequest) -> Response[bytes]:
    """Store a heartbeat by GET, for devices that cannot do more. HEAD stores nothing."""
    asked = query(request, HeartbeatQuery)
    if request.scope["state"]["is_head"]:
        return answer(request, HeartbeatOut(check(asked).dpu or "", datetime.now(UTC)))
    charge(request, 1)
    return answer(
        request, await services(request).heartbeats.record_one(database(request), asked, access_of(request).token)
    )


@get(
    "/sensors",
    opt=described(
        list[SensorOut],
        404,
        scope="read",
        query=SensorsQuery,
        cached=True,
        gives_headers=("NextPage",),
        media_types=(JSON, MSGPACK, HTML),
    ),
)
async def list_sensors(request: HttpRequest) -> Response[bytes]:
    """List the sensors: offline ones first, then by id. Browsers that prefer text/html get the page.

    With `limit` or `after` the answer is one page of the list. The header Link has the address of the next page
    (rel="next"). A sensor that goes offline or comes back between two pages changes its place.
    """
    if prefers_html(request):
        return page_answer(request, PAGE)
    asked = query(request, SensorsQuery)
    listed = await services(request).sensors.list(database(request, is_slow=True), asked.space, asked.state)
    if asked.is_paged:
        return unless_known(request, page_of(request, listed, asked))
    return unless_known(request, await whole(request, listed))


async def whole(request: HttpRequest, listed: Listed) -> Response[bytes]:
    as_msgpack = prefers_msgpack(request)
    content, tag = await listed.encoded(as_msgpack)
    return Response(content, media_type=MSGPACK if as_msgpack else JSON, headers={"ETag": tag})


def page_of(request: HttpRequest, listed: Listed, asked: SensorsQuery) -> Response[bytes]:
    limit = asked.limit or PAGE_SENSORS
    found = listed.after(paging.read(asked.after, Place) if asked.after else None, limit + 1)
    response = answer(request, found[:limit])
    if len(found) > limit:
        more = {
            "space": asked.space,
            "state": asked.state,
            "limit": limit,
            "after": paging.write(place_of(found[limit - 1])),
        }
        given = urlencode({name: value for name, value in more.items() if value is not None})
        response.headers["Link"] = f'<{request.url.path}?{given}>; rel="next"'
    return response


@get("/v1/incidents", opt=described(Page[IncidentOut], scope="read", query=IncidentsQuery))
async def list_incidents(request: HttpRequest) -> Response[bytes]:
    """List the incidents of sensors, the newest first; with `open=true` only those that are open."""
    asked = query(request, IncidentsQuery)
    after = paging.read(asked.after, int) if asked.after else None
    rows = await calls.list_incidents(database(request), asked.open, after, asked.limit + 1)
    return answer(request, paging.page(rows, asked.limit, lambda incident: int(incident.id)))


@get("/v1/dpus/{dpu:str}/availability", opt=described(AvailabilityOut, 404, scope="read", query=AvailabilityQuery))
async def get_availability(request: HttpRequest) -> Response[bytes]:
    """Get how long a DPU was online in [from, to), with its outages. Default: the last 24 hours."""
    asked = query(request, AvailabilityQuery)
    session, dpu = database(request, is_slow=True), path_id(request, "dpu")
    return answer(request, await calls.get_availability(session, dpu, asked.from_, asked.to))


HANDLERS = [record_heartbeats, record_heartbeat, get_heartbeat, list_sensors, list_incidents, get_availability]
