"""Signs of life in any order and with any delay, ticks and deaf periods at any instant: the outages of the oracle."""

import os
import random
from collections import defaultdict
from datetime import datetime, timedelta
from itertools import pairwise

import asyncpg
import pytest

from tests.factories import NOON, apply_site, differences, seconds
from tests.properties.outages import Outage, Period, find_outages

WORLDS = int(os.environ.get("HEADCOUNT_WORLDS", "8"))
THRESHOLD = 2
DEAF_AFTER = timedelta(seconds=5)
NAMES = ("a", "b", "c", "d")

TICK = """
select core.note_listening($1), core.turn_offline($1), core.update_incidents($1)
"""
HEAR = "select core.hear_dpus($1, $2, $3)"
STORE = "select core.store_events($1, $2, array_fill(1, array[cardinality($1::integer[])]), $3, $4)"


class World:
    """What happened, by a clock of its own that only goes forward."""

    def __init__(self, connection: asyncpg.Connection, chance: random.Random) -> None:
        self.connection = connection
        self.chance = chance
        self.clock = NOON
        self.dpus: dict[str, int] = {}
        self.signs: dict[str, list[datetime]] = defaultdict(list)
        self.notes: list[datetime] = []
        self.received: list[datetime] = []

    async def build(self) -> None:
        await apply_site(self.connection, spaces=[{"id": "site", "offline_after_seconds": THRESHOLD}])
        await apply_site(
            self.connection,
            doorways=[{"id": "door", "sides": ["site", None]}],
            dpus=[{"id": name} for name in NAMES],
            placements=[
                {"dpu": name, "doorway": "door", "mounted_in": "site", "from": "2020-01-01T00:00:00Z"} for name in NAMES
            ],
        )
        self.dpus = {row["id"]: row["dpu_id"] for row in await self.connection.fetch("select id, dpu_id from core.dpu")}

    async def tick(self) -> None:
        await self.connection.execute(TICK, self.clock)
        self.notes.append(self.clock)

    async def hear(self) -> None:
        """Some signs in one transaction, as heartbeats or events, of clocks that are right, behind or ahead."""
        names, times = [], []
        for _ in range(self.chance.choice((1, 1, 2, 5))):
            lag = self.chance.choice((0.0, 0.0, 0.001, 0.4, self.chance.uniform(0, 4), self.chance.uniform(-9, 40)))
            names.append(self.chance.choice(NAMES))
            times.append(self.clock - timedelta(seconds=round(lag, 3)))
        ids = [self.dpus[name] for name in names]
        if self.chance.random() < 0.5:
            await self.connection.execute(HEAR, ids, [min(time, self.clock) for time in times], self.clock)
        else:
            sequences = [self.chance.randrange(3) for _ in ids]
            await self.connection.execute(STORE, ids, times, sequences, self.clock)
        self.received.append(self.clock)
        for name, time in zip(names, times, strict=True):
            self.signs[name].append(min(time, self.clock))

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
            expected = find_outages(self.signs[name], listening, timedelta(seconds=THRESHOLD))
            assert await self.recorded(name) == expected, name
            row = await self.connection.fetchrow("select * from core.dpu_state where dpu_id = $1", self.dpus[name])
            assert row is not None
            assert row["last_seen_at"] == max(self.signs[name], default=None)
            lasting = expected[-1].start if expected and expected[-1].end is None else None
            assert row["offline_at"] == lasting

    def check_listening(self, listening: list[Period]) -> None:
        """It is what the ticks say; in between, whoever takes in a sign may have said that he listens."""
        assert {period.start for period in listening} <= set(self.notes)
        assert {period.end for period in listening} <= set(self.notes) | set(self.received)
        for earlier, later in pairwise(self.notes):
            is_covered = any(period.start <= earlier and later <= period.end for period in listening)
            heard = [at for at in self.received if earlier < at < later]
            assert is_covered or later - earlier > DEAF_AFTER
            assert not is_covered or all(b - a <= DEAF_AFTER for a, b in pairwise([earlier, *heard, later]))


@pytest.mark.parametrize("seed", range(WORLDS))
async def test_it_records_the_outages_of_the_oracle(connection: asyncpg.Connection, seed: int) -> None:
    chance = random.Random(seed)
    world = World(connection, chance)
    await world.build()
    for _ in range(120):
        world.clock += timedelta(seconds=round(chance.choice((0.01, 0.3, 0.9, 1.1, 4.9, 5.0, 5.1, 20)), 3))
        if chance.random() < 0.5:
            await world.tick()
            await world.check()
        else:
            await world.hear()
    await world.tick()
    await world.check()
    assert await differences(connection) == []


async def test_it_knew_each_outage_when_it_was_recorded(connection: asyncpg.Connection) -> None:
    """As known at any instant: what was recorded up to then gives what the oracle said then."""
    chance = random.Random(7)
    world = World(connection, chance)
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
