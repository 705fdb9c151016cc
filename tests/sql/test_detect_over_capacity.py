"""api.detect_over_capacity: who is told that a space is full, and when."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from headcount.database import calls
from tests.factories import apply_site, build_house, record, reset_unseen
from tests.notices.support import log, make_channel

MOST = 12


class People:
    """Has people walk into the house, and out again."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection
        self.at = datetime.now(UTC) - timedelta(hours=1)

    async def walk(self, number: int) -> None:
        self.at += timedelta(seconds=1)
        assert not await record(self.connection, [("front", self.at, number)])


async def build(connection: asyncpg.Connection, capacity: int | None = 40, **channel: Any) -> People:
    await build_house(connection)
    await apply_site(connection, spaces=[{"id": "house", "capacity": capacity}])
    await make_channel(connection, **channel)
    return People(connection)


async def pass_time(connection: asyncpg.Connection, time: timedelta) -> None:
    await connection.execute("update core.capacity_rate set since = since - $1::interval", time)


async def kinds(connection: asyncpg.Connection) -> list[str]:
    return [kind for _, kind, _, _ in await log(connection)]


async def test_it_tells_once_when_a_space_is_over_and_once_when_it_is_well_below(
    connection: asyncpg.Connection,
) -> None:
    people = await build(connection)
    told = 0
    # 95 % of 40 is 38
    for step in (40, 1, 5, -5, 1, -2, 1, -3, 0, 1, 1, 1, -30):
        await people.walk(step)
        for _ in range(2):
            told += await calls.detect_over_capacity(connection)
    assert await kinds(connection) == ["over_capacity", "capacity_ok", "over_capacity", "capacity_ok"]
    assert told == 4
    rows = [row.data for row in reversed(await calls.list_deliveries(connection))]
    assert [(row["space"], row["count"], row["capacity"]) for row in rows] == [
        ("house", 41, 40),
        ("house", 38, 40),
        ("house", 41, 40),
        ("house", 11, 40),
    ]
    assert rows[0]["since"] == rows[1]["since"]


@pytest.mark.parametrize(("capacity", "still", "ok"), [(0, 1, 0), (1, 1, 0), (10, 10, 9), (19, 19, 18), (100, 96, 95)])
async def test_small_capacities_have_some_distance_too(
    connection: asyncpg.Connection, capacity: int, still: int, ok: int
) -> None:
    people = await build(connection, capacity)
    await people.walk(capacity + 1)
    assert await calls.detect_over_capacity(connection) == 1
    await people.walk(still - capacity - 1)
    assert await calls.detect_over_capacity(connection) == 0
    await people.walk(ok - still)
    assert await calls.detect_over_capacity(connection) == 1


async def test_it_does_nothing_while_nobody_wants_to_know(connection: asyncpg.Connection) -> None:
    people = await build(connection, events=["offline"])
    await people.walk(50)
    assert await calls.detect_over_capacity(connection) == 0
    assert await connection.fetchval("select count(*) from core.capacity_watch") == 0
    await make_channel(connection, events=["over_capacity"])
    assert await calls.detect_over_capacity(connection) == 1
    await calls.delete_channel(connection, "hook")
    assert await calls.detect_over_capacity(connection) == 0
    assert await connection.fetchval("select count(*) from core.full_space") == 0


async def test_it_reads_no_more_than_what_changed(connection: asyncpg.Connection) -> None:
    people = await build(connection)
    await people.walk(1)
    await calls.detect_over_capacity(connection)
    before = await connection.fetchrow("select xmin::text, at from core.capacity_watch")
    assert await calls.detect_over_capacity(connection) == 0
    assert await connection.fetchrow("select xmin::text, at from core.capacity_watch") == before, "nothing is written"
    # a space that would be told of, if it were looked at
    await connection.execute("update core.space set capacity = 0 where id = 'house'")
    assert await calls.detect_over_capacity(connection) == 0
    await people.walk(1)
    assert await calls.detect_over_capacity(connection) == 1


async def test_it_follows_the_capacity(connection: asyncpg.Connection) -> None:
    people = await build(connection, None)
    await people.walk(50)
    assert await calls.detect_over_capacity(connection) == 0
    for capacity, expected in ((49, 1), (48, 0), (60, 1), (40, 1), (None, 1), (None, 0)):
        await apply_site(connection, spaces=[{"id": "house", "capacity": capacity}])
        assert await calls.detect_over_capacity(connection) == expected
    assert await kinds(connection) == ["over_capacity", "capacity_ok", "over_capacity", "capacity_ok"]


async def test_it_follows_resets_and_the_feed_after_a_long_pause(connection: asyncpg.Connection) -> None:
    people = await build(connection)
    await people.walk(50)
    assert await calls.detect_over_capacity(connection) == 1
    await connection.execute("select api.record_reset(space => 'house', count => 3)")
    assert await calls.detect_over_capacity(connection) == 1
    await connection.execute("select api.record_reset(space => 'house', count => 60)")
    await connection.execute("delete from core.change")
    await connection.execute("update core.capacity_watch set at = at - interval '1 hour'")
    assert await calls.detect_over_capacity(connection) == 1
    assert await kinds(connection) == ["over_capacity", "capacity_ok", "over_capacity"]


async def test_it_follows_a_daily_reset_that_upkeep_has_taken_in_already(connection: asyncpg.Connection) -> None:
    people = await build(connection)
    await people.walk(50)
    assert await calls.detect_over_capacity(connection) == 1
    await reset_unseen(connection, "house")
    assert await calls.detect_over_capacity(connection) == 1
    assert await kinds(connection) == ["over_capacity", "capacity_ok"]


