"""Locks (10_core/10_limits/locks.sql): who waits for whom, who does not, and that no login of BI can hold them."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from urllib.parse import urlsplit

import asyncpg
import pytest

from headcount.app import create_app
from headcount.commands.session import open_connection
from headcount.database import calls, pool
from headcount.database.plan_turns import Plans
from headcount.database.pool import Database
from headcount.settings import Settings
from headcount.wire.messages.plan import SpaceIn
from headcount.wire.problems import problem_of
from tests.deploy.apps import living
from tests.factories import NOON, apply_site, build_house, hear, listen, record, seconds
from tests.notices.support import make_channel

PURPOSES = ["plan", "outage", "capacity", "rollup"]
MODES = ["access share", "row share", "row exclusive", "share", "exclusive", "access exclusive"]


async def session(url: str, **settings: str) -> asyncpg.Connection:
    return await asyncpg.connect(url, server_settings={"timezone": "UTC", **settings})


@asynccontextmanager
async def bi_login(connection: asyncpg.Connection, url: str) -> AsyncIterator[asyncpg.Connection]:
    """A session of somebody who logs in with the rights of headcount_bi."""
    name = f"analyst_{secrets.token_hex(4)}"
    await connection.execute(f"create role {name} login in role headcount_bi")
    try:
        parts = urlsplit(url)
        reader = await session(parts._replace(netloc=f"{name}@" + parts.netloc.rpartition("@")[2]).geturl())
        try:
            yield reader
        finally:
            await reader.close()
    finally:
        await connection.execute(f"drop role {name}")


@asynccontextmanager
async def open_transaction(url: str) -> AsyncIterator[asyncpg.Connection]:
    other = await session(url)
    try:
        async with other.transaction():
            yield other
    finally:
        await other.close()


async def until(connection: asyncpg.Connection, query: str) -> None:
    async with asyncio.timeout(60):
        while True:
            if await connection.fetchval(query):
                return
            await asyncio.sleep(0.02)


async def fill_spaces(connection: asyncpg.Connection, number: int) -> None:
    """Spaces that hold more than they may, and a channel that wants to know."""
    names = [f"s{index}" for index in range(number)]
    await apply_site(
        connection,
        spaces=[{"id": name, "capacity": 1} for name in names],
        doorways=[{"id": name, "sides": [None, name]} for name in names],
        dpus=[{"id": name} for name in names],
        placements=[{"dpu": name, "doorway": name, "mounted_in": name} for name in names],
    )
    await make_channel(connection)
    now = datetime.now(UTC)
    assert not await record(connection, [(name, now, 1, order) for name in names for order in range(5)])


@pytest.mark.concurrency
async def test_looking_for_full_spaces_never_makes_the_service_deaf(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await fill_spaces(connection, 20)
    await connection.fetchval("select api.detect_outages()")
    async with open_transaction(database_url) as looker:
        assert await calls.detect_over_capacity(looker) == 20
        for _ in range(3):
            assert await connection.fetchval("select api.detect_outages()") == 0
    stretches = await connection.fetch("select from_at, until_at from core.listening")
    assert len(stretches) == 1
    assert stretches[0]["until_at"] > stretches[0]["from_at"]


@pytest.mark.concurrency
async def test_looking_for_full_spaces_never_delays_a_sign_that_settles_an_outage(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await fill_spaces(connection, 3)
    await connection.execute("delete from core.listening")
    await listen(connection, NOON, NOON + seconds(60))
    async with open_transaction(database_url) as looker:
        assert await calls.detect_over_capacity(looker) == 3
        # whether somebody listened since is not settled: these wait for core.lock_outage, and would for nothing else
        await asyncio.wait_for(hear(connection, ("s0", NOON), ("s0", None)), 10)


@pytest.mark.concurrency
async def test_one_looks_for_outages_at_a_time_and_one_for_full_spaces(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await fill_spaces(connection, 2)
    async with open_transaction(database_url) as other:
        assert await other.fetchval("select api.detect_outages()") == 0
        assert await connection.fetchval("select api.detect_outages()") is None
        assert await calls.detect_over_capacity(other) == 2
        assert await calls.detect_over_capacity(connection) == 0
    assert await connection.fetchval("select api.detect_outages()") == 0


@pytest.mark.concurrency
async def test_many_store_at_once_and_a_change_of_the_plan_takes_turns_with_them(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build_house(connection)
    await record(connection, [("front", NOON - seconds(1), 1)])  # the first one of a day makes its chunk, alone
    async with open_transaction(database_url) as one, open_transaction(database_url) as two:
        await record(one, [("front", NOON, 1)])
        await record(two, [("inner", NOON, 1)])
        await connection.execute("set lock_timeout = '300ms'")
        try:
            with pytest.raises(asyncpg.LockNotAvailableError):
                await apply_site(connection, spaces=[{"id": "annex"}])
        finally:
            await connection.execute("reset lock_timeout")
    async with open_transaction(database_url) as planner:
        await apply_site(planner, spaces=[{"id": "annex"}])
        await connection.execute("set lock_timeout = '300ms'")
        try:
            with pytest.raises(asyncpg.LockNotAvailableError):
                await record(connection, [("front", NOON + seconds(1), 1)])
        finally:
            await connection.execute("reset lock_timeout")
        # a dump and a count are no obstacle, and meet none
        assert await connection.fetchval("select count(*) from core.lock_plan") == 0
        assert await connection.fetchval("select raw_count from api.get_count('house', $1)", NOON) == 2


@pytest.mark.concurrency
async def test_a_login_of_bi_cannot_hold_up_anything(connection: asyncpg.Connection, database_url: str) -> None:
    await build_house(connection)
    async with bi_login(connection, database_url) as reader:
        # out of a transaction, so that no time-out ends it: what stopped all writes before there were tables to lock
        for number in (4742001, 4742002, 4742003):
            with suppress(asyncpg.InsufficientPrivilegeError):
                await reader.execute(f"select pg_advisory_lock({number})")
        transaction = reader.transaction()
        await transaction.start()
        await reader.fetch("select * from bi.space_counts_now")
        for purpose in PURPOSES:
            for mode in MODES:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    async with reader.transaction():
                        await reader.execute(f"lock table core.lock_{purpose} in {mode} mode")
        await connection.execute("set lock_timeout = '2s'")
        try:
            now = datetime.now(UTC)
            assert not await record(connection, [("front", now, 1)])
            assert await hear(connection, ("inner", None)) == [None]
            await apply_site(connection, spaces=[{"id": "annex"}])
            assert await connection.fetchval("select api.detect_outages()") is not None
            before = await connection.fetchval("select refreshed_at from core.rollup_state")
            await connection.execute("call core.refresh_rollups()")
            assert await connection.fetchval("select refreshed_at from core.rollup_state") != before
        finally:
            await connection.execute("reset lock_timeout")
        await transaction.rollback()


async def test_no_function_of_headcount_takes_an_advisory_lock(connection: asyncpg.Connection) -> None:
    found = await connection.fetch(
        r"""
        select p.oid::regprocedure::text from pg_proc p
        where p.pronamespace in ('core'::regnamespace, 'api'::regnamespace) and p.prosrc ~ 'pg_(try_)?advisory'
        """
    )
    assert [row[0] for row in found] == []


# The rollups: a refresh commits in between, so it holds a row and not a lock


@asynccontextmanager
async def refresh_under_way(url: str) -> AsyncIterator[tuple[asyncpg.Connection, "asyncio.Task[str]"]]:
    """Somebody else's refresh in the midst of its run: it waits for a table until the end of this."""
    async with open_transaction(url) as blocker:
        await blocker.execute("lock table core.late_mark in access exclusive mode")
        other = await session(url)
        run = asyncio.create_task(other.execute("call core.refresh_rollups()"))
        try:
            await until(blocker, "select count(*) = 1 from core.lock_rollup")
            yield other, run
        finally:
            await blocker.execute("select pg_terminate_backend($1)", other.get_server_pid())
            await asyncio.wait([run])
            run.exception()


