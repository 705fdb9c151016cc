"""People who walk through a site, and what its DPUs report of them. The same seed gives the same people.

A site is a graph: spaces and the outside (None) are its places, doorways join two of them. People arrive by a curve
over the week in local time, go where they want to be on the shortest way, stay, go on or leave; at night all are gone.
So where no sensor misses anybody, every count is right and none is ever negative.
"""

import heapq
import random
from bisect import bisect
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import accumulate, pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

from msgspec import UNSET

from headcount.wire import instants
from headcount.wire.messages.plan import SiteDoorwayIn, SiteDpuIn, SiteIn, SitePlacementIn, SiteSpaceIn

Place = str | None

SECOND = 1000  # instants are integers here: milliseconds since 1970, as devices send them
MINUTE = 60 * SECOND
SLOT = 15 * MINUTE  # every offset from UTC is a multiple of it
NEVER = 2**62

# How many people arrive in each hour of the local day, relative to one another; from 3 to 5 nobody is there.
WEEKDAY = (3, 2, 1, 0, 0, 4, 16, 50, 100, 90, 60, 70, 90, 80, 60, 60, 64, 60, 50, 36, 24, 16, 10, 6)
WEEKEND = (6, 5, 2, 0, 0, 2, 4, 8, 16, 26, 36, 40, 42, 42, 40, 40, 38, 32, 26, 20, 16, 14, 12, 8)
CLOSING_HOUR, OPENING_HOUR = 3, 5
RESET_AT = "04:00"


class Report(NamedTuple):
    """What one DPU says of one person: when (ms since 1970), who, and +1 for towards the side it is mounted on."""

    at: int
    dpu: str
    direction: int


class Sensor(NamedTuple):
    """One placement above a doorway."""

    dpu: str
    mounted_in: Place
    start: int
    end: int


