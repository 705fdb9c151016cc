"""Is the property worth anything? Every oracle that is wrong in one thing is found out: by a few fixed worlds
through the HTTP API, and by random worlds such as the suite's.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from zoneinfo import ZoneInfo

import httpx
import pytest
from hypothesis import HealthCheck, given, settings

from .oracle import NEVER, Bucket, Change, Event, Placement, Received, Reset, World, was_known
from .worlds import (
    LONG_AGO,
    SUITE_WORLDS,
    Difference,
    Look,
    Place,
    Player,
    PutDoorway,
    PutSite,
    PutSpace,
    Remember,
    Reported,
    Script,
    Send,
    SendAgain,
    played_offline,
    probes,
    scripts,
    series_asked,
)
from .worlds import Reset as ResetStep


class ExclusiveInstant(World):
    def counts(self, event: datetime, since: datetime | None, at: datetime) -> bool:
        return super().counts(event, since, at) and event < at


class ResetBeforeEventsOfItsInstant(World):
    def counts(self, event: datetime, since: datetime | None, at: datetime) -> bool:
        return super().counts(event, since, at) or event == since


class OrientationIgnored(World):
    def sign(self, dpu: str, at: datetime, space: str, known_at: int | None = None) -> int:
        return abs(super().sign(dpu, at, space, known_at))


class InnerDoorwaysCounted(World):
    def sign(self, dpu: str, at: datetime, space: str, known_at: int | None = None) -> int:
        placement = self.placement(dpu, at, known_at)
        return int(placement is not None and self.lies_in(placement.mounted_in, space)) or super().sign(
            dpu, at, space, known_at
        )


class RoomsBelowIgnored(World):
    def sign(self, dpu: str, at: datetime, space: str, known_at: int | None = None) -> int:
        placement = self.placement(dpu, at, known_at)
        if placement is None or placement.doorway is None or space not in self.doorways[placement.doorway]:
            return 0
        return 1 if placement.mounted_in == space else -1


class DuplicatesCountedTwice(World):
    def verdict(self, event: Event, clock: datetime) -> str:
        verdict = super().verdict(event, clock)
        if verdict == "duplicate":
            self.received.append(Received(event, self.now))
        return verdict


class LastOfConflictStands(World):
    def verdict(self, event: Event, clock: datetime) -> str:
        verdict = super().verdict(event, clock)
        if verdict == "conflict":
            self.received = [r for r in self.received if self.identity(r.event) != self.identity(event)]
            self.received.append(Received(event, self.now))
        return verdict


class ConflictsTakenForDuplicates(World):
    def verdict(self, event: Event, clock: datetime) -> str:
        return super().verdict(event, clock).replace("conflict", "duplicate")


class SequenceIgnored(World):
    def identity(self, event: Event) -> tuple[object, ...]:
        return (event.dpu, event.time)


class LateEventsLost(World):
    def events(self, known_at: int | None = None) -> Iterator[Event]:
        latest = dict[str, datetime]()
        for event in super().events(known_at):
            if event.time >= latest.setdefault(event.dpu, event.time):
                latest[event.dpu] = event.time
                yield event


class EveryEventTakenForOnePerson(World):
    def events(self, known_at: int | None = None) -> Iterator[Event]:
        for event in super().events(known_at):
            yield replace(event, direction=max(-1, min(1, event.direction)))


class SecondOccurrence(World):
    """As PostgreSQL's `at time zone` has it where the clock shows a time twice."""

    def scheduled(self, day: date, clock: time, time_zone: str) -> datetime:
        local = datetime.combine(day, clock, ZoneInfo(time_zone))
        second = local.replace(fold=1).astimezone(UTC)
        return second if second > local.astimezone(UTC) else super().scheduled(day, clock, time_zone)


class GapMovedOn(World):
    """As `at time zone` has it where the clock skips a time: as long after the gap as it lay in it."""

    def scheduled(self, day: date, clock: time, time_zone: str) -> datetime:
        return datetime.combine(day, clock, ZoneInfo(time_zone)).astimezone(UTC)


