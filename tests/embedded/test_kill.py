"""What is acknowledged stays, whole, when the server is killed while it writes."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from functools import partial

import asyncpg
import pytest

from headcount.embedded import EmbeddedDatabase
from tests.commands.support import PATIENCE
from tests.embedded.conftest import MakeDatabase, fetch_tuple, wait_until

CYCLES = 3
BATCH = 500  # rows

SCHEMA = """
create table reading (time timestamptz not null, batch int not null, value float8);
select create_hypertable('reading', 'time', chunk_time_interval => interval '1 day');
create index on reading (batch);
alter table reading set (timescaledb.enable_columnstore, timescaledb.segmentby = 'batch');
create table total (n bigint);
insert into total values (0);
"""
AGGREGATE = """
create materialized view hourly with (timescaledb.continuous) as
select time_bucket('1 hour', time) as bucket, count(*) as n from reading group by 1 with no data"""

WRITE = """
insert into reading (time, batch, value)
select timestamptz '2026-01-01' + ($1 * $2 + g) * interval '1 second', $1, g
from generate_series(1, $2) g"""

COMPRESS = """
select compress_chunk(chunk, if_not_compressed => true)
from (select chunk from show_chunks('reading') chunk order by 1 desc offset 1 limit 2) older"""

CONSISTENT = """
select (select count(*) from reading), (select n from total), (select coalesce(sum(n), 0)::bigint from hourly),
  (select count(*) from (select from reading group by batch having count(*) <> 500) partial)"""


async def write_batches(url: str, acknowledged: list[int]) -> None:
    """Writes batches, and compresses, refreshes, vacuums and checkpoints between them, until the server dies."""
    connection = await asyncpg.connect(url)
    batch = max(acknowledged, default=0)
    try:
        while True:
            batch += 1
            async with connection.transaction():
                await connection.execute(WRITE, batch, BATCH)
                await connection.execute("update total set n = n + $1", BATCH)
            acknowledged.append(batch)
            if batch % 15 == 0:
                await connection.execute(COMPRESS)
            if batch % 11 == 0:
                await connection.execute("call refresh_continuous_aggregate('hourly', null, null)")
            if batch % 23 == 0:
                await connection.execute("vacuum")
            if batch % 29 == 0:
                await connection.execute("checkpoint")
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        connection.terminate()


async def connect_again(url: str) -> asyncpg.Connection[asyncpg.Record]:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return await asyncpg.connect(url)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


def process_of(database: EmbeddedDatabase) -> int:
    assert database._process is not None
    return database._process.pid


def kill_server(database: EmbeddedDatabase) -> int:
    process = process_of(database)
    os.kill(process, signal.SIGKILL)
    return process


def is_longer(batches: list[int], length: int) -> bool:
    return len(batches) > length


def is_other_process(database: EmbeddedDatabase, process: int) -> bool:
    return process_of(database) != process


async def test_acknowledged_batches_survive_kills(make_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills the server in the middle of its work, every other time again while it recovers."""
    monkeypatch.setattr("headcount.embedded.database.CRASH_LIMIT", 100)
    chance = random.Random(1)
    messages: list[str] = []
    database = make_database(on_message=messages.append)
    await asyncio.to_thread(database.start)
    connection = await asyncpg.connect(database.url)
    await connection.execute(SCHEMA)
    await connection.execute(AGGREGATE)
    await connection.close()

    found: set[int] = set()
    for cycle in range(CYCLES):
        acknowledged: list[int] = [*found]
        writing = asyncio.create_task(write_batches(database.url, acknowledged))
        await wait_until(partial(is_longer, acknowledged, len(found) + 4))
        await asyncio.sleep(chance.uniform(0.1, 1))
        killed = kill_server(database)
        await writing
        if cycle % 2:
            await wait_until(partial(is_other_process, database, killed))
            await asyncio.sleep(chance.uniform(0.3, 0.8))
            kill_server(database)
            await asyncio.sleep(0.2)

        connection = await connect_again(database.url)
        found = {batch for (batch,) in await connection.fetch("select distinct batch from reading")}
        assert set(acknowledged) <= found
        await connection.execute("call refresh_continuous_aggregate('hourly', null, null)")
        rows, total, aggregated, broken = await fetch_tuple(connection, CONSISTENT)
        assert rows == total == aggregated == len(found) * BATCH
        assert broken == 0
        await connection.execute("reindex table reading")
        await connection.close()
    assert sum("starting it again" in message for message in messages) == CYCLES + CYCLES // 2
