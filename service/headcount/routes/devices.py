"""Devices with readings: a reading is an event whose direction is its count. Timestamps in their shortest form."""

from datetime import datetime

from litestar import get, post
from litestar.di import NamedDependency

from headcount.database import calls
from headcount.database.pool import Client
from headcount.http.decoding import decode_readings
from headcount.http.inputs import SLOW_SESSION, DeviceId, batch_of, query_of
from headcount.http.openapi import described
from headcount.http.requests import HttpRequest
from headcount.http.services import services
from headcount.ingest.formats import EventBatch
from headcount.wire.instants import shortest
from headcount.wire.messages.devices import CumulativeCountOut, DeviceOut, DeviceQuery, LatestTimestampOut
from headcount.wire.messages.events import BackfillQuery, EventsRecordedOut, ReadingsIn


def _shortest(moment: datetime | None) -> str | None:
    return None if moment is None else shortest(moment)


@post(
    "/ingest",
    status_code=200,
    dependencies={
        "params": query_of(BackfillQuery),
        "content": batch_of(lambda services: services.writer.intake, decode_readings),
    },
    opt=described(scope="ingest", body=ReadingsIn),
)
async def record_readings(
    request: HttpRequest,
    params: NamedDependency[BackfillQuery],
    content: NamedDependency[EventBatch],
    session: NamedDependency[Client],
) -> EventsRecordedOut:
    """Store the readings of one device, as POST /v1/events does."""
    return await services(request).writer.record(session, content, backfill=params.backfill)


@get("/devices/{device:str}/latest_timestamp", opt=described(404, scope="read"))
async def get_latest_timestamp(device: DeviceId, session: NamedDependency[Client]) -> LatestTimestampOut:
    """Get the instant of the latest reading of a device."""
    found = await calls.get_device(session, device)
    return LatestTimestampOut(_shortest(found.latest_timestamp))


@get("/devices/{device:str}/cumulative_count", opt=described(404, scope="read"))
async def get_cumulative_count(device: DeviceId, session: NamedDependency[Client]) -> CumulativeCountOut:
    """Get the sum of all readings of a device."""
    found = await calls.get_device(session, device)
    return CumulativeCountOut(found.cumulative_count)


@get(
    "/devices/{device:str}",
    dependencies={"params": query_of(DeviceQuery), "session": SLOW_SESSION},
    opt=described(404, scope="read"),
)
async def get_device(
    device: DeviceId, params: NamedDependency[DeviceQuery], session: NamedDependency[Client]
) -> DeviceOut:
    """Get the newest readings of a device in [from, to), in time order.

    Readings of the same instant are summed.
    """
    found = await calls.list_readings(session, device, params.from_, params.to, params.limit)
    data = {shortest(time): count for time, count in zip(found.times, found.counts, strict=True)}
    return DeviceOut(data, _shortest(found.latest_timestamp), found.cumulative_count)


HANDLERS = [record_readings, get_latest_timestamp, get_cumulative_count, get_device]
