"""core.refresh_rollups, and the marks that keep counts exact until it has been."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from tests.factories import NOON, build_house, differences, record

LATE = NOON + timedelta(minutes=3)


async def count(connection: asyncpg.Connection, at: datetime) -> int:
    raw_count = await connection.fetchval("select raw_count from api.get_count('house', $1)", at)
    assert isinstance(raw_count, int)
    return raw_count


async def marks(connection: asyncpg.Connection) -> list[datetime]:
    return [row["bucket"] for row in await connection.fetch("select bucket from core.late_mark order by bucket")]


async def rolled_up(connection: asyncpg.Connection) -> list[tuple[str, int]]:
    rows = await connection.fetch(
        """
        select '15m', sum(net)::bigint from core.dpu_flow_15m_v1
        union all select 'total', max(before + totals[cardinality(totals)]) from core.dpu_total
        """
    )
    return [(row[0], row[1]) for row in rows]


async def test_it_rolls_up_what_is_older_than_half_an_hour(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    now = datetime.now(UTC)
    await record(connection, [("front", NOON, 1), ("front", now - timedelta(seconds=1), 2)])
    await connection.execute("call core.refresh_rollups()")
    assert await rolled_up(connection) == [("15m", 1), ("total", 1)]
    state = await connection.fetchrow("select materialized_until, refreshed_at from core.rollup_state")
    assert state is not None
    until, refreshed_at = state
    assert timedelta(minutes=30) <= datetime.now(UTC) - until < timedelta(minutes=46)
    assert refreshed_at >= now
    assert await differences(connection) == []


async def test_a_late_event_is_marked_counted_and_rolled_up_by_the_next_refresh(
    connection: asyncpg.Connection,
) -> None:
    await build_house(connection)
    await record(connection, [("front", NOON, 1)])
    await connection.execute("call core.refresh_rollups()")
    assert await marks(connection) == []
    await record(connection, [("front", LATE, 5)])
    assert await marks(connection) == [NOON]
    assert await rolled_up(connection) == [("15m", 1), ("total", 1)]
    assert await count(connection, NOON + timedelta(days=100)) == 6
    await connection.execute("call core.refresh_rollups()")
    assert await marks(connection) == []
    assert await rolled_up(connection) == [("15m", 6), ("total", 6)]
    assert await count(connection, NOON + timedelta(days=100)) == 6


async def test_marks_of_another_server_go_with_the_next_refresh(connection: asyncpg.Connection) -> None:
    """As a restored dump has them: transactions of the server that was dumped have numbers far ahead."""
    await build_house(connection)
    await connection.execute("call core.refresh_rollups()")
    await record(connection, [("front", LATE, 5)])
    await connection.execute("update core.late_mark set xid = '4000000000000'")
    await connection.execute("call core.refresh_rollups()")
    assert await marks(connection) == []
    assert await rolled_up(connection) == [("15m", 5), ("total", 5)]


async def test_an_event_on_time_is_not_marked(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await connection.execute("call core.refresh_rollups()")
    await record(connection, [("front", datetime.now(UTC) - timedelta(minutes=14), 1)])
    assert await marks(connection) == []


async def test_an_event_is_marked_where_the_clock_was_set_back_behind_the_rollups(
    connection: asyncpg.Connection,
) -> None:
    await build_house(connection)
    now = datetime.now(UTC)
    await connection.execute("update core.rollup_state set materialized_until = $1", now + timedelta(hours=2))
    await record(connection, [("front", now, 1)])
    assert len(await marks(connection)) == 1
    assert await count(connection, await connection.fetchval("select clock_timestamp()")) == 1
    assert await differences(connection) == []


async def test_what_came_exactly_at_a_reset_belongs_to_before_it(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    instant = timedelta(microseconds=1)
    await record(connection, [("front", NOON - instant, 100), ("front", NOON, 10), ("front", NOON + instant, 1)])
    await connection.execute("select api.record_reset('house', 1000, $1)", NOON)
    for at in (NOON, NOON + timedelta(minutes=15), NOON + timedelta(days=40)):
        before = await count(connection, at)
        await connection.execute("call core.refresh_rollups()")
        assert await count(connection, at) == before == (1000 if at == NOON else 1001)
        await connection.execute("update core.rollup_state set materialized_until = '2000-01-01 00:00:00+00'")
    assert await connection.fetchval("select sum(net_at_start) from core.dpu_flow_15m_v1") == 10


async def test_a_moment_may_be_larger_than_a_bigint(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    most, end = 2**31 - 1, NOON + timedelta(minutes=15)
    events = [("front", end - timedelta(microseconds=1), most, sequence) for sequence in range(9)]
    await record(connection, events)
    query = "select average, min, max from api.list_space_counts('house', $1, $2, '1mo', 'UTC')"
    month = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
    before = await connection.fetchrow(query, *month)
    await connection.execute("call core.refresh_rollups()")
    assert await connection.fetchval("select moment_carry from core.dpu_flow_15m_v1") > 0
    assert await connection.fetchrow(query, *month) == before
    assert await differences(connection) == []


async def test_a_long_history_is_rolled_up_in_steps(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    events = [("front", NOON - number * timedelta(days=40), 1) for number in range(20)]
    await record(connection, events)
    await connection.execute("call core.refresh_rollups()")
    assert await rolled_up(connection) == [("15m", 20), ("total", 20)]
    assert await count(connection, NOON - 9 * timedelta(days=40)) == 11
    assert await differences(connection) == []


async def test_running_totals_of_a_long_history_are_made_in_steps(connection: asyncpg.Connection) -> None:
    """As after the upgrade that brought them: a run that was cut off has not worked for nothing."""
    await build_house(connection)
    await record(connection, [("front", NOON + number * timedelta(hours=7), 1 + number) for number in range(40)])
    await connection.execute("call core.refresh_rollups()")
    ats = [NOON + number * timedelta(hours=5) for number in range(60)]
    before = [await count(connection, at) for at in ats]
    await connection.execute("delete from core.dpu_total")
    await connection.execute("update core.rollup_state set totals_until = '-infinity'")
    assert [await count(connection, at) for at in ats] == before
    await record(connection, [("front", NOON + number * timedelta(hours=21), -1, 5) for number in range(14)])
    with_late = [await count(connection, at) for at in ats]
    assert with_late != before

    code = await connection.fetchval("select pg_get_functiondef('core.add_totals'::regproc)")
    failing = "begin\n  if low > '2026-03-07Z' then raise exception 'no space left on device'; end if;\n"
    await connection.execute(code.replace("begin\n", failing, 1))
    try:
        with pytest.raises(asyncpg.PostgresError, match="no space left"):
            await connection.execute("call core.refresh_rollups()")
    finally:
        await connection.execute(code)
    done = await connection.fetchval("select totals_until from core.rollup_state")
    assert done == datetime(2026, 3, 8, tzinfo=UTC)
    assert [await count(connection, at) for at in ats] == with_late
    assert await differences(connection) == []
    await connection.execute("call core.refresh_rollups()")
    assert await marks(connection) == []
    assert [await count(connection, at) for at in ats] == with_late
    assert await differences(connection) == []


async def test_a_late_event_moves_all_later_totals(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    days = [NOON + number * timedelta(days=1) for number in range(5)]
    await record(connection, [("front", day, 1) for day in days])
    await record(connection, [("other", day, 1) for day in days])
    await connection.execute("call core.refresh_rollups()")
    befores = (
        "select array_agg(t.before order by t.day) from core.dpu_total t join core.dpu d using (dpu_id) where d.id = $1"
    )
    assert await connection.fetchval(befores, "front") == [0, 1, 2, 3, 4]
    # on a day that has been summed, on one that had no events, and one that undoes a day
    late = [(days[1], 10), (days[0] - timedelta(days=3), 100), (days[3] + timedelta(minutes=1), -1)]
    await record(connection, [("front", at, people, 1) for at, people in late])
    at = days[4] + timedelta(hours=1)
    assert await count(connection, at) == 114
    await connection.execute("call core.refresh_rollups()")
    assert await connection.fetchval(befores, "front") == [0, 100, 101, 112, 113, 113]
    assert await connection.fetchval(befores, "other") == [0, 1, 2, 3, 4]
    assert await count(connection, at) == 114
    assert await differences(connection) == []


@pytest.mark.concurrency
async def test_a_mark_that_the_refresh_could_not_see_stays(connection: asyncpg.Connection, database_url: str) -> None:
    await build_house(connection)
    await record(connection, [("front", NOON, 1)])
    await connection.execute("call core.refresh_rollups()")
    other = await asyncpg.connect(database_url, server_settings={"timezone": "UTC"})
    try:
        transaction = other.transaction()
        await transaction.start()
        await record(other, [("front", LATE, 5)])
        await connection.execute("call core.refresh_rollups()")
        await transaction.commit()
    finally:
        await other.close()
    assert await marks(connection) == [NOON]
    assert await count(connection, NOON + timedelta(days=1)) == 6
    await connection.execute("call core.refresh_rollups()")
    assert await marks(connection) == []
    assert await count(connection, NOON + timedelta(days=1)) == 6


async def test_a_refresh_that_fails_leaves_the_marks_and_the_next_one_makes_up_for_it(
    connection: asyncpg.Connection,
) -> None:
    await build_house(connection)
    await record(connection, [("front", NOON, 1)])
    await connection.execute("call core.refresh_rollups()")
    await record(connection, [("front", LATE, 5)])
    refresh_range = "core.refresh_range(pg_snapshot, timestamptz, timestamptz, timestamptz, timestamptz)"
    code = await connection.fetchval(f"select pg_get_functiondef('{refresh_range}'::regprocedure)")
    await connection.execute(code.replace("begin\n", "begin\n  raise exception 'no space left on device';\n", 1))
    try:
        with pytest.raises(asyncpg.PostgresError, match="no space left"):
            await connection.execute("call core.refresh_rollups()")
        assert await marks(connection) == [NOON]
        assert await count(connection, NOON + timedelta(days=1)) == 6
    finally:
        await connection.execute(code)
    await connection.execute("call core.refresh_rollups()")
    assert await marks(connection) == []
    assert await differences(connection) == []


async def test_the_upkeep_is_a_job_that_rolls_up_and_compresses(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await record(connection, [("front", NOON, 1), ("front", NOON + timedelta(days=70), 2)])
    job = await connection.fetchval(
        "select job_id from timescaledb_information.jobs where proc_schema = 'core' and proc_name = 'run_upkeep'"
    )
    await connection.execute(f"call public.run_job({job})")
    assert await rolled_up(connection) == [("15m", 3), ("total", 3)]
    compressed = await connection.fetch(
        """
        select c.is_compressed
        from timescaledb_information.continuous_aggregates a
        join timescaledb_information.chunks c on c.hypertable_name = a.materialization_hypertable_name
        where a.view_name = 'dpu_flow_15m_v1'
        """
    )
    assert [row["is_compressed"] for row in compressed] == [True, True]
    await record(connection, [("front", LATE, 5)])
    await connection.execute(f"call public.run_job({job})")
    assert await count(connection, NOON + timedelta(days=1)) == 6
    assert await differences(connection) == []
    old = await connection.fetch(
        "select is_compressed from timescaledb_information.chunks where hypertable_name = 'event'"
    )
    assert [row["is_compressed"] for row in old] == [True, True]


@pytest.mark.concurrency
async def test_an_older_snapshot_sees_all_rows_of_a_chunk_that_is_compressed_again(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build_house(connection)
    await record(connection, [("front", NOON + number * timedelta(seconds=1), 1) for number in range(50)])
    await connection.execute("call core.run_upkeep()")
    late = [("front", NOON + number * timedelta(milliseconds=10), 1, 1) for number in range(160_000)]
    for start in range(0, len(late), 10_000):
        await record(connection, late[start : start + 10_000])
    reader = await asyncpg.connect(database_url, server_settings={"timezone": "UTC"})
    try:
        async with reader.transaction(isolation="repeatable_read", readonly=True):
            assert await reader.fetchval("select 1") == 1
            size = "select sum(pg_relation_size(c)) from public.show_chunks('core.event') c"
            assert await connection.fetchval(size) > 8 * 2**20
            upkeep = asyncio.create_task(connection.execute("call core.run_upkeep()"))
            await upkeep
            assert await connection.fetchval(size) < 2**20
            assert await reader.fetchval("select count(*) from core.event") == 160_050
    finally:
        await reader.close()


async def test_a_part_of_a_current_count_may_be_empty(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    for doorway, at in (("front", NOON - timedelta(days=1)), ("inner", NOON + timedelta(microseconds=1))):
        await connection.execute(
            "select api.record_placement(dpu => 'front', doorway => $1, mounted_in => 'house', from_at => $2)",
            doorway,
            at,
        )
    await connection.execute("select api.record_reset('house', 3, $1)", NOON)
    await record(connection, [("front", NOON + timedelta(seconds=1), 1)])
    assert await differences(connection) == []


async def test_current_counts_hold_what_a_clock_that_was_set_back_left_ahead(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    ahead = datetime.now(UTC) + timedelta(hours=2)
    await connection.execute(
        """
        select * from core.store_events(
          array[(select dpu_id from core.dpu where id = 'front')], array[$1::timestamptz], array[7],
          array[0::smallint], $1)
        """,
        ahead,
    )
    await connection.execute("select api.record_reset('house', 1, $1)", NOON)
    assert await differences(connection) == []


async def test_current_counts_leave_out_what_is_still_to_come_also_of_a_placement_that_ends(
    connection: asyncpg.Connection,
) -> None:
    await build_house(connection)
    now = datetime.now(UTC)
    await connection.execute(
        "select api.record_placement('front', doorway => 'inner', mounted_in => 'house', from_at => $1)",
        now + timedelta(minutes=2),
    )
    minutes = {-1: 2, 1: 5, 3: 7}
    await record(connection, [("front", now + timedelta(minutes=at), people) for at, people in minutes.items()])
    counts = await connection.fetch("select space, raw_count, dpus_placed from api.list_counts('{house,room}')")
    assert [tuple(row) for row in counts] == [("house", 2, 1), ("room", 0, 1)]
    assert await differences(connection) == []


async def test_the_floor_plan_cannot_be_changed_from_an_older_snapshot(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    async with connection.transaction(isolation="repeatable_read"):
        with pytest.raises(asyncpg.PostgresError, match="READ COMMITTED"):
            await connection.execute("select api.record_reset('house', 3, $1)", NOON)


@pytest.mark.concurrency
async def test_the_upkeep_does_not_wait_for_those_who_store_events(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build_house(connection)
    await connection.execute("""select api.put_space('house', '{"reset_at": "04:00"}')""")
    await connection.execute("update core.live_space set until_at = clock_timestamp()")
    due = "select count(*) from core.live_space where until_at <= clock_timestamp()"
    other = await asyncpg.connect(database_url, server_settings={"timezone": "UTC"})
    try:
        async with other.transaction():
            await record(other, [("front", NOON, 1)])
            await asyncio.wait_for(connection.execute("call core.rederive_due()"), 30)
            assert await connection.fetchval(due) == 2
    finally:
        await other.close()
    await connection.execute("call core.rederive_due()")
    assert await connection.fetchval(due) == 0
    assert await differences(connection) == []


@pytest.mark.concurrency
async def test_it_waits_for_who_looked_at_the_clock_long_ago(connection: asyncpg.Connection, database_url: str) -> None:
    """As where the clock is set forward while events are being stored: they were on time, and are not marked."""
    await build_house(connection)
    await record(connection, [("front", NOON, 1)])
    slow = await asyncpg.connect(database_url, server_settings={"timezone": "UTC"})
    refreshing = await asyncpg.connect(database_url, server_settings={"timezone": "UTC"})
    then = datetime.now(UTC) - timedelta(hours=1)
    try:
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute("select core.share_plan()")
        await slow.execute(
            "select from core.store_events(core.list_dpu_ids(array['front']), array[$1::timestamptz], array[2], "
            "array[0::smallint], $1::timestamptz)",
            then,
        )
        await refreshing.execute("call core.refresh_rollups(config => '{\"wait_seconds\": 0.1}')")
        assert await connection.fetchval("select materialized_until < $1 from core.rollup_state", then)

        refresh = asyncio.create_task(refreshing.execute("call core.refresh_rollups()"))
        for _ in range(1000):
            if await connection.fetchval("select exists (select from core.lock_rollup)"):
                break
            await asyncio.sleep(0.01)
        assert not refresh.done(), "it waits"
        await transaction.commit()
        await refresh
        assert await marks(connection) == []
        assert await connection.fetchval("select materialized_until > $1 from core.rollup_state", then)
        assert await differences(connection) == []
    finally:
        await slow.close()
        await refreshing.close()