def to_datetime(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds // SECOND, UTC) + timedelta(milliseconds=milliseconds % SECOND)


def to_milliseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


class Crowd:
    """The people of one site from `start` on.

    people: how many come on a weekday. popularity: how much each space draws people who look for somewhere to go;
    by default spaces without others below them, by their capacity. inside: who is there at the start already.
    miss: the share of people whom a sensor overlooks.
    """

    def __init__(
        self,
        site: SiteIn,
        time_zone: str,
        start: datetime,
        people: float,
        seed: int,
        popularity: Mapping[str, float] | None = None,
        inside: Mapping[str, int] | None = None,
        miss: float = 0.0,
    ) -> None:
        self.random = random.Random(seed)
        self.zone = ZoneInfo(time_zone)
        self.miss = miss
        self.overlook = random.Random(f"miss {seed}")
        self.per_weight = people / sum(WEEKDAY)
        self.doors: dict[tuple[Place, Place], list[str]] = defaultdict(list)
        self.sensors: dict[str, list[Sensor]] = defaultdict(list)
        self._read(site)
        # Towards the outside: for each space that can be reached, the place one doorway nearer to it.
        self.way_out = self._ways_out()
        weights = popularity if popularity is not None else _by_capacity(site)
        drawing = [(space, weights[space]) for space in weights if space in self.way_out and weights[space] > 0]
        self.places = [space for space, _ in drawing]
        self.weights = list(accumulate(weight for _, weight in drawing))
        self.moves: list[tuple[int, int, Place, Place]] = []  # heap: when, order, from, to
        self.order = 0
        self.last: dict[str, int] = {}  # each DPU's latest report, for no two may have the same instant
        self.now = to_milliseconds(start)
        self.slot = self.now - self.now % SLOT
        for space, number in (inside or {}).items():
            for _ in range(number if space in self.way_out else 0):
                self._plan(space, self.now, self.random.randint(0, 2))

    def _read(self, site: SiteIn) -> None:
        for doorway in site.doorways:
            if doorway.sides is not UNSET:
                one, other = doorway.sides
                self.doors[one, other].append(doorway.id)
                self.doors[other, one].append(doorway.id)
        self.place(site.placements)

    def place(self, placements: Iterable[SitePlacementIn]) -> None:
        """Where the DPUs are from now on."""
        self.sensors.clear()
        for placement in placements:
            if placement.doorway is not None:
                end = NEVER if placement.until is None else to_milliseconds(placement.until)
                sensor = Sensor(placement.dpu, placement.mounted_in, to_milliseconds(placement.from_), end)
                self.sensors[placement.doorway].append(sensor)

    def _ways_out(self) -> dict[str, Place]:
        beside: dict[Place, list[str]] = defaultdict(list)
        for one, other in self.doors:
            if other is not None:
                beside[one].append(other)
        ways: dict[str, Place] = {}
        queue: deque[Place] = deque([None])
        while queue:
            place = queue.popleft()
            for space in beside[place]:
                if space not in ways:
                    ways[space] = place
                    queue.append(space)
        return ways

    def reports_until(self, end: datetime) -> Iterator[Report]:
        """What the DPUs report from where the last call ended until `end` (not included), in time order."""
        stop = to_milliseconds(end)
        while self.slot < stop:
            yield from self._walk(self.slot)
            self._arrive()
            self.slot += SLOT
        yield from self._walk(stop)

    def _arrive(self) -> None:
        """Who comes in the quarter-hour that begins at `slot`."""
        local = datetime.fromtimestamp(self.slot // SECOND, self.zone)
        curve = WEEKEND if local.weekday() >= 5 else WEEKDAY
        rate = curve[local.hour] * self.per_weight / (60 * MINUTE)
        if not rate or not self.places:
            return
        at = self.slot + self.random.expovariate(rate)
        while at < self.slot + SLOT:
            if at >= self.now:
                stays = 5 <= local.hour <= 10 and self.random.random() < 0.4
                self._plan(None, int(at), self.random.randint(3, 6) if stays else self.random.randint(1, 2), stays)
            at += self.random.expovariate(rate)

    def _plan(self, place: Place, at: int, stops: int, stays: bool = False) -> None:
        """The whole way of one person who is at `place`: to as many places as `stops` says, then out."""
        closing = self._closing(at)
        if place is not None:
            at += self.random.randint(0, 30 * MINUTE)
        for _ in range(stops):
            if at >= closing:
                break
            target = self._choose()
            at = self._go(place, target, at)
            place = target
            minutes = self.random.uniform(30, 110) if stays else self.random.uniform(3, 50)
            at = max(at + 5 * SECOND, min(at + int(minutes * MINUTE), closing))
        self._go(place, None, at)

    def _choose(self) -> str:
        return self.places[bisect(self.weights, self.random.random() * self.weights[-1])]

    def _closing(self, at: int) -> int:
        """When somebody who is there at `at` has to go: within the last half hour before the night."""
        local = datetime.fromtimestamp(at // SECOND, self.zone)
        night = local.replace(hour=CLOSING_HOUR, minute=0, second=0, microsecond=0)
        if CLOSING_HOUR <= local.hour < OPENING_HOUR:
            return at
        if local.hour >= OPENING_HOUR:
            night = night + timedelta(days=1)
        return to_milliseconds(night.astimezone(UTC)) - self.random.randint(0, 30 * MINUTE)

    def _go(self, start: Place, target: Place, at: int) -> int:
        """Plans the doorways between two places from `at` on; returns when the person is there."""
        up, down = self._to_outside(start), self._to_outside(target)
        while len(up) > 1 and len(down) > 1 and up[-2] == down[-2]:
            up.pop()
            down.pop()
        way = [*up, *reversed(down[:-1])]
        for one, other in pairwise(way):
            self.order += 1
            heapq.heappush(self.moves, (at, self.order, one, other))
            at += self.random.randint(4 * SECOND, 20 * SECOND)
        return at

    def _to_outside(self, place: Place) -> list[Place]:
        way = [place]
        while place is not None:
            place = self.way_out[place]
            way.append(place)
        return way

    def _walk(self, stop: int) -> Iterator[Report]:
        while self.moves and self.moves[0][0] < stop:
            at, _, one, other = heapq.heappop(self.moves)
            doors = self.doors[one, other]
            doorway = doors[0] if len(doors) == 1 else self.random.choice(doors)
            sensors = [sensor for sensor in self.sensors[doorway] if sensor.start <= at < sensor.end]
            if not sensors:
                continue
            sensor = sensors[0] if len(sensors) == 1 else self.random.choice(sensors)
            at = max(at, self.last.get(sensor.dpu, at - 1) + 1)
            self.last[sensor.dpu] = at
            if self.miss and self.overlook.random() < self.miss:
                continue
            yield Report(at, sensor.dpu, 1 if other == sensor.mounted_in else -1)
        self.now = stop


def _by_capacity(site: SiteIn) -> dict[str, float]:
    parents = {space.parent for space in site.spaces}
    return {space.id: float(space.capacity or 10) for space in site.spaces if space.id not in parents}


def deliver(
    reports: Iterable[Report], seed: int, late: float = 0.0, repeat: float = 0.0, shuffle: float = 0.0
) -> Iterator[tuple[int, Report]]:
    """The reports in the order in which they arrive, each with the instant (ms since 1970) at which it does.

    late: the share that arrives 5 minutes to 6 hours late. repeat: the share that arrives a second time, up to an hour
    later. shuffle: the share that is up to a minute late, so that others overtake it.
    """
    rng = random.Random(f"delivery {seed}")
    waiting: list[tuple[int, int, Report]] = []
    order = 0
    for report in reports:
        while waiting and waiting[0][0] <= report.at:
            due, _, earlier = heapq.heappop(waiting)
            yield due, earlier
        due = report.at
        if rng.random() < late:
            due += rng.randint(5 * MINUTE, 360 * MINUTE)
        elif rng.random() < shuffle:
            due += rng.randint(1, MINUTE)
        if rng.random() < repeat:
            order += 1
            heapq.heappush(waiting, (due + rng.randint(SECOND, 60 * MINUTE), order, report))
        if due > report.at:
            order += 1
            heapq.heappush(waiting, (due, order, report))
        else:
            yield due, report
    while waiting:
        due, _, report = heapq.heappop(waiting)
        yield due, report


# Sites of any size

FLOORS, ROOMS = 5, 10


def smallest_number_of_dpus(spaces: int) -> int:
    """One for each doorway of a generated site: a second gate, and one doorway into each space."""
    return spaces + 1


def make_site(spaces: int, dpus: int, time_zone: str, since: datetime, seed: int) -> SiteIn:
    """A site of buildings with floors with rooms, with exactly so many spaces and DPUs.

    DPUs beyond one a doorway make doorways wide: first the gates, then those into the largest spaces. Raises ValueError
    for too few.
    """
    if spaces < 1 or dpus < smallest_number_of_dpus(spaces):
        raise ValueError(f"{spaces} spaces need at least {smallest_number_of_dpus(spaces)} DPUs, one a doorway.")
    rng = random.Random(f"site {seed}")
    parents: dict[str, str | None] = {"site": None}
    number = 0
    while len(parents) < spaces:
        building, rest = divmod(number, 1 + FLOORS * (1 + ROOMS))
        floor, room = divmod(rest - 1, 1 + ROOMS)
        name = f"b{building + 1}"
        if rest == 0:
            parents[name] = "site"
        elif room == 0:
            parents[f"{name}-f{floor + 1}"] = name
        else:
            parents[f"{name}-f{floor + 1}-r{room}"] = f"{name}-f{floor + 1}"
        number += 1
    capacities: dict[str, int] = dict.fromkeys(parents, 0)
    inner = set(parents.values())
    for space in reversed(parents):
        if space not in inner:
            capacities[space] = rng.randint(6, 60)
        if (parent := parents[space]) is not None:
            capacities[parent] += capacities[space]
    doorways = [SiteDoorwayIn(id=f"gate-{n}", sides=(None, "site")) for n in (1, 2)]
    doorways += [
        SiteDoorwayIn(id=f"door-{space}", sides=(parent, space))
        for space, parent in parents.items()
        if parent is not None
    ]
    widest = sorted(doorways, key=lambda d: -capacities[d.sides[1] or ""] if d.sides is not UNSET else 0)
    from_ = instants.of(since)
    placements = []
    for index in range(dpus):
        doorway = doorways[index] if index < len(doorways) else widest[(index - len(doorways)) % len(widest)]
        sides = doorway.sides if doorway.sides is not UNSET else (None, None)
        placements.append(
            SitePlacementIn(dpu=f"dpu-{index + 1}", doorway=doorway.id, mounted_in=rng.choice(sides), from_=from_)
        )
    return SiteIn(
        spaces=[
            SiteSpaceIn(id=space, parent=parent, capacity=capacities[space])
            if parent is not None
            else SiteSpaceIn(id=space, capacity=capacities[space], time_zone=time_zone, reset_at=RESET_AT)
            for space, parent in parents.items()
        ],
        doorways=doorways,
        dpus=[SiteDpuIn(id=placement.dpu) for placement in placements],
        placements=placements,
    )
