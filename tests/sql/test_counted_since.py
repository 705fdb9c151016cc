"""Since when something counts for a space: its earliest event with a sign, or explicit reset, at every moment."""

import asyncio
from datetime import datetime, timedelta

import asyncpg
import pytest

from tests.factories import LONG_AGO, NOON, apply_site, build_house, differences, record
from tests.sql.test_large_fleet import count_read
from tests.sql.test_record_placement import place
from tests.sql.test_retention import HORIZON, retain

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


async def since(
    connection: asyncpg.Connection, space: str = "house", known_at: datetime | None = None
) -> datetime | None:
    """As every way of asking has it."""
    rows = await connection.fetch(
        "select counted_since from api.get_count($1, clock_timestamp(), $2)"
        " union all select counted_since from api.list_counts(array[$1], null, $3, $2)"
        " union all select counted_since from api.get_count($1) where $2 is null"
        " union all select counted_since from bi.spaces where space = $1 and $2 is null"
        " union all select counted_since from bi.space_counts_now where space = $1 and $2 is null",
        space,
        known_at,
        NOON,
    )
    (found,) = {row["counted_since"] for row in rows}
    assert found is None or isinstance(found, datetime)
    return found


async def counted(connection: asyncpg.Connection, space: str, at: datetime | None = None) -> bool:
    return bool(await connection.fetchval("select counted from api.get_count($1, $2)", space, at))


async def now(connection: asyncpg.Connection) -> datetime:
    await asyncio.sleep(0.002)  # receipt is rounded to milliseconds
    instant = await connection.fetchval("select clock_timestamp()")
    assert isinstance(instant, datetime)
    await asyncio.sleep(0.002)
    return instant


