"""Devices with readings: an event by another name."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct, field

from headcount.wire.instants import Instant
from headcount.wire.messages.base import ShortMoment, about


class DeviceRow(Struct, frozen=True):
    latest_timestamp: datetime | None
    cumulative_count: int


class ReadingsRow(Struct, frozen=True):
    """A device and its readings, `times` and `counts` beside each other."""

    latest_timestamp: datetime | None
    cumulative_count: int
    times: list[datetime]
    counts: list[int]


class DeviceOut(Struct, frozen=True):
    """Readings of a device."""

    data: Annotated[dict[str, int], about("The counts by timestamp, in time order.", {"2023-01-01T00:00:00Z": 3})]
    latest_timestamp: Annotated[
        ShortMoment | None, about("The latest instant of its readings; null: it has none.", "2023-01-01T00:00:00Z")
    ]
    cumulative_count: Annotated[int, about("The sum of all its readings.", 5)]


class LatestTimestampOut(Struct, frozen=True):
    """The latest reading of a device."""

    latest_timestamp: Annotated[
        ShortMoment | None, about("The latest instant of its readings; null: it has none.", "2023-01-01T00:00:00Z")
    ]


class CumulativeCountOut(Struct, frozen=True):
    """The sum of a device's readings."""

    cumulative_count: Annotated[int, about("The sum of all its readings.", 300)]


class DeviceQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    from_: Annotated[Instant | None, about("List readings at or after this instant.")] = field(
        name="from", default=None
    )
    to: Annotated[Instant | None, about("List readings before this instant.")] = None
    limit: Annotated[int, Meta(ge=1, le=10_000), about("How many readings to list at most: the newest.")] = 10_000


# The service itself
