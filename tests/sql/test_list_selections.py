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


async def test_it_finds_in_one_go_what_each_would_find_by_itself(connection: asyncpg.Connection) -> None:
    await build_site(connection)
    await apply_site(
        connection, spaces=[{"id": "own-loft", "parent": "own-room"}, {"id": "attic", "parent": "own-loft"}]
    )
    for space in ("attic", "own-loft"):
        await apply_site(connection, spaces=[{"id": space, "retired": True}])
    tokens = [
        None,
        *[
            await token_id(connection, await new_token(connection, "read", space=space))
            for space in ("own", "own-room", "secret-campus")
        ],
    ]
    ids = [row["id"] for row in await connection.fetch("select id from core.space order by id")]
    asked = [{"token": token, "under": under} for token in tokens for under in (None, *ids)]
    asked += [{"token": token, "spaces": spaces} for token in tokens for spaces in (ids, ids[:2], ["own", "nowhere"])]
    together = await ask(connection, *asked)
    assert together == [(await ask(connection, selection))[0] for selection in asked]
    for selection, found in zip(asked, together, strict=True):
        if found == "PT404":
            continue
        async with connection.transaction():
            await connection.execute("select set_config('headcount.token', $1, true)", selection["token"] or "")
            counted = await calls.list_counts(connection, selection.get("spaces"), selection.get("under"))
            assert found == [count.space for count in counted], selection


async def test_it_leaves_out_what_is_unknown_or_beyond_reach_if_it_is_asked_to(connection: asyncpg.Connection) -> None:
    await build_site(connection)
    own = await token_id(connection, await new_token(connection, "read", space="own"))
    named = ["secret-b", "own-room", "nowhere", "own"]
    assert await ask(
        connection,
        {"token": own, "spaces": named, "known_only": True},
        {"spaces": named, "known_only": True},
        {"token": "tok_none", "spaces": named, "known_only": True},
    ) == [["own-room", "own"], ["secret-b", "own-room", "own"], []]


async def test_it_names_the_first_that_is_not_there(connection: asyncpg.Connection) -> None:
    await build_site(connection)
    own = await token_id(connection, await new_token(connection, "read", space="own"))
    sent = [
        {"token": own, "spaces": ["own", "secret-b", "nowhere"]},
        {"spaces": ["own", "nowhere", "secret-b", "never"]},
    ]
    rows = await calls.list_selections(connection, json.dumps(sent))
    assert [row.message for row in rows] == ["There is no space 'secret-b'.", "There is no space 'nowhere'."]


async def test_where_there_is_no_space_at_all_an_unknown_one_is_refused_too(connection: asyncpg.Connection) -> None:
    assert await ask(connection, {"spaces": ["nowhere"]}, {"under": "nowhere"}, {}) == ["PT404", "PT404", []]
