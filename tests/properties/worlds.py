"""Random worlds: scripts of steps, and playing one through the HTTP API beside the oracle.

A script refers to a small universe (s0, s1, ... d0, ... p0, ...) and to a palette of few instants around a
change of clocks, so that events, resets and the bounds of placements often meet at the same microsecond. Any
step can be left out or made simpler without making the others invalid: what the world does not allow is
expected to be refused.
"""

import asyncio
import csv
import gzip
import io
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise, zip_longest
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import asyncpg
import httpx
import msgspec
from hypothesis import strategies as st

from headcount.database import calls

from . import rollups
from .oracle import (
    QUARTER,
    Bucket,
    Event,
    Refused,
    Side,
    World,
    is_whole,
    quarter_of,
    read_timestamp,
    start_of,
)

MICROSECOND = timedelta(microseconds=1)
LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)
MAX_PROBES = 9
SUITE_WORLDS = 120  # as many as it takes to find every wrong oracle (test_wrong_oracles.py); `make soak` plays more

# Zones, and an instant at which their clocks jumped.
JUMPS = [
    ("America/New_York", "2024-03-10T07:00:00Z"),
    ("America/New_York", "2024-11-03T06:00:00Z"),
    ("Europe/Berlin", "2023-03-26T01:00:00Z"),
    ("Europe/Berlin", "2023-10-29T01:00:00Z"),
    ("Australia/Lord_Howe", "2023-09-30T15:30:00Z"),
    ("Australia/Lord_Howe", "2023-04-01T15:00:00Z"),
    ("Asia/Beirut", "2022-03-26T22:00:00Z"),
    ("Asia/Beirut", "2022-10-29T21:00:00Z"),
    ("America/St_Johns", "2010-03-14T03:31:00Z"),
    ("America/St_Johns", "2010-11-07T02:31:00Z"),
    ("Pacific/Apia", "2011-12-30T10:00:00Z"),
    ("Africa/Cairo", "2023-04-27T22:00:00Z"),
    ("Africa/Cairo", "2023-10-26T21:00:00Z"),
]
OTHER_ZONES = ["UTC", "Asia/Kathmandu"]
SERIES_ZONES = ["America/New_York", "Australia/Lord_Howe", "Asia/Beirut", "Europe/Berlin", "Asia/Kathmandu"]
# How much of a series is asked for: from short to a little more than what still has exact extremes, and longer.
SERIES = {
    "15m": [timedelta(hours=2), timedelta(hours=30), timedelta(hours=170)],
    "30m": [timedelta(hours=5), timedelta(hours=60), timedelta(hours=169)],
    "1h": [timedelta(hours=9), timedelta(days=3), timedelta(days=9)],
    "1d": [timedelta(days=2), timedelta(days=6), timedelta(days=20)],
    "1w": [timedelta(days=1), timedelta(days=10), timedelta(days=40)],
    "1mo": [timedelta(days=1), timedelta(days=20), timedelta(days=70)],
}
FORMATS = ["json", "ndjson", "csv", "msgpack"]
DIRECTIONS = [*[1] * 12, *[-1] * 5, 2, -3, 0, 2**31 - 1, -(2**31), 2**31]
SEQUENCES = [0, 0, 0, 0, 1, 32_767]


def recent_jumps() -> list[tuple[str, str]]:
    """The jumps of the last year, found by watching the clocks hour by hour; not those of the last days."""
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    found = []
    for zone in SERIES_ZONES:
        hours = [now - timedelta(hours=number) for number in range(24 * 400, 24 * 4, -1)]
        offsets = [hour.astimezone(ZoneInfo(zone)).utcoffset() for hour in hours]
        for (_, before), (hour, offset) in pairwise(zip(hours, offsets, strict=True)):
            if before != offset:
                jump = hour - timedelta(minutes=30)
                exact = hour if jump.astimezone(ZoneInfo(zone)).utcoffset() == before else jump
                found.append((zone, show(exact)))
    return found


