"""Polls in all formats, and the hours and zones of sites from CSV, decoded into columns as ingest.formats says."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from headcount.database import calls
from headcount.ingest.formats import (
    EVENTS,
    BodyFormat,
    CsvFormat,
    Field,
    Refusal,
    Unreadable,
    are_ids,
    are_instants,
    check_encoding,
    fields_of,
    id_of,
    instant_of,
    integers,
    recorded,
    times_of,
)
from headcount.wire.messages.base import CLOCK_PATTERN, PATTERNS_IN_WORDS
from headcount.wire.messages.events import EventsRecordedOut
from headcount.wire.messages.uptime import PollIn
from headcount.wire.problems import Problem

# What an import takes for the zone of a site of which nobody said one.
ASSUMED_ZONE = "America/Chicago"
STATUSES = {"active": True, "inactive": False}
# How the files write an instant: 2023-01-20 17:04:15.44859 UTC.
UTC_AT_THE_END = re.compile(r" ?UTC\Z")
CLOCK = re.compile(CLOCK_PATTERN)
SPACE = Field(("store_id", "space"))


class PollBatch(msgspec.Struct, frozen=True):
    """Decoded polls as columns. `indexes`: which poll of the request each was; None: all of them, in order."""

    spaces: Sequence[str]
    times: Sequence[datetime]
    are_active: Sequence[bool]
    indexes: Sequence[int] | None = None
    refusals: Sequence[Refusal] = ()
    # The id of the token that sent it.
    sender: str | None = None

    @property
    def columns(self) -> tuple[Sequence[Any], ...]:
        return self.spaces, self.times, self.are_active

    @property
    def size(self) -> int:
        return len(self.spaces)

    @property
    def received(self) -> int:
        return len(self.spaces) + len(self.refusals)


class Poll(NamedTuple):
    space: str
    time: datetime
    is_active: bool


class Polls(BodyFormat[Poll, PollBatch]):
    fields = (SPACE, Field(("timestamp_utc", "timestamp")), Field(("status",)))
    header_in_words = "store_id,status,timestamp_utc"

    def of_items(self, items: Sequence[Any]) -> PollBatch | None:
        return _of_columns(
            [poll.space for poll in items],
            times_of([poll.timestamp for poll in items]),
            [STATUSES[poll.status] for poll in items],
        )

    def of_object(self, value: object) -> Poll:
        fields = fields_of(value, ("space", "timestamp", "status"), (), "poll")
        return Poll(id_of(fields["space"], "space"), instant_of(fields["timestamp"]), _status(fields["status"]))

    def of_text(self, columns: Sequence[Sequence[str] | None]) -> PollBatch | None:
        spaces, times, statuses = columns
        if spaces is None or times is None or statuses is None or not set(statuses) <= STATUSES.keys():
            return None
        rfc_3339 = "\n".join([*times, ""]).replace(" UTC\n", "Z\n").split("\n")[:-1]
        return _of_columns(spaces, times_of(rfc_3339), [STATUSES[status] for status in statuses])

    def of_cells(self, cells: Sequence[str | None]) -> Poll:
        space, timestamp, status = cells
        return Poll(
            id_of(space, "store_id"),
            instant_of(UTC_AT_THE_END.sub("Z", timestamp or ""), "timestamp_utc"),
            _status(status),
        )

    def batch(self, rows: Sequence[Poll], indexes: Sequence[int], refusals: Sequence[Refusal]) -> PollBatch:
        spaces, times, are_active = zip(*rows, strict=True) if rows else ((), (), ())
        return PollBatch(spaces, times, are_active, indexes, refusals)

    async def record(self, session: calls.Session, batch: PollBatch, auto_register: bool) -> EventsRecordedOut:
        return await record(session, batch, auto_register, ASSUMED_ZONE)


def _of_columns(spaces: Sequence[str], times: Sequence[datetime], are_active: Sequence[bool]) -> PollBatch | None:
    return PollBatch(spaces, times, are_active) if are_ids(spaces) and are_instants(times) else None


def _status(value: object) -> bool:
    if not isinstance(value, str) or value not in STATUSES:
        raise Unreadable("`status` must be `active` or `inactive`.")
    return STATUSES[value]


async def record(
    session: calls.Session, batch: PollBatch, auto_register: bool = True, assumed_zone: str | None = None
) -> EventsRecordedOut:
    """Stores a batch, refusals included, and puts the database's verdicts together with ours."""
    numbers = {space: number for number, space in enumerate(dict.fromkeys(batch.spaces), 1)}
    verdicts = await calls.record_polls(
        session,
        spaces=list(numbers),
        times=batch.times,
        are_active=batch.are_active,
        auto_register=auto_register,
        assumed_zone=assumed_zone,
        refused_bodies=[refusal.body for refusal in batch.refusals],
        refused_details=[refusal.detail for refusal in batch.refusals],
        numbers=[numbers[space] for space in batch.spaces],
        sender=batch.sender,
        refused_digests=[refusal.digest for refusal in batch.refusals],
    )
    return recorded(batch, verdicts)


# The files that an import takes besides


