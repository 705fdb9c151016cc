import asyncio
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import asyncpg
import pytest

from tests.factories import LONG_AGO, NOON, build_house, differences, raw_count, record, seconds

HOUR = timedelta(hours=1)


async def place(
    connection: asyncpg.Connection,
    dpu: str,
    doorway: str | None,
    mounted_in: str | None,
    from_at: datetime | None = None,
    until_at: datetime | None = None,
) -> datetime:
    """Returns the instant that the move was recorded with."""
    recorded_at = await connection.fetchval(
        """
        select recorded_at from api.record_placement(
          dpu => $1, doorway => $2, mounted_in => $3, from_at => $4, until_at => $5)
        """,
        dpu,
        doorway,
        mounted_in,
        from_at,
        until_at,
    )
    assert isinstance(recorded_at, datetime)
    return recorded_at


async def placements(connection: asyncpg.Connection, dpu: str) -> list[tuple[object, ...]]:
    rows = await connection.fetch(
        "select doorway, mounted_in, from_at, until_at from api.list_placements(dpu => $1)", dpu
    )
    return [tuple(row) for row in rows]


async def test_it_trims_what_was_believed_of_that_period(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await place(connection, "front", "inner", "room", NOON, NOON + HOUR)
    assert await placements(connection, "front") == [
        ("front", "house", LONG_AGO, NOON),
        ("inner", "room", NOON, NOON + HOUR),
        ("front", "house", NOON + HOUR, None),
    ]


async def test_it_replaces_what_lies_wholly_within_that_period(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await place(connection, "front", "inner", "room", NOON, NOON + HOUR)
    await place(connection, "front", "front", None, NOON - HOUR)
    assert await placements(connection, "front") == [
        ("front", "house", LONG_AGO, NOON - HOUR),
        ("front", None, NOON - HOUR, None),
    ]


async def test_it_takes_a_dpu_down(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await place(connection, "front", None, None, NOON)
    assert await placements(connection, "front") == [("front", "house", LONG_AGO, NOON)]
    await record(connection, [("front", NOON - seconds(1), 1), ("front", NOON, 1)])
    assert await raw_count(connection, "house", NOON + HOUR) == 1


async def test_it_counts_by_the_placement_at_the_events_own_time(connection: asyncpg.Connection) -> None:
    """A move that is recorded late changes exactly the period it concerns, and no other answer."""
    await build_house(connection)
    await record(connection, [("front", NOON + seconds(n), 1) for n in range(10)])
    before = await place(connection, "front", "inner", "room", NOON + seconds(3), NOON + seconds(5)) - timedelta(
        microseconds=1
    )
    assert await raw_count(connection, "house", NOON + HOUR) == 8
    assert await raw_count(connection, "room", NOON + HOUR) == 2
    assert await raw_count(connection, "house", NOON + HOUR, known_at=before) == 10
    assert await raw_count(connection, "room", NOON + HOUR, known_at=before) == 0


async def test_it_turns_the_sign_with_the_side_it_is_mounted_on(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await place(connection, "front", "front", None, LONG_AGO)
    await record(connection, [("front", NOON, 1), ("inner", NOON, 1)])
    assert await raw_count(connection, "house", NOON) == -1
    assert await raw_count(connection, "room", NOON) == -1


async def test_it_changes_nothing_where_it_is_so_already(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await place(connection, "front", "front", "house", NOON, NOON + HOUR)
    await place(connection, "front", "front", "house")
    assert await connection.fetchval("select count(*) from core.placement") == 2


async def test_it_supersedes_and_never_overwrites(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    recorded_at = await place(connection, "front", "inner", "room", NOON)
    rows = await connection.fetch(
        """
        select lower(during) as from_at, upper(during) as until_at, superseded_at from core.placement
        where dpu_id = (select dpu_id from core.dpu where id = 'front') order by placement_id
        """
    )
    assert [tuple(row) for row in rows] == [
        (LONG_AGO, None, recorded_at),
        (LONG_AGO, NOON, None),
        (NOON, None, None),
    ]


async def test_it_takes_a_placement_that_ends_a_microsecond_behind_a_reset(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await record(connection, [("front", NOON, 1), ("front", NOON + timedelta(microseconds=1), 2)])
    await connection.execute("select api.record_reset(space => 'house', count => 5, at => $1)", NOON)
    await place(connection, "front", "front", None, LONG_AGO, NOON + timedelta(microseconds=1))
    assert await raw_count(connection, "house", NOON + HOUR) == 7
    assert await differences(connection) == []


@pytest.mark.parametrize(
    ("arguments", "sqlstate", "where"),
    [
        (("nobody", "front", "house"), "PT404", "dpu"),
        (("front", "nowhere", "house"), "PT422", "doorway"),
        (("front", "front", "room"), "PT422", "mounted_in"),
        (("front", "inner", None), "PT422", "mounted_in"),
        (("front", "front", "nothing"), "PT422", "mounted_in"),
        (("front", None, "house"), "PT422", "mounted_in"),
        (("front", "front", "house", NOON, NOON), "PT422", "until"),
    ],
)
async def test_it_refuses_what_cannot_be(
    connection: asyncpg.Connection, arguments: tuple[Any, ...], sqlstate: str, where: str
) -> None:
    await build_house(connection)
    with pytest.raises(asyncpg.PostgresError) as caught:
        await place(connection, *arguments)
    assert (caught.value.sqlstate, caught.value.as_dict()["detail"]) == (sqlstate, where)
    assert await connection.fetchval("select count(*) from core.placement") == 2


@pytest.mark.concurrency
async def test_it_lets_moves_at_once_happen_one_after_the_other(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build_house(connection)
    movers = [await asyncpg.connect(database_url) for _ in range(6)]
    try:
        await asyncio.gather(
            *(
                place(
                    mover,
                    "front",
                    "inner",
                    ("house", "room")[number % 2],
                    NOON + number * HOUR,
                )
                for number, mover in enumerate(movers)
            )
        )
    finally:
        await asyncio.gather(*(mover.close() for mover in movers))
    found = await placements(connection, "front")
    assert found[0] == ("front", "house", LONG_AGO, NOON)
    assert all(earlier[3] == later[2] for earlier, later in pairwise(found))
    assert found[-1][3] is None
    assert await differences(connection) == []
