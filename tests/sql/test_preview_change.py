"""What api.preview_change leaves behind: nothing. What it finds is shown by test_compare_counts.py."""

import asyncio
import json
from typing import Any

import asyncpg
import pytest

from tests.factories import LONG_AGO, NOON, build_house, record

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
