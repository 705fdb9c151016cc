"""Devices with readings: a reading is an event whose direction is its count. Timestamps in their shortest form."""

from datetime import datetime

from litestar import Response, get, post

from headcount.database import calls
from headcount.http.auth import charge
from headcount.http.decoding import admit, decode_readings
from headcount.http.openapi import described
from headcount.http.requests import HttpRequest, answer, no_query, path_id, query
from headcount.http.services import services
from headcount.http.sessions import database
from headcount.wire.instants import shortest
from headcount.wire.messages import (
    BackfillQuery,
    CumulativeCountOut,
    DeviceOut,
    DeviceQuery,
    EventsRecordedOut,
    LatestTimestampOut,
    ReadingsIn,
)


def _shortest(moment: datetime | None) -> str | None:
    return None if moment is None else shortest(moment)


@post("/ingest", opt=described(EventsRecordedOut, scope="ingest", query=BackfillQuery, body=ReadingsIn))
async def record_readings(request: HttpRequest) -> Response[bytes]:
    """Store the readings of one device, as POST /v1/events does."""
    asked = query(request, BackfillQuery)
    await admit(request, services(request).writer.intake)
    batch = await decode_readings(request)
    charge(request, batch.received)
    return answer(request, await services(request).writer.record(database(request), batch, backfill=asked.backfill))


@get("/devices/{device:str}/latest_timestamp", opt=described(LatestTimestampOut, 404, scope="read"))
async def get_latest_timestamp(request: HttpRequest) -> Response[bytes]:
    """Get the instant of the latest reading of a device."""
    no_query(request)
    found = await calls.get_device(database(request), path_id(request, "device"))
    return answer(request, LatestTimestampOut(_shortest(found.latest_timestamp)))


@get("/devices/{device:str}/cumulative_count", opt=described(CumulativeCountOut, 404, scope="read"))
async def get_cumulative_count(request: HttpRequest) -> Response[bytes]:
    """Get the sum of all readings of a device."""
    no_query(request)
    found = await calls.get_device(database(request), path_id(request, "device"))
    return answer(request, CumulativeCountOut(found.cumulative_count))


@get("/devices/{device:str}", opt=described(DeviceOut, 404, scope="read", query=DeviceQuery))
async def get_device(request: HttpRequest) -> Response[bytes]:
    """Get the newest readings of a device in [from, to), in time order.

    Readings of the same instant are summed.
    """
    asked = query(request, DeviceQuery)
    session, device = database(request, is_slow=True), path_id(request, "device")
    found = await calls.list_readings(session, device, asked.from_, asked.to, asked.limit)
    data = {shortest(time): count for time, count in zip(found.times, found.counts, strict=True)}
    return answer(request, DeviceOut(data, _shortest(found.latest_timestamp), found.cumulative_count))


HANDLERS = [record_readings, get_latest_timestamp, get_cumulative_count, get_device]
