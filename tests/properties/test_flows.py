"""Entries and exits by flow: fewer people in are no exit. Random corrections and moves, against an oracle."""

import asyncio
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import EMPTY
from tests.factories import LONG_AGO, NOON, build_house, differences

from . import rollups
from .oracle import QUARTER
from .worlds import SUITE_WORLDS, Lag, Refresh, quarter_before

WORLDS = int(os.environ.get("TEST_WORLDS", SUITE_WORLDS // 4))
INSTANTS = [
    NOON + timedelta(hours=12) * halves + QUARTER * quarters + offset
    for halves in (-3, -1, 0, 1, 2)
    for quarters in (0, 1)
    for offset in (timedelta(), timedelta(microseconds=1), timedelta(minutes=7))
]
# up to a week from events, else from quarter-hours; and by the day, which is the same in UTC
SERIES = (
    ("15m", INSTANTS[0], NOON + timedelta(days=2)),
    ("15m", NOON - timedelta(days=5), NOON + timedelta(days=5)),
    ("1d", NOON - timedelta(days=5), NOON + timedelta(days=5)),
)
WIDTHS = {"15m": QUARTER, "1d": timedelta(days=1)}


@dataclass(frozen=True)
class Event:
    time: datetime
    direction: int
    flow: int | None
    sequence: int


@dataclass(frozen=True)
class Move:
    """From an instant on the DPU is mounted inside or outside."""

    at: datetime
    is_inside: bool


Step = tuple[Event, ...] | Move | Refresh | Lag


@dataclass
class World:
    events: dict[tuple[datetime, int], Event] = field(default_factory=dict)
    signs: list[tuple[datetime, int]] = field(default_factory=lambda: [(LONG_AGO, 1)])

    def flows(self, start: datetime, width: timedelta) -> dict[datetime, tuple[int, int]]:
        """Entries and exits by buckets from `start` on, but those of which both are 0."""
        entries: dict[datetime, int] = defaultdict(int)
        exits: dict[datetime, int] = defaultdict(int)
        for event in self.events.values():
            sign = next(sign for at, sign in reversed(self.signs) if at <= event.time)
            flow = event.flow or (event.direction > 0) - (event.direction < 0)
            bucket = event.time - (event.time - start) % width
            if sign * flow > 0:
                entries[bucket] += sign * event.direction
            elif sign * flow < 0:
                exits[bucket] -= sign * event.direction
        found = {bucket: (entries[bucket], exits[bucket]) for bucket in {*entries, *exits}}
        return {bucket: both for bucket, both in found.items() if both != (0, 0)}


events = st.builds(
    Event,
    st.sampled_from(INSTANTS),
    st.sampled_from((-3, -1, 0, 1, 2)),
    st.sampled_from((None, None, 1, -1)),
    st.integers(0, 2),
)
steps = (
    st.lists(events, min_size=1, max_size=8).map(tuple)
    | st.builds(Move, st.sampled_from(INSTANTS), st.booleans())
    | st.just(Refresh())
    | st.builds(Lag, st.sampled_from(INSTANTS).map(quarter_before))
)


async def store(connection: asyncpg.Connection, sent: Sequence[Event], world: World) -> None:
    ordinals = await connection.fetchval(
        """
        select s.ordinals
        from core.store_flows(
          array_fill((select dpu_id from core.dpu where id = 'front'), array[cardinality($1::timestamptz[])]),
          $1, $2, $3, $4, clock_timestamp()) s
        """,
        [event.time for event in sent],
        [event.direction for event in sent],
        [event.sequence for event in sent],
        [event.flow for event in sent],
    )
    for ordinal in ordinals:
        event = sent[ordinal - 1]
        assert world.events.setdefault((event.time, event.sequence), event) is event
    assert {(event.time, event.sequence) for event in sent} <= world.events.keys()


async def compare(connection: asyncpg.Connection, world: World, is_last: bool) -> None:
    for grain, start, end in SERIES:
        rows = await connection.fetch(
            "select start_at, entries, exits from api.list_space_counts('house', $1, $2, $3, 'UTC')", start, end, grain
        )
        told = {row["start_at"]: (row["entries"], row["exits"]) for row in rows}
        expected = world.flows(NOON.replace(hour=0) - timedelta(days=9), WIDTHS[grain])
        assert {at: both for at, both in told.items() if both != (0, 0)} == {
            at: both for at, both in expected.items() if start <= at < end or grain == "1d"
        }
    rows = await connection.fetch("select bucket, entries, exits from bi.space_flows_15m where space = 'house'")
    told = {row["bucket"]: (row["entries"], row["exits"]) for row in rows}
    assert {at: both for at, both in told.items() if both != (0, 0)} == world.flows(NOON, QUARTER)
    if is_last:
        assert await differences(connection) == []


async def take(connection: asyncpg.Connection, step: Step, world: World) -> None:
    match step:
        case Refresh():
            await rollups.refresh(connection)
        case Lag():
            await rollups.lag(connection, step.until)
        case Move():
            await connection.execute(
                "select api.record_placement('front', doorway => 'front', mounted_in => $1, from_at => $2)",
                "house" if step.is_inside else None,
                step.at,
            )
            world.signs = [(at, sign) for at, sign in world.signs if at < step.at]
            world.signs.append((step.at, 1 if step.is_inside else -1))
        case _:
            await store(connection, step, world)


@pytest.mark.timeout(max(900, 5 * WORLDS))
async def test_entries_and_exits_are_by_flow_as_the_oracle_has_them(connection: asyncpg.Connection) -> None:
    loop = asyncio.get_running_loop()

    async def play(script: Sequence[Step]) -> None:
        await connection.execute(EMPTY)
        await build_house(connection)
        world = World()
        for place, step in enumerate(script, start=1):
            await take(connection, step, world)
            if isinstance(step, Refresh) and place < len(script):
                await compare(connection, world, is_last=False)
        await compare(connection, world, is_last=True)

    @settings(
        max_examples=WORLDS,
        derandomize="TEST_WORLDS" not in os.environ,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(script=st.lists(steps, min_size=1, max_size=10))
    def run(script: Sequence[Step]) -> None:
        asyncio.run_coroutine_threadsafe(play(script), loop).result()

    await asyncio.to_thread(run)