class SkippedDaysLeftOut(World):
    def scheduled(self, day: date, clock: time, time_zone: str) -> datetime:
        instant = super().scheduled(day, clock, time_zone)
        shown = instant.astimezone(ZoneInfo(time_zone)).time().replace(tzinfo=None)
        return instant if shown == clock else instant + timedelta(days=30)


class ResetInUtc(World):
    def schedule(self, space: str, known_at: int | None = None) -> tuple[str, str]:
        return "UTC", super().schedule(space, known_at)[1]


class ScheduleNotInherited(World):
    def schedule(self, space: str, known_at: int | None = None) -> tuple[str, str]:
        own = self.schedules[space][-1]
        return own.time_zone or "UTC", own.reset_at or "never"


class ScheduledBeatsExplicit(World):
    def latest_reset(self, space: str, at: datetime, known_at: int | None = None) -> tuple[datetime | None, int]:
        since, base = super().latest_reset(space, at, known_at)
        return since, 0 if since in list(self.scheduled_resets(space, at, known_at)) else base


class FirstResetOfAnInstantStands(World):
    def explicit_resets(self, space: str, at: datetime, known_at: int | None = None) -> Iterator[Reset]:
        seen = set[datetime]()
        for reset in super().explicit_resets(space, at, known_at):
            if reset.at not in seen:
                seen.add(reset.at)
                yield reset


class PlacementEndsAfterItsBound(World):
    def placement(self, dpu: str, at: datetime, known_at: int | None = None) -> Placement | None:
        found = super().placement(dpu, at, known_at)
        return found or super().placement(dpu, at - timedelta(microseconds=1), known_at)


class CorrectionsIgnored(World):
    def placement(self, dpu: str, at: datetime, known_at: int | None = None) -> Placement | None:
        for placement in self.placements:
            if placement.dpu == dpu and placement.covers(at) and was_known(placement.recorded, known_at):
                return placement if placement.doorway is not None else None
        return None


class EventsBelongToTheDoorwayOfToday(World):
    def placement(self, dpu: str, at: datetime, known_at: int | None = None) -> Placement | None:
        return super().placement(dpu, datetime.now(UTC), known_at)


class KnownAtIgnoredForEvents(World):
    def events(self, known_at: int | None = None) -> Iterator[Event]:
        return super().events(None)


class KnownAtIgnoredForPlacements(World):
    def placement(self, dpu: str, at: datetime, known_at: int | None = None) -> Placement | None:
        return super().placement(dpu, at, None)


class KnownAtIgnoredForSchedules(World):
    def schedule(self, space: str, known_at: int | None = None) -> tuple[str, str]:
        return super().schedule(space, None)


class OnlineFromTheMomentAfterItsFirstSign(World):
    def is_online(self, dpu: str, at: datetime, known_at: int | None = None) -> bool:
        return any(event.dpu == dpu and event.time < at for event in self.events(known_at))


class CountedByEventsWithoutSign(World):
    def counted_since(self, space: str, known_at: int | None = None) -> datetime | None:
        times = [event.time for event in self.events(known_at)]
        return min([*times, *(reset.at for reset in self.explicit_resets(space, NEVER, known_at))], default=None)


class CountedByResetsOnly(World):
    def counted_since(self, space: str, known_at: int | None = None) -> datetime | None:
        return min((reset.at for reset in self.explicit_resets(space, NEVER, known_at)), default=None)


class ResetsCountNothing(World):
    def counted_since(self, space: str, known_at: int | None = None) -> datetime | None:
        signed = [event.time for event in self.events(known_at) if self.sign(event.dpu, event.time, space, known_at)]
        return min(signed, default=None)


class CountedSinceWhatIsKnownNow(World):
    def counted_since(self, space: str, known_at: int | None = None) -> datetime | None:
        return super().counted_since(space)


class ResetsMakeNoDifferenceToSeries(World):
    def changes(self, space: str, start: datetime, end: datetime) -> list[Change]:
        return [replace(change, base=None) for change in super().changes(space, start, end)]


