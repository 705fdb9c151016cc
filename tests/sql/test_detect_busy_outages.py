"""Sensors whose rows somebody always holds: they are found offline all the same, and nobody waits for ever."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from tests.factories import differences, hear
from tests.sql.test_detect_outages import build
from tests.sql.test_locks import open_transaction, session, until

HOLD = "select from core.dpu_state s where s.dpu_id = any (core.list_dpu_ids($1)) order by s.dpu_id for update"


async def look(connection: asyncpg.Connection) -> int:
    found: int = await connection.fetchval("select api.detect_outages()")
    return found


async def busy(connection: asyncpg.Connection) -> list[str]:
    rows = await connection.fetch("select d.id from core.busy_dpu b join core.dpu d using (dpu_id) order by d.id")
    return [row["id"] for row in rows]


async def silence(connection: asyncpg.Connection, *dpus: str) -> None:
    """They were heard a minute ago, and somebody listened since then; nobody has found them offline yet."""
    await hear(connection, *((dpu, None) for dpu in dpus))
    await connection.execute(
        """
        with moved as (
          update core.dpu_state set last_seen_at = last_seen_at - interval '1 minute',
            earlier_seen_at = earlier_seen_at - interval '1 minute', steady_from = steady_from - interval '1 minute',
            first_heard_at = first_heard_at - interval '1 minute', armed_at = armed_at - interval '1 minute',
            last_heartbeat_at = last_heartbeat_at - interval '1 minute',
            earlier_heartbeat_at = earlier_heartbeat_at - interval '1 minute')
        update core.first_sign set at = at - interval '1 minute', recorded_at = recorded_at - interval '1 minute'
        """
    )
    await connection.execute("delete from core.listening")
    await connection.execute("select core.note_listening(clock_timestamp() - interval '2 minutes')")
    await connection.execute("update core.listening set until_at = clock_timestamp()")


async def age(connection: asyncpg.Connection) -> None:
    """What is busy has been so for 3 seconds."""
    await connection.execute("update core.busy_dpu set since = since - interval '3 seconds'")


@asynccontextmanager
async def held_without_a_gap(connection: asyncpg.Connection, url: str, *dpus: str) -> AsyncIterator[None]:
    """Two sessions take turns: each lets go when the other is in the queue."""
    sessions = [await session(url) for _ in range(2)]
    over = False

    async def hold_by_turns() -> None:
        transaction = sessions[0].transaction()
        await transaction.start()
        await sessions[0].execute(HOLD, list(dpus))
        held.set()
        while not over:
            sessions.reverse()
            next_one = sessions[0].transaction()
            await next_one.start()
            queued = asyncio.create_task(sessions[0].execute(HOLD, list(dpus)))
            pid = sessions[0].get_server_pid()
            await until(sessions[1], f"select cardinality(pg_blocking_pids({pid})) > 0")
            await transaction.rollback()
            await queued
            transaction = next_one
        await transaction.rollback()

    held = asyncio.Event()
    turns = asyncio.create_task(hold_by_turns())
    try:
        await held.wait()
        yield
        over = True
        await asyncio.wait_for(turns, 60)
    finally:
        turns.cancel()
        await asyncio.gather(turns, return_exceptions=True)
        for one in sessions:
            one.terminate()


async def test_nothing_is_busy_and_nobody_waits_where_nobody_holds_a_row(connection: asyncpg.Connection) -> None:
    await build(connection, "d1", "d2")
    await silence(connection, "d1", "d2")
    assert await connection.fetchval("select api.detect_busy_outages()") is None
    assert await look(connection) == 2
    assert await busy(connection) == []
    assert await connection.fetchval("select api.detect_busy_outages()") is None


@pytest.mark.concurrency
async def test_a_silent_sensor_whose_row_is_always_held_is_found_offline(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build(connection, "d1", "d2", "d3")
    await silence(connection, "d1", "d2", "d3")
    async with held_without_a_gap(connection, database_url, "d1", "d2"):
        for _ in range(3):
            assert await look(connection) in (0, 1)
        assert await busy(connection) == ["d1", "d2"]
        assert await connection.fetchval("select api.detect_busy_outages()") is None, "it may be free in a second"
        await age(connection)
        async with asyncio.timeout(60):
            while await busy(connection):
                await connection.fetchval("select api.detect_busy_outages()")
        assert await connection.fetchval("select count(*) from core.outage where superseded_at is null") == 3
    assert await look(connection) == 0
    assert await differences(connection) == []


@pytest.mark.concurrency
async def test_while_it_waits_others_look_and_whoever_holds_the_row_gets_what_it_wants(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build(connection, "d1", "d2")
    await silence(connection, "d1")
    waiter = await session(database_url)
    try:
        async with open_transaction(database_url) as holder:
            await holder.execute(HOLD, ["d1"])
            assert await look(connection) == 0
            await age(connection)
            waiting = asyncio.create_task(waiter.fetchval("select api.detect_busy_outages()"))
            await until(
                connection,
                f"select {waiter.get_server_pid()} in (select pid from pg_stat_activity "
                "where wait_event_type = 'Lock')",
            )
            assert await look(connection) == 0, "it is not deaf meanwhile"
            # as a sign does that depends on who listened
            await holder.execute("set local lock_timeout = '10s'; select core.lock_outage()")
            assert not waiting.done()
        assert await asyncio.wait_for(waiting, 60) == 1
        assert await busy(connection) == []
    finally:
        waiter.terminate()


@pytest.mark.concurrency
async def test_who_holds_the_row_never_waits_for_whoever_looks(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build(connection, "d1")
    await silence(connection, "d1")
    async with open_transaction(database_url) as holder:
        await holder.execute(HOLD, ["d1"])
        assert await look(connection) == 0
    await age(connection)
    async with open_transaction(database_url) as planner:
        # a change of the plan that has begun to settle who listened, and goes on to this row
        await planner.execute("select core.lock_outage()")
        waiter = await session(database_url)
        try:
            waiting = asyncio.create_task(waiter.fetchval("select api.detect_busy_outages()"))
            await until(connection, "select not exists (select from core.dpu_state for update skip locked)")
            await asyncio.wait_for(planner.execute(HOLD, ["d1"]), 60)
            assert await asyncio.wait_for(waiting, 60) is None
        finally:
            waiter.terminate()
    assert await look(connection) == 1
    assert await busy(connection) == []


@pytest.mark.concurrency
async def test_a_moved_sensor_whose_row_is_held_keeps_no_other_from_its_new_threshold(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build(connection, "d1", "d2")
    await build(connection, "e1", site="other")
    await connection.execute("update core.space set offline_after_seconds = 7 where id = 'other'")
    await hear(connection, ("d1", None), ("d2", None))
    await look(connection)
    move = """
        update core.placement p set during = tstzrange(lower(p.during), clock_timestamp())
        where p.dpu_id = any (core.list_dpu_ids('{d1,d2}'))
    """
    await connection.execute(move)
    thresholds = "select array_agg(offline_after_seconds order by dpu_id) from core.dpu_state where dpu_id <= 2"
    ticked = "select ticked_at from core.listening order by from_at desc limit 1"
    before = await connection.fetchval(ticked)
    async with open_transaction(database_url) as holder:
        await holder.execute(HOLD, ["d1"])
        assert await look(connection) == 0
        assert await connection.fetchval(ticked) > before
        assert await connection.fetchval(thresholds) == [2, None]
        assert await busy(connection) == ["d1"]
    await look(connection)
    assert await connection.fetchval(thresholds) == [None, None]
    assert await busy(connection) == []


@pytest.mark.concurrency
async def test_an_outage_that_somebody_always_changes_gets_its_incident(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build(connection, "d1")
    await silence(connection, "d1")
    assert await look(connection) == 1
    await connection.execute("update core.outage set detected_at = detected_at - interval '2 seconds'")
    async with open_transaction(database_url) as holder:
        await holder.execute(HOLD, ["d1"])
        await holder.execute("select from core.outage for update")
        await look(connection)
        assert await busy(connection) == ["d1"]
        assert await connection.fetchval("select count(*) from core.incident") == 0
    await age(connection)
    assert await connection.fetchval("select api.detect_busy_outages()") == 0
    assert await connection.fetchval("select count(*) from core.incident") == 1
    assert await busy(connection) == []


async def test_a_busy_sensor_that_is_removed_is_forgotten(connection: asyncpg.Connection) -> None:
    await connection.execute("select core.note_busy('{77}', clock_timestamp() - interval '1 minute')")
    assert await connection.fetchval("select api.detect_busy_outages()") == 0
    assert await connection.fetchval("select count(*) from core.busy_dpu") == 0
