"""Runs TimescaleDB's jobs from outside: the embedded database has no background workers.

When a job is due is kept in TimescaleDB's own catalog, so timescaledb_information.jobs shows it, it survives
restarts, and a server with a real scheduler takes over unchanged.
"""

import asyncio
import logging
import time
from contextlib import suppress

import asyncpg

logger = logging.getLogger(__name__)

HAS_SCHEDULER = "select current_setting('shared_preload_libraries') like '%timescaledb%'"

DUE_JOBS = """
select job_id
from timescaledb_information.jobs
where scheduled
  and (next_start is null or next_start <= now())
  and (initial_start is null or initial_start <= now())
order by next_start nulls first, job_id"""

# What TimescaleDB's scheduler does: fixed schedules keep to their grid, others count from the end of the run,
# and after the n-th failure in a row a job waits twice as long as after the one before.
SET_NEXT_START = """
select alter_job(id, next_start => case
    when $2::int > 0
      then now() + least(retry_period * power(2, least($2::int, 20) - 1), 5 * schedule_interval)
    when fixed_schedule and initial_start is not null
      then time_bucket(schedule_interval, now(), coalesce(timezone, 'UTC'), initial_start) + schedule_interval
    else now() + schedule_interval
  end)
from _timescaledb_config.bgw_job
where id = $1"""

WRITTEN_BYTES = "select (pg_current_wal_lsn() - '0/0')::bigint"

TABLES = """
select format('%I.%I', nspname, relname)
from pg_class join pg_namespace on pg_namespace.oid = relnamespace
where relkind in ('r', 'm') and relpersistence <> 't'"""

# There is no autovacuum either, nor the statistics by which it knows what has changed: everything is
# vacuumed now and then, if enough was written since.
VACUUM_SECONDS = 600.0
VACUUM_BYTES = 16 << 20


async def run_jobs(url: str, *, every: float = 5.0) -> None:
    """Runs due jobs, and vacuums now and then, until cancelled.

    Looks for due jobs every `every` seconds. A job that fails is logged and tried again later. Where the
    server has a scheduler of its own, nothing runs and the function returns.
    """
    failures: dict[int, int] = {}  # how often in a row, by job
    vacuum_at, vacuumed_bytes = time.monotonic() + VACUUM_SECONDS, 0
    while True:
        try:
            if await _fetch_value(url, HAS_SCHEDULER):
                return
            await run_due_jobs(url, failures)
            if time.monotonic() >= vacuum_at:
                written = int(str(await _fetch_value(url, WRITTEN_BYTES)))
                if written - vacuumed_bytes >= VACUUM_BYTES:
                    await vacuum_tables(url)
                    vacuumed_bytes = int(str(await _fetch_value(url, WRITTEN_BYTES)))
                vacuum_at = time.monotonic() + VACUUM_SECONDS
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            logger.warning("The embedded database's jobs wait: %s", error)  # it may be starting again
        await asyncio.sleep(every)


async def _fetch_value(url: str, query: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def run_due_jobs(url: str, failures: dict[int, int]) -> None:
    """Runs each due job once and sets when it runs next."""
    connection = await asyncpg.connect(url)
    try:
        for (job,) in await connection.fetch(DUE_JOBS):
            try:
                await _run_job(url, job)
                failures.pop(job, None)
            except asyncpg.PostgresError as error:
                failures[job] = failures.get(job, 0) + 1
                logger.warning("Job %s failed: %s", job, error)
            await connection.execute(SET_NEXT_START, job, failures.get(job, 0))
    finally:
        await connection.close()


async def _run_job(url: str, job: int) -> None:
    # A connection of its own, so that no setting of one job reaches another; and a plain statement outside
    # of a transaction, since a job may commit.
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"call run_job({int(job)})")
    finally:
        await connection.close()


async def vacuum_tables(url: str) -> None:
    """Vacuums and analyzes every table, one at a time, so that others get their turn."""
    connection = await asyncpg.connect(url)
    try:
        for (table,) in await connection.fetch(TABLES):
            with suppress(asyncpg.UndefinedTableError):  # dropped meanwhile
                await connection.execute(f"vacuum (analyze) {table}")
    finally:
        await connection.close()
