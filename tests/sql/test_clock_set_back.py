"""The clock of the database is set back: counts, the feed and the rollups go by what it shows, and lose nothing."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest
import pytest_asyncio

from headcount.database import calls
from tests.factories import apply_site, build_house, differences, raw_count, record
from tests.sql.test_list_changes import database_now
from tests.sql.test_locks import until
from tests.sql.test_rollup_races import CLOCK

HOUR = timedelta(hours=1)


async def set_clock(owner: asyncpg.Connection, ahead: timedelta = timedelta()) -> None:
    """Sets the clock that the functions of the database look at."""
    await owner.execute(
        "create or replace function public.race_clock() returns timestamptz language sql volatile "
        f"as $$ select pg_catalog.clock_timestamp() + interval '{ahead.total_seconds()} seconds' $$"
    )


@pytest_asyncio.fixture(loop_scope="session")
async def owner(own_database_url: str, is_embedded: bool) -> AsyncIterator[asyncpg.Connection]:
    """The owner of a database of its own, whose clock can be set."""
    connection = await asyncpg.connect(own_database_url, server_settings={"timezone": "UTC"})
    if not is_embedded:
        await connection.execute("select _timescaledb_functions.stop_background_workers()")
    now = await database_now(connection)
    await connection.execute(CLOCK.format(start=now, real=now, factor=1))
    yield connection
    await connection.close()


async def count_now(owner: asyncpg.Connection) -> int:
    return sum([row["raw_count"] for row in await owner.fetch("select raw_count from api.list_counts(array['house'])")])


@pytest.mark.parametrize("is_daily", [True, False])
async def test_a_reset_that_is_still_to_come_does_not_count(owner: asyncpg.Connection, is_daily: bool) -> None:
    await build_house(owner)
    now = await database_now(owner)
    await record(owner, [("front", now - timedelta(minutes=5), 7)])
    if is_daily:
        reset_at = f"{now + timedelta(minutes=30):%H:%M}"
        await apply_site(owner, spaces=[{"id": "house", "reset_at": reset_at}])
    await set_clock(owner, HOUR)
    if not is_daily:
        await owner.execute("select api.record_reset(space => 'house', count => 100)")
    await owner.execute("call core.rederive_due()")
    assert await count_now(owner) == (0 if is_daily else 100)

    await set_clock(owner)
    assert await count_now(owner) == 7
    assert await differences(owner) == []
    await owner.execute("call core.rederive_due()")
    assert await count_now(owner) == 7
    assert await differences(owner) == []
    await set_clock(owner, HOUR + timedelta(minutes=1))
    assert await count_now(owner) == (0 if is_daily else 100), "and then it comes"
    await owner.execute("call core.rederive_due()")
    assert await count_now(owner) == (0 if is_daily else 100)
    assert await differences(owner) == []


@pytest.mark.parametrize("is_taken_in", [True, False])
async def test_the_feed_tells_of_a_reset_each_time_the_clock_passes_it(
    owner: asyncpg.Connection, is_taken_in: bool
) -> None:
    await build_house(owner)
    await set_clock(owner, timedelta(seconds=110))
    await owner.execute("select api.record_reset(space => 'house', count => 100)")
    cursor = (await calls.list_changes(owner)).cursor
    for ahead, expected in ((55, 0), (60, 0), (112, 100)):
        await set_clock(owner, timedelta(seconds=ahead))
        if is_taken_in:
            await owner.execute("call core.rederive_due()")
        changes = await calls.list_changes(owner, cursor)
        assert not changes.is_all
        assert ("house" in changes.counts) == (ahead != 60)
        assert await count_now(owner) == expected
        cursor = changes.cursor


@pytest.mark.concurrency
async def test_what_is_stored_while_a_refresh_is_under_way_is_not_lost(
    owner: asyncpg.Connection, own_database_url: str
) -> None:
    """Its goal is by a clock that was ahead; by the clock of who stores, nothing is late."""
    await build_house(owner)
    now = await database_now(owner)
    await record(owner, [("front", now - 3 * HOUR, 7), ("inner", now - timedelta(minutes=20), 1)])
    slow, late, refreshing = [
        await asyncpg.connect(own_database_url, server_settings={"timezone": "UTC"}) for _ in range(3)
    ]
    try:
        await set_clock(owner, HOUR)
        before = slow.transaction()
        await before.start()
        await slow.execute("select core.share_plan()")
        pid = await refreshing.fetchval("select pg_backend_pid()")
        refresh = asyncio.create_task(refreshing.execute("call core.refresh_rollups()"))
        await until(owner, f"select wait_event = 'PgSleep' from pg_stat_activity where pid = {pid}")

        await set_clock(owner)
        meanwhile = late.transaction()
        await meanwhile.start()
        await record(late, [("front", now - timedelta(minutes=10), 5)])
        await before.rollback()
        await refresh
        await meanwhile.commit()
    finally:
        for connection in (slow, late, refreshing):
            await connection.close()
    assert await owner.fetchval("select materialized_until > $1 from core.rollup_state", now)
    assert await raw_count(owner, "house", now) == 12
    assert await differences(owner) == []
    await owner.execute("call core.refresh_rollups()")
    assert await owner.fetchval("select count(*) from core.late_mark") == 0
    assert await raw_count(owner, "house", now) == 12
    assert await differences(owner) == []
