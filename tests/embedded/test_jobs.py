"""The ticker that runs TimescaleDB's jobs where there is no scheduler."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
import pytest_asyncio

from headcount.embedded import jobs, run_jobs
from tests.commands.support import PATIENCE
from tests.embedded.conftest import Connect, fetch_tuple, wait_until


@asynccontextmanager
async def ticking(url: str) -> AsyncIterator[None]:
    task = asyncio.create_task(run_jobs(url, every=0.1))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest_asyncio.fixture
async def a(connect: Connect, schema: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """With a log that jobs write to, and without the job that TimescaleDB itself brings."""
    connection = await connect()
    await connection.execute("create table s.log (entry text)")
    await connection.execute("select alter_job(job_id, scheduled => false) from timescaledb_information.jobs")
    yield connection
    await connection.execute("select delete_job(job_id) from timescaledb_information.jobs where job_id >= 1000")


async def add_job(a: asyncpg.Connection[asyncpg.Record], body: str, arguments: str) -> int:
    await a.execute(f"create procedure s.work(job_id int, config jsonb) language plpgsql as $$ begin {body} end $$")
    return int(await a.fetchval(f"select add_job('s.work', {arguments})"))


async def log_of(a: asyncpg.Connection[asyncpg.Record]) -> list[str]:
    return [entry for (entry,) in await a.fetch("select entry from s.log")]


async def next_start(a: asyncpg.Connection[asyncpg.Record], job: int) -> datetime | None:
    start = await a.fetchval("select next_start from timescaledb_information.jobs where job_id = $1", job)
    assert start is None or isinstance(start, datetime)
    return start


async def test_it_runs_a_procedure_that_commits_and_rolls_back(url: str, a: asyncpg.Connection[asyncpg.Record]) -> None:
    job = await add_job(
        a,
        "insert into s.log values ('kept'); commit; insert into s.log values ('undone'); rollback;"
        "insert into s.log values (config ->> 'k');",
        """'5 min', config => '{"k": "configured"}'""",
    )
    await jobs.run_due_jobs(url, {})
    assert await log_of(a) == ["kept", "configured"]
    start = await next_start(a, job)
    assert start is not None
    assert timedelta(minutes=4) < start - datetime.now(UTC) <= timedelta(minutes=5)


async def test_it_runs_a_job_again_only_when_that_is_due(url: str, a: asyncpg.Connection[asyncpg.Record]) -> None:
    await add_job(a, "insert into s.log values ('run');", "'1 hour'")
    for _ in range(3):
        await jobs.run_due_jobs(url, {})
    assert await log_of(a) == ["run"]
    await a.execute("select alter_job(job_id, next_start => now()) from timescaledb_information.jobs")
    await jobs.run_due_jobs(url, {})
    assert await log_of(a) == ["run", "run"]


async def test_it_keeps_a_fixed_schedule_in_its_time_zone(url: str, a: asyncpg.Connection[asyncpg.Record]) -> None:
    job = await add_job(
        a,
        "insert into s.log values ('run');",
        "'1 day', fixed_schedule => true, initial_start => '2026-01-31 04:00-05', timezone => 'America/New_York'",
    )
    await jobs.run_due_jobs(url, {})
    assert await log_of(a) == ["run"]
    start = await next_start(a, job)
    assert start is not None
    assert start > datetime.now(UTC)
    local = await a.fetchval("select ($1 at time zone 'America/New_York')::time::text", start)
    assert local == "04:00:00"


async def test_it_leaves_jobs_alone_before_their_first_start(url: str, a: asyncpg.Connection[asyncpg.Record]) -> None:
    await add_job(a, "insert into s.log values ('run');", "'1 day', initial_start => now() + interval '1 hour'")
    await jobs.run_due_jobs(url, {})
    assert await log_of(a) == []


async def test_a_failing_job_waits_longer_each_time_and_stops_no_other(
    url: str, a: asyncpg.Connection[asyncpg.Record], caplog: pytest.LogCaptureFixture
) -> None:
    job = await add_job(a, "raise exception 'boom';", "'1 hour'")
    await a.execute("select alter_job($1, retry_period => interval '1 min')", job)
    await a.execute("create procedure s.fine(job_id int, config jsonb) language sql as $$ select $$")
    await a.execute(
        "create or replace procedure s.fine(job_id int, config jsonb) language sql"
        " as $$ insert into s.log values ('fine') $$"
    )
    await a.execute("select add_job('s.fine', '1 hour')")
    failures: dict[int, int] = {}
    waits = []
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await jobs.run_due_jobs(url, failures)
            start = await next_start(a, job)
            assert start is not None
            waits.append(round((start - datetime.now(UTC)) / timedelta(minutes=1)))
            await a.execute("select alter_job($1, next_start => now())", job)
    assert waits == [1, 2, 4]
    assert await log_of(a) == ["fine"]
    assert "boom" in caplog.text


async def test_a_job_may_delete_itself(url: str, a: asyncpg.Connection[asyncpg.Record]) -> None:
    await add_job(a, "insert into s.log values ('once'); perform delete_job(job_id);", "'1 hour'")
    await jobs.run_due_jobs(url, {})
    await jobs.run_due_jobs(url, {})
    assert await log_of(a) == ["once"]


async def test_settings_of_a_job_stay_in_it(url: str, a: asyncpg.Connection[asyncpg.Record]) -> None:
    await add_job(
        a,
        "insert into s.log values (current_setting('timezone')); perform set_config('timezone', 'Asia/Tokyo', false);",
        "'1 hour'",
    )
    await a.execute("select add_job('s.work', '2 hours')")
    await jobs.run_due_jobs(url, {})
    assert await log_of(a) == ["UTC", "UTC"]


async def test_policies_refresh_compress_and_drop(url: str, a: asyncpg.Connection[asyncpg.Record]) -> None:
    await a.execute(
        """
        create table s.reading (time timestamptz not null, device int not null, value float8);
        select create_hypertable('s.reading', 'time', chunk_time_interval => interval '5 days');
        insert into s.reading
        select t, d, 1
        from generate_series(now() - interval '20 days', now(), interval '1 hour') t, generate_series(1, 5) d;
        alter table s.reading
        set (timescaledb.enable_columnstore, timescaledb.segmentby = 'device', timescaledb.orderby = 'time desc')
        """
    )
    await a.execute(
        """
        create materialized view s.hourly with (timescaledb.continuous) as
        select time_bucket('1 hour', time) as bucket, count(*) as n from s.reading group by 1 with no data"""
    )
    await a.execute(
        """
        create materialized view s.daily with (timescaledb.continuous) as
        select time_bucket('1 day', bucket) as bucket, sum(n) as n from s.hourly group by 1 with no data"""
    )
    for policy in (
        "select add_continuous_aggregate_policy('s.hourly', interval '30 days', interval '1 hour', interval '1 hour')",
        "select add_continuous_aggregate_policy('s.daily', interval '60 days', interval '1 day', interval '1 hour')",
        "call add_columnstore_policy('s.reading', after => interval '7 days')",
        "select add_retention_policy('s.reading', drop_after => interval '15 days')",
    ):
        await a.execute(policy)
    oldest = await a.fetchval("select min(time) from s.reading")
    compressed = (
        "select count(*) filter (where is_compressed) from timescaledb_information.chunks"
        " where hypertable_name = 'reading'"
    )
    async with ticking(url):

        async def is_done() -> bool:
            is_dropped = await a.fetchval("select min(time) > $1 from s.reading", oldest)
            return (
                bool(is_dropped)
                and bool(await a.fetchval(compressed))
                and bool(await a.fetchval("select count(*) from s.daily"))
            )

        await wait_until(is_done)
    refreshed, days = await fetch_tuple(a, "select (select sum(n) from s.hourly), (select sum(n) from s.daily)")
    assert 2000 < days <= refreshed


async def test_vacuum_tells_the_planner_what_changed(url: str, a: asyncpg.Connection[asyncpg.Record]) -> None:
    await a.execute("create table s.changed (x int); insert into s.changed select generate_series(1, 1000)")
    estimate = "select reltuples from pg_class where oid = 's.changed'::regclass"
    assert await a.fetchval(estimate) == -1
    await jobs.vacuum_tables(url)
    assert await a.fetchval(estimate) == 1000
    await a.execute("delete from s.changed where x > 100")
    await jobs.vacuum_tables(url)
    assert await a.fetchval(estimate) == 100


async def test_it_vacuums_again_only_after_enough_was_written(
    url: str, a: asyncpg.Connection[asyncpg.Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    vacuums = 0

    async def count_vacuum(url: str) -> None:
        nonlocal vacuums
        vacuums += 1

    monkeypatch.setattr(jobs, "vacuum_tables", count_vacuum)
    monkeypatch.setattr(jobs, "VACUUM_SECONDS", 0.0)
    monkeypatch.setattr(jobs, "VACUUM_BYTES", 1 << 20)
    async with ticking(url):
        await wait_until(lambda: vacuums == 1)
        await asyncio.sleep(0.5)
        assert vacuums == 1
        await a.execute("create table s.wide as select repeat('x', 1000) from generate_series(1, 3000)")
        await wait_until(lambda: vacuums == 2)


async def test_it_runs_nothing_where_the_server_has_a_scheduler(
    url: str, a: asyncpg.Connection[asyncpg.Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_job(a, "insert into s.log values ('run');", "'1 hour'")
    monkeypatch.setattr(jobs, "HAS_SCHEDULER", "select true")
    await asyncio.wait_for(run_jobs(url, every=0.1), PATIENCE)
    assert await log_of(a) == []


async def test_it_goes_on_after_the_database_was_away(
    url: str, a: asyncpg.Connection[asyncpg.Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_job(a, "insert into s.log values ('run');", "'1 hour'")
    tries = 0
    real = asyncpg.connect

    async def away_at_first(*arguments: str) -> asyncpg.Connection[asyncpg.Record]:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise ConnectionRefusedError("starting again")
        return await real(*arguments)

    monkeypatch.setattr(asyncpg, "connect", away_at_first)

    async def has_run() -> bool:
        return await log_of(a) == ["run"]

    async with ticking(url):
        await wait_until(has_run)
    assert tries > 3
