import asyncpg

from tests.factories import NOON, build_house, differences, record


async def test_it_finds_nothing_where_all_is_well(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await record(connection, [("front", NOON, 1), ("other", NOON, 4)])
    assert await differences(connection) == []


async def test_it_finds_a_sum_that_is_off(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await record(connection, [("front", NOON, 1)])
    await connection.execute(
        "update core.dpu_state set cumulative_count = cumulative_count + 1 where latest_time is not null"
    )
    row, live = await differences(connection)
    assert row[:2] == ("dpu_state", "front")
    assert "cumulative_count 2" in row[2]
    assert "cumulative_count 1" in row[3]
    assert live[0] == "live_flow"  # what the current count is made of


async def test_it_finds_events_that_were_lost(connection: asyncpg.Connection) -> None:
    await record(connection, [("d", NOON, 1)])
    await connection.execute("delete from core.event")
    assert [row[:2] for row in await differences(connection)] == [("dpu_state", "d")]


async def test_it_finds_a_boundary_that_is_missing_or_wrong(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await connection.execute("update core.boundary set inner_side = 3 - inner_side where space_id = 2")
    await connection.execute("delete from core.boundary where space_id = 1 and doorway_id = 1")
    assert sorted(row for row in await differences(connection) if row[0] == "boundary") == [
        ("boundary", "space house, doorway front", "none", "inner_side 2"),
        ("boundary", "space room, doorway inner", "inner_side 1", "inner_side 2"),
    ]


async def test_it_finds_a_current_count_that_would_outlive_its_reset(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await connection.execute("""select api.put_space('house', '{"reset_at": "04:00"}')""")
    assert await differences(connection) == []
    await connection.execute("update core.live_space set until_at = 'infinity'")
    assert {row[:2] for row in await differences(connection)} == {("live_space", "house"), ("live_space", "room")}


async def test_it_finds_a_space_that_is_counted_from_another_instant(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await record(connection, [("front", NOON, 1)])
    await connection.execute("update core.live_space set counted_since = null where space_id = 1")
    (row,) = await differences(connection)
    assert row[:2] == ("live_space", "house")
    await connection.execute("update core.live_space set counted_since = $1 where space_id = 1", NOON)
    assert await differences(connection) == []
    await connection.execute("update core.first_event set at = at + interval '1 second' where at < 'infinity'")
    assert {row[:2] for row in await differences(connection)} == {
        ("first_event", "dpu front from 2001-01-01 00:00:00+00"),
        ("live_space", "house"),
        ("dpu_state", "front"),
    }
