from datetime import datetime, timedelta

import asyncpg
import pytest

from tests.factories import LONG_AGO, NOON, apply_site, build_house, differences, raw_count, record, seconds

from .test_record_placement import HOUR, place, placements


async def undo(connection: asyncpg.Connection, dpu: str, from_at: datetime) -> None:
    await connection.execute("select api.undo_placement(dpu => $1, from_at => $2)", dpu, from_at)


async def test_what_it_trimmed_holds_again_as_one_piece(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await record(connection, [("front", NOON + seconds(n), 1) for n in range(10)])
    await place(connection, "front", "inner", "room", NOON + seconds(3), NOON + seconds(5))
    moved = await connection.fetchval("select clock_timestamp()")
    await undo(connection, "front", NOON + seconds(3))
    assert await placements(connection, "front") == [("front", "house", LONG_AGO, None)]
    assert await raw_count(connection, "house", NOON + HOUR) == 10
    assert await raw_count(connection, "room", NOON + HOUR) == 0
    assert await raw_count(connection, "house", NOON + HOUR, known_at=moved) == 8
    assert await differences(connection) == []


async def test_what_it_replaced_holds_again(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await place(connection, "front", "inner", "room", NOON, NOON + HOUR)
    before = await placements(connection, "front")
    await place(connection, "front", "front", None, NOON - HOUR)
    await undo(connection, "front", NOON - HOUR)
    assert await placements(connection, "front") == before


async def test_a_dpu_that_was_taken_down_hangs_again(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await place(connection, "front", None, None, NOON)
    await undo(connection, "front", NOON)
    assert await placements(connection, "front") == [("front", "house", LONG_AGO, None)]
    assert await differences(connection) == []


async def test_one_after_the_other_can_be_taken_back_from_the_last_on(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await place(connection, "front", "inner", "room", NOON)
    await place(connection, "front", "front", None, NOON)
    await undo(connection, "front", NOON)
    assert (await placements(connection, "front"))[-1] == ("inner", "room", NOON, None)
    await undo(connection, "front", NOON)
    assert await placements(connection, "front") == [("front", "house", LONG_AGO, None)]
    await undo(connection, "front", LONG_AGO)
    assert await placements(connection, "front") == []


async def test_one_stays_while_another_took_part_of_its_period(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await place(connection, "front", "inner", "room", NOON)
    await place(connection, "front", "front", None, NOON + HOUR)
    before = await placements(connection, "front")
    with pytest.raises(asyncpg.PostgresError) as caught:
        await undo(connection, "front", NOON)
    error = caught.value.as_dict()
    assert (caught.value.sqlstate, error["detail"]) == ("PT409", "from")
    assert "2026-03-04T13:00:00.000000Z" in error["hint"]
    assert await placements(connection, "front") == before


async def test_another_period_that_changed_since_stays_as_it_is(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await place(connection, "front", "inner", "room", NOON, NOON + HOUR)
    await place(connection, "front", "inner", "house", NOON + 2 * HOUR, NOON + 3 * HOUR)
    await undo(connection, "front", NOON)
    assert await placements(connection, "front") == [
        ("front", "house", LONG_AGO, NOON + 2 * HOUR),
        ("inner", "house", NOON + 2 * HOUR, NOON + 3 * HOUR),
        ("front", "house", NOON + 3 * HOUR, None),
    ]


async def test_it_takes_back_one_placement_of_a_floor_plan(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await apply_site(
        connection,
        placements=[
            {"dpu": "front", "doorway": "inner", "mounted_in": "room", "from": NOON, "until": NOON + HOUR},
            {"dpu": "front", "doorway": "front", "mounted_in": None, "from": NOON + HOUR, "until": NOON + 2 * HOUR},
        ],
    )
    await undo(connection, "front", NOON)
    assert await placements(connection, "front") == [
        ("front", "house", LONG_AGO, NOON + HOUR),
        ("front", None, NOON + HOUR, NOON + 2 * HOUR),
        ("front", "house", NOON + 2 * HOUR, None),
    ]


@pytest.mark.parametrize(("dpu", "at", "where"), [("nobody", LONG_AGO, "dpu"), ("front", NOON, "from")])
async def test_it_knows_no_other(connection: asyncpg.Connection, dpu: str, at: datetime, where: str) -> None:
    await build_house(connection)
    await place(connection, "front", "front", "house", NOON)  # so it was already
    with pytest.raises(asyncpg.PostgresError) as caught:
        await undo(connection, dpu, at)
    assert (caught.value.sqlstate, caught.value.as_dict()["detail"]) == ("PT404", where)


async def test_it_is_a_change_of_its_own_time(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await place(connection, "front", "inner", "room", NOON)
    await undo(connection, "front", NOON)
    row = await connection.fetchrow(
        "select recorded_at, clock_timestamp() as now from api.list_placements(dpu => 'front')"
    )
    assert row is not None
    assert timedelta() < row["now"] - row["recorded_at"] < timedelta(minutes=1)


async def test_moves_can_be_taken_back_though_the_clock_was_put_back_between_them(
    connection: asyncpg.Connection,
) -> None:
    """Of the database: the first one was recorded while it was an hour fast."""
    await build_house(connection)
    await place(connection, "front", "inner", "room", NOON)
    await connection.execute(
        """
        update core.placement_change set recorded_at = recorded_at + interval '1 hour' where lower(during) = $1;
        """.replace("$1", f"'{NOON}'")
        + f"update core.placement set recorded_at = recorded_at + interval '1 hour' where lower(during) = '{NOON}'"
    )
    await place(connection, "front", "front", None, NOON)
    await undo(connection, "front", NOON)
    assert (await placements(connection, "front"))[-1] == ("inner", "room", NOON, None)
    await place(connection, "front", "front", None, NOON + HOUR)
    with pytest.raises(asyncpg.PostgresError) as caught:
        await undo(connection, "front", NOON)
    assert caught.value.sqlstate == "PT409"
    await undo(connection, "front", NOON + HOUR)
    await undo(connection, "front", NOON)
    assert await placements(connection, "front") == [("front", "house", LONG_AGO, None)]
    assert await differences(connection) == []
