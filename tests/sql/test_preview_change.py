"""What api.preview_change leaves behind: nothing. What it finds is shown by test_compare_counts.py."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from tests.factories import LONG_AGO, NOON, apply_site, build_house, differences, hear, listen, record, seconds

CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("apply_site", {"spaces": [{"id": "house", "parent": "new"}, {"id": "new"}], "dpus": [{"id": "new"}]}),
    ("put_space", {"space": "room", "patch": {"parent": None, "reset_at": "04:00"}}),
    ("record_placement", {"dpu": "front", "doorway": "inner", "mounted_in": "room", "from_at": str(NOON)}),
    ("undo_placement", {"dpu": "front", "from_at": str(LONG_AGO)}),
    ("record_reset", {"space": "house", "count": 9, "at": str(NOON)}),
    ("undo_reset", {"space": "house", "at": str(LONG_AGO)}),
]


async def preview(connection: asyncpg.Connection, change: str, arguments: object) -> tuple[Any, Any]:
    row = await connection.fetchrow(
        "select * from api.preview_change(change => $1, arguments => $2)", change, json.dumps(arguments)
    )
    assert row is not None
    return json.loads(row["result"] or "null"), json.loads(row["facts"])


async def everything(connection: asyncpg.Connection) -> dict[str, list[tuple[object, ...]]]:
    """All rows of all our tables."""
    tables = await connection.fetch(
        "select format('%I.%I', schemaname, tablename) as name from pg_tables where schemaname = 'core'"
    )
    return {
        table["name"]: [tuple(row) for row in await connection.fetch(f"select t.*, t.xmin from {table['name']} t")]
        for table in tables
    }


@pytest.mark.parametrize(("change", "arguments"), CHANGES)
async def test_it_leaves_nothing_behind(connection: asyncpg.Connection, change: str, arguments: dict[str, Any]) -> None:
    await build_house(connection)
    await record(connection, [("front", NOON, 3)])
    await connection.execute("select api.record_reset(space => 'house', count => 1, at => $1)", LONG_AGO)
    before = await everything(connection)
    _, facts = await preview(connection, change, arguments)
    assert facts["spaces"]
    after = await everything(connection)
    assert {name for name in before if before[name] != after[name]} == set()


async def test_it_refuses_what_the_change_refuses(connection: asyncpg.Connection) -> None:
    with pytest.raises(asyncpg.PostgresError) as caught:
        await preview(connection, "put_space", {"space": "a", "patch": {"time_zone": "Mars/Olympus"}})
    assert (caught.value.sqlstate, caught.value.as_dict()["detail"]) == ("PT422", "time_zone")


async def test_it_answers_what_the_change_answers(connection: asyncpg.Connection) -> None:
    result, facts = await preview(connection, "put_space", {"space": "a", "patch": {"capacity": 5}})
    assert (result["id"], result["capacity"], result["created"]) == ("a", 5, True)
    assert [space["after"]["space"] for space in facts["spaces"]] == ["a"]


@pytest.mark.concurrency
async def test_it_lets_go_of_the_floor_plan_at_once(connection: asyncpg.Connection, database_url: str) -> None:
    """Its transaction goes on, and others store events and change the plan."""
    await build_house(connection)
    other = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            await preview(connection, *CHANGES[2])
            async with asyncio.timeout(20):
                assert await record(other, [("front", NOON, 1)]) == []
                await other.execute("select api.record_placement('front', 'inner', 'house', $1)", NOON)
    finally:
        await other.close()


@asynccontextmanager
async def at_its_end(
    connection: asyncpg.Connection, database_url: str, change: str, arguments: object
) -> AsyncIterator["asyncio.Task[Any]"]:
    """A dry run that has done all it does, and stays there until the end of this."""
    definition = await connection.fetchval("select pg_get_functiondef('core.list_changed_facts'::regproc)")
    await connection.execute(
        """
        create or replace function core.list_changed_facts(before jsonb, after jsonb) returns jsonb
        language plpgsql stable as 'begin perform pg_advisory_xact_lock(7); return ''[]''; end';
        select pg_advisory_lock(7)
        """
    )
    other = await asyncpg.connect(database_url, server_settings={"timezone": "UTC"})
    run = asyncio.create_task(preview(other, change, arguments))
    try:
        async with asyncio.timeout(60):
            while not await connection.fetchval("select exists (select from pg_locks where not granted)"):
                assert not run.done(), run.result()
                await asyncio.sleep(0.02)
        yield run
    finally:
        await connection.execute("select pg_advisory_unlock(7)")
        await asyncio.wait([run])
        await other.close()
        await connection.execute(definition)


ALL_OF_IT = {
    "spaces": [{"id": "house", "offline_after_seconds": 5}, {"id": "room", "parent": "new"}, {"id": "new"}],
    "doorways": [{"id": "third", "sides": ["new", None]}],
    "dpus": [
        {"id": "front", "name": "F", "offline_after_seconds": 9},
        {"id": "inner", "retired": True, "mac_address": "02:00:00:00:00:01"},
    ],
    "placements": [{"dpu": "front", "doorway": "third", "mounted_in": "new", "from": str(LONG_AGO)}],
}


@pytest.mark.concurrency
@pytest.mark.parametrize(("change", "arguments"), [*CHANGES, ("apply_site", ALL_OF_IT)])
async def test_others_store_events_and_signs_of_life_meanwhile(
    connection: asyncpg.Connection, database_url: str, change: str, arguments: dict[str, Any]
) -> None:
    """Also those that bring its DPUs back from an outage, or are the first that count for its spaces."""
    await build_house(connection)
    await record(connection, [("front", NOON + seconds(9), 1)])
    await connection.execute("select api.record_reset(space => 'house', count => 1, at => $1)", LONG_AGO)
    await hear(connection, ("front", None), ("inner", None))
    await listen(connection, NOON, NOON + seconds(10_000))
    await connection.execute("select core.turn_offline(clock_timestamp() + interval '100 days')")
    async with at_its_end(connection, database_url, change, arguments) as run:
        await connection.execute("set lock_timeout = '2s'")
        try:
            assert await record(connection, [("front", NOON, 1), ("inner", NOON, 1), ("else", NOON, 1)]) == []
            assert await hear(connection, ("front", None), ("inner", None), ("more", None)) == [None, None, None]
            assert await connection.fetchval("select api.detect_outages()") is not None
        finally:
            await connection.execute("reset lock_timeout")
        assert not run.done()
    run.result()
    assert await differences(connection) == []


@pytest.mark.concurrency
async def test_no_other_change_is_made_meanwhile(connection: asyncpg.Connection, database_url: str) -> None:
    await build_house(connection)
    async with at_its_end(connection, database_url, *CHANGES[2]):
        await connection.execute("set lock_timeout = '300ms'")
        try:
            with pytest.raises(asyncpg.LockNotAvailableError):
                await apply_site(connection, spaces=[{"id": "annex"}])
        finally:
            await connection.execute("reset lock_timeout")