async def test_a_space_that_nothing_counts_says_so(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await record(connection, [("loose", NOON, 1), ("inner", NOON, 1)])
    assert (await since(connection), await counted(connection, "house")) == (None, False)
    assert (await since(connection, "room"), await counted(connection, "room")) == (NOON, True)


async def test_an_earlier_event_that_comes_late_counts_at_once(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    for hours in (5, 7, 3, 4, -2000, 6):
        await record(connection, [("front", NOON + hours * HOUR, 0)])
    assert await since(connection) == NOON - 2000 * HOUR
    assert await counted(connection, "house", NOON - 2000 * HOUR)
    assert not await counted(connection, "house", NOON - 2001 * HOUR)
    assert await differences(connection) == []


async def test_a_refused_event_and_a_repeated_one_count_nothing(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await record(connection, [("front", LONG_AGO.replace(year=1990), 1)])
    assert await since(connection) is None
    await record(connection, [("front", NOON, 1)])
    await record(connection, [("front", NOON, 1), ("front", NOON, 2)])
    assert await since(connection) == NOON
    assert await connection.fetchval("select count(*) from core.first_event where at < 'infinity'") == 1


@pytest.mark.parametrize("is_rolled_up", [False, True])
async def test_moves_change_it_also_those_recorded_late(connection: asyncpg.Connection, is_rolled_up: bool) -> None:
    await build_house(connection)
    await record(connection, [("loose", NOON + hours * HOUR, 1) for hours in (-50, -3, 0, 2, 3)])
    await record(connection, [("front", NOON + 20 * HOUR, 1)])
    if is_rolled_up:
        await connection.execute("call core.refresh_rollups()")
    await record(connection, [("loose", NOON + 1.1 * HOUR, 1)])  # a late mark
    assert await since(connection) == NOON + 20 * HOUR
    await place(connection, "loose", "front", "house", NOON + 1.05 * HOUR)
    assert await since(connection) == NOON + 1.1 * HOUR
    await place(connection, "loose", "front", "house", NOON - 4 * HOUR, NOON - HOUR)
    assert await since(connection) == NOON - 3 * HOUR
    await place(connection, "loose", "inner", "room", NOON - 2.9 * HOUR, NOON + 0.1 * HOUR)
    assert (await since(connection), await since(connection, "room")) == (NOON - 3 * HOUR, NOON)
    await place(connection, "loose", None, None, NOON - 100 * HOUR, NOON + 2.5 * HOUR)
    assert (await since(connection), await since(connection, "room")) == (NOON + 3 * HOUR, None)
    await place(connection, "loose", None, None, NOON - 100 * HOUR)
    assert await since(connection) == NOON + 20 * HOUR
    # where it is now known to have hung, late events are the first again
    await place(connection, "loose", "inner", "room", LONG_AGO)
    await record(connection, [("loose", NOON - 60 * HOUR, 1)])
    assert await since(connection, "room") == NOON - 60 * HOUR
    assert await differences(connection) == []


async def test_it_follows_the_tree_and_the_doorways(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await record(connection, [("inner", NOON, 1)])
    await connection.execute("""select api.put_space('annex', '{}')""")
    await connection.execute("""select api.put_space('room', '{"parent": "annex"}')""")
    assert [await since(connection, space) for space in ("house", "room", "annex")] == [NOON, NOON, NOON]
    await connection.execute("""select api.put_space('room', '{"parent": "house"}')""")
    assert [await since(connection, space) for space in ("house", "room", "annex")] == [None, NOON, None]
    assert await differences(connection) == []


async def test_a_reset_counts_and_daily_ones_do_not(connection: asyncpg.Connection) -> None:
    await apply_site(connection, spaces=[{"id": "house", "reset_at": "04:00"}])
    assert await since(connection) is None
    for hours in (0, -5, 3):
        await connection.execute("select api.record_reset('house', 3, $1)", NOON + hours * HOUR)
    assert await since(connection) == NOON - 5 * HOUR
    assert await counted(connection, "house", NOON - 5 * HOUR)
    assert not await counted(connection, "house", NOON - 6 * HOUR)


async def test_what_is_taken_back_counts_no_more(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await record(connection, [("front", NOON, 1)])
    await connection.execute("select api.record_reset('house', 3, $1)", NOON - HOUR)
    assert await since(connection) == NOON - HOUR
    known = await now(connection)
    await connection.execute("select api.undo_reset('house', $1)", NOON - HOUR)
    assert await since(connection) == NOON
    await place(connection, "front", None, None, NOON - HOUR)
    assert await since(connection) is None
    await connection.execute("select api.undo_placement('front', $1)", NOON - HOUR)
    assert await since(connection) == NOON
    assert await since(connection, known_at=known) == NOON - HOUR
    assert await differences(connection) == []


async def test_it_says_what_was_known_at_an_instant(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    told: list[tuple[datetime, datetime | None]] = [(await now(connection), None)]
    for hours in (5, 6, 3):
        await record(connection, [("front", NOON + hours * HOUR, 1)])
        told.append((await now(connection), await since(connection)))
    await place(connection, "front", None, None, NOON, NOON + 4 * HOUR)
    told.append((await now(connection), NOON + 5 * HOUR))
    await record(connection, [("front", NOON - HOUR, 1)])
    await connection.execute("select api.record_reset('house', 3, $1)", NOON - 2 * HOUR)
    told.append((await now(connection), NOON - 2 * HOUR))
    assert [expected for _, expected in told[1:4]] == [NOON + 5 * HOUR, NOON + 5 * HOUR, NOON + 3 * HOUR]
    assert [await since(connection, known_at=at) for at, _ in told] == [expected for _, expected in told]


async def test_it_stays_when_events_are_dropped(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    first = HORIZON - 3 * DAY + timedelta(minutes=4)
    await record(connection, [("front", first + number * HOUR, 1) for number in range(80)])
    await record(connection, [("loose", first + number * HOUR, 1) for number in range(80)])
    await connection.execute("select api.record_reset('house', 3, $1)", HORIZON)
    before = await now(connection)
    known_before = "select counted_since from api.get_count('house', clock_timestamp(), $1)"
    await retain(connection)
    assert await connection.fetchval(known_before, before) == first
    assert await connection.fetchval("select counted_since from api.get_count('house')") == first
    # a move leaves of the placement what was before it, with its first event
    await place(connection, "front", "inner", "room", HORIZON - DAY)
    assert await connection.fetchval(known_before, before) == first
    assert await connection.fetchval("select counted_since from api.get_count('house')") == first
    # of what had hung nowhere the quarter-hours are left
    await place(connection, "loose", "inner", "room", HORIZON - 2 * DAY)
    assert await connection.fetchval("select counted_since from bi.spaces where space = 'room'") == HORIZON - 2 * DAY
    assert await differences(connection) == []


@pytest.mark.concurrency
async def test_of_first_events_that_are_stored_at_once_the_earliest_stands(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build_house(connection)
    await place(connection, "inner", "front", "house", LONG_AGO)
    others = [await asyncpg.connect(database_url) for _ in range(2)]
    try:
        for number in range(4):
            times = [NOON - number * DAY, NOON - number * DAY - HOUR]
            pairs = list(zip(others, ("front", "inner"), times if number % 2 else times[::-1], strict=True))
            begun = [other.transaction() for other in others]
            for transaction in begun:
                await transaction.start()
            await record(pairs[0][0], [(*pairs[0][1:], 1)])
            waiting = asyncio.create_task(record(pairs[1][0], [(*pairs[1][1:], 1)]))
            await asyncio.sleep(0.1)
            await begun[0].commit()
            await waiting
            await begun[1].commit()
            assert await since(connection) == min(times)
            assert await differences(connection) == []
    finally:
        for other in others:
            await other.close()


async def test_an_event_that_is_not_the_first_reads_nothing_for_it(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await record(connection, [("front", NOON, 1)])
    async with connection.transaction():
        before = await count_read(connection)
        await record(connection, [("front", NOON + HOUR, 1), ("front", NOON + 2 * HOUR, -1)])
        read = await count_read(connection) - before
    assert {table: read[table] for table in ("first_event", "live_space", "placement") if read[table]} == {}


async def test_whoever_listens_hears_of_it(connection: asyncpg.Connection) -> None:
    """Also where the count does not change: the DPU hangs elsewhere by now."""
    await build_house(connection)
    await place(connection, "front", None, None, NOON)
    cursor = await connection.fetchval("select cursor from api.list_changes(null)")
    await record(connection, [("front", NOON - HOUR, 0)])
    assert await connection.fetchval("select counts from api.list_changes($1)", cursor) == ["house"]