REFRESHED = "select refreshed_at from core.rollup_state"


@pytest.mark.concurrency
async def test_while_one_refreshes_the_other_does_nothing(connection: asyncpg.Connection, database_url: str) -> None:
    await build_house(connection)
    before = await connection.fetchval(REFRESHED)
    async with refresh_under_way(database_url):
        for _ in range(2):
            await asyncio.wait_for(connection.execute("call core.refresh_rollups()"), 10)
        assert await connection.fetchval(REFRESHED) == before


@pytest.mark.concurrency
async def test_a_refresh_whose_session_died_is_in_nobodys_way(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build_house(connection)
    before = await connection.fetchval(REFRESHED)
    async with refresh_under_way(database_url) as (other, run):
        await connection.execute("select pg_terminate_backend($1, 10000)", other.get_server_pid())
        await asyncio.wait([run])
        assert await connection.fetchval("select count(*) from core.lock_rollup") == 1
    await connection.execute("call core.refresh_rollups()")
    assert await connection.fetchval(REFRESHED) != before
    assert await connection.fetchval("select count(*) from core.lock_rollup") == 0


@pytest.mark.concurrency
async def test_a_refresh_that_failed_is_in_nobodys_way_though_its_session_lives(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build_house(connection)
    before = await connection.fetchval(REFRESHED)
    async with refresh_under_way(database_url) as (other, run):
        await connection.execute("select pg_cancel_backend($1)", other.get_server_pid())
        await asyncio.wait([run])
        assert isinstance(run.exception(), asyncpg.QueryCanceledError)
        assert await connection.fetchval("select pid from core.lock_rollup") == other.get_server_pid()
        next_one = asyncio.create_task(connection.execute("call core.refresh_rollups()"))
        async with open_transaction(database_url) as watcher:
            await until(watcher, f"select pid <> {other.get_server_pid()} from core.lock_rollup")
    await asyncio.wait_for(next_one, 60)
    assert await connection.fetchval(REFRESHED) != before


async def test_a_refresh_in_a_dump_of_another_server_is_in_nobodys_way(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    before = await connection.fetchval(REFRESHED)
    # of a process that is there, but began at another time
    await connection.execute(
        "insert into core.lock_rollup select coalesce(max(pid), 1), '2020-01-01' from pg_stat_activity "
        "where pid <> pg_backend_pid()"
    )
    await connection.execute("call core.refresh_rollups()")
    assert await connection.fetchval(REFRESHED) != before


@pytest.mark.concurrency
@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("holds", ["the floor plan", "an event"])
async def test_a_process_that_stands_still_in_a_transaction_keeps_nobody_waiting(
    connection: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch, holds: str, pooled: bool
) -> None:
    await build_house(connection)
    await record(connection, [("front", NOON - seconds(1), 1)])
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.5)
    database = Database(Settings(database_url=database_url, pooled=pooled))
    # there is no pooler that would make the sessions those of the service's role
    database.checked = pooled

    async def stand_still() -> None:
        async with database.transaction(None) as frozen:
            if holds == "an event":
                await frozen.fetch(
                    "select * from api.record_events(array['front'], array[$1]::timestamptz[], '{1}', '{0}')", NOON
                )
                await asyncio.wait_for(apply_site(connection, spaces=[{"id": "annex"}]), 60)
            else:
                await calls.put_space(frozen, "annex", SpaceIn())
                await asyncio.wait_for(record(connection, [("front", NOON, 1)]), 60)
            await frozen.fetchval("select 1")

    async with database.opened():
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)) as failed:
            await stand_still()
        assert problem_of(failed.value).kind.code == "unavailable"
        assert await calls.get_schema(database)
    assert await connection.fetchval("select raw_count from api.get_count('house', $1)", NOON) == (
        1 if holds == "an event" else 2
    )