async def test_a_space_that_is_deleted_is_forgotten(connection: asyncpg.Connection) -> None:
    await apply_site(connection, spaces=[{"id": "tent", "capacity": 0}])
    await make_channel(connection)
    await connection.execute("insert into core.full_space select space_id, now() from core.space")
    await connection.execute("select api.delete_space(space => 'tent')")
    assert await calls.detect_over_capacity(connection) == 0
    assert await connection.fetchval("select count(*) from core.full_space") == 0


async def set_capacity(connection: asyncpg.Connection, *spaces: str, capacity: int) -> int:
    await apply_site(connection, spaces=[{"id": space, "capacity": capacity} for space in spaces])
    return await calls.detect_over_capacity(connection)


async def test_a_space_is_told_to_be_over_so_often_within_an_hour_and_then_when_the_hour_is_over(
    connection: asyncpg.Connection,
) -> None:
    people = await build(connection)
    await people.walk(50)
    told = [await set_capacity(connection, "house", capacity=capacity) for capacity in (49, 60) * 20]
    assert told == [1, 1] * MOST + [0] * (len(told) - 2 * MOST)
    assert await kinds(connection) == ["over_capacity", "capacity_ok"] * MOST
    await connection.execute("select api.record_reset(space => 'room', count => 1)")
    assert await set_capacity(connection, "room", capacity=0) == 1, "others are told of"

    assert await set_capacity(connection, "house", capacity=49) == 0
    await pass_time(connection, timedelta(minutes=59))
    assert await calls.detect_over_capacity(connection) == 0
    await pass_time(connection, timedelta(minutes=1))
    assert await calls.detect_over_capacity(connection) == 1
    assert (await kinds(connection))[-1] == "over_capacity"
    assert await set_capacity(connection, "house", capacity=60) == 1


async def test_what_went_back_meanwhile_is_not_told_when_the_hour_is_over(connection: asyncpg.Connection) -> None:
    people = await build(connection)
    await people.walk(50)
    for capacity in (49, 60) * (MOST + 1):
        await set_capacity(connection, "house", capacity=capacity)
    await pass_time(connection, timedelta(hours=1))
    assert await calls.detect_over_capacity(connection) == 0
    assert await kinds(connection) == ["over_capacity", "capacity_ok"] * MOST
    assert await set_capacity(connection, "house", capacity=49) == 1


async def test_the_end_of_what_was_told_is_told_beyond_that(connection: asyncpg.Connection) -> None:
    people = await build(connection)
    await people.walk(50)
    assert await calls.detect_over_capacity(connection) == 1
    await connection.execute("update core.capacity_rate set beginnings = $1", MOST)
    assert await set_capacity(connection, "house", capacity=60) == 1
    assert await set_capacity(connection, "house", capacity=49) == 0
    assert await kinds(connection) == ["over_capacity", "capacity_ok"]


async def test_an_hour_ahead_of_the_clock_is_over(connection: asyncpg.Connection) -> None:
    people = await build(connection)
    await people.walk(50)
    for capacity in (49, 60) * MOST:
        await set_capacity(connection, "house", capacity=capacity)
    assert await set_capacity(connection, "house", capacity=49) == 0
    await pass_time(connection, timedelta(hours=-2))
    assert await calls.detect_over_capacity(connection) == 1


async def test_all_spaces_of_a_limited_token_have_a_bound_and_take_nothing_from_others(
    connection: asyncpg.Connection,
) -> None:
    inner = [f"in-{number}" for number in range(5)]
    await apply_site(
        connection,
        spaces=[
            {"id": "campus"},
            {"id": "own", "parent": "campus"},
            {"id": "deeper", "parent": "own"},
            *({"id": space, "parent": "deeper"} for space in inner),
            {"id": "out", "parent": "campus"},
        ],
    )
    for space in (*inner, "out"):
        await connection.execute("select api.record_reset(space => $1, count => 1)", space)
    await make_channel(connection)
    await calls.create_token(connection, b"c" * 32, ["admin"], space="campus")
    own = await calls.create_token(connection, b"o" * 32, ["admin"], space="own")
    async with connection.transaction():
        await connection.execute("select set_config('headcount.token', $1, true)", own.id)
        await calls.create_token(connection, b"d" * 32, ["admin"], space="deeper")
    assert await set_capacity(connection, inner[0], capacity=0) == 1
    await connection.execute("update core.capacity_rate set beginnings = 998 where is_part")
    assert await set_capacity(connection, *inner, capacity=0) == 2
    assert await set_capacity(connection, "out", capacity=0) == 1
    assert await set_capacity(connection, *inner, "out", capacity=9) == 4

    assert await set_capacity(connection, *inner, capacity=0) == 0
    await pass_time(connection, timedelta(hours=1))
    assert await calls.detect_over_capacity(connection) == 5


@pytest.mark.concurrency
async def test_nobody_waits_for_another_to_look(connection: asyncpg.Connection, database_url: str) -> None:
    people = await build(connection)
    await people.walk(50)
    other = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            assert await calls.detect_over_capacity(connection) == 1
            assert await asyncio.wait_for(calls.detect_over_capacity(other), 10) == 0
    finally:
        await other.close()


@pytest.mark.concurrency
async def test_several_at_once_tell_it_once(connection: asyncpg.Connection, database_url: str) -> None:
    people = await build(connection)
    others = [await asyncpg.connect(database_url) for _ in range(3)]
    try:
        for step in (50, -50) * 5:
            await people.walk(step)
            await asyncio.gather(*(calls.detect_over_capacity(other) for other in others))
            await calls.detect_over_capacity(connection)
    finally:
        for other in others:
            await other.close()
    assert await kinds(connection) == ["over_capacity", "capacity_ok"] * 5