class EntriesOfTheInstantOfAResetLost(World):
    def changes(self, space: str, start: datetime, end: datetime) -> list[Change]:
        return [
            change if change.base is None else replace(change, entries=0, exits=0)
            for change in super().changes(space, start, end)
        ]


class EntriesAndExitsOfAnInstantNetted(World):
    def changes(self, space: str, start: datetime, end: datetime) -> list[Change]:
        return [
            replace(change, entries=max(0, net), exits=max(0, -net))
            for change in super().changes(space, start, end)
            for net in [change.entries - change.exits]
        ]


class EdgesCountForTheBucketBefore(World):
    def changes(self, space: str, start: datetime, end: datetime) -> list[Change]:
        return [
            replace(change, at=max(start, change.at - timedelta(microseconds=1)))
            for change in super().changes(space, start, end + timedelta(microseconds=1))
        ]


class CountsThatLastedNoTimeSeen(World):
    def bucket(
        self, before: int, changes: Sequence[Change], a: datetime, b: datetime, end: datetime, resolution: str
    ) -> Bucket:
        found = super().bucket(before, changes, a, b, end, resolution)
        return replace(found, min=min(found.min, before), max=max(found.max, before))


class AveragesNotWeighted(World):
    def bucket(
        self, before: int, changes: Sequence[Change], a: datetime, b: datetime, end: datetime, resolution: str
    ) -> Bucket:
        found = super().bucket(before, changes, a, b, end, resolution)
        return replace(found, average=(found.min + found.max) / 2)


class ExtremesExactAtAnyLength(World):
    def bucket(
        self, before: int, changes: Sequence[Change], a: datetime, b: datetime, end: datetime, resolution: str
    ) -> Bucket:
        return super().bucket(before, changes, a, b, end, "event")


class BucketsOfUtc(World):
    def buckets(self, start: datetime, end: datetime, interval: str, zone: str) -> list[tuple[datetime, datetime]]:
        return super().buckets(start, end, interval, "UTC")


class DaysOf24Hours(World):
    def buckets(self, start: datetime, end: datetime, interval: str, zone: str) -> list[tuple[datetime, datetime]]:
        found = super().buckets(start, end, interval, zone)
        if interval != "1d":
            return found
        first, day = found[0][0], timedelta(days=1)
        return [(first + number * day, first + (number + 1) * day) for number in range(len(found))]


WRONG_SERIES = [
    ResetsMakeNoDifferenceToSeries,
    EntriesOfTheInstantOfAResetLost,
    EntriesAndExitsOfAnInstantNetted,
    EdgesCountForTheBucketBefore,
    CountsThatLastedNoTimeSeen,
    AveragesNotWeighted,
    ExtremesExactAtAnyLength,
    BucketsOfUtc,
    DaysOf24Hours,
]
WRONG = [
    ExclusiveInstant,
    ResetBeforeEventsOfItsInstant,
    OrientationIgnored,
    InnerDoorwaysCounted,
    RoomsBelowIgnored,
    DuplicatesCountedTwice,
    LastOfConflictStands,
    ConflictsTakenForDuplicates,
    SequenceIgnored,
    LateEventsLost,
    EveryEventTakenForOnePerson,
    SecondOccurrence,
    GapMovedOn,
    SkippedDaysLeftOut,
    ResetInUtc,
    ScheduleNotInherited,
    ScheduledBeatsExplicit,
    FirstResetOfAnInstantStands,
    PlacementEndsAfterItsBound,
    CorrectionsIgnored,
    EventsBelongToTheDoorwayOfToday,
    KnownAtIgnoredForEvents,
    KnownAtIgnoredForPlacements,
    KnownAtIgnoredForSchedules,
    OnlineFromTheMomentAfterItsFirstSign,
    CountedByEventsWithoutSign,
    CountedByResetsOnly,
    ResetsCountNothing,
    CountedSinceWhatIsKnownNow,
]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


