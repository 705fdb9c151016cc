"""The definition of the count, slowly and in plain Python: what every number of the service is held against.

Written from the text of the definition alone (docs/explanation/counts.md), not from any SQL: nothing
here is indexed, summed beforehand or trimmed. Facts are kept in the order in which they were recorded, and
every question looks at all of them again.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from functools import cache
from itertools import pairwise, zip_longest
from typing import Self
from zoneinfo import ZoneInfo

OLDEST = datetime(2000, 1, 1, tzinfo=UTC)
HORIZON = datetime(2010, 1, 1, tzinfo=UTC)
# Where clocks that nobody set begin.
UNSET = [datetime(*day, tzinfo=UTC) for day in ((1970, 1, 1), (1980, 1, 6), (2000, 1, 1), (2010, 1, 1))]
AHEAD = timedelta(minutes=5)
NEVER = datetime.max.replace(tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
QUARTER = timedelta(minutes=15)
HOUR = timedelta(hours=1)
EXACT_FOR = timedelta(hours=169)
MINUTES = {"15m": 15, "30m": 30, "1h": 60}

Side = str | None  # a space; None is the outside


class Refused(Exception):
    """The world does not allow it and stays as it was. Carries the HTTP statuses that may say so."""

    def __init__(self, *statuses: int) -> None:
        super().__init__(*statuses)
        self.statuses = statuses


@dataclass(frozen=True)
class Event:
    dpu: str
    time: datetime
    direction: int
    sequence: int = 0


@dataclass(frozen=True)
class Received:
    event: Event
    recorded: int
    clock: datetime = NEVER  # the service's


@dataclass(frozen=True)
class Schedule:
    """What a space itself says; None: as its parent says."""

    time_zone: str | None
    reset_at: str | None
    recorded: int


@dataclass(frozen=True)
class Placement:
    """`dpu` is here in [start, until), whatever was believed before. No doorway: it hangs nowhere."""

    dpu: str
    doorway: str | None
    mounted_in: Side
    start: datetime
    until: datetime | None
    recorded: int
    undone: int | None = None

    def covers(self, at: datetime) -> bool:
        return self.start <= at and (self.until is None or at < self.until)

    def meets(self, other: "Placement") -> bool:
        return self.covers(other.start) or other.covers(self.start)


@dataclass(frozen=True)
class Retirement:
    """A DPU went out of use, or came back."""

    dpu: str
    retired: bool
    at: datetime
    recorded: int


@dataclass(frozen=True)
class Reset:
    space: str
    at: datetime
    count: int
    recorded: int
    undone: int | None = None


@dataclass(frozen=True)
class Counted:
    count: int
    raw_count: int
    since: datetime | None
    placed: int
    online: int
    counted_since: datetime | None  # counted: counted_since <= at


@dataclass(frozen=True)
class Bucket:
    start: datetime
    end: datetime
    count: int
    raw_count: int
    min: int
    max: int
    average: float
    entries: int
    exits: int


@dataclass(frozen=True)
class Change:
    """What happens to the count of a space at an instant: people go through, then it is set."""

    at: datetime
    entries: int
    exits: int
    base: int | None

    def after(self, before: int) -> int:
        return before + self.entries - self.exits if self.base is None else self.base


def read_timestamp(text: str) -> datetime:
    """RFC 3339 with offset to an instant; more digits than microseconds are rounded half to even."""
    match = re.fullmatch(r"(.{19})(?:\.(\d+))?(Z|[+-]\d\d:\d\d)", text)
    assert match, text
    whole, fraction, offset = match.groups()
    digits = fraction or ""
    microseconds = int(digits.ljust(6, "0")) if len(digits) <= 6 else round(Fraction(f"0.{digits}") * 1_000_000)
    return datetime.fromisoformat(whole + offset).astimezone(UTC) + timedelta(microseconds=microseconds)


@cache
def wall_clock_reaches(day: date, clock: time, zone: str) -> datetime:
    """The first instant at which a clock on the wall shows this much of this day, or more (where it skips).

    Found by watching the clock go round: in steps of a minute, starting before it is that day anywhere, then
    to the second. Offsets of all zones are whole minutes since 1972, so no jump hides between two steps. Hours in
    which the clock goes on by an hour are not watched, nor a minute that is over just when it shows that much.
    """
    wanted = datetime.combine(day, clock)
    tz = ZoneInfo(zone)

    def shown(instant: datetime) -> datetime:
        return instant.astimezone(tz).replace(tzinfo=None)

    instant = wanted.replace(tzinfo=UTC) - timedelta(hours=16)
    here = shown(instant)
    while here < wanted:
        there = shown(instant + HOUR)
        if there == here + HOUR and there < wanted:
            instant, here = instant + HOUR, there
        else:
            instant += timedelta(minutes=1)
            here = shown(instant)
    if shown(instant - timedelta(seconds=1)) < wanted:
        return instant
    instant -= timedelta(minutes=1)
    while shown(instant) < wanted:
        instant += timedelta(seconds=1)
    return instant


@cache
def local_buckets(start: datetime, end: datetime, interval: str, zone: str) -> list[tuple[datetime, datetime]]:
    """The buckets of local time that overlap [start, end), found by looking at a clock on the wall of this zone.

    Days, weeks and months begin when it first shows midnight of their first day, or more. Hours and their parts
    begin when it shows a whole one, or one after which it cannot show the one before it any more, as after a jump;
    it is looked at every quarter of an hour.
    """
    if interval in MINUTES:
        edges = list[datetime]()
        instant = start.replace(minute=0, second=0, microsecond=0) - timedelta(hours=3)
        before = part_of_day(instant - QUARTER, MINUTES[interval], zone)
        while not edges or edges[-1] < end:
            here = part_of_day(instant, MINUTES[interval], zone)
            if here == instant.astimezone(ZoneInfo(zone)).replace(tzinfo=None) or here != before:
                edges.append(instant)
            instant, before = instant + QUARTER, here
    else:
        today = start.astimezone(ZoneInfo(zone)).date()
        days = [today + timedelta(days=number) for number in range(-40, (end - start).days + 40)]
        firsts = [day for day in days if interval == "1d" or (day.weekday() == 0 if interval == "1w" else day.day == 1)]
        edges = sorted({wall_clock_reaches(day, time(), zone) for day in firsts})
    return [(a, b) for a, b in pairwise(edges) if a < end and b > start]


def part_of_day(instant: datetime, minutes: int, zone: str) -> datetime:
    """The hour, half or quarter that the clock is in."""
    shown = instant.astimezone(ZoneInfo(zone))
    return shown.replace(tzinfo=None, minute=shown.minute - shown.minute % minutes, second=0, microsecond=0)


class World:
    """Facts in the order of their recording. `now` counts the recordings; `known_at` is one of its values."""

    def __init__(self) -> None:
        self.now = 0
        self.parents: dict[str, str | None] = {}
        self.schedules: dict[str, list[Schedule]] = {}
        self.doorways: dict[str, tuple[Side, Side]] = {}
        self.placements: list[Placement] = []
        self.resets: list[Reset] = []
        self.received: list[Received] = []
        self.conflicts: list[Received] = []
        self.refused: list[Received] = []  # conflicts as well: the receipt of each is a sign of life
        self.retirements: list[Retirement] = []
        self.retired_spaces: set[str] = set()
        # What retention has dropped: the events of before, but for some quarter-hours of DPUs. Here they all stay.
        self.events_from: datetime | None = None
        self.kept: set[tuple[str, int]] = set()
        self.retired = 0  # the recording before which they were dropped

    def copy(self) -> Self:
        """To try something that may be refused."""
        other = copy(self)
        other.parents = dict(self.parents)
        other.schedules = {space: list(facts) for space, facts in self.schedules.items()}
        other.doorways = dict(self.doorways)
        other.placements = list(self.placements)
        other.resets = list(self.resets)
        other.received = list(self.received)
        other.conflicts = list(self.conflicts)
        other.refused = list(self.refused)
        other.kept = set(self.kept)
        other.retirements = list(self.retirements)
        other.retired_spaces = set(self.retired_spaces)
        return other

    # Facts in

    def put_space(self, space: str, patch: Mapping[str, str | None]) -> None:
        """`patch`: parent, time_zone, reset_at; absent ones stay as they are."""
        self.now += 1
        self.parents[space] = patch.get("parent", self.parents.get(space))
        facts = self.schedules.setdefault(space, [])
        before = facts[-1] if facts else Schedule(None, None, 0)
        facts.append(
            Schedule(
                patch.get("time_zone", before.time_zone),
                patch.get("reset_at", before.reset_at),
                self.now,
            )
        )

    def retire_dpu(self, dpu: str, retired: bool, clock: datetime) -> None:
        """Takes it out of use, or brings it back, at the instant of the clock."""
        self.now += 1
        self.retirements.append(Retirement(dpu, retired, clock, self.now))

    def retire_space(self, space: str, retired: bool) -> None:
        """It stays in all counts; lists of what lies below another one leave it out."""
        in_use = {child for child, parent in self.parents.items() if parent == space} - self.retired_spaces
        if retired and space not in self.retired_spaces and in_use:
            raise Refused(409)
        self.put_space(space, {})
        self.retired_spaces.discard(space)
        if retired:
            self.retired_spaces.add(space)

    def retire_doorway(self, doorway: str) -> None:
        """No count knows of that."""
        if doorway not in self.doorways:
            raise Refused(422)
        self.now += 1

    def check_tree(self) -> None:
        """To be called when a change is complete: refuses rings and parents that are not there."""
        for space in self.parents:
            above, here = set[str](), self.parents[space]
            while here is not None:
                if here not in self.parents:
                    raise Refused(404, 409, 422)
                if here == space or here in above:
                    raise Refused(409, 422)
                above.add(here)
                here = self.parents[here]

    def put_doorway(self, doorway: str, side_a: Side, side_b: Side) -> None:
        for side in (side_a, side_b):
            if side is not None and side not in self.parents:
                raise Refused(404, 409, 422)
        was_placed = any(placement.doorway == doorway for placement in self.placements)
        if was_placed and self.doorways[doorway] != (side_a, side_b):
            raise Refused(409)
        self.now += 1
        self.doorways[doorway] = (side_a, side_b)

    def place(
        self,
        dpu: str,
        doorway: str | None,
        mounted_in: Side,
        start: datetime,
        until: datetime | None = None,
    ) -> None:
        if doorway is not None and doorway not in self.doorways:
            raise Refused(404, 409, 422)
        if doorway is not None and mounted_in not in self.doorways[doorway]:
            raise Refused(422)
        self.now += 1
        told = Placement(dpu, doorway, mounted_in, start, until, self.now)
        instants = [start, *(at for at in self.bounds(dpu) if told.covers(at))]
        if any(self.hangs(dpu, at) != ((doorway, mounted_in) if doorway else ()) for at in instants):
            self.placements.append(told)

    def undo_placement(self, dpu: str, start: datetime) -> None:
        """Take back what was told last of the DPU from this instant on."""
        facts = [fact for fact in self.placements if fact.dpu == dpu and fact.undone is None]
        told = next((fact for fact in reversed(facts) if fact.start == start), None)
        if told is None:
            raise Refused(404)
        if any(fact.recorded > told.recorded and fact.meets(told) for fact in facts):
            raise Refused(409)
        self.now += 1
        self.placements[self.placements.index(told)] = replace(told, undone=self.now)

    def undo_reset(self, space: str, at: datetime) -> None:
        """Take back what was told last of the space and this instant."""
        facts = [fact for fact in self.resets if (fact.space, fact.at, fact.undone) == (space, at, None)]
        if not facts:
            raise Refused(404)
        self.now += 1
        self.resets[self.resets.index(facts[-1])] = replace(facts[-1], undone=self.now)

    def reset(self, space: str, count: int, at: datetime) -> None:
        if space not in self.parents:
            raise Refused(404)
        self.now += 1
        self.resets.append(Reset(space, at, count, self.now))

    def record(self, events: Sequence[Event], clock: datetime) -> list[str]:
        """One batch; `clock` is the service's. A verdict for each event, in their order."""
        self.now += 1
        verdicts = [self.verdict(event, clock) for event in events]
        self.refused += [
            Received(event, self.now, clock)
            for event, verdict in zip(events, verdicts, strict=True)
            if verdict not in ("accepted", "duplicate")
        ]
        return verdicts

    def verdict(self, event: Event, clock: datetime) -> str:
        if not -(2**31) <= event.direction < 2**31:
            return "invalid"
        if event.time > clock + AHEAD:
            return "in_future"
        if any(start - timedelta(hours=14) <= event.time <= start + timedelta(days=2) for start in UNSET):
            return "clock_unset"
        if event.time < HORIZON or self.is_before(event.time):
            return "too_old"
        for known in self.received:
            if self.identity(known.event) == self.identity(event):
                if known.event.direction == event.direction:
                    return "duplicate"
                self.conflicts.append(Received(event, self.now))
                return "conflict"
        self.received.append(Received(event, self.now, clock))
        return "accepted"

    def retire(self, until: datetime) -> None:
        """Drop the events before, but for those of quarter-hours that have to be cut as things stand."""
        for event in self.events():
            quarter = quarter_of(event.time)
            if event.time < until and not self.is_before(event.time) and self.is_cut(event.dpu, quarter):
                self.kept.add((event.dpu, quarter))
        self.events_from = until
        self.retired = self.now

    def identity(self, event: Event) -> tuple[object, ...]:
        return (event.dpu, event.time, event.sequence)

    # Questions

    def lies_in(self, side: Side, space: str) -> bool:
        """Is `side` this space or somewhere below it? The tree has no history: it always was as it is."""
        return side is not None and (side == space or self.lies_in(self.parents[side], space))

    def subtree(self, space: str) -> list[str]:
        return sorted(other for other in self.parents if self.lies_in(other, space))

    def asked_under(self, space: str) -> list[str]:
        """It and those below it that are in use."""
        return [below for below in self.subtree(space) if below == space or below not in self.retired_spaces]

    def schedule(self, space: str, known_at: int | None = None) -> tuple[str, str]:
        """Zone and local time of the daily reset, each of the nearest space upwards that says one."""
        time_zone, reset_at = None, None
        here: str | None = space
        while here is not None:
            said = [fact for fact in self.schedules[here] if was_known(fact.recorded, known_at)]
            if said:
                time_zone = time_zone or said[-1].time_zone
                reset_at = reset_at or said[-1].reset_at
            here = self.parents[here]
        return time_zone or "UTC", reset_at or "never"

    def scheduled_resets(self, space: str, at: datetime, known_at: int | None = None) -> Iterator[datetime]:
        """The daily resets at or before `at`, of the last days only."""
        time_zone, reset_at = self.schedule(space, known_at)
        if reset_at == "never":
            return
        today = at.astimezone(ZoneInfo(time_zone)).date()
        clock = time.fromisoformat(reset_at)
        for days in range(-4, 3):
            instant = self.scheduled(today + timedelta(days=days), clock, time_zone)
            if instant <= at:
                yield instant

    def scheduled(self, day: date, clock: time, time_zone: str) -> datetime:
        return wall_clock_reaches(day, clock, time_zone)

    def explicit_resets(self, space: str, at: datetime, known_at: int | None = None) -> Iterator[Reset]:
        for reset in self.resets:
            if reset.space == space and reset.at <= at and held(reset, known_at):
                yield reset

    def latest_reset(self, space: str, at: datetime, known_at: int | None = None) -> tuple[datetime | None, int]:
        """(since, base). At one instant the explicit one stands, and of several the one recorded last."""
        facts = [(instant, 0, 0) for instant in self.scheduled_resets(space, at, known_at)]
        facts += [(reset.at, reset.recorded, reset.count) for reset in self.explicit_resets(space, at, known_at)]
        if not facts:
            return None, 0
        since, _, base = max(facts)
        return since, base

    def placement(self, dpu: str, at: datetime, known_at: int | None = None) -> Placement | None:
        """Where it hung at this instant: what was recorded last about it."""
        for placement in reversed(self.placements):
            if placement.dpu == dpu and placement.covers(at) and held(placement, known_at):
                return placement if placement.doorway is not None else None
        return None

    def sign(self, dpu: str, at: datetime, space: str, known_at: int | None = None) -> int:
        placement = self.placement(dpu, at, known_at)
        if placement is None or placement.doorway is None:
            return 0
        side_a, side_b = self.doorways[placement.doorway]
        other = side_b if placement.mounted_in == side_a else side_a
        return int(self.lies_in(placement.mounted_in, space)) - int(self.lies_in(other, space))

    def events(self, known_at: int | None = None) -> Iterator[Event]:
        for received in self.received:
            if was_known(received.recorded, known_at):
                yield received.event

    def counts(self, event: datetime, since: datetime | None, at: datetime) -> bool:
        """since < event <= at"""
        return (since is None or since < event) and event <= at

    def raw_count(self, space: str, at: datetime, known_at: int | None = None) -> int:
        since, base = self.latest_reset(space, at, known_at)
        return base + sum(
            self.sign(event.dpu, event.time, space, known_at) * event.direction
            for event in self.events(known_at)
            if self.counts(event.time, since, at)
        )

    def outer_dpus(self, space: str, at: datetime, known_at: int | None = None) -> set[str]:
        dpus = {placement.dpu for placement in self.placements}
        return {dpu for dpu in dpus if self.sign(dpu, at, space, known_at) != 0}

    def is_retired(self, dpu: str, at: datetime, known_at: int | None = None) -> bool:
        """What was said of it last then, as far as that was known."""
        said = [
            fact
            for fact in self.retirements
            if fact.dpu == dpu and fact.at <= at and was_known(fact.recorded, known_at)
        ]
        return bool(said) and said[-1].retired

    def is_online(self, dpu: str, at: datetime, known_at: int | None = None) -> bool:
        """Heard from before: nobody listens in these worlds, so nobody falls silent (outages.py is about that)."""
        return any(
            received.event.dpu == dpu and min(received.event.time, received.clock) <= at
            for received in self.received
            if was_known(received.recorded, known_at)
        ) or any(
            refused.event.dpu == dpu and refused.clock <= at
            for refused in self.refused
            if was_known(refused.recorded, known_at)
        )

    def counted_since(self, space: str, known_at: int | None = None) -> datetime | None:
        """The earliest event with a sign, or explicit reset, whenever that is."""
        signed = [event.time for event in self.events(known_at) if self.sign(event.dpu, event.time, space, known_at)]
        return min([*signed, *(reset.at for reset in self.explicit_resets(space, NEVER, known_at))], default=None)

    def is_vague(self, instant: datetime | None) -> bool:
        """Is only its quarter-hour known: was the event dropped before it was said where the DPU had hung?"""
        return (
            instant is not None
            and self.is_before(instant)
            and any(placement.recorded > self.retired for placement in self.placements)
        )

    def count(self, space: str, at: datetime, known_at: int | None = None) -> Counted:
        raw_count = self.raw_count(space, at, known_at)
        outer = {dpu for dpu in self.outer_dpus(space, at, known_at) if not self.is_retired(dpu, at, known_at)}
        return Counted(
            count=max(0, raw_count),
            raw_count=raw_count,
            since=self.latest_reset(space, at, known_at)[0],
            placed=len(outer),
            online=sum(self.is_online(dpu, at, known_at) for dpu in outer),
            counted_since=self.counted_since(space, known_at),
        )

    # What cannot be answered any more. A quarter-hour of a DPU can be taken whole, also without or with what came
    # exactly at its start. Whoever has to cut it otherwise needs its events: which is an error if they were dropped.

    def is_before(self, at: datetime) -> bool:
        return self.events_from is not None and at < self.events_from

    def was_dropped(self, dpu: str, at: datetime) -> bool:
        """Had the DPU events in the quarter-hour around an instant that are not there any more?"""
        quarter = quarter_of(at)
        return (
            self.is_before(at)
            and (dpu, quarter) not in self.kept
            and any(event.dpu == dpu and quarter_of(event.time) == quarter for event in self.events())
        )

    def bounds(self, dpu: str, known_at: int | None = None) -> set[datetime]:
        """Where something else begins to hold about where the DPU hangs."""
        facts = [placement for placement in self.placements if placement.dpu == dpu]
        instants = {fact.start for fact in facts} | {fact.until for fact in facts if fact.until}
        return {at for at in instants if self.hangs(dpu, at, known_at) != self.hangs(dpu, at - MICROSECOND, known_at)}

    def hangs(self, dpu: str, at: datetime, known_at: int | None = None) -> tuple[object, ...]:
        found = self.placement(dpu, at, known_at)
        return (found.doorway, found.mounted_in) if found else ()

    def counts_in(self, dpu: str, space: str, quarter: int, known_at: int | None = None) -> bool:
        """Does the DPU count for the space at any instant of this quarter-hour?"""
        instants = {start_of(quarter)} | {at for at in self.bounds(dpu, known_at) if quarter_of(at) == quarter}
        return any(self.sign(dpu, at, space, known_at) for at in instants)

    def all_resets(self, space: str, start: datetime, end: datetime) -> set[datetime]:
        """In [start, end)."""
        found = {reset.at for reset in self.explicit_resets(space, end)}
        for day in range((end - start).days + 2):
            found |= set(self.scheduled_resets(space, start + timedelta(days=day)))
        return {at for at in found if start <= at < end}

    def is_cut(self, dpu: str, quarter: int) -> bool:
        start = start_of(quarter)
        return any(quarter_of(at) == quarter and at != start for at in self.bounds(dpu)) or any(
            at != start and self.counts_in(dpu, space, quarter)
            for space in self.parents
            for at in self.all_resets(space, start, start + QUARTER)
        )

    def lacks(self, space: str, at: datetime, known_at: int | None = None) -> bool:
        """Would the count need events that were dropped? As known at an instant it needs all there were."""
        since, _ = self.latest_reset(space, at, known_at)
        ends = {cut for cut in (since, at) if cut and not is_whole(cut) and not is_whole(cut + MICROSECOND)}
        for dpu in {event.dpu for event in self.events()}:
            cuts = {cut for cut in self.bounds(dpu, known_at) if not is_whole(cut)}
            if known_at is not None:
                cuts |= {event.time for event in self.events() if event.dpu == dpu}
            near = {cut for cut in cuts if start_of(quarter_of(cut)) <= at}
            near = {cut for cut in near if since is None or since < start_of(quarter_of(cut) + 1)}
            for cut in ends | near:
                if self.was_dropped(dpu, cut) and self.counts_in(dpu, space, quarter_of(cut), known_at):
                    return True
        return False

    def series_lacks(self, space: str, start: datetime, end: datetime) -> bool:
        """The same for a series of whole quarter-hours."""
        cuts = self.all_resets(space, start, end)
        return self.lacks(space, start - MICROSECOND) or any(
            not is_whole(cut)
            and start <= cut < end
            and self.was_dropped(dpu, cut)
            and self.counts_in(dpu, space, quarter_of(cut))
            for dpu in {event.dpu for event in self.events()}
            for cut in cuts | self.bounds(dpu)
        )

    # Series

    def step_function(self, space: str, edges: Sequence[datetime], start: datetime, end: datetime) -> list[int]:
        """The raw count at each of the instants, ascending, of [start, end); before start nothing happened."""
        if space not in self.parents:
            return [0] * len(edges)
        changes, value, found = self.changes(space, start, end), 0, list[int]()
        for at in edges:
            while changes and changes[0].at <= at:
                value = changes.pop(0).after(value)
            found.append(value)
        return found

    def changes(self, space: str, start: datetime, end: datetime) -> list[Change]:
        """All that happens to the count in [start, end), in time order."""
        moves = dict[datetime, list[int]]()
        for event in self.events():
            if start <= event.time < end and (sign := self.sign(event.dpu, event.time, space)):
                moves.setdefault(event.time, []).append(sign * event.direction)
        bases = dict[datetime, int]()
        time_zone, reset_at = self.schedule(space)
        if reset_at != "never":
            today = start.astimezone(ZoneInfo(time_zone)).date()
            for number in range(-2, (end - start).days + 4):
                bases[self.scheduled(today + timedelta(days=number), time.fromisoformat(reset_at), time_zone)] = 0
        for reset in self.explicit_resets(space, end):
            bases[reset.at] = reset.count
        return [
            Change(
                at,
                sum(move for move in moves.get(at, []) if move > 0),
                -sum(move for move in moves.get(at, []) if move < 0),
                bases.get(at),
            )
            for at in sorted({*moves, *bases})
            if start <= at < end
        ]

    def series(
        self,
        space: str,
        start: datetime,
        end: datetime,
        interval: str,
        time_zone: str | None,
        now: datetime,
        exact: bool = False,
    ) -> tuple[str, list[Bucket]]:
        """The resolution, and the buckets that overlap [start, end) as far as they have come."""
        edges = self.buckets(start, min(end, now), interval, time_zone or self.schedule(space)[0])
        first, last = edges[0][0], min(edges[-1][1], now)
        resolution = "event" if (exact or last - first <= EXACT_FOR) and not self.is_before(first) else "15m"
        value = self.raw_count(space, first - MICROSECOND)
        changes = self.changes(space, first, last)
        buckets = []
        for a, b in edges:
            inside = [change for change in changes if a <= change.at < b]
            buckets.append(self.bucket(value, inside, a, b, min(b, now), resolution))
            value = buckets[-1].raw_count
        return resolution, buckets

    def buckets(self, start: datetime, end: datetime, interval: str, zone: str) -> list[tuple[datetime, datetime]]:
        return local_buckets(start, end, interval, zone)

    def bucket(
        self, before: int, changes: Sequence[Change], a: datetime, b: datetime, end: datetime, resolution: str
    ) -> Bucket:
        """[a, b) of which [a, end) has come; `before`: the raw count until a."""
        spans = list[tuple[int, datetime, datetime]]()  # the raw count, and how long it was so
        since, value = a, before
        for change in changes:
            spans.append((value, since, change.at))
            since, value = change.at, change.after(value)
        spans.append((value, since, end))
        if resolution == "event":
            seen = [value for value, start, until in spans if start < until]
        else:
            seen = self.seen_by_quarters(before, changes, a)
        area = sum(value * ((until - start) // MICROSECOND) for value, start, until in spans)
        return Bucket(
            start=a,
            end=b,
            count=max(0, value),
            raw_count=value,
            min=min(seen),
            max=max(seen),
            average=area / ((end - a) // MICROSECOND),  # of whole numbers: rounded once
            entries=sum(change.entries for change in changes),
            exits=sum(change.exits for change in changes),
        )

    def seen_by_quarters(self, before: int, changes: Sequence[Change], start: datetime) -> list[int]:
        """The raw count at the bucket's start, at the end of each quarter-hour, and before and after each reset."""
        value, seen = before, list[int]()
        if not changes or changes[0].at > start or changes[0].base is None:
            seen.append(value)
        for change, following in zip_longest(changes, changes[1:]):
            if change.base is not None and change.at > start:
                seen.append(value)
            value = change.after(value)
            ends_quarter = following is None or quarter_of(following.at) > quarter_of(change.at)
            if change.base is not None or ends_quarter:
                seen.append(value)
        return seen


def quarter_of(instant: datetime) -> int:
    return (instant - OLDEST) // QUARTER


def start_of(quarter: int) -> datetime:
    return OLDEST + quarter * QUARTER


def is_whole(instant: datetime) -> bool:
    return start_of(quarter_of(instant)) == instant


def held(fact: Placement | Reset, known_at: int | None) -> bool:
    """Was it told by then, and not taken back yet?"""
    return was_known(fact.recorded, known_at) and (fact.undone is None or not was_known(fact.undone, known_at))


def was_known(recorded: int, known_at: int | None) -> bool:
    return known_at is None or recorded <= known_at
