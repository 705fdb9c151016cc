"""api.list_selections: the spaces of many listeners, each as far as its token reaches."""

import json
from typing import Any

import asyncpg

from headcount.database import calls
from tests.factories import apply_site
from tests.http.guarded import build_site, new_token, token_id


async def ask(connection: asyncpg.Connection, *selections: dict[str, Any]) -> list[Any]:
    whole = [{"token": None, "spaces": None, "under": None, **selection} for selection in selections]
    rows = await calls.list_selections(connection, json.dumps(whole))
    return [row.error or row.spaces for row in rows]


async def test_it_gives_the_spaces_of_each_as_far_as_its_token_reaches(connection: asyncpg.Connection) -> None:
    await build_site(connection)
    own = await token_id(connection, await new_token(connection, "read", space="own"))
    found = await ask(
        connection,
        {},
        {"token": own},
        {"token": own, "under": "own-room"},
        {"under": "secret-b"},
        {"token": own, "spaces": ["own-room", "own", "own-room"]},
        {"spaces": ["secret-room", "own"]},
        {"token": own, "under": "secret-b"},
        {"token": own, "spaces": ["own", "secret-room"]},
        {"spaces": ["nowhere"]},
        {"under": "own", "spaces": ["own"]},
        {"token": "tok_none"},
        {"token": "tok_none", "spaces": ["own"]},
        {"spaces": []},
        {},
    )
    everything = ["own", "own-room", "secret-b", "secret-campus", "secret-room"]
    assert found == [
        everything,
        ["own", "own-room"],
        ["own-room"],
        ["secret-b", "secret-room"],
        ["own-room", "own"],
        ["secret-room", "own"],
        "PT404",
        "PT404",
        "PT404",
        "PT422",
        [],
        "PT404",
        [],
        everything,
    ]


async def test_it_says_what_a_list_of_counts_would_say(connection: asyncpg.Connection) -> None:
    await apply_site(connection, spaces=[{"id": "house"}])
    (row,) = await calls.list_selections(connection, '[{"under": "shed"}]')
    assert (row.spaces, row.error, row.place) == (None, "PT404", "under")
    assert row.message == "There is no space 'shed'."
    assert "GET /v1/spaces" in (row.hint or "")


async def test_it_leaves_the_token_of_its_transaction_as_it_was(connection: asyncpg.Connection) -> None:
    await build_site(connection)
    own = await token_id(connection, await new_token(connection, "read", space="own"))
    async with connection.transaction():
        await connection.execute("select set_config('headcount.token', $1, true)", own)
        assert await ask(connection, {}) == [["own", "own-room", "secret-b", "secret-campus", "secret-room"]]
        assert await connection.fetchval("select current_setting('headcount.token')") == own
