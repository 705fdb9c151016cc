"""Messages in any order, with any delay; ticks and deaf periods; sensors armed and disarmed: what the oracle says."""

import os
import random
from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from itertools import pairwise

import asyncpg
import pytest
import pytest_asyncio

from tests.factories import NOON, apply_site, differences, seconds
from tests.properties.outages import Armed, Believed, Outage, Period, find_outages

WORLDS = int(os.environ.get("TEST_WORLDS", "8"))
THRESHOLD = 2
DEAF_AFTER = timedelta(seconds=5)
NAMES = ("a", "b", "c", "d")
TOO_OLD = datetime(1999, 1, 1, tzinfo=NOON.tzinfo)

TICK = """
select core.note_listening($1), core.turn_offline($1), core.update_incidents($1)
"""
HEAR = "select core.note_dpus_seen($1, $2, $3, refused => $4, backfill => $5)"
STORE = "select cardinality(s.ordinals) from core.store_events($1, $2, $3, $4, $5, $6) s"
DEFAULT = "create or replace function core.get_offline_after() returns integer language sql immutable as 'select {}'"


@pytest_asyncio.fixture(loop_scope="session")
async def short(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Two seconds instead of ten minutes where nobody says anything."""
    await connection.execute(DEFAULT.format(THRESHOLD))
    try:
        yield
    finally:
        await connection.execute(DEFAULT.format(600))


class Sensor:
    """What the definition knows of one."""

    def __init__(self) -> None:
        self.signs: list[datetime] = []
        self.is_heard = self.has_heartbeats = self.is_placed = False
        self.latest_heartbeat: datetime | None = None
        self.own: int | None = None
        self.armed: list[Armed] = []
        self.believed = Believed()

    @property
    def armed_since(self) -> datetime | None:
        return self.armed[-1].start if self.armed and self.armed[-1].end is None else None


class World:
    """What happened, by a clock of its own that only goes forward."""

    def __init__(self, connection: asyncpg.Connection, chance: random.Random, thresholds: tuple[int, ...]) -> None:
        self.connection = connection
        self.chance = chance
        self.thresholds = thresholds
        self.clock = NOON
        self.dpus: dict[str, int] = {}
        self.sensors: dict[str, Sensor] = defaultdict(Sensor)
        self.of_space: int | None = None
        self.stored: dict[tuple[str, datetime, int], int] = {}
        self.notes: list[datetime] = []
        self.received: list[datetime] = []
        self.before: dict[int, timedelta] = {}  # thresholds, up to a change

    async def build(self) -> None:
        await apply_site(
            self.connection,
            spaces=[{"id": "site"}],
            doorways=[{"id": "door", "sides": ["site", None]}],
            dpus=[{"id": name} for name in NAMES],
        )
        self.dpus = {row["id"]: row["dpu_id"] for row in await self.connection.fetch("select id, dpu_id from core.dpu")}
        for name in NAMES:
            if self.chance.random() < 0.7:
                await self.move(name)
        if self.chance.random() < 0.6:
            await self.say(None)

    def threshold(self, sensor: Sensor) -> timedelta:
        said = sensor.own or (self.of_space if sensor.is_placed else None)
        return timedelta(seconds=said or THRESHOLD)

    async def tick(self) -> None:
        await self.connection.execute(TICK, self.clock)
        self.notes.append(self.clock)
        listening = await self.listening()
        for sensor in self.sensors.values():
            sensor.believed.look(sensor.armed_since, listening, self.threshold(sensor))

    # Messages

    def draw(self) -> tuple[list[str], list[datetime]]:
        """Of clocks that are right, behind or ahead."""
        names, times = [], []
        for _ in range(self.chance.choice((1, 1, 2, 5))):
            lag = self.chance.choice((0.0, 0.0, 0.001, 0.4, self.chance.uniform(0, 4), self.chance.uniform(-9, 40)))
            names.append(self.chance.choice(NAMES))
            times.append(self.clock - timedelta(seconds=round(lag, 3)))
        return names, times

    async def hear(self) -> None:
        backfill = self.chance.random() < 0.25
        signs = await (self.beat(backfill) if self.chance.random() < 0.3 else self.report(backfill))
        self.received.append(self.clock)
        listening = await self.listening()
        self.arm()
        # the latest one first: it ends an outage that lasted, which the others then divide, by the threshold it had
        for name, sign in sorted(signs, key=lambda found: found[1], reverse=True):
            sensor = self.sensors[name]
            sensor.signs.append(sign)
            sensor.believed.hear(sign, sensor.armed_since, listening, self.threshold(sensor))

    async def beat(self, backfill: bool) -> list[tuple[str, datetime]]:
        """Some heartbeats in one transaction, and some that are refused."""
        names, times = self.draw()
        times = [min(time, self.clock) for time in times]
        refused = [] if backfill else [name for name in NAMES if self.chance.random() < 0.08]
        news = await self.connection.fetchval(
            HEAR,
            [self.dpus[name] for name in names],
            times,
            self.clock,
            [self.dpus[name] for name in refused],
            backfill,
        )
        told = list(zip(names, times, strict=True))
        newer = {
            ordinal
            for ordinal, (name, time) in enumerate(told, start=1)
            if (latest := self.sensors[name].latest_heartbeat) is None or time > latest
        }
        assert newer <= set(news), "what is newer than the latest one is no duplicate"
        for name, time in told:
            sensor = self.sensors[name]
            sensor.has_heartbeats = True
            sensor.latest_heartbeat = max(time, sensor.latest_heartbeat or time)
        for name in refused:
            self.sensors[name].has_heartbeats = True
        receipts = {*refused, *(names[ordinal - 1] for ordinal in news)}
        return told + ([] if backfill else self.receipts(receipts))

    async def report(self, backfill: bool) -> list[tuple[str, datetime]]:
        """Some events in one transaction: new ones, ones that are known, ones that contradict, impossible clocks."""
        names, times = self.draw()
        events = [
            (
                name,
                self.chance.choice([time] * 9 + [self.clock + timedelta(hours=1), TOO_OLD]),
                self.chance.randrange(3),
                1,
            )
            for name, time in zip(names, times, strict=True)
        ]
        known = list(self.stored.items())
        for (name, time, sequence), direction in self.chance.sample(
            known, min(len(known), self.chance.choice((0, 0, 1, 3)))
        ):
            events.append((name, time, sequence, self.chance.choice((direction, direction, -direction))))
        if self.chance.random() < 0.3:
            events = events[-1:]
        await self.connection.execute(
            STORE,
            [self.dpus[name] for name, *_ in events],
            [time for _, time, *_ in events],
            [direction for *_, direction in events],
            [sequence for _, _, sequence, _ in events],
            self.clock,
            backfill,
        )
        signs: list[tuple[str, datetime]] = []
        receipts: set[str] = set()
        for name, time, sequence, direction in events:
            identity = (name, time, sequence)
            if not TOO_OLD < time <= self.clock + timedelta(minutes=5):
                receipts.add(name)
            elif identity not in self.stored:
                self.stored[identity] = direction
                if time <= self.clock:
                    signs.append((name, time))
                receipts.add(name)
            elif self.stored[identity] != direction:
                receipts.add(name)
        return signs + ([] if backfill else self.receipts(receipts))

    def receipts(self, names: set[str]) -> list[tuple[str, datetime]]:
        for name in names:
            self.sensors[name].is_heard = True
        return [(name, self.clock) for name in names]

    # What decides whether silence counts

    async def say(self, name: str | None) -> None:
        """Somebody sets or clears a threshold, of a sensor or of the space."""
        said = self.chance.choice((None, *self.thresholds))
        if name is None:
            self.of_space = said
            await self.connection.execute("update core.space set offline_after_seconds = $1", said)
        else:
            self.sensors[name].own = said
            await self.connection.execute("update core.dpu set offline_after_seconds = $2 where id = $1", name, said)
        await self.rederive()

    async def move(self, name: str) -> None:
        """Somebody hangs it up, or takes it down."""
        sensor = self.sensors[name]
        sensor.is_placed = not sensor.is_placed
        where = ("door", "site") if sensor.is_placed else (None, None)
        await self.connection.execute(
            "select core.place_dpu($1, $2, $3, $4, null, $4)", self.dpus[name], *where, self.clock
        )
        await self.connection.execute("select core.rederive_changed()")
        await self.rederive()

    async def rederive(self) -> None:
        await self.connection.execute(
            "select core.rederive_offline_after($1, $2)", list(self.dpus.values()), self.clock
        )
        self.arm(await self.listening())

    def arm(self, listening: list[Period] | None = None) -> None:
        for sensor in self.sensors.values():
            said = sensor.own or (self.of_space if sensor.is_placed else None)
            is_armed = sensor.is_heard and (said is not None or sensor.has_heartbeats)
            since = sensor.armed_since
            if is_armed and since is None:
                sensor.armed.append(Armed(self.clock, None))
            elif since is not None and not is_armed:
                assert listening is not None
                sensor.armed[-1] = Armed(since, self.clock)
                sensor.believed.disarm(self.clock, since, listening, self.before[id(sensor)])

    async def change(self) -> None:
        """Somebody has just looked: what was found out later would go by another threshold."""
        await self.tick()
        self.before = {id(sensor): self.threshold(sensor) for sensor in self.sensors.values()}
        if self.chance.random() < 0.4:
            await self.move(self.chance.choice(NAMES))
        else:
            await self.say(self.chance.choice((None, *NAMES)))

    # What is on record

    async def listening(self) -> list[Period]:
        rows = await self.connection.fetch("select from_at, until_at from core.listening order by 1")
        return [Period(*row) for row in rows]

    async def recorded(self, name: str) -> list[Outage]:
        rows = await self.connection.fetch(
            "select offline_at, back_at from core.outage where dpu_id = $1 and superseded_at is null order by 1",
            self.dpus[name],
        )
        return [Outage(*row) for row in rows]

    async def check(self) -> None:
        """Right after a tick, when all is settled."""
        listening = await self.listening()
        self.check_listening(listening)
        for name in NAMES:
            sensor = self.sensors[name]
            if self.thresholds == (THRESHOLD,):
                expected = find_outages(sensor.signs, sensor.armed, listening, timedelta(seconds=THRESHOLD))
                assert sensor.believed.outages == expected
            else:
                expected = sensor.believed.outages
            assert await self.recorded(name) == expected, name
            row = await self.connection.fetchrow(
                """
                select s.*, n.state
                from core.dpu_state s,
                  coalesce(s.offline_after_seconds, core.get_offline_after()) t (seconds),
                  core.get_dpu_state(s.last_seen_at, s.offline_at, s.armed_at, t.seconds, $2, s.retired_at) n (state)
                where s.dpu_id = $1
                """,
                self.dpus[name],
                self.clock,
            )
            assert row is not None
            last = max(sensor.signs, default=None)
            assert row["last_seen_at"] == last
            assert row["armed_at"] == sensor.armed_since
            lasting = expected[-1].start if expected and expected[-1].end is None else None
            assert row["offline_at"] == lasting
            if last is None:
                state = "never_seen"
            elif lasting:
                state = "offline"
            elif last + self.threshold(sensor) <= self.clock and not sensor.armed_since:
                state = "quiet"
            else:
                state = "online"
            assert row["state"] == state

    def check_listening(self, listening: list[Period]) -> None:
        """It is what the ticks say; in between, whoever takes in a sign may have said that he listens."""
        assert {period.start for period in listening} <= set(self.notes)
        assert {period.end for period in listening} <= set(self.notes) | set(self.received)
        for earlier, later in pairwise(self.notes):
            is_covered = any(period.start <= earlier and later <= period.end for period in listening)
            heard = [at for at in self.received if earlier < at < later]
            assert is_covered or later - earlier > DEAF_AFTER
            assert not is_covered or all(b - a <= DEAF_AFTER for a, b in pairwise([earlier, *heard, later]))


@pytest.mark.parametrize("thresholds", [(THRESHOLD,), (1, 2, 7)], ids=["one", "several"])
@pytest.mark.parametrize("seed", range(WORLDS))
@pytest.mark.usefixtures("short")
async def test_it_records_the_outages_of_the_oracle(
    connection: asyncpg.Connection, seed: int, thresholds: tuple[int, ...]
) -> None:
    chance = random.Random(seed)
    world = World(connection, chance, thresholds)
    await world.build()
    for _ in range(120):
        world.clock += timedelta(seconds=round(chance.choice((0.01, 0.3, 0.9, 1.1, 4.9, 5.0, 5.1, 20)), 3))
        luck = chance.random()
        if luck < 0.45:
            await world.tick()
            await world.check()
        elif luck < 0.55:
            await world.change()
            await world.check()
        else:
            await world.hear()
    await world.tick()
    await world.check()
    assert await differences(connection) == []


@pytest.mark.usefixtures("short")
async def test_it_knew_each_outage_when_it_was_recorded(connection: asyncpg.Connection) -> None:
    """As known at any instant: what was recorded up to then gives what the oracle said then."""
    chance = random.Random(7)
    world = World(connection, chance, (THRESHOLD,))
    await world.build()
    told: list[tuple[datetime, str, list[Outage]]] = []
    for _ in range(150):
        world.clock += seconds(chance.choice((0.3, 0.9, 1.1, 4.9)))
        if chance.random() < 0.5:
            await world.tick()
            told += [(world.clock, name, await world.recorded(name)) for name in NAMES]
        else:
            await world.hear()
    assert any(outages for _, _, outages in told)
    for known_at, name, outages in told:
        rows = await connection.fetch(
            """
            select offline_at, back_at from core.outage
            where dpu_id = $1 and recorded_at <= $2 and (superseded_at is null or superseded_at > $2)
            order by 1
            """,
            world.dpus[name],
            known_at,
        )
        assert [Outage(*row) for row in rows] == outages
