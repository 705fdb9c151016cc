from datetime import datetime

import asyncpg
import pytest

from tests.factories import NOON, build_house, differences, raw_count, record, seconds


async def reset(connection: asyncpg.Connection, count: int, at: datetime = NOON) -> None:
    await connection.execute("select api.record_reset(space => 'house', count => $1, at => $2)", count, at)


async def undo(connection: asyncpg.Connection, at: datetime = NOON, space: str = "house") -> None:
    await connection.execute("select api.undo_reset(space => $1, at => $2)", space, at)


async def test_the_count_goes_on_as_if_there_was_none(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await record(connection, [("front", NOON, 1), ("front", NOON + seconds(1), 2)])
    await reset(connection, 5)
    known_at = await connection.fetchval("select clock_timestamp()")
    assert await raw_count(connection, "house", NOON + seconds(9)) == 7
    await undo(connection)
    assert await raw_count(connection, "house", NOON + seconds(9)) == 3
    assert await raw_count(connection, "house", NOON + seconds(9), known_at) == 7
    assert await differences(connection) == []


async def test_the_one_that_it_replaced_holds_again(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    for count in (5, 7, 9):
        await reset(connection, count)
    for count in (7, 5, 0):
        await undo(connection)
        assert await raw_count(connection, "house", NOON) == count
    assert await connection.fetchval("select count(*) from api.list_resets(space => 'house')") == 0
    assert await differences(connection) == []


async def test_another_can_be_recorded_there_afterwards(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await reset(connection, 5)
    await undo(connection)
    await reset(connection, 6)
    await undo(connection)
    assert await raw_count(connection, "house", NOON) == 0


@pytest.mark.parametrize(("space", "at", "where"), [("nowhere", NOON, "space"), ("house", NOON + seconds(1), "at")])
async def test_it_knows_no_other(connection: asyncpg.Connection, space: str, at: datetime, where: str) -> None:
    await build_house(connection)
    await reset(connection, 5)
    with pytest.raises(asyncpg.PostgresError) as caught:
        await undo(connection, at, space)
    assert (caught.value.sqlstate, caught.value.as_dict()["detail"]) == ("PT404", where)