# s1 and s2 lie in s0; d0 leads out of s1, d1 joins s1 and s2. p2 hangs outside. 01:30 first comes at 05:30Z.
AUTUMN = Script(
    (
        PutSpace("s0", {"time_zone": "America/New_York"}),
        PutSpace("s1", {"parent": "s0", "reset_at": "01:30"}),
        PutSpace("s2", {"parent": "s0"}),
        PutDoorway("d0", ("s1", None)),
        PutDoorway("d1", ("s1", "s2")),
        Place("p0", "d0", "s1", LONG_AGO),
        Place("p1", "d1", "s2", LONG_AGO, at("2024-11-03T07:00:00Z")),
        Place("p2", "d0", None, LONG_AGO),
        Send(
            (
                Reported("p0", "2024-11-03T05:00:00Z", 1),
                Reported("p0", "2024-11-03T05:30:00Z", 1),
                Reported("p0", "2024-11-03T05:30:00.000001Z", 4),
                Reported("p0", "2024-11-03T06:45:00Z", 1),
                Reported("p0", "2024-11-03T06:45:00Z", 1),
                Reported("p0", "2024-11-03T06:45:00Z", -1),
                Reported("p0", "2024-11-03T06:45:00Z", 1, 1),
                Reported("p1", "2024-11-03T06:30:00Z", 1),
                Reported("p1", "2024-11-03T07:00:00Z", 1),
                Reported("p2", "2024-11-03T06:15:00Z", 1),
                Reported("p3", "2024-11-03T06:15:00Z", 1),
            )
        ),
        SendAgain(0, "csv"),
        Remember(),
        Look(),
        Send((Reported("p0", "2024-11-03T06:00:00Z", 1),), "msgpack", zipped=True),
        Remember(),
        Place("p0", "d1", "s1", at("2024-11-03T06:00:00Z"), at("2024-11-03T06:45:00Z")),
        ResetStep("s2", 5, at("2024-11-03T06:00:00Z")),
        Remember(),
        ResetStep("s2", 9, at("2024-11-03T06:00:00Z")),
        Place("p3", "d0", "s1", at("2024-11-03T06:15:00Z"), at("2024-11-03T06:30:00Z")),
    )
)

# 02:30 is skipped: reset at 07:00Z, for s1 (by inheritance) to 7, because that is said explicitly.
SPRING = Script(
    (
        PutSite(
            (
                PutSpace("s0", {"time_zone": "America/New_York", "reset_at": "02:30"}),
                PutSpace("s1", {"parent": "s0"}),
            ),
            (PutDoorway("d0", (None, "s1")),),
            (Place("p0", "d0", "s1", LONG_AGO),),
        ),
        Send(
            (
                Reported("p0", "2024-03-10T03:15:00.000000500-04:00", 1),
                Reported("p0", "2024-03-10T07:00:00Z", 1),
                Reported("p0", "2024-03-10T07:45:00Z", 1),
            ),
            "ndjson",
        ),
        ResetStep("s1", 7, at("2024-03-10T07:00:00Z")),
        PutSpace("yard", {}),
        ResetStep("yard", 7, at("2024-03-10T06:00:00Z")),
        Remember(),
        PutSpace("s0", {"reset_at": "never"}),
        Remember(),
        Look(),
        PutSpace("s0", {"reset_at": "02:30"}),
    )
)
NASTY = [AUTUMN, SPRING]

# Both ways at one instant, at full hours and in between; resets there as well; 25 hours of a day.
SERIES_WORLD = Script(
    (
        PutSpace("s0", {"time_zone": "America/New_York", "reset_at": "02:30"}),
        PutDoorway("d0", ("s0", None)),
        Place("p0", "d0", "s0", LONG_AGO),
        Send(
            tuple(
                Reported("p0", f"2024-11-0{day}T{clock}:00Z", direction, sequence)
                for day in (2, 3, 4)
                for clock in ("04:00", "05:30", "05:40", "06:00", "07:30")
                for sequence, direction in enumerate((day, -1, 3))
            )
        ),
        ResetStep("s0", 5, at("2024-11-03T06:00:00Z")),
        ResetStep("s0", 50, at("2024-11-03T05:31:00Z")),
    )
)
NUMBERS = itertools.count(1)


