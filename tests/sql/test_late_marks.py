"""What late marks bring is added to the rollups, at a cost that does not follow the days that they are on."""

import asyncio
import random
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from tests.factories import LONG_AGO, NOON, build_house, differences, raw_count, record

FIRST = datetime(2010, 3, 1, tzinfo=UTC)
DAYS = 5_000
QUARTER = timedelta(minutes=15)
READERS_OF_CHUNKS = ("sum_events", "sum_flow_15m", "sum_flow_1d", "sum_flow_30d", "list_signed_events")


async def mark_many_days(connection: asyncpg.Connection) -> None:
    """As if an event of 1 had been stored late on each of so many days."""
    await connection.execute(
        """
        insert into core.late_mark (dpu_id, bucket, net, net_at_start, towards, away, moment)
        select d.dpu_id, $1::timestamptz + day * interval '24 hours', 1, 0, 1, 0, 60000000
        from core.dpu d, generate_series(1, $2) day where d.id = 'front'
        """,
        FIRST,
        DAYS,
    )


async def calls_of(connection: asyncpg.Connection, query: str, *arguments: object) -> tuple[list[asyncpg.Record], int]:
    """The answer, and how often a statement was planned for it that reads chunks."""
    counter = "select sum(calls)::integer from pg_stat_xact_user_functions where funcname = any ($1)"
    async with connection.transaction():
        await connection.execute("set local track_functions = 'pl'")
        before = await connection.fetchval(counter, READERS_OF_CHUNKS)
        answer = await connection.fetch(query, *arguments)
        return answer, await connection.fetchval(counter, READERS_OF_CHUNKS) - (before or 0)


