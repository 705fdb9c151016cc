"""Uptime of random sites, in the windows of a report and in others, against the oracle: equal to the microsecond."""

import asyncio
import itertools
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headcount.database import calls

from .oracle import read_timestamp
from .uptime_oracle import EPOCH, HOUR, MICROSECOND, MINUTE, WINDOWS, Hours, Site, micros
from .worlds import JUMPS, OTHER_ZONES, SUITE_WORLDS, often

WORLDS = int(os.environ.get("TEST_WORLDS", SUITE_WORLDS))
CLOCKS = ["00:00", "00:00:00", "00:01", "01:00", "01:30", "02:00", "02:30", "03:00", "09:00", "12:00:01", "17:30"]
CLOCKS += ["22:00", "23:30", "23:59", "23:59:58", "23:59:59"]


@dataclass(frozen=True)
class World:
    now: int
    sites: tuple[Site, ...]
    windows: tuple[tuple[int, int], ...]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    zone, jump = draw(st.sampled_from(JUMPS))
    jumped = micros(read_timestamp(jump))
    ago = draw(st.sampled_from([0, 1, HOUR, 5 * HOUR, 30 * HOUR, 100 * HOUR, 167 * HOUR, 170 * HOUR, -HOUR]))
    now = jumped + ago + draw(st.sampled_from([0, 0, 1, -1, 7 * MINUTE, 479_220]))
    rows = st.builds(Hours, st.integers(0, 6), st.sampled_from(CLOCKS), st.sampled_from(CLOCKS))
    # bounds of windows and around the jump, and just beside them
    places = [now, *(now - window for window in WINDOWS), jumped, jumped + HOUR, jumped - HOUR, now - 400 * HOUR]
    near = st.builds(
        lambda place, step, off: place + step + off,
        st.sampled_from(places),
        st.sampled_from([0, 0, MINUTE, 30 * MINUTE, HOUR, 2 * HOUR]),
        st.sampled_from([0, 0, -1, 1, 2, 3]),
    )
    hourly = st.builds(
        lambda hours, off: now - hours * HOUR - off, st.integers(0, 180), st.integers(0, 40 * MINUTE) | st.just(1)
    )
    polls = st.lists(st.tuples(near | often(hourly, 2), st.booleans()), max_size=draw(st.sampled_from([1, 3, 12, 40])))
    site = st.builds(
        Site,
        st.sampled_from([zone, zone, zone, *OTHER_ZONES]),
        st.lists(rows, max_size=8).map(tuple),
        polls.map(tuple),
    )
    windows = [(now - window, now) for window in WINDOWS]
    bounds = draw(st.lists(near.filter(lambda at: at <= now), min_size=2, max_size=4, unique=True).map(sorted))
    windows += itertools.pairwise(bounds)
    return World(now, tuple(draw(st.lists(site, min_size=1, max_size=4))), tuple(windows))


def instant(at: int) -> datetime:
    return EPOCH + at * MICROSECOND


async def store(connection: asyncpg.Connection, names: Sequence[str], sites: Sequence[Site]) -> None:
    spaces = [
        {
            "id": name,
            "time_zone": site.zone,
            "opening_hours": [{"day": row.day, "open": row.start, "close": row.end} for row in site.hours],
        }
        for name, site in zip(names, sites, strict=True)
    ]
    await connection.execute("select api.apply_site(site => $1)", json.dumps({"spaces": spaces}))
    polls = [(name, *poll) for name, site in zip(names, sites, strict=True) for poll in site.polls]
    if polls:
        spaces_, times, are_active = zip(*polls, strict=True)
        await calls.record_polls(connection, spaces_, [instant(at) for at in times], are_active)


async def told(
    connection: asyncpg.Connection, names: Sequence[str], world: World
) -> dict[tuple[str, int], tuple[int, int]]:
    rows = await connection.fetch(
        """
        select s.id, u."window", u.up, u.down
        from core.sum_uptimes((select array_agg(space_id) from core.space where id = any ($1)), $2, $3, $4) u
        join core.space s on s.space_id = u.space_id
        """,
        names,
        [instant(start) for start, _ in world.windows],
        [instant(end) for _, end in world.windows],
        instant(world.now),
    )
    return {(row["id"], row["window"]): (row["up"], row["down"]) for row in rows}


@pytest.mark.timeout(max(900, 5 * WORLDS))
async def test_it_tells_uptime_as_the_oracle_does(connection: asyncpg.Connection) -> None:
    numbers = itertools.count(1)
    loop = asyncio.get_running_loop()

    async def play(world: World) -> None:
        number = next(numbers)
        names = [f"w{number}s{place}" for place in range(len(world.sites))]
        await store(connection, names, world.sites)
        expected = {
            (name, place): site.uptime(*window, world.now)
            for name, site in zip(names, world.sites, strict=True)
            for place, window in enumerate(world.windows, 1)
        }
        assert await told(connection, names, world) == expected

    @settings(
        max_examples=WORLDS,
        derandomize=WORLDS == SUITE_WORLDS,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(world=worlds())
    def run(world: World) -> None:
        asyncio.run_coroutine_threadsafe(play(world), loop).result()

    await asyncio.to_thread(run)


def test_the_oracle_knows_the_example_of_the_rule() -> None:
    monday = datetime.fromisoformat("2023-01-23T00:00:00+00:00")
    up, down = (micros(monday + timedelta(minutes=minutes)) for minutes in (10 * 60 + 14, 11 * 60 + 15))
    site = Site("UTC", (Hours(0, "09:00", "12:00"),), ((up, True), (down, False)))
    now = micros(monday + timedelta(hours=24))
    assert site.uptime(now - 24 * HOUR, now, now) == (6_270_000_000, 4_530_000_000)
