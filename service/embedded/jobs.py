"""Runs TimescaleDB's jobs from outside: the embedded database has no background workers.

When a job is due is kept in TimescaleDB's own catalog, so timescaledb_information.jobs shows it, it survives
restarts, and a server with a real scheduler takes over unchanged.
"""

import asyncio
import logging
import time

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

# There is no autovacuum either; these are its default thresholds.
TABLES_TO_VACUUM = """
select relid::regclass::text
from pg_stat_user_tables join pg_class on pg_class.oid = relid
where n_dead_tup > 50 + 0.2 * greatest(reltuples, 0)
   or n_mod_since_analyze > 50 + 0.1 * greatest(reltuples, 0)
order by n_dead_tup desc"""

VACUUM_SECONDS = 60.0


async def run_jobs(url: str, *, every: float = 5.0) -> None:
    """Runs due jobs and vacuums changed tables until cancelled.

    Looks for due jobs every `every` seconds. A job that fails is logged and tried again later. Where the
    server has a scheduler of its own, nothing runs and the function returns.
    """
    failures: dict[int, int] = {}  # how often in a row, by job
    vacuum_at = time.monotonic() + VACUUM_SECONDS
    while True:
        try:
            if await _has_scheduler(url):
                return
            await run_due_jobs(url, failures)
            if time.monotonic() >= vacuum_at:
                await vacuum_changed_tables(url)
                vacuum_at = time.monotonic() + VACUUM_SECONDS
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            logger.warning("The embedded database's jobs wait: %s", error)  # it may be starting again
        await asyncio.sleep(every)


async def _has_scheduler(url: str) -> bool:
    connection = await asyncpg.connect(url)
    try:
        return bool(await connection.fetchval(HAS_SCHEDULER))
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


async def vacuum_changed_tables(url: str) -> None:
    """Vacuums and analyzes the tables that autovacuum would, one at a time, so that others get their turn."""
    connection = await asyncpg.connect(url)
    try:
        for (table,) in await connection.fetch(TABLES_TO_VACUUM):
            await connection.execute(f"vacuum (analyze) {table}")
    finally:
        await connection.close()
