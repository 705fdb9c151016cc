"""What headcount_bi may do, tried out as that role."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from tests.factories import NOON, build_house, heard, listen, record, seconds, tick
from tests.sql.test_locks import bi_login, open_transaction, until

ROOT = Path(__file__).parents[2]
VIEWS = [
    "doorways",
    "dpu_flips",
    "dpus",
    "events",
    "incidents",
    "placements",
    "resets",
    "space_counts_15m",
    "space_counts_now",
    "space_flows_15m",
    "spaces",
    "uptime_reports",
]
DENIED = [
    "select * from core.event",
    "select * from core.space_flow_15m",
    "select core.count_quarters(1, now(), now())",
    "select * from core.list_bi_blocks(now(), now())",
    "select * from api.get_count(space => 'house')",
    "select * from api.list_counts()",
    "select * from meta.migration",
    "create table bi.mine ()",
    "create view bi.mine as select 1 as one",
    "create table public.mine ()",
    "insert into bi.dpus (dpu) values ('mine')",
    "update bi.spaces set name = 'mine'",
    "delete from bi.resets",
    "truncate core.event",
]


@asynccontextmanager
async def analyst(connection: asyncpg.Connection) -> AsyncIterator[asyncpg.Connection]:
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("set local role headcount_bi")
    try:
        yield connection
    finally:
        await transaction.rollback()


async def test_the_views_of_bi_are_those_named_here(connection: asyncpg.Connection) -> None:
    rows = await connection.fetch("select viewname from pg_views where schemaname = 'bi' order by 1")
    assert [row[0] for row in rows] == VIEWS


@pytest.mark.parametrize("view", VIEWS)
async def test_bi_can_read_every_view(connection: asyncpg.Connection, view: str) -> None:
    await build_house(connection)
    await heard(connection, ("front", NOON))
    await listen(connection, NOON, NOON + seconds(600))
    await tick(connection, NOON + seconds(602))
    await tick(connection, NOON + seconds(604))
    await record(connection, [("front", NOON, 1), ("inner", NOON - seconds(90), 2), ("front", NOON - seconds(4e6), 1)])
    async with analyst(connection) as reader:
        found = await reader.fetch(f"select * from bi.{view}")
    assert (len(found) == 0) == (view in ("resets", "uptime_reports"))


async def test_bi_can_read_what_comes_from_late_quarters_and_from_rollups(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await record(connection, [("front", NOON, 3)])
    await connection.execute("call core.refresh_rollups()")
    await record(connection, [("front", NOON + seconds(1), 4)])
    async with analyst(connection) as reader:
        flow = await reader.fetchrow("select * from bi.space_flows_15m")
        count = await reader.fetchval(
            "select raw_count from bi.space_counts_15m where space = 'house' and bucket = $1", NOON
        )
    assert dict(flow or {}) == {"space": "house", "bucket": NOON, "entries": 7, "exits": 0, "net": 7}
    assert count == 7


@pytest.mark.parametrize("statement", DENIED)
async def test_bi_can_do_nothing_else(connection: asyncpg.Connection, statement: str) -> None:
    async with analyst(connection) as reader:
        # the second: of views over several tables PostgreSQL says first that nobody can write to them
        with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.ObjectNotInPrerequisiteStateError)):
            await reader.execute(statement)


async def test_a_session_of_bi_is_read_only_and_bounded(connection: asyncpg.Connection) -> None:
    rows = await connection.fetch(
        "select unnest(setconfig) from pg_db_role_setting where setrole = 'headcount_bi'::regrole and setdatabase = 0"
    )
    names = {row[0].split("=")[0] for row in rows}
    assert names >= {"default_transaction_read_only", "statement_timeout", "idle_in_transaction_session_timeout", "jit"}


# What PostgreSQL lets everybody do, and a login of BI must not, whatever it sets for itself

DENIED_THOUGH_NOT_READ_ONLY = [
    "create temp table mine ()",
    "select lo_from_bytea(0, 'x')",
    "select lo_create(0)",
    "select lo_creat(-1)",
    "select lo_put(1, 0, 'x')",
    "select pg_advisory_lock(4742001)",
    "select pg_advisory_lock_shared(1, 2)",
    "select pg_advisory_xact_lock(7522525896800957806)",
    "select pg_try_advisory_lock(1)",
    "select pg_try_advisory_xact_lock_shared(1)",
    "select pg_logical_emit_message(false, 'x', 'x')",
    "set temp_file_limit = -1",
    "alter role headcount_bi connection limit -1",
    "alter system set work_mem = '1GB'",
    "create schema mine",
    "set role headcount_service",
    "vacuum full core.event",
]


@pytest.mark.concurrency
async def test_a_login_of_bi_can_fill_nothing_and_lock_nothing(
    connection: asyncpg.Connection, database_url: str
) -> None:
    async with bi_login(connection, database_url) as reader:
        # what a role can lift itself
        await reader.execute("set default_transaction_read_only = off; set statement_timeout = 0")
        for statement in DENIED_THOUGH_NOT_READ_ONLY:
            try:
                await reader.execute(statement)
            except asyncpg.InsufficientPrivilegeError:
                continue
            pytest.fail(f"allowed: {statement}")
        # pools say this when a session is given back
        await reader.execute("select pg_advisory_unlock_all()")
        await reader.execute("discard all")
        assert await reader.fetchval("select count(*) from bi.spaces") == 0


async def test_the_role_of_bi_has_bounds_that_it_cannot_lift(connection: asyncpg.Connection) -> None:
    limit = await connection.fetchval("select rolconnlimit from pg_roles where rolname = 'headcount_bi'")
    assert limit == 10
    context = await connection.fetchval("select context from pg_settings where name = 'temp_file_limit'")
    assert context == "superuser"
    found = await connection.fetchval(
        "select s.setconfig from pg_db_role_setting s where setrole = 'headcount_bi'::regrole and setdatabase = 0"
    )
    assert "temp_file_limit=5GB" in found


@pytest.mark.concurrency
async def test_what_a_login_of_bi_reads_for_too_long_is_ended_whatever_it_has_set(
    connection: asyncpg.Connection, database_url: str
) -> None:
    code = await connection.fetchval("select pg_get_functiondef('core.end_long_reads()'::regprocedure)")
    assert "interval '15 minutes'" in code
    async with (
        bi_login(connection, database_url) as reader,
        bi_login(connection, database_url) as idle,
        open_transaction(database_url) as other,
    ):
        await reader.execute("set idle_in_transaction_session_timeout = 0; begin")
        await reader.fetch("select * from bi.spaces")
        await connection.execute("select core.end_long_reads()")
        assert await reader.fetchval("select 1") == 1, "it may take its time"
        await connection.execute(code.replace("interval '15 minutes'", "interval '0'"))
        try:
            await connection.execute("select core.end_long_reads()")
        finally:
            await connection.execute(code)
        gone = f"select not exists (select from pg_stat_activity where pid = {reader.get_server_pid()})"
        await until(connection, gone)
        assert await idle.fetchval("select 1") == await other.fetchval("select 1") == 1


async def test_a_superuser_can_take_away_what_the_one_that_migrates_may_not(connection: asyncpg.Connection) -> None:
    """The block of docs/bi.md does what 95_public.sql does."""
    (block,) = re.findall(r"```sql\n(do .*?)```", (ROOT / "docs/bi.md").read_text(), re.DOTALL)
    denied = """
        select count(*) from pg_proc
        where pronamespace = 'pg_catalog'::regnamespace and not has_function_privilege('headcount_bi', oid, 'execute')
        """
    found = await connection.fetchval(denied)
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute("grant execute on all functions in schema pg_catalog to public")
        assert await connection.fetchval(denied) == 0
        await connection.execute(block)
        assert 30 < await connection.fetchval(denied) <= found
        assert await connection.fetchval(
            "select has_function_privilege('headcount_service', 'pg_advisory_xact_lock(bigint)', 'execute')"
        )
    finally:
        await transaction.rollback()