async def test_thousands_of_marked_days_take_no_more_statements(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await record(connection, [("front", FIRST, 1)])
    await connection.execute("call core.refresh_rollups()")
    count = "select raw_count from api.get_count('house', $1)"
    series = "select count, entries, exits, average from api.list_space_counts('house', $1, $2, '1mo', 'UTC')"
    until = NOON + timedelta(days=60, minutes=7)
    year = datetime(2015, 1, 1, tzinfo=UTC), datetime(2016, 1, 1, tzinfo=UTC)
    _, before = await calls_of(connection, count, until)
    _, series_before = await calls_of(connection, series, *year)

    await mark_many_days(connection)

    answer, calls = await calls_of(connection, count, until)
    assert answer[0][0] == 1 + DAYS
    assert calls <= before
    buckets, calls = await calls_of(connection, series, *year)
    assert sum(bucket["entries"] for bucket in buckets) == 365
    assert calls <= series_before


async def test_answers_are_the_same_whatever_marks_rollups_and_events_have(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    chance = random.Random(26)
    instant = timedelta(microseconds=1)

    def any_time() -> datetime:
        quarter = NOON - chance.randrange(96 * 50) * QUARTER
        return quarter + chance.choice((timedelta(0), instant, -instant, chance.random() * QUARTER))

    def some_events(sequence: int) -> list[tuple[str, datetime, int, int]]:
        return [(chance.choice(("front", "inner")), any_time(), chance.randint(-3, 3), sequence) for _ in range(150)]

    await record(connection, some_events(1))
    resets = [NOON - timedelta(days=20), NOON - timedelta(days=9, minutes=4)]
    for at in resets:
        await connection.execute("select api.record_reset('house', 7, $1)", at)
    await connection.execute("call core.refresh_rollups()")
    late = some_events(2)
    await record(connection, late)
    await record(connection, [*some_events(3), (*late[0][:3], 4)])
    instants = [NOON + timedelta(days=1), *resets, *(any_time() for _ in range(30))]

    async def answers() -> list[object]:
        assert await differences(connection) == []
        found: list[object] = [await raw_count(connection, space, at) for at in instants for space in ("house", "room")]
        found += [
            await connection.fetch(
                "select * from api.list_space_counts('house', $1, $2, $3, 'UTC')",
                NOON - timedelta(days=8 if interval == "15m" else 40),
                NOON + timedelta(days=1),
                interval,
            )
            for interval in ("15m", "1h", "1d", "1w")
        ]
        return found

    until = await connection.fetchval("select materialized_until from core.rollup_state")
    added = await answers()
    await connection.execute(
        "update core.late_mark set net = null where dpu_id % 2 = 0 or extract(day from bucket) > 20"
    )
    assert await answers() == added
    await connection.execute(
        "update core.rollup_state set refreshing_from = $1, refreshing_until = $2",
        NOON - timedelta(days=40),
        NOON - timedelta(days=10),
    )
    assert await answers() == added
    await connection.execute("update core.rollup_state set materialized_until = $1", LONG_AGO)
    assert await answers() == added, "by events alone"
    await connection.execute("update core.rollup_state set materialized_until = $1", until)
    await connection.execute("call core.refresh_rollups()")
    assert await connection.fetchval("select count(*) from core.late_mark") == 0
    assert await answers() == added


async def test_marks_go_range_by_range(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await connection.execute("call core.refresh_rollups()")
    days = [NOON - number * timedelta(days=100) for number in range(4)]
    await record(connection, [("front", day, 1) for day in days])
    refresh_range = "core.refresh_range(pg_snapshot, timestamptz, timestamptz, timestamptz, timestamptz)"
    code = await connection.fetchval(f"select pg_get_functiondef('{refresh_range}'::regprocedure)")
    done = "-- What was stored meanwhile"
    broken = code.replace(done, f"if low > '{days[1]}' then raise exception 'no space left'; end if;\n  {done}", 1)
    await connection.execute(broken)
    try:
        with pytest.raises(asyncpg.PostgresError, match="no space left"):
            await connection.execute("call core.refresh_rollups()")
    finally:
        await connection.execute(code)
    assert await connection.fetchval("select array_agg(bucket) from core.late_mark") == [NOON]
    # its quarter-hour is refreshed, its running total is not
    assert await connection.fetchval("select count(*) from core.dpu_flow_15m_v1") == 4
    assert await raw_count(connection, "house", NOON + timedelta(days=40)) == 4
    await record(connection, [("front", NOON + timedelta(minutes=1), 1)])
    assert await raw_count(connection, "house", NOON + timedelta(days=40)) == 5
    await connection.execute("call core.refresh_rollups()")
    assert await connection.fetchval("select count(*) from core.late_mark") == 0
    assert await raw_count(connection, "house", NOON + timedelta(days=40)) == 5
    assert await differences(connection) == []


async def test_what_is_stored_while_its_range_is_refreshed_is_read_from_events(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await record(connection, [("front", NOON, 1)])
    await connection.execute("call core.refresh_rollups()")
    await record(connection, [("front", NOON + timedelta(minutes=1), 10)])
    until = await connection.fetchval("select materialized_until from core.rollup_state")
    low = NOON.replace(hour=0)
    refresh = "call core.refresh_range(pg_current_snapshot(), $1, $2, $3, $3)"
    await connection.execute(refresh, low, low + timedelta(days=1), until)
    await record(connection, [("front", NOON + timedelta(minutes=2), 100)])
    assert await raw_count(connection, "house", NOON + timedelta(days=40)) == 111
    # a refresh of another range after one that failed: only what came later is known to be missing
    await connection.execute("select core.begin_range($1, $2)", LONG_AGO, LONG_AGO + timedelta(days=1))
    assert await raw_count(connection, "house", NOON + timedelta(days=40)) == 111
    await record(connection, [("front", NOON + timedelta(minutes=16), 1000)])
    assert await raw_count(connection, "house", NOON + timedelta(days=40)) == 1111
    marks = await connection.fetch("select net, is_doubtful from core.late_mark order by net")
    assert [tuple(mark) for mark in marks] == [(110, True), (1000, False)]
    assert await differences(connection) == []


async def test_totals_that_a_refresh_made_before_it_failed_are_put_right(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await record(connection, [("front", NOON + timedelta(days=day), 1) for day in range(9)])
    settle = "core.settle_rollups(timestamptz, timestamptz)"
    code = await connection.fetchval(f"select pg_get_functiondef('{settle}'::regprocedure)")
    await connection.execute(code.replace("begin\n", "begin\n  raise exception 'no space left';\n", 1))
    try:
        with pytest.raises(asyncpg.PostgresError, match="no space left"):
            await connection.execute("call core.refresh_rollups()")
    finally:
        await connection.execute(code)
    is_ahead = await connection.fetchval("select totals_until > materialized_until from core.rollup_state")
    assert is_ahead, "days of totals were made, and nobody reads them yet"
    await record(connection, [("front", NOON + timedelta(days=2, minutes=minute), 10, 1) for minute in (0, 3)])
    await record(connection, [("front", NOON + timedelta(days=3, hours=-7), 100, 1)])
    at = NOON + timedelta(days=40)
    assert await raw_count(connection, "house", at) == 129
    await connection.execute("call core.refresh_rollups()")
    assert await raw_count(connection, "house", at) == 129
    assert await raw_count(connection, "house", NOON + timedelta(days=2, minutes=1)) == 13
    assert await differences(connection) == []


async def test_a_mark_that_is_added_to_while_its_range_is_refreshed_counts_once(
    connection: asyncpg.Connection, database_url: str
) -> None:
    """What it had before is in the quarter-hours then, and what came is not."""
    await build_house(connection)
    await record(connection, [("front", NOON, 1)])
    await connection.execute("call core.refresh_rollups()")
    await record(connection, [("front", NOON + timedelta(minutes=1), 10)])
    until = await connection.fetchval("select materialized_until from core.rollup_state")
    low, at = NOON.replace(hour=0), NOON + timedelta(days=40)
    snapshot = await connection.fetchval("select pg_current_snapshot()::text")
    arguments = f"'{snapshot}', '{low}', '{low + timedelta(days=1)}', '{until}', '{until}'"
    await connection.execute(f"call core.refresh_range({arguments})")
    await record(connection, [("front", NOON + timedelta(minutes=2), 100)])
    assert await raw_count(connection, "house", at) == 111
    await connection.execute(f"select core.end_range({arguments})")
    marks = await connection.fetch("select net, is_doubtful from core.late_mark")
    assert [tuple(mark) for mark in marks] == [(110, True)]

    async def entries() -> int:
        rows = await connection.fetch(
            "select entries from api.list_space_counts('house', $1, $2, '1d', 'UTC')", low, low + timedelta(days=2)
        )
        return sum(row["entries"] for row in rows)

    assert (await raw_count(connection, "house", at), await entries()) == (111, 111)
    assert await differences(connection) == []
    await connection.execute("call core.refresh_rollups()")
    assert await connection.fetchval("select count(*) from core.late_mark") == 0
    assert (await raw_count(connection, "house", at), await entries()) == (111, 111)
    assert await differences(connection) == []


async def test_what_comes_where_totals_were_made_already_is_marked(connection: asyncpg.Connection) -> None:
    """By a refresh that failed, before the clock was set back."""
    await build_house(connection)
    await connection.execute("update core.rollup_state set totals_until = clock_timestamp() + interval '1 hour'")
    await record(connection, [("front", datetime.now(UTC), 1)])
    assert await connection.fetchval("select count(*) from core.late_mark") == 1


@pytest.mark.concurrency
@pytest.mark.parametrize("step", ["refresh_range", "end_range"])
async def test_a_mark_that_somebody_adds_to_while_a_step_of_the_refresh_waits_is_not_lost(
    connection: asyncpg.Connection, database_url: str, step: str
) -> None:
    await build_house(connection)
    await record(connection, [("front", NOON, 1)])
    await connection.execute("call core.refresh_rollups()")
    until = await connection.fetchval("select materialized_until from core.rollup_state")
    low, at = NOON.replace(hour=0), NOON + timedelta(days=40)
    snapshot = await connection.fetchval("select pg_current_snapshot()::text")
    if step == "end_range":
        await record(connection, [("front", NOON + timedelta(minutes=1), 10)])
        snapshot = await connection.fetchval("select pg_current_snapshot()::text")
    arguments = f"'{snapshot}', '{low}', '{low + timedelta(days=1)}', '{until}', '{until}'"
    refresh, end = f"call core.refresh_range({arguments})", f"select core.end_range({arguments})"
    if step == "refresh_range":  # the refresh takes it in, though the snapshot does not see it
        await record(connection, [("front", NOON + timedelta(minutes=1), 10)])
    else:
        await connection.execute(refresh)
    other = await asyncpg.connect(database_url, server_settings={"timezone": "UTC"})
    try:
        async with other.transaction():
            await record(other, [("front", NOON + timedelta(minutes=2), 100)])
            waiting = asyncio.create_task(connection.execute(refresh if step == "refresh_range" else end))
            await asyncio.sleep(1)
            assert not waiting.done()
        await waiting
    finally:
        await other.close()
    if step == "refresh_range":
        await connection.execute(end)
    marks = await connection.fetch("select net, is_doubtful from core.late_mark")
    assert [tuple(mark) for mark in marks] == [(110, True)]
    series = "select sum(entries)::integer from api.list_space_counts('house', $1, $2, '1d', 'UTC')"
    assert await raw_count(connection, "house", at) == 111
    assert await connection.fetchval(series, low, low + timedelta(days=2)) == 111
    assert await differences(connection) == []
    await connection.execute("call core.refresh_rollups()")
    assert await raw_count(connection, "house", at) == 111
    assert await connection.fetchval(series, low, low + timedelta(days=2)) == 111
    assert await differences(connection) == []


async def test_late_events_of_a_quarter_hour_make_one_mark(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await record(connection, [("front", NOON, 1)])
    await connection.execute("call core.refresh_rollups()")
    for number in range(1, 30):
        await record(connection, [("front", NOON + timedelta(seconds=number), 1), ("inner", NOON, 2, number)])
    marks = await connection.fetch("select net, net_at_start from core.late_mark order by dpu_id")
    assert [tuple(mark) for mark in marks] == [(29, 0), (58, 58)]


@pytest.mark.concurrency
async def test_who_stores_late_events_does_not_wait_for_a_mark_that_is_held(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build_house(connection)
    await record(connection, [("front", NOON, 1)])
    await connection.execute("call core.refresh_rollups()")
    await record(connection, [("front", NOON + timedelta(minutes=1), 1)])
    other = await asyncpg.connect(database_url, server_settings={"timezone": "UTC"})
    try:
        async with other.transaction():
            await other.execute("select from core.late_mark for update")
            await connection.execute("set lock_timeout = '1s'")
            await record(connection, [("front", NOON + timedelta(minutes=2), 1)])
            await connection.execute("reset lock_timeout")
    finally:
        await other.close()
    assert await connection.fetchval("select array_agg(net) from core.late_mark") == [1, 1]
    assert await raw_count(connection, "house", NOON + timedelta(days=40)) == 3


@pytest.mark.concurrency
async def test_a_statement_that_began_before_the_marks_went_counts_them_once(
    connection: asyncpg.Connection, database_url: str
) -> None:
    """Compressed rows are seen by older snapshots, too, and these see the marks."""
    await build_house(connection)
    await connection.execute("call core.refresh_rollups()")
    await record(connection, [("front", NOON, 7)])
    series = "select sum(entries)::integer from api.list_space_counts('house', $1, $2, '1d', 'UTC')"
    days = NOON - timedelta(days=1), NOON + timedelta(days=1)
    is_compressed = """
        select bool_and(c.is_compressed)
        from timescaledb_information.continuous_aggregates a
        join timescaledb_information.chunks c on c.hypertable_name = a.materialization_hypertable_name
        where a.view_name = 'dpu_flow_15m_v1'
        """
    other = await asyncpg.connect(database_url, server_settings={"timezone": "UTC"})
    try:
        async with other.transaction(isolation="repeatable_read"):
            assert await other.fetchval(series, *days) == 7
            await connection.execute("call core.run_upkeep()")
            await connection.execute("update core.refreshed_range set refreshed_at = refreshed_at - interval '2 hours'")
            await connection.execute("call core.run_upkeep()")
            assert await other.fetchval(series, *days) == 7
            assert not await connection.fetchval(is_compressed)
    finally:
        await other.close()
    await connection.execute("call core.run_upkeep()")
    assert await connection.fetchval(is_compressed)
    assert await connection.fetchval("select count(*) from core.refreshed_range") == 0


@pytest.mark.concurrency
async def test_where_one_refresh_after_the_other_failed_nobody_counts_twice(
    connection: asyncpg.Connection, database_url: str
) -> None:
    """The second is of earlier days. Rollups that the first one refreshed wait for older readers as well."""
    await build_house(connection)
    first, second = NOON - timedelta(days=30), NOON
    await record(connection, [("front", first, 1), ("front", second, 1)])
    await connection.execute("call core.refresh_rollups()")
    await record(connection, [("front", day + timedelta(minutes=1), 10) for day in (first, second)])
    until = await connection.fetchval("select materialized_until from core.rollup_state")
    series = "select sum(entries)::integer from api.list_space_counts('house', $1, $2, '1d', 'UTC')"
    days = NOON - timedelta(days=1), NOON + timedelta(days=1)
    other = await asyncpg.connect(database_url, server_settings={"timezone": "UTC"})
    try:
        async with other.transaction(isolation="repeatable_read"):
            assert await other.fetchval("select count(*) from core.late_mark") == 2
            for day in (second, first):
                low = day.replace(hour=0)
                refresh = "call core.refresh_range(pg_current_snapshot(), $1, $2, $3, $3)"
                await connection.execute(refresh, low, low + timedelta(days=1), until)
            await connection.execute("call core.compress_due()")
            assert await other.fetchval(series, *days) == 11
    finally:
        await other.close()
    await connection.execute("call core.run_upkeep()")
    assert await connection.fetchval(series, *days) == 11
    assert await differences(connection) == []
