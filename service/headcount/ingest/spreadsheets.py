"""Events from the CSV files that people have: local times, columns of other names, directions in words.

For `headcount import` alone: whoever sends events over HTTP says what is meant.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from datetime import time as clock
from zoneinfo import ZoneInfo

from headcount.ingest.formats import (
    Event,
    EventBatch,
    Events,
    Field,
    Unreadable,
    are_ids,
    are_instants,
    id_of,
    integers,
    spell,
)
from headcount.wire import instants

FIELDS = ("timestamp", "direction", "dpu_id", "sequence")
WORDS = {"in": 1, "entry": 1, "enter": 1, "out": -1, "exit": -1, "leave": -1}
# 2026-11-28 10:00, with seconds and a fraction; also 2026/11/28, and 28.11.2026 as it is written in Europe.
CLOCK = r"[T ,]+(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,](?P<fraction>\d+))?)?"
YEAR_FIRST = re.compile(rf"(?P<year>\d{{4}})([-/])(?P<month>\d{{1,2}})\2(?P<day>\d{{1,2}}){CLOCK}", re.ASCII)
DAY_FIRST = re.compile(rf"(?P<day>\d{{1,2}})\.(?P<month>\d{{1,2}})\.(?P<year>\d{{4}}){CLOCK}", re.ASCII)
SLASHES = re.compile(rf"\d{{1,2}}/\d{{1,2}}/\d{{2,4}}{CLOCK}.*", re.ASCII)
UTC_AT_THE_END = re.compile(r" ?(?:UTC|GMT)\Z")


class SpreadsheetEvents(Events):
    """Events whose files may differ from ours. `zone`: of times without an offset; None: they are refused.

    `names`: the file's names of our columns. `left_out`: its columns that are not read.
    """

    def __init__(
        self, zone: ZoneInfo | None = None, names: Mapping[str, str] | None = None, left_out: Sequence[str] = ()
    ) -> None:
        self.name = "events"
        self.zone = zone
        self.left_out = {spell(name) for name in left_out}
        given = names or {}
        self.fields = tuple(
            Field((given[field.names[0]],), field.is_optional and field.names[0] not in given)
            if field.names[0] in given
            else field
            for field in Events.fields
        )
        if given:
            wanted = ",".join(given.get(name, name) for name in FIELDS[:3])
            self.header_in_words = f"{wanted} and optionally {given.get('sequence', 'sequence')}"

    def _is_left_out(self, name: str) -> bool:
        return not name or name in self.left_out

    def of_text(self, columns: Sequence[Sequence[str] | None]) -> EventBatch | None:
        dpus, timestamps, directions, sequences = columns
        if dpus is None or timestamps is None or directions is None:
            return None
        try:
            return super().of_text(columns)
        except ValueError:
            times = [self._time(text) for text in timestamps]
        if not are_ids(dpus) or not are_instants(times):
            return None
        numbers = [WORDS.get(text.lower()) for text in directions]
        return EventBatch(
            dpus,
            times,
            [number for number in numbers if number is not None]
            if None not in numbers
            else integers(directions, -(2**31), 2**31 - 1),
            [0] * len(dpus) if sequences is None else integers(sequences, 0, 2**15 - 1),
        )

    def of_cells(self, cells: Sequence[str | None]) -> Event:
        dpu, timestamp, direction, sequence = cells
        word = WORDS.get((direction or "").lower())
        try:
            time = self._time(timestamp or "").isoformat()
        except Unreadable as error:
            error.dpu = id_of(dpu, "dpu_id")
            raise
        return super().of_cells((dpu, time, direction if word is None else str(word), sequence))

    def _time(self, text: str) -> datetime:
        local_text = UTC_AT_THE_END.sub("", text)
        is_utc = local_text != text
        found = YEAR_FIRST.fullmatch(local_text) or DAY_FIRST.fullmatch(local_text)
        if found is None:
            if SLASHES.fullmatch(text):
                raise Unreadable("`timestamp` must have its year first: nothing says which part is the month.")
            try:
                return instants.parse(f"{local_text}Z" if is_utc else text)
            except ValueError as error:
                raise Unreadable(f"`timestamp` {error}.") from None
        zone = UTC if is_utc else self.zone
        if zone is None:
            raise Unreadable("`timestamp` has no offset: give --zone, such as --zone Europe/Berlin.")
        year, month, day, hour, minute, second = (
            int(found[name] or 0) for name in ("year", "month", "day", "hour", "minute", "second")
        )
        try:
            local = datetime.combine(date(year, month, day), clock(hour, minute, second))
            exact = local + timedelta(microseconds=instants.half_even(found["fraction"] or "0"))
            return instant_in(zone, exact)
        except (ValueError, OverflowError) as error:
            if isinstance(error, Unreadable):
                raise
            raise Unreadable("`timestamp` must be a time that there is.") from None


def instant_in(zone: tzinfo, local: datetime) -> datetime:
    """Raises Unreadable where the clocks went forward over it, or back so that it occurs twice."""
    first, second = (local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first == second:
        return first
    if first.astimezone(zone).replace(tzinfo=None) != local:
        raise Unreadable(f"`timestamp` does not exist in {zone}: the clocks went forward over it.")
    offset = first.astimezone(zone).isoformat()
    raise Unreadable(
        f"This local time occurs twice in {zone} (the clocks went back). Write its offset, such as {offset}."
    )
