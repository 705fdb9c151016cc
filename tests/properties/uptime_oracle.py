"""The definition of uptime, slowly and in plain Python: what every report is held against.

Written from the text of the rule alone (docs/explanation/uptime.md), not from any SQL. An instant is asked whether it
is business time and which observation is nearest to it; time is only cut up so that the answer holds for a whole piece.
Instants and durations are integers: microseconds since 1970, UTC.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import cache, cached_property
from itertools import pairwise
from zoneinfo import ZoneInfo

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
MINUTE = 60_000_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
WINDOWS = (HOUR, 24 * HOUR, 168 * HOUR)


def micros(instant: datetime) -> int:
    return (instant - EPOCH) // MICROSECOND


@dataclass(frozen=True)
class Hours:
    """A row: day 0 is Monday, clocks are HH:MM or HH:MM:SS."""

    day: int
    start: str
    end: str

    def is_open(self, clock: datetime) -> bool:
        """Whether a local time, without zone, lies in the row."""
        weekday = clock.weekday()
        if weekday not in (self.day, (self.day + 1) % 7):
            return False
        start, end = micros_of_day(self.start), 24 * HOUR if self.end == "23:59:59" else micros_of_day(self.end)
        today = ((clock.hour * 60 + clock.minute) * 60 + clock.second) * 1_000_000 + clock.microsecond
        if start < end:
            return weekday == self.day and start <= today < end
        return today >= start if weekday == self.day else today < end


@dataclass(frozen=True)
class Site:
    """`polls`: instant and whether it was active."""

    zone: str
    hours: tuple[Hours, ...]
    polls: tuple[tuple[int, bool], ...]

    def is_business(self, at: int) -> bool:
        if not self.hours:
            return True
        local = (EPOCH + at * MICROSECOND).astimezone(ZoneInfo(self.zone)).replace(tzinfo=None)
        return any(row.is_open(local) for row in self.hours)

    @cached_property
    def counted(self) -> list[tuple[int, bool]]:
        """What was observed in business time, ever: active only where every poll of that instant was."""
        inactive = {at for at, is_active in self.polls if not is_active}
        return [(at, at not in inactive) for at in sorted({at for at, _ in self.polls}) if self.is_business(at)]

    def observations(self, now: int) -> list[tuple[int, bool]]:
        return [(at, is_active) for at, is_active in self.counted if at <= now]

    def uptime(self, start: int, end: int, now: int) -> tuple[int, int]:
        """Active and other business time in [start, end)."""
        observed = self.observations(now)
        middles = [(one + two) // 2 for (one, _), (two, _) in pairwise(observed)]
        cuts = sorted({start, end, *(cut for cut in (*self.changes(start, end), *middles) if start < cut < end)})
        up = down = 0
        for begin, finish in pairwise(cuts):
            if not self.is_business(begin):
                continue
            nearest = sum(middle <= begin for middle in middles)
            if observed and observed[nearest][1]:
                up += finish - begin
            else:
                down += finish - begin
        return up, down

    def changes(self, start: int, end: int) -> Iterator[int]:
        """Instants at which business time may begin or end: the clock jumps, or shows the bound of a row."""
        bounds = {micros_of_day(clock) for row in self.hours for clock in (row.start, row.end)} | {0}
        for begin, finish, offset in spells(self.zone, start - start % MINUTE, end + MINUTE):
            yield begin
            midnight = (begin + offset) // DAY * DAY - offset
            while midnight < finish:
                yield from (midnight + bound for bound in bounds if begin <= midnight + bound < finish)
                midnight += DAY


@cache
def micros_of_day(clock: str) -> int:
    of_day = time.fromisoformat(clock)
    return ((of_day.hour * 60 + of_day.minute) * 60 + of_day.second) * 1_000_000


@cache
def spells(zone: str, start: int, end: int) -> Sequence[tuple[int, int, int]]:
    """Where the offset from UTC is one and the same, found by looking at every minute: (from, until, offset)."""
    found: list[tuple[int, int, int]] = []
    tz = ZoneInfo(zone)
    for minute in range(start, end, MINUTE):
        offset = ((EPOCH + minute * MICROSECOND).astimezone(tz).utcoffset() or timedelta()) // MICROSECOND
        if found and found[-1][2] == offset:
            found[-1] = (found[-1][0], minute + MINUTE, offset)
        else:
            found.append((minute, minute + MINUTE, offset))
    return found