def show(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


@dataclass(frozen=True)
class PutSpace:
    space: str
    patch: Mapping[str, str | None]  # parent, time_zone, reset_at


@dataclass(frozen=True)
class PutDoorway:
    doorway: str
    sides: tuple[Side, Side]


@dataclass(frozen=True)
class Place:
    dpu: str
    doorway: str | None
    mounted_in: Side
    start: datetime | None  # None: now
    until: datetime | None = None


@dataclass(frozen=True)
class PutSite:
    spaces: tuple[PutSpace, ...] = ()
    doorways: tuple[PutDoorway, ...] = ()
    placements: tuple[Place, ...] = ()


@dataclass(frozen=True)
class Reset:
    space: str
    count: int
    at: datetime | None  # None: now


@dataclass(frozen=True)
class Undo:
    """Take back an earlier placement, of a place or the last one from that instant."""

    which: int


@dataclass(frozen=True)
class Retire:
    """Retire a DPU, or bring it back."""

    dpu: str
    retired: bool


@dataclass(frozen=True)
class RetireSpace:
    space: str
    retired: bool


@dataclass(frozen=True)
class RetireDoorway:
    doorway: str
    retired: bool


@dataclass(frozen=True)
class UndoReset:
    which: int


@dataclass(frozen=True)
class Reported:
    """An event as it is sent: the timestamp as text, in any offset and with any number of digits."""

    dpu: str
    timestamp: str
    direction: int
    sequence: int = 0

    def event(self) -> Event:
        return Event(self.dpu, read_timestamp(self.timestamp), self.direction, self.sequence)


@dataclass(frozen=True)
class Send:
    events: tuple[Reported, ...]
    format: str = "json"
    zipped: bool = False


@dataclass(frozen=True)
class SendAgain:
    """An earlier batch once more, whole, as a client does that got no answer."""

    which: int
    format: str = "json"


@dataclass(frozen=True)
class Remember:
    """Note the service's clock: questions at the end ask what was known then."""


@dataclass(frozen=True)
class Look:
    """Compare in the middle of the script, too."""


@dataclass(frozen=True)
class Refresh:
    """Bring the rollups up to date."""


@dataclass(frozen=True)
class Lag:
    """As if the latest refresh of the rollups had gone only so far."""

    until: datetime


@dataclass(frozen=True)
class LagTotals:
    """As after an upgrade: running totals are there only so far."""

    until: datetime


@dataclass(frozen=True)
class Compress:
    """Some chunks of the events and of the rollups around an instant."""

    around: datetime
    every: int


@dataclass(frozen=True)
class RebaseDue:
    """Derive anew the live rows whose daily reset has come."""


@dataclass(frozen=True)
class Retain:
    """Refresh, and drop the events before the midnight (UTC) before an instant; not of the last days."""

    until: datetime


Upkeep = Refresh | Lag | LagTotals | Compress | RebaseDue | Retain
Step = (
    PutSpace
    | PutDoorway
    | Place
    | PutSite
    | Reset
    | Undo
    | UndoReset
    | Retire
    | RetireSpace
    | RetireDoorway
    | Send
    | SendAgain
    | Remember
    | Look
    | Upkeep
)


@dataclass(frozen=True)
class Script:
    steps: tuple[Step, ...]


def apply(step: Step, world: World, clock: datetime, sent: Sequence[Send]) -> tuple[World, list[str]]:
    """The world after this step, and the verdicts on its events. Raises Refused."""
    world = world.copy()
    match step:
        case PutSpace():
            world.put_space(step.space, step.patch)
            world.check_tree()
        case PutDoorway():
            world.put_doorway(step.doorway, *step.sides)
        case Place():
            world.place(step.dpu, step.doorway, step.mounted_in, step.start or clock, step.until)
        case PutSite():
            for space in step.spaces:
                world.put_space(space.space, space.patch)
            world.check_tree()
            for doorway in step.doorways:
                world.put_doorway(doorway.doorway, *doorway.sides)
            for place in step.placements:
                world.place(place.dpu, place.doorway, place.mounted_in, place.start or clock, place.until)
        case Reset():
            world.reset(step.space, step.count, step.at or clock)
        case Retire():
            world.retire_dpu(step.dpu, step.retired, clock)
        case RetireSpace():
            world.retire_space(step.space, step.retired)
        case RetireDoorway():
            world.retire_doorway(step.doorway)
        case Undo() if world.placements:
            placement = world.placements[step.which % len(world.placements)]
            world.undo_placement(placement.dpu, placement.start)
        case UndoReset() if world.resets:
            reset = world.resets[step.which % len(world.resets)]
            world.undo_reset(reset.space, reset.at)
        case Send():
            return world, world.record([reported.event() for reported in step.events], clock)
        case SendAgain() if sent:
            return apply(sent[step.which % len(sent)], world, clock, ())
    return world, []


def excuse(step: Step, world: World) -> bool:
    """May this step be refused because it, or the current count of a space behind it, would need dropped events?"""
    if world.events_from is None:
        return False
    match step:
        case Place():
            places: tuple[Place, ...] = (step,)
        case PutSite():
            places = step.placements
        case Undo():
            return True
        case _:
            places = ()
    for place in places:
        for bound in (place.start, place.until):
            if bound and not is_whole(bound) and world.was_dropped(place.dpu, bound):
                return True
    if isinstance(step, Reset) and step.at and not is_whole(step.at):
        for dpu in {placement.dpu for placement in world.placements}:
            if world.was_dropped(dpu, step.at) and world.counts_in(dpu, step.space, quarter_of(step.at)):
                return True
    return any(world.lacks(space, datetime.now(UTC)) for space in world.parents)


def quarters(world: World, limit: int = MAX_PROBES) -> list[datetime]:
    """The quarter-hours around everything that was dropped."""
    instants = sorted(
        {start_of(quarter_of(at) + step) for at in probes(world, 1000) if world.is_before(at) for step in (0, 1)}
    )
    return sorted(random.Random(len(instants)).sample(instants, min(limit, len(instants))))


def probes(world: World, limit: int = MAX_PROBES) -> list[datetime]:
    """Instants at which something changes in this world, and one microsecond to both sides of each."""
    edges = {received.event.time for received in world.received}
    edges |= {reset.at for reset in world.resets}
    for placement in world.placements:
        edges |= {placement.start, *([placement.until] if placement.until else [])}
    for space in world.parents:
        for edge in list(edges):
            edges |= {*world.scheduled_resets(space, edge + timedelta(days=1))}
    horizon = datetime.now(UTC) - timedelta(milliseconds=50)  # `at` must not lie in the future
    near = {edge + step for edge in edges for step in (-MICROSECOND, timedelta(), MICROSECOND)}
    instants = sorted(instant for instant in near if LONG_AGO < instant < horizon) or [LONG_AGO]
    if len(instants) > limit:
        instants = sorted(random.Random(len(instants)).sample(instants, limit))
    return instants


CountChange = tuple[datetime, datetime, int, datetime, int, int]


def count_changes(before: World, after: World) -> list[tuple[str, CountChange]]:
    """How raw counts differ between two worlds of the same events: from, to, largest change, at, before, after."""
    now = datetime.now(UTC)
    edges = {received.event.time for received in before.received} | {r.at for w in (before, after) for r in w.resets}
    if not edges:
        return []
    for world in (before, after):
        for space in world.parents:
            for edge in list(edges):
                edges |= {*world.scheduled_resets(space, edge + timedelta(days=2))}
    start, end = min(edges) - timedelta(days=1), min(max(edges) + timedelta(days=1), now)
    instants = sorted(edge for edge in edges if edge <= now)
    found = list[tuple[str, CountChange]]()
    for space in sorted({*before.parents, *after.parents}):
        values = [
            dict(zip(instants, world.step_function(space, instants, start, end), strict=True))
            for world in (before, after)
        ]
        differing = [at for at in instants if values[0][at] != values[1][at]]
        if differing:
            largest = max(abs(values[1][at] - values[0][at]) for at in differing)
            at = next(at for at in differing if abs(values[1][at] - values[0][at]) == largest)
            later = [edge for edge in instants if edge > differing[-1]]
            to = later[0] - MICROSECOND if later else now
            found.append((space, (differing[0], to, largest, at, values[0][at], values[1][at])))
    return found


def series_asked(
    world: World, seed: int, limit: int = len(SERIES)
) -> Iterator[tuple[str, datetime, datetime, str, str | None]]:
    """A series of each interval: space, start, end, interval and zone, around instants that matter."""
    spaces = sorted(world.parents)
    chance = random.Random(seed)
    edges = probes(world)
    for interval in chance.sample(sorted(SERIES), limit) if spaces else []:
        space, length = chance.choice(spaces), chance.choice(SERIES[interval])
        start = chance.choice(edges) - length * chance.choice([0, 0.25, 0.5, 0.75, 1])
        yield space, start, start + length, interval, chance.choice([None, *SERIES_ZONES])


# Playing a script


class Difference(AssertionError):
    """The service and the oracle disagree. The message ends with the requests that led there."""


@dataclass
class Player:
    """`owner`: a connection as the owner of the database; without one there is no upkeep."""

    client: httpx.AsyncClient
    prefix: str
    world: World = field(default_factory=World)
    owner: asyncpg.Connection | None = None
    requests: list[str] = field(default_factory=list)
    sent: list[Send] = field(default_factory=list)
    remembered: list[tuple[int, str]] = field(default_factory=list)
    dpus: set[str] = field(default_factory=set)
    has_previews: bool = True

    def named(self, name: str | None) -> str | None:
        return None if name is None else f"{self.prefix}.{name}"

    def plain(self, name: str | None) -> str | None:
        return None if name is None else name.removeprefix(f"{self.prefix}.")

    def differ(self, what: str, expected: object, got: object) -> Difference:
        script = "\n".join(self.requests).replace(f"{self.prefix}.", "")
        return Difference(f"{what}\nexpected {expected}\ngot      {got}\nafter\n{script}")

    def expect(self, what: str, expected: object, got: object) -> None:
        if expected != got:
            raise self.differ(what, expected, got)

    async def ask(self, path: str, params: Sequence[tuple[str, str]], excused: bool = False) -> Any:
        """The answer; None for an excuse: events that it would need were dropped."""
        response = await self.client.get(path, params=tuple(params))
        what = f"GET {path} {params}".replace(f"{self.prefix}.", "")
        if excused and is_excuse(response):
            return None
        if response.status_code != 200:
            raise self.differ(what, 200, f"{response.status_code} {response.text}")
        return response.json()

    async def tell(
        self, method: str, path: str, body: object, refused: Refused | None, excused: bool, **content: Any
    ) -> Any:
        """A request that changes the world, or is refused with one of the statuses that the oracle allows.

        None for an excuse: events that it would need were dropped.
        """
        response = await self.client.request(method, path, **(content or {"json": body}))
        line = f"{method} {path} {json.dumps(body)} -> {response.status_code}"
        self.requests.append(line)
        if excused and is_excuse(response):
            return None
        allowed = refused.statuses if refused else (200, 201, 204)
        if response.status_code not in allowed:
            raise self.differ("status", allowed, f"{response.status_code} {response.text}")
        return response.json() if response.content else {}

    async def play(self, script: Script) -> None:
        for step in script.steps:
            await self.take(step)
        await self.compare(probes(self.world))
        await self.compare_now()
        await self.compare_all_now()
        await self.compare_lists()
        await self.compare_series(4)
        await self.compare_bi()
        if self.world.events_from:
            await self.compare(quarters(self.world))
        for known_at, clock in self.remembered:
            await self.compare(probes(self.world, 5), known_at, clock)

    async def take(self, step: Step) -> None:
        match step:
            case Remember():
                if self.world.parents:
                    self.remembered.append((self.world.now, await self.compare_now()))
                    await asyncio.sleep(0.002)  # clocks of a millisecond: what follows is later
                return
            case Look():
                await self.compare(probes(self.world, 4))
                await self.compare_all_now()
                await self.compare_series(1)
                return
            case Refresh() | Lag() | LagTotals() | Compress() | RebaseDue() | Retain():
                await self.keep_up(step)
                return
            case SendAgain():
                if self.sent:
                    again = self.sent[step.which % len(self.sent)]
                    await self.take(Send(again.events, step.format))
                return
            case Undo() if not self.world.placements:
                return
            case UndoReset() if not self.world.resets:
                return
            case Place() if self.named(step.dpu) not in self.dpus:
                await self.tell("PUT", f"/v1/dpus/{self.named(step.dpu)}", {}, None, False)
                self.dpus.add(f"{self.named(step.dpu)}")
        refused: Refused | None = None
        world, verdicts = self.world, list[str]()
        try:
            world, verdicts = apply(step, self.world, datetime.now(UTC), self.sent)
        except Refused as refusal:
            refused = refusal
        await self.preview(step, refused, world)
        answer = await self.request(step, refused, not refused and excuse(step, world))
        if not refused and answer is not None:
            self.world = world
            self.settle(step, answer, verdicts)

    async def keep_up(self, step: Upkeep) -> None:
        if self.owner is None:
            return
        self.requests.append(str(step))
        match step:
            case Refresh():
                await rollups.refresh(self.owner)
            case Lag():
                await rollups.lag(self.owner, step.until)
            case LagTotals():
                await rollups.lag_totals(self.owner, step.until)
            case Retain():
                until = step.until.replace(hour=0, minute=0, second=0, microsecond=0)
                if until < datetime.now(UTC) - timedelta(days=8) and not self.world.is_before(until):
                    self.world = self.world.copy()
                    self.world.retire(until)
                    await rollups.refresh(self.owner)
                    await rollups.retain(self.owner, until)
            case Compress():
                days = timedelta(days=3)
                await rollups.compress(self.owner, step.around - days, step.around + days, step.every)
            case RebaseDue():
                await rollups.rederive_due(self.owner)

    async def request(self, step: Step, refused: Refused | None, excused: bool) -> Any:
        if isinstance(step, Send):
            self.sent.append(step)
            rows = [self.event_body(reported) for reported in step.events]
            return await self.tell("POST", "/v1/events", rows, refused, False, **encoded(rows, step))
        method, path, body = self.change(step)
        content: dict[str, Any] = {"content": b""} if body is None else {}
        return await self.tell(method, path, body, refused, excused, **content)

    def change(self, step: Step) -> tuple[str, str, dict[str, Any] | None]:
        """The request that changes the floor plan: method, address and body."""
        match step:
            case PutSpace():
                return "PUT", f"/v1/spaces/{self.named(step.space)}", self.space_body(step)
            case PutDoorway():
                sides = [self.named(side) for side in step.sides]
                return "PUT", f"/v1/doorways/{self.named(step.doorway)}", {"sides": sides}
            case Place():
                return "POST", f"/v1/dpus/{self.named(step.dpu)}/placements", self.placement_body(step)
            case PutSite():
                return "PUT", "/v1/site", self.site_body(step)
            case Reset():
                body = {"count": step.count, **({"at": show(step.at)} if step.at else {})}
                return "POST", f"/v1/spaces/{self.named(step.space)}/resets", body
            case Undo():
                placement = self.world.placements[step.which % len(self.world.placements)]
                path = f"/v1/dpus/{self.named(placement.dpu)}/placements?from={show(placement.start)}"
                return "DELETE", path, None
            case Retire():
                return "PUT", f"/v1/dpus/{self.named(step.dpu)}", {"retired": step.retired}
            case RetireSpace():
                return "PUT", f"/v1/spaces/{self.named(step.space)}", {"retired": step.retired}
            case RetireDoorway():
                return "PUT", f"/v1/doorways/{self.named(step.doorway)}", {"retired": step.retired}
            case UndoReset():
                reset = self.world.resets[step.which % len(self.world.resets)]
                return "DELETE", f"/v1/spaces/{self.named(reset.space)}/resets?at={show(reset.at)}", None
        raise NotImplementedError(step)

    async def preview(self, step: Step, refused: Refused | None, after: World) -> None:
        """A dry run says what the change then does: how counts differ over all of time, by the oracle."""
        if (
            isinstance(step, Send | PutDoorway | Retire | RetireDoorway)
            or self.world.events_from
            or not self.has_previews
        ):
            return
        method, path, body = self.change(step)
        path += "&dry_run=true" if "?" in path else "?dry_run=true"
        response = await self.client.request(method, path, json=body)
        allowed = refused.statuses if refused else (200,)
        if response.status_code not in allowed:
            raise self.differ(f"dry run of {step}", allowed, f"{response.status_code} {response.text}")
        if refused:
            return
        answer = response.json()
        expected = count_changes(self.world, after)
        got = {
            f"{self.plain(change['space'])}": tuple(
                value if name in ("largest_change", "before", "after") else read_timestamp(value)
                for name, value in change.items()
                if name != "space"
            )
            for change in answer["counts"]
        }
        now = datetime.now(UTC) - timedelta(minutes=1)  # nothing happens in the last minute but what the step does
        self.expect(
            f"dry run of {step}",
            {space: tuple("now" if isinstance(v, datetime) and v > now else v for v in row) for space, row in expected},
            {
                space: tuple("now" if isinstance(v, datetime) and v > now else v for v in row)
                for space, row in got.items()
            },
        )

    def settle(self, step: Step, answer: Any, verdicts: list[str]) -> None:
        """What only the answer tells (the instant that `now` was), and the verdicts."""
        match step:
            case Place(start=None) if self.world.placements:
                fact = self.world.placements[-1]
                if fact.recorded == self.world.now:  # else it was so already
                    self.world.placements[-1] = replace(fact, start=read_timestamp(answer["from"]))
            case PutSite():
                self.dpus |= {f"{self.named(place.dpu)}" for place in step.placements}
            case Reset(at=None):
                reset = self.world.resets[-1]
                at = read_timestamp(answer["at"])
                self.world.resets[-1] = replace(reset, at=at)
            case Send():
                expected = {
                    "received": len(verdicts),
                    "accepted": verdicts.count("accepted"),
                    "duplicates": verdicts.count("duplicate"),
                    "rejected": [
                        (index, verdict)
                        for index, verdict in enumerate(verdicts)
                        if verdict not in ("accepted", "duplicate")
                    ],
                }
                rejected = [(refusal["index"], refusal["code"]) for refusal in answer["rejected"]]
                self.expect("verdicts", expected, answer | {"rejected": rejected})

    def space_body(self, step: PutSpace) -> dict[str, str | None]:
        return {key: self.named(value) if key == "parent" else value for key, value in step.patch.items()}

    def placement_body(self, step: Place) -> dict[str, str | None]:
        body = {"doorway": self.named(step.doorway)}
        if step.doorway is not None:
            body["mounted_in"] = self.named(step.mounted_in)
        if step.start is not None:
            body["from"] = show(step.start)
        if step.until is not None:
            body["until"] = show(step.until)
        return body

    def site_body(self, step: PutSite) -> dict[str, list[dict[str, Any]]]:
        return {
            "spaces": [{"id": self.named(space.space)} | self.space_body(space) for space in step.spaces],
            "doorways": [
                {"id": self.named(doorway.doorway), "sides": [self.named(side) for side in doorway.sides]}
                for doorway in step.doorways
            ],
            "dpus": [{"id": self.named(dpu)} for dpu in sorted({place.dpu for place in step.placements})],
            "placements": [
                {"dpu": self.named(place.dpu), "mounted_in": None} | self.placement_body(place)
                for place in step.placements
            ],
        }

    def event_body(self, reported: Reported) -> dict[str, Any]:
        return {
            "dpu": self.named(reported.dpu),
            "timestamp": reported.timestamp,
            "direction": reported.direction,
        } | ({"sequence": reported.sequence} if reported.sequence else {})

    # Comparing

    def expected(self, space: str, at: datetime, known_at: int | None) -> dict[str, object]:
        counted = self.world.count(space, at, known_at)
        since = counted.counted_since
        return {
            "space": space,
            "at": show(at),
            "count": counted.count,
            "raw_count": counted.raw_count,
            "since": counted.since and show(counted.since),
            "dpus": {"placed": counted.placed, "online": counted.online},
            "counted_since": since and self.told(since),
            "counted": since is not None and since <= at,
        } | ({"counted": None} if self.is_between(since, at) else {})

    def told(self, since: datetime) -> str:
        """The quarter-hour is all that is compared where no more can be known."""
        return show(start_of(quarter_of(since)) if self.world.is_vague(since) else since)

    def is_between(self, since: datetime | None, at: datetime) -> bool:
        return since is not None and self.world.is_vague(since) and quarter_of(since) == quarter_of(at)

    def got(self, answer: dict[str, Any]) -> dict[str, object]:
        since = answer["since"] and show(read_timestamp(answer["since"]))
        at = read_timestamp(answer["at"])
        counted_since = answer["counted_since"] and read_timestamp(answer["counted_since"])
        return {
            "space": self.plain(answer["space"]),
            "at": show(at),
            "count": answer["count"],
            "raw_count": answer["raw_count"],
            "since": since,
            "dpus": answer["dpus"],
            "counted_since": counted_since and self.told(counted_since),
            "counted": None if self.is_between(counted_since, at) else answer["counted"],
        }

    async def compare(
        self, instants: Sequence[datetime], known_at: int | None = None, clock: str | None = None
    ) -> None:
        """All spaces at each of the instants: by name, now and then below one of them, and one alone."""
        spaces = sorted(self.world.parents, reverse=True)
        if not spaces:
            return
        known = [("known_at", clock)] if clock is not None else []
        together = [(space, at) for at in instants for space in spaces if not self.world.lacks(space, at, known_at)]
        if self.owner and known_at is None and together:
            await self.compare_together(self.owner, together)
        for turn, at in enumerate(instants):
            when = [("at", show(at)), *known]
            wanted = spaces
            one = spaces[turn % len(spaces)]
            if turn % 3 == 1:
                wanted = self.world.asked_under(one)
                asked = [("under", f"{self.named(one)}")]
            else:
                asked = [("space", f"{self.named(space)}") for space in spaces]
            excused = {space for space in wanted if self.world.lacks(space, at, known_at)}
            answer = await self.ask("/v1/counts", [*asked, *when], bool(excused))
            if answer is None:
                for space in wanted:
                    await self.compare_alone(space, at, known_at, when, space in excused)
                continue
            expected = [self.expected(space, at, known_at) for space in wanted]
            self.expect(f"counts at {when}", expected, [self.got(count) for count in answer["counts"]])
            if turn % 4 == 2:
                await self.compare_alone(one, at, known_at, when, one in excused)

    async def compare_together(self, owner: asyncpg.Connection, asked: Sequence[tuple[str, datetime]]) -> None:
        """Each space at an instant of its own, as one call for requests that arrived together."""
        found = await calls.list_counts_at(
            owner, [f"{self.named(space)}" for space, _ in asked], [at for _, at in asked]
        )
        got = [self.got(msgspec.to_builtins(count)) for count in found]
        self.expect(f"counts of {asked}", [self.expected(space, at, None) for space, at in asked], got)

    async def compare_alone(
        self, space: str, at: datetime, known_at: int | None, when: Sequence[tuple[str, str]], excused: bool
    ) -> None:
        answer = await self.ask(f"/v1/spaces/{self.named(space)}/count", when, excused)
        if answer is not None:
            self.expect(f"count of {space} at {when}", self.expected(space, at, known_at), self.got(answer))

    async def compare_now(self) -> str:
        """Without `at`: the answer names its instant, the service's clock."""
        space = min(self.world.parents, default=None)
        if space is None:
            return ""
        answer = await self.ask(f"/v1/spaces/{self.named(space)}/count", [])
        at = read_timestamp(answer["at"])
        self.expect(f"count of {space} now", self.expected(space, at, None), self.got(answer))
        return str(answer["at"])

    async def compare_all_now(self) -> None:
        """All spaces without `at`, from live rows."""
        spaces = sorted(self.world.parents)
        if spaces:
            answer = await self.ask("/v1/counts", [("space", f"{self.named(space)}") for space in spaces])
            at = read_timestamp(answer["at"])
            expected = [self.expected(space, at, None) for space in spaces]
            self.expect("counts now", expected, [self.got(count) for count in answer["counts"]])

    async def compare_series(self, limit: int = len(SERIES)) -> None:
        for asked in series_asked(self.world, len(self.requests), limit):
            await self.compare_one_series(*asked)

    async def compare_one_series(
        self, space: str, start: datetime, end: datetime, interval: str, zone: str | None
    ) -> None:
        params = [("from", show(start)), ("to", show(end)), ("interval", interval)]
        params += [("time_zone", zone)] if zone else []
        moment = timedelta(milliseconds=3)
        early = datetime.now(UTC) - moment
        if start >= early:
            return
        edges = self.world.buckets(start, min(end, early), interval, zone or self.world.schedule(space)[0])
        excused = bool(self.world.events_from) and self.world.series_lacks(space, edges[0][0], edges[-1][1])
        answer = await self.ask(f"/v1/spaces/{self.named(space)}/counts", params, excused)
        if answer is None:
            return
        late = datetime.now(UTC) + moment
        resolution, expected = self.world.series(space, start, end, interval, zone, early)
        is_over = expected[-1].end < early
        later = expected if is_over else self.world.series(space, start, end, interval, zone, late)[1]
        # the service's now lies between the two: only the average of what is not over may differ, and by little
        numbers = [replace(bucket, average=0) for bucket in expected]
        if not is_over and numbers != [replace(bucket, average=0) for bucket in later]:
            return
        what = f"series of {space} {params}"
        self.expect(what, zone or self.world.schedule(space)[0], answer["time_zone"])
        self.expect(what, resolution, answer["resolution"])
        averages = [bucket["average"] for bucket in answer["buckets"]]
        got = [
            Bucket(
                start=read_timestamp(bucket["start"]),
                end=read_timestamp(bucket["end"]),
                average=0,
                **{name: bucket[name] for name in ("count", "raw_count", "min", "max", "entries", "exits")},
            )
            for bucket in answer["buckets"]
        ]
        if numbers != got:
            wrong = [pair for pair in zip_longest(numbers, got) if pair[0] and pair[0] != pair[1]]
            raise self.differ(f"{what} ({resolution}, {len(wrong)} wrong)", *(wrong or [(len(expected), len(got))])[0])
        for bucket, then, average in zip(expected, later, averages, strict=True):
            low, high = sorted([bucket.average, then.average])
            slack = 1e-9 * max(1, abs(low), abs(high))
            if not low - slack <= average <= high + slack:
                raise self.differ(f"{what} average", bucket, average)
        if self.owner and resolution == "15m":
            await self.compare_extremes(self.owner, space, start, end, interval, zone)

    async def compare_extremes(
        self,
        owner: asyncpg.Connection,
        space: str,
        start: datetime,
        end: datetime,
        interval: str,
        zone: str | None,
    ) -> None:
        """The least and the most of each bucket of a long range, exactly where its events are there."""
        now = datetime.now(UTC) - timedelta(milliseconds=3)
        resolution, expected = self.world.series(space, start, end, interval, zone, now, exact=True)
        if expected[-1].end >= now:
            return
        rows = await owner.fetch(
            "select resolution, min, max from api.list_space_counts($1, $2, $3, $4, $5, exact => true)",
            self.named(space),
            start,
            end,
            interval,
            zone,
        )
        what = f"extremes of {space} from {start} to {end} by {interval} in {zone}"
        self.expect(what, {resolution}, {row["resolution"] for row in rows})
        self.expect(what, [(bucket.min, bucket.max) for bucket in expected], [(row["min"], row["max"]) for row in rows])

    async def compare_bi(self) -> None:
        """The quarter-hours of a space around the one with which those of `bi.space_counts_15m` begin."""
        if self.owner is None or not self.world.parents:
            return
        space = random.Random(len(self.requests)).choice(sorted(self.world.parents))
        since = self.world.counted_since(space)
        first = start_of(quarter_of(since)) if since else datetime.now(UTC)
        start, end = first - 4 * QUARTER, min(first + 8 * QUARTER, datetime.now(UTC) - QUARTER)
        quarters = [first + number * QUARTER for number in range(8)] if since else []
        expected = [
            (show(at), self.world.raw_count(space, at + QUARTER - MICROSECOND)) for at in quarters if at + QUARTER < end
        ]
        query = """
            select c.bucket, c.raw_count from bi.space_counts_15m c
            where c.space = $1 and c.bucket >= $2 and c.bucket < $3::timestamptz - interval '15 minutes'
            order by 1
        """
        try:
            rows = await self.owner.fetch(query, self.named(space), start, end)
        except asyncpg.PostgresError as error:
            if self.world.events_from is None or "were dropped (retention)" not in str(error):
                raise
            return
        got = [(show(row["bucket"]), row["raw_count"]) for row in rows]
        self.expect(f"quarter-hours of {space} in bi", expected, got)

    async def compare_lists(self) -> None:
        """What is said one by one: placements, the events of each space with their signs, resets."""
        for dpu in sorted({placement.dpu for placement in self.world.placements}):
            await self.compare_placements(dpu)
        for space in sorted(self.world.parents):
            await self.compare_events(space)
            await self.compare_resets(space)

    async def compare_placements(self, dpu: str) -> None:
        answer = await self.ask(f"/v1/dpus/{self.named(dpu)}/placements", [])
        for at in probes(self.world):
            believed = self.world.placement(dpu, at)
            listed = [item for item in answer["items"] if lasts(item, at)]
            self.expect(
                f"placement of {dpu} at {show(at)}",
                [(believed.doorway, believed.mounted_in)] if believed else [],
                [(self.plain(item["doorway"]), self.plain(item["mounted_in"])) for item in listed],
            )

    async def compare_events(self, space: str) -> None:
        answer = await self.ask("/v1/events", [("space", f"{self.named(space)}"), ("limit", "1000")])
        events = sorted(self.world.events(), key=lambda event: (event.time, event.dpu, event.sequence))
        expected = [
            (event.dpu, show(event.time), event.sequence, event.direction, sign)
            for event in events
            if (sign := self.world.sign(event.dpu, event.time, space)) and not self.world.is_before(event.time)
        ]
        got = [
            (
                self.plain(item["dpu"]),
                show(read_timestamp(item["timestamp"])),
                item["sequence"],
                item["direction"],
                item["sign"],
            )
            for item in answer["items"]
            if item["sign"]
        ]
        self.expect(f"events of {space}", expected, got)

    async def compare_resets(self, space: str) -> None:
        """Those of the days around the events: one for each instant, the explicit one if there is one."""
        times = [event.time for event in self.world.events()] or [LONG_AGO]
        start, end = min(times), max(times) + timedelta(days=1)
        resets = dict[datetime, tuple[int, bool]]()
        for day in range((end - start).days + 2):
            for at in self.world.scheduled_resets(space, start + timedelta(days=day)):
                resets[at] = (0, True)
        for reset in self.world.explicit_resets(space, end):
            resets[reset.at] = (reset.count, False)
        expected = [(show(at), *resets[at]) for at in sorted(resets) if start <= at < end]
        window = [("from", show(start)), ("to", show(end)), ("scheduled", "true"), ("limit", "1000")]
        answer = await self.ask(f"/v1/spaces/{self.named(space)}/resets", window)
        got = [(show(read_timestamp(item["at"])), item["count"], item["scheduled"]) for item in answer["items"]]
        self.expect(f"resets of {space} {window}", expected, got)


def is_excuse(response: httpx.Response) -> bool:
    return response.status_code == 422 and "were dropped (retention)" in response.text


def lasts(item: dict[str, Any], at: datetime) -> bool:
    until = item["until"] and read_timestamp(item["until"])
    return read_timestamp(item["from"]) <= at and (until is None or at < until)


def encoded(rows: list[dict[str, Any]], step: Send) -> dict[str, Any]:
    """Body and headers of a batch."""
    match step.format:
        case "json":
            kind, body = "application/json", json.dumps({"events": rows}).encode()
        case "msgpack":
            kind, body = "application/msgpack", msgspec.msgpack.encode({"events": rows})
        case "ndjson":
            kind, body = "application/x-ndjson", "".join(json.dumps(row) + "\n" for row in rows).encode()
        case _:
            text = io.StringIO()
            writer = csv.writer(text)
            writer.writerow(["timestamp", "direction", "dpu_id", "sequence"])
            writer.writerows([row["timestamp"], row["direction"], row["dpu"], row.get("sequence", 0)] for row in rows)
            kind, body = "text/csv", text.getvalue().encode()
    headers = {"content-type": kind}
    if step.zipped:
        headers["content-encoding"] = "gzip"
        body = gzip.compress(body)
    return {"content": body, "headers": headers}


# Making scripts


@cache
def reset_clocks(zone: str, jump: str) -> list[str]:
    """Local times that matter around this jump: both its sides, the middle, a minute off; and dull ones."""
    instant = read_timestamp(jump)
    before = (instant - timedelta(minutes=1)).astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    sides = [before + timedelta(minutes=1), instant.astimezone(ZoneInfo(zone)).replace(tzinfo=None)]
    early, late = min(sides), max(sides)
    clocks = [
        early,
        late,
        early + (late - early) / 2,
        early - timedelta(minutes=1),
        late + timedelta(minutes=1),
        late - timedelta(seconds=30),
    ]
    shown = [f"{clock:%H:%M:%S}".removesuffix(":00") for clock in clocks]
    return list(dict.fromkeys([*shown, "00:00", "23:59", "04:00"]))


@cache
def usual_resets(zone: str, jump: str, clock: str) -> list[datetime]:
    """The daily resets around this jump."""
    world = World()
    world.put_space("s", {"time_zone": zone, "reset_at": clock})
    return sorted(world.scheduled_resets("s", read_timestamp(jump) + timedelta(hours=25)))[-3:]


RECENT = recent_jumps()
OFFSETS = [0, 1, -1, 30, -30, 60, -60, 90, -90, 120, -120, 1440, -1440, 1380, -1380, 1500, -1500, 2880, -2880]
T = TypeVar("T")


def often(strategy: st.SearchStrategy[T], weight: int) -> st.SearchStrategy[T]:
    """To be one of several with a weight: one_of itself drops what it has seen already."""
    return st.one_of([strategy.map(lambda value: value) for _ in range(weight)])


def jumps_now() -> st.SearchStrategy[tuple[str, str]]:
    """No jump at all, but the present: a whole number of quarter-hours, or of minutes, ago."""
    quarter = datetime.now(UTC).replace(minute=datetime.now(UTC).minute // 15 * 15, second=0, microsecond=0)
    minutes = st.sampled_from([2, 14, 15, 30, 44, 45, 60, 75, 600])
    return st.tuples(st.sampled_from(SERIES_ZONES), minutes.map(lambda ago: show(quarter - timedelta(minutes=ago))))


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    zone, jump = draw(st.sampled_from(JUMPS) | often(st.sampled_from(RECENT), 2) | jumps_now())
    pool = [read_timestamp(jump) + timedelta(minutes=offset) for offset in OFFSETS]
    usual = draw(st.sampled_from(reset_clocks(zone, jump)[:3]) | st.sampled_from(reset_clocks(zone, jump)))
    palette = [pool[0], *usual_resets(zone, jump, usual)]
    palette += draw(st.lists(st.sampled_from(pool[1:]), max_size=7, unique=True))
    minute_ago = datetime.now(UTC) - timedelta(minutes=1)
    palette = [instant for instant in palette if instant <= minute_ago]
    spaces = [f"s{number}" for number in range(draw(st.integers(1, 4)))]
    doorways = [f"d{number}" for number in range(draw(st.integers(1, 4)))]
    dpus = [f"p{number}" for number in range(draw(st.integers(1, 4)))]
    zones = st.sampled_from([zone, zone, zone, None, *OTHER_ZONES])
    clocks = often(st.just(usual), 2) | st.sampled_from([*reset_clocks(zone, jump), None, "never"])

    instants = st.builds(
        lambda instant, microseconds: instant + timedelta(microseconds=microseconds),
        st.sampled_from(palette),
        st.sampled_from([0, 0, 0, -1, 1]),
    )
    bounds = st.just(LONG_AGO) | instants
    periods = st.tuples(bounds, st.none() | instants).filter(lambda b: b[1] is None or b[0] < b[1])
    sides = st.lists(st.sampled_from([None, *spaces]), min_size=2, max_size=2, unique=True)

    put_space = st.builds(
        PutSpace,
        st.sampled_from([*spaces, "late"]),
        st.fixed_dictionaries(
            {},
            optional={
                "parent": st.sampled_from([None, *spaces, "late"]),
                "time_zone": zones,
                "reset_at": clocks,
            },
        ),
    )
    put_doorway = st.builds(PutDoorway, st.sampled_from(doorways), sides.map(lambda s: (s[0], s[1])))
    plan = {door: draw(sides) for door in doorways}
    hung = st.sampled_from([(door, side) for door, both in plan.items() for side in both])
    nowhere = st.sampled_from([(None, None), (doorways[0], "late")])
    place = st.builds(
        lambda dpu, where, period: Place(dpu, where[0], where[1], *period),
        st.sampled_from(dpus),
        often(hung, 5) | nowhere,
        periods,
    )
    place_now = st.builds(
        lambda dpu, where: Place(dpu, where[0], where[1], None), st.sampled_from(dpus), hung | nowhere
    )
    # several resets of a space at one instant, one of them a daily one: often enough at these
    popular = st.sampled_from(palette[:2])
    reset_instants = often(instants, 4) | often(popular, 4) | st.none()
    reset = st.builds(Reset, st.sampled_from(spaces), st.sampled_from([0, 5, 100]), reset_instants)
    corrected = st.tuples(reset, st.sampled_from([1, 4])).map(
        lambda both: [both[0], replace(both[0], count=both[0].count + both[1])]
    )
    rescheduled = put_space.map(lambda patch: [Remember(), patch])
    timestamps = st.builds(
        lambda odd, *written: odd or write_timestamp(*written),
        st.sampled_from([*[None] * 80, "1999-12-31T23:59:59.999999Z", "2999-01-01T00:00:00Z"]),
        instants,
        st.sampled_from(["Z", "+05:45", "-03:30"]),
        st.sampled_from(["", "", "", "5", "49", "51"]),
    )
    reported = st.builds(
        Reported, st.sampled_from(dpus), timestamps, st.sampled_from(DIRECTIONS), st.sampled_from(SEQUENCES)
    )
    send = st.builds(
        Send,
        st.lists(reported, min_size=1, max_size=30).map(tuple),
        st.sampled_from(FORMATS),
        st.booleans(),
    )
    again = st.builds(SendAgain, st.integers(0, 9), st.sampled_from(FORMATS))
    put_site = st.builds(
        PutSite,
        st.lists(put_space, max_size=2, unique_by=lambda s: s.space).map(tuple),
        st.lists(put_doorway, max_size=1).map(tuple),
        st.lists(place, max_size=3, unique_by=lambda p: p.dpu).map(tuple),
    )

    setup: list[Step] = []
    for number, space in enumerate(spaces):
        patch: dict[str, str | None] = {}
        if number and draw(st.booleans()):
            patch["parent"] = draw(st.sampled_from(spaces[:number]))
        patch["time_zone"] = draw(zones)
        patch["reset_at"] = draw(clocks)
        setup.append(PutSpace(space, patch))
    setup += [PutDoorway(door, (both[0], both[1])) for door, both in plan.items()]
    hang = draw(st.lists(st.tuples(st.sampled_from(dpus), hung), unique_by=lambda pair: pair[0]))
    setup += [Place(dpu, where[0], where[1], LONG_AGO) for dpu, where in hang]
    if draw(st.booleans()):
        setup = [together(setup)]
    asides = st.sampled_from([Remember(), Remember(), Look()])
    upkeep: st.SearchStrategy[Upkeep] = (
        often(st.just(Refresh()), 3) | st.just(RebaseDue()) | st.builds(Compress, instants, st.sampled_from([1, 2, 3]))
    )
    upkeep |= st.builds(LagTotals, st.sampled_from(pool).map(quarter_before))
    # not long ago: a refresh goes through all the time from there on
    if read_timestamp(jump) > datetime.now(UTC) - timedelta(days=450):
        upkeep |= often(st.builds(Lag, st.sampled_from(pool).map(quarter_before)), 2)
    days = st.sampled_from([-1, 0, 1, 2, 3]).map(lambda days: pool[0] + timedelta(days=days))
    upkeep |= st.builds(Retain, days)
    options: list[st.SearchStrategy[Any]] = [
        often(send, 7),
        often(place, 4),
        often(reset, 2),
        often(put_space, 1),
        often(asides, 2),
        often(upkeep, 4),
        put_doorway,
        place_now,
        put_site,
        again,
        st.builds(Undo, st.integers(0, 20)),
        st.builds(UndoReset, st.integers(0, 20)),
        st.builds(Retire, st.sampled_from(dpus), st.booleans()),
        st.builds(RetireSpace, st.sampled_from(spaces), st.booleans()),
        st.builds(RetireDoorway, st.sampled_from(doorways), st.booleans()),
    ]
    step = st.one_of([option.map(lambda one: [one]) for option in options] + [corrected, rescheduled])
    steps = [one for _ in range(3) for some in draw(st.lists(step, max_size=8)) for one in some]
    return Script((*setup, *steps))


def quarter_before(instant: datetime) -> datetime:
    return instant - (instant - LONG_AGO) % timedelta(minutes=15)


def together(steps: Sequence[Step]) -> PutSite:
    return PutSite(
        tuple(step for step in steps if isinstance(step, PutSpace)),
        tuple(step for step in steps if isinstance(step, PutDoorway)),
        tuple(step for step in steps if isinstance(step, Place)),
    )


def write_timestamp(instant: datetime, offset: str, more_digits: str) -> str:
    """The instant in this offset, with digits beyond the microsecond."""
    zone = datetime.strptime(offset.replace("Z", "+00:00"), "%z").tzinfo
    local = instant.astimezone(zone)
    fraction = f"{local.microsecond:06d}{more_digits}".rstrip("0")
    return f"{local:%Y-%m-%dT%H:%M:%S}{'.' if fraction else ''}{fraction}{offset}"


def played_offline(script: Script, world: World, clock: datetime) -> Iterator[tuple[World, list[str]]]:
    """The oracle's world after each step, without a service."""
    sent: list[Send] = []
    for step in script.steps:
        verdicts: list[str] = []
        try:
            world, verdicts = apply(step, world, clock, sent)
        except Refused:
            verdicts = ["refused"]
        if isinstance(step, Send):
            sent.append(step)
        yield world, verdicts
