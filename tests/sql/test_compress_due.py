"""Compression of old chunks (core.compress_due) beside those who read them and store late events."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from tests.factories import NOON, build_house, differences, record, seconds
from tests.sql.test_locks import open_transaction, session, until

pytestmark = pytest.mark.concurrency

DAY = timedelta(days=1)
CHUNK = "(select c from public.show_chunks('core.event', newer_than => '{0}', older_than => '{1}') as c)"
MIDNIGHT = NOON.replace(hour=0)
FIRST = CHUNK.format(MIDNIGHT.isoformat(), (MIDNIGHT + DAY).isoformat())


async def fill(connection: asyncpg.Connection) -> None:
    """Two chunks of events that are due."""
    await build_house(connection)
    await record(
        connection, [("front", NOON + day * DAY + seconds(number), 1) for day in (0, 1) for number in range(9)]
    )


async def compressed(connection: asyncpg.Connection) -> list[bool]:
    rows = await connection.fetch("""
        select c.is_compressed from timescaledb_information.chunks c
        where c.hypertable_name = 'event' order by c.range_start""")
    return [row[0] for row in rows]


async def read(reader: asyncpg.Connection) -> None:
    """Reads the first chunk, and keeps its lock."""
    assert await reader.fetchval("select count(*) from core.event where time < $1", MIDNIGHT + DAY) == 9


async def test_who_stores_a_late_event_has_not_read_the_chunk_that_it_waits_for(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await fill(connection)
    writer = await session(database_url)
    chunk = await connection.fetchval(f"select {FIRST}::text")
    try:
        async with open_transaction(database_url) as compressor:
            # what compress_chunk locks in the beginning, and in the end
            await compressor.execute(f"lock table {chunk} in exclusive mode")
            late = asyncio.create_task(record(writer, [("front", NOON + seconds(3.5), 1)]))
            await until(
                connection,
                f"select exists (select from pg_locks where relation = '{chunk}'::regclass and not granted)",
            )
            await compressor.execute("set local lock_timeout = '100ms'")
            await compressor.execute(f"lock table {chunk} in access exclusive mode")
        assert await late == []
    finally:
        await writer.close()


async def test_late_events_and_compression_go_on_beside_each_other(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await fill(connection)
    writers = [await session(database_url) for _ in range(3)]
    is_over = asyncio.Event()

    async def send(writer: asyncpg.Connection, dpu: str) -> int:
        sent = 0
        while not is_over.is_set():
            assert await record(writer, [(dpu, NOON + timedelta(minutes=1, milliseconds=sent), 1)]) == []
            sent += 1
        return sent

    tasks = [
        asyncio.create_task(send(writer, dpu)) for writer, dpu in zip(writers, ("front", "inner", "loose"), strict=True)
    ]
    try:
        for _ in range(20):
            await connection.execute("call core.run_upkeep()")
            if all(await compressed(connection)):
                break
    finally:
        is_over.set()
        sent = await asyncio.gather(*tasks, return_exceptions=True)
        for writer in writers:
            await writer.close()
    assert all(isinstance(number, int) and number > 0 for number in sent), sent
    assert await compressed(connection) == [True, True]
    await connection.execute("call core.run_upkeep()")
    assert await differences(connection) == []


async def test_a_chunk_that_somebody_reads_keeps_neither_other_chunks_nor_retention_waiting(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await fill(connection)
    await record(connection, [("front", datetime.now(UTC), 1)])
    days = (datetime.now(UTC) - NOON).days + 3
    async with open_transaction(database_url) as reader:
        await read(reader)
        await connection.execute("call core.run_upkeep()")
        assert (await compressed(connection))[:2] == [False, True]
        await connection.execute("select api.set_retention($1)", days - 4)
        await connection.execute("call core.run_upkeep()")
        assert (await compressed(connection))[:2] == [False, True]
        assert await connection.fetchval("select events_from from api.get_retention()") is not None
    await connection.execute("call core.run_upkeep()")
    assert (await compressed(connection))[:2] == [True, True]


async def test_late_events_wait_but_half_a_second_for_a_chunk_that_somebody_reads(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await fill(connection)
    writer = await session(database_url, statement_timeout="3s")
    upkeep = await session(database_url)
    try:
        async with open_transaction(database_url) as reader:
            await read(reader)
            task = asyncio.create_task(upkeep.execute("call core.run_upkeep()"))
            await until(
                connection,
                f"select exists (select from pg_locks where relation = {FIRST}::oid and not granted)",
            )
            # with a 5 s wait this would be cancelled
            assert await record(writer, [("front", NOON + seconds(3.5), 1)]) == []
            await task
    finally:
        await writer.close()
        await upkeep.close()


async def test_a_chunk_that_cannot_be_compressed_keeps_nothing_else_from_being_done(
    connection: asyncpg.Connection,
) -> None:
    await fill(connection)
    code = await connection.fetchval("select pg_get_functiondef('core.try_compress(regclass)'::regprocedure)")
    failing = f"begin\n  if chunk = {FIRST}::oid then raise exception 'no space left on device'; end if;\n"
    await connection.execute(code.replace("begin\n", failing, 1))
    await connection.execute("select api.set_retention($1)", (datetime.now(UTC) - NOON).days - 1)
    try:
        with pytest.raises(asyncpg.PostgresError, match="no space left"):
            await connection.execute("call core.run_upkeep()")
    finally:
        await connection.execute(code)
    assert (await compressed(connection))[:2] == [False, True]
    assert await connection.fetchval("select events_from from api.get_retention()") is not None


@pytest.mark.parametrize("state", ["deadlock_detected", "lock_not_available"])
async def test_retention_that_loses_to_others_comes_again_and_compression_is_done(
    connection: asyncpg.Connection, state: str
) -> None:
    await fill(connection)
    code = await connection.fetchval("select pg_get_functiondef('core.retire_events_until(timestamptz)'::regprocedure)")
    await connection.execute(code.replace("begin\n", f"begin\n  raise exception using errcode = '{state}';\n", 1))
    await connection.execute("select api.set_retention($1)", (datetime.now(UTC) - NOON).days - 1)
    try:
        await connection.execute("call core.run_upkeep()")
    finally:
        await connection.execute(code)
    assert (await compressed(connection))[:2] == [True, True]
    assert await connection.fetchval("select events_from from api.get_retention()") is None
    await connection.execute("call core.run_upkeep()")
    assert await connection.fetchval("select events_from from api.get_retention()") is not None


async def test_who_comes_second_to_compress_a_chunk_finds_it_done(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await fill(connection)
    held = await connection.fetchval("""
        select format('%I.%I', c.schema_name, c.table_name)
        from _timescaledb_catalog.hypertable h
        join _timescaledb_catalog.hypertable c on c.id = h.compressed_hypertable_id
        where h.table_name = 'event'""")
    waiting = f"select count(*) = 2 from pg_locks where relation = '{held}'::regclass and not granted"
    sessions = [await session(database_url) for _ in range(2)]
    try:
        async with open_transaction(database_url) as blocker:
            # both have seen by then that the chunk is not compressed
            await blocker.execute(f"lock table {held} in access exclusive mode")
            compressing = [
                asyncio.create_task(each.fetchval(f"select core.try_compress({FIRST})")) for each in sessions
            ]
            await until(connection, waiting)
        assert await asyncio.gather(*compressing) == [True, True]
    finally:
        for each in sessions:
            await each.close()
    assert (await compressed(connection))[0]


async def test_many_chunks_are_compressed_over_several_runs(connection: asyncpg.Connection) -> None:
    """So that they do not keep the upkeep from what else it does."""
    await fill(connection)
    config = '{"compress_seconds": 0}'
    await connection.execute(f"call core.run_upkeep(config => '{config}')")
    assert await compressed(connection) != [True, True]
    for _ in range(5):
        await connection.execute(f"call core.run_upkeep(config => '{config}')")
    assert await compressed(connection) == [True, True]


async def test_the_upkeep_compresses_for_a_part_of_its_minute_and_comes_again_as_soon(
    connection: asyncpg.Connection,
) -> None:
    job = await connection.fetchrow(
        """
        select schedule_interval, retry_period, (config->>'compress_seconds')::integer as seconds
        from timescaledb_information.jobs where proc_schema = 'core' and proc_name = 'run_upkeep'
        """
    )
    assert job is not None
    assert job["schedule_interval"] == job["retry_period"] == timedelta(minutes=1)
    assert 0 < job["seconds"] < 60