@pytest.mark.concurrency
async def test_a_service_that_stood_still_in_a_transaction_answers_503_and_goes_on(
    connection: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def stand_still(_self: Plans, *, is_limited: bool) -> Iterator[None]:
        time.sleep(2)
        yield

    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.5)
    app = create_app(Settings(database_url=database_url, auth="off", jobs=False, send_notices=False))
    async with living(app) as client:
        with monkeypatch.context() as frozen:
            frozen.setattr(Plans, "work", stand_still)
            told = await client.put("/v1/spaces/annex", json={})
            assert (told.status_code, told.json()["code"]) == (503, "unavailable")
        assert (await client.put("/v1/spaces/annex", json={})).status_code == 201


@pytest.mark.concurrency
async def test_sessions_of_the_service_and_of_commands_notice_clients_that_are_gone(
    connection: asyncpg.Connection, database_url: str
) -> None:
    service = await asyncpg.connect(database_url, **pool.session_options(False, 30))
    command = await open_connection(database_url)
    try:
        for session, seconds_idle in ((service, "10s"), (command, "1min")):
            rows = await session.fetch(
                "select name, current_setting(name) as value from pg_settings "
                "where name like 'tcp%' or name like 'idle_in%'"
            )
            assert {row["name"]: row["value"] for row in rows} == {
                "idle_in_transaction_session_timeout": seconds_idle,
                "tcp_keepalives_count": "3",
                "tcp_keepalives_idle": "10",
                "tcp_keepalives_interval": "5",
                "tcp_user_timeout": "20000",
            }
    finally:
        await service.close()
        await command.close()
