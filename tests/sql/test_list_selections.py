"""api.list_selections: the spaces of many listeners, each as far as its token reaches."""

import json
from typing import Any

import asyncpg

from headcount.database import calls
from tests.factories import apply_site
from tests.http.guarded import build_site, new_token, token_id
from tests.sql.test_large_fleet import read_by


async def ask(connection: asyncpg.Connection, *selections: dict[str, Any]) -> list[Any]:
    whole = [{"token": None, "spaces": None, "under": None, **selection} for selection in selections]
    rows = await calls.list_selections(connection, json.dumps(whole))
    return [row.error or row.spaces for row in rows]


async def made_by(connection: asyncpg.Connection, maker: str, space: str | None = None) -> str:
    """A token that a limited one made."""
    async with connection.transaction():
        await connection.execute("select set_config('headcount.token', $1, true)", maker)
        return await token_id(connection, await new_token(connection, space=space))


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


async def test_tokens_that_others_made_are_looked_at_together_and_reach_what_each_does(
    connection: asyncpg.Connection,
) -> None:
    await build_site(connection)
    own = await token_id(connection, await new_token(connection, space="own"))
    second = await made_by(connection, own)
    room = await made_by(connection, second, "own-room")
    last = await made_by(connection, room)
    straight = await token_id(connection, await new_token(connection, space="own-room"))
    whole = await token_id(connection, await new_token(connection))
    tokens = ["", own, second, room, last, straight, whole, "tok_none"]
    names = ["own-room", "secret-b", "nowhere", "own"]
    asked: list[dict[str, Any]] = [{"token": token} for token in tokens]
    asked += [{"token": token, "under": under} for token in tokens for under in ("own", "own-room", "secret-b")]
    named = [{"token": token, "spaces": names, "known_only": True} for token in tokens]
    for parent, reached in (("own", ["own", "own", "own-room", "own-room"]), ("secret-b", ["own", "own", "0", "0"])):
        await apply_site(connection, spaces=[{"id": "own-room", "parent": parent}])
        one_by_one, known = [], []
        for token in tokens:
            async with connection.transaction():
                await connection.execute("select set_config('headcount.token', $1, true)", token)
                one_by_one.append((token, await connection.fetchval("select core.get_reach()")))
                ids = await connection.fetchval("select core.list_requested_spaces($1, null, true)", names)
            spaces = await connection.fetch("select id from core.space where space_id = any ($1)", ids)
            known.append(sorted(row["id"] for row in spaces))
        together = await connection.fetch("select * from core.list_reaches($1)", [*tokens, own])
        assert sorted(map(tuple, together), key=str) == sorted(one_by_one, key=str)
        shown = await connection.fetch(
            "select coalesce(s.id, r.space_id::text) from unnest($1::integer[]) with ordinality as r (space_id, place)"
            " left join core.space s on s.space_id = r.space_id order by r.place",
            [reach for _, reach in one_by_one[1:5]],
        )
        assert [row[0] for row in shown] == reached
        assert [sorted(found) for found in await ask(connection, *named)] == known
        sent = json.dumps([{"token": None, "spaces": None, "under": None, **selection} for selection in asked])
        rows = await calls.list_selections(connection, sent, shared=True)
        assert sum(row.same_as is not None for row in rows) > 5
        assert all(row.spaces is None for row in rows if row.same_as is not None)
        firsts = [row if row.same_as is None else rows[row.same_as - 1] for row in rows]
        assert [row.error or row.spaces for row in firsts] == await ask(connection, *asked)


async def test_what_it_reads_of_spaces_does_not_grow_with_the_tokens(connection: asyncpg.Connection) -> None:
    await build_site(connection)
    await apply_site(connection, spaces=[{"id": f"desk-{number}", "parent": "own-room"} for number in range(40)])
    names = [f"desk-{number}" for number in range(40)]
    tokens = [await token_id(connection, await new_token(connection, space="own"))]
    for number in range(60):
        tokens.append(await made_by(connection, tokens[number // 8], "own-room" if number > 50 else None))
    read = []
    for some in (tokens[:4], tokens):
        asked = [{"token": token, "spaces": names, "under": None, "known_only": True} for token in some]
        asked += [{"token": token, "spaces": None, "under": "own-room"} for token in some]
        found = await read_by(connection, "select * from api.list_selections($1, true)", json.dumps(asked))
        read.append(found)
        assert found["token"] <= 2 * (6 * len(some) + len(tokens))  # or all of them, where these are few
    assert read[1]["space"] < 2 * read[0]["space"]