async def test_it_agrees_with_the_right_oracle_on_the_fixed_worlds(client: httpx.AsyncClient) -> None:
    for script in NASTY:
        await Player(client, f"right{next(NUMBERS)}").play(script)


@pytest.mark.parametrize("wrong", WRONG)
async def test_it_finds_out_a_wrong_oracle(client: httpx.AsyncClient, wrong: type[World]) -> None:
    clock = datetime.now(UTC)
    right = [Played(script, clock, list(played_offline(script, World(), clock))) for script in NASTY]
    # one of them finds it out, at best the first that is played
    for played in sorted(right, key=lambda played: not tells_apart(played, wrong())):
        try:
            await Player(client, f"wrong{next(NUMBERS)}", wrong()).play(played.script)
        except Difference:
            return
    pytest.fail("None of the fixed worlds finds it out.")


Asked = tuple[str, datetime, datetime, str, str | None]


@dataclass
class Played:
    """A script, and the right world and its verdicts after each step. Its series are worked out once."""

    script: Script
    clock: datetime
    right: list[tuple[World, list[str]]]
    series: dict[Asked, tuple[str, list[Bucket]]] = field(default_factory=dict)

    @property
    def world(self) -> World:
        return self.right[-1][0]

    @cached_property
    def asked(self) -> list[Asked]:
        return list(series_asked(self.world, 1))

    def one_series(self, asked: Asked) -> tuple[str, list[Bucket]]:
        if asked not in self.series:
            self.series[asked] = self.world.series(*asked, self.clock)
        return self.series[asked]


@pytest.fixture(scope="module")
def random_worlds() -> list[Played]:
    """As many as the suite plays."""
    made = list[Played]()
    clock = datetime.now(UTC)

    @settings(
        max_examples=SUITE_WORLDS,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(script=scripts())
    def make(script: Script) -> None:
        made.append(Played(script, clock, list(played_offline(script, World(), clock))))

    make()
    return made


@pytest.mark.parametrize("wrong", WRONG)
def test_it_would_find_out_a_wrong_oracle_by_random_worlds(random_worlds: list[Played], wrong: type[World]) -> None:
    assert any(tells_apart(played, wrong()) for played in random_worlds)


@pytest.mark.parametrize("wrong", WRONG_SERIES)
async def test_it_finds_out_a_wrong_series(client: httpx.AsyncClient, wrong: type[World]) -> None:
    player = Player(client, f"series{next(NUMBERS)}", wrong(), has_previews=False)  # they are held against series
    for step in SERIES_WORLD.steps:
        await player.take(step)
    with pytest.raises(Difference):  # noqa: PT012
        for seed in range(20):
            for asked in series_asked(player.world, seed):
                await player.compare_one_series(*asked)


@pytest.mark.parametrize("wrong", WRONG_SERIES)
def test_it_would_find_out_a_wrong_series_by_random_worlds(random_worlds: list[Played], wrong: type[World]) -> None:
    assert any(tells_series_apart(played, wrong()) for played in random_worlds)


def tells_series_apart(played: Played, wrong: World) -> bool:
    *_, (wrong, _) = played_offline(played.script, wrong, played.clock)
    return any(played.one_series(asked) != wrong.series(*asked, played.clock) for asked in played.asked)


def tells_apart(played: Played, wrong: World) -> bool:
    """Would playing this script against the service show a difference, if the service is right?"""
    right = World()
    known: list[int | None] = [None]
    after = zip(played.right, played_offline(played.script, wrong, played.clock), strict=True)
    for step, ((right, expected), (wronged, got)) in zip(played.script.steps, after, strict=True):
        wrong = wronged
        if expected != got:
            return True
        if isinstance(step, Remember):
            known.append(right.now)
    return any(
        right.count(space, at, known_at) != wrong.count(space, at, known_at)
        for known_at in known
        for at in probes(right, 8 if known_at else 40)
        for space in wrong.parents
    )