class HoursBatch(msgspec.Struct, frozen=True):
    """Decoded rows of opening hours as columns."""

    spaces: Sequence[str]
    days: Sequence[int]
    opens: Sequence[str]
    closes: Sequence[str]
    indexes: Sequence[int] | None = None
    refusals: Sequence[Refusal] = ()

    @property
    def columns(self) -> tuple[Sequence[Any], ...]:
        return self.spaces, self.days, self.opens, self.closes

    @property
    def size(self) -> int:
        return len(self.spaces)

    @property
    def received(self) -> int:
        return len(self.spaces) + len(self.refusals)


class HoursRow(NamedTuple):
    space: str
    day: int
    opens: str
    closes: str


class Hours(CsvFormat[HoursRow, HoursBatch]):
    fields = (SPACE, Field(("day", "dayOfWeek")), Field(("start_time_local",)), Field(("end_time_local",)))
    header_in_words = "store_id,day,start_time_local,end_time_local (the day also as dayOfWeek)"

    def of_text(self, columns: Sequence[Sequence[str] | None]) -> HoursBatch | None:
        spaces, days, opens, closes = columns
        if spaces is None or days is None or opens is None or closes is None or not are_ids(spaces):
            return None
        if not all(CLOCK.match(clock) for clock in {*opens, *closes}):
            return None
        return HoursBatch(spaces, integers(days, 0, 6), opens, closes)

    def of_cells(self, cells: Sequence[str | None]) -> HoursRow:
        space, day, opens, closes = (cell or "" for cell in cells)
        if not re.fullmatch("[0-6]", day):
            raise Unreadable("`day` must be 0 (Monday) to 6.")
        return HoursRow(
            id_of(space, "store_id"), int(day), _clock(opens, "start_time_local"), _clock(closes, "end_time_local")
        )

    def batch(self, rows: Sequence[HoursRow], indexes: Sequence[int], refusals: Sequence[Refusal]) -> HoursBatch:
        spaces, days, opens, closes = zip(*rows, strict=True) if rows else ((), (), (), ())
        return HoursBatch(spaces, days, opens, closes, indexes, refusals)

    async def record(self, session: calls.Session, batch: HoursBatch, auto_register: bool) -> EventsRecordedOut:
        verdicts = await calls.record_hours(
            session, batch.spaces, batch.days, batch.opens, batch.closes, auto_register, ASSUMED_ZONE
        )
        return recorded(batch, verdicts)


def _clock(text: str, name: str) -> str:
    if not CLOCK.match(text):
        raise Unreadable(f"`{name}` {PATTERNS_IN_WORDS[CLOCK_PATTERN]}.")
    return text


class ZonesBatch(msgspec.Struct, frozen=True):
    """Decoded rows of zones as columns."""

    spaces: Sequence[str]
    time_zones: Sequence[str]
    indexes: Sequence[int] | None = None
    refusals: Sequence[Refusal] = ()

    @property
    def columns(self) -> tuple[Sequence[Any], ...]:
        return self.spaces, self.time_zones

    @property
    def size(self) -> int:
        return len(self.spaces)

    @property
    def received(self) -> int:
        return len(self.spaces) + len(self.refusals)


class ZonesRow(NamedTuple):
    space: str
    time_zone: str


class Zones(CsvFormat[ZonesRow, ZonesBatch]):
    fields = (SPACE, Field(("timezone_str",)))
    header_in_words = "store_id,timezone_str"

    def of_text(self, columns: Sequence[Sequence[str] | None]) -> ZonesBatch | None:
        spaces, time_zones = columns
        if spaces is None or time_zones is None or not are_ids(spaces) or not "".join(time_zones).isprintable():
            return None
        return ZonesBatch(spaces, time_zones)

    def of_cells(self, cells: Sequence[str | None]) -> ZonesRow:
        space, time_zone = (cell or "" for cell in cells)
        if not time_zone.isprintable():
            raise Unreadable("`timezone_str` must be an IANA name such as Europe/Berlin.")
        return ZonesRow(id_of(space, "store_id"), time_zone)

    def batch(self, rows: Sequence[ZonesRow], indexes: Sequence[int], refusals: Sequence[Refusal]) -> ZonesBatch:
        spaces, time_zones = zip(*rows, strict=True) if rows else ((), ())
        return ZonesBatch(spaces, time_zones, indexes, refusals)

    async def record(self, session: calls.Session, batch: ZonesBatch, auto_register: bool) -> EventsRecordedOut:
        verdicts = await calls.record_time_zones(session, batch.spaces, batch.time_zones, auto_register)
        return recorded(batch, verdicts)


POLLS = Polls("polls", PollIn)
# What `headcount import` takes, told apart by the header.
TABLES: tuple[CsvFormat[Any, Any], ...] = (EVENTS, POLLS, Hours(), Zones())


def table_of(header: bytes, tables: Sequence[CsvFormat[Any, Any]] = TABLES) -> CsvFormat[Any, Any]:
    """The table that has this header, or most of it. Raises Problem (422) if none has any of it."""
    check_encoding(header)
    table = max(tables, key=lambda table: table.count_known(header))
    if table.count_known(header) > 1:
        return table
    wanted = "; ".join(table.header_in_words for table in tables)
    raise Problem("invalid", f"The first line must be one of these headers, in any order: {wanted}.")
