"""What headcount_bi may do, tried out as that role."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from tests.factories import NOON, build_house, listen, record, seconds, tick

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
    await record(connection, [("front", NOON, 1), ("inner", NOON - seconds(90), 2), ("front", NOON - seconds(4e6), 1)])
    await listen(connection, NOON, NOON + seconds(600))
    await tick(connection, NOON + seconds(602))
    await tick(connection, NOON + seconds(604))
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
