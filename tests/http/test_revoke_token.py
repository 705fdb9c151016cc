"""DELETE /v1/tokens/{token}."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from headcount.database import calls
from headcount.http import requests
from headcount.http.auth import Tokens, digest_of
from tests.factories import build_house
from tests.http import body, problem
from tests.http.guarded import Headers, administered, bearer, guarded, new_token, token_id


async def test_it_ends_a_token_and_keeps_it_in_the_list(connection: asyncpg.Connection, database_url: str) -> None:
    async with administered(connection, database_url) as client:
        made = body(await client.post("/v1/tokens", json={"scopes": ["read"]}), 201)

        async def listed() -> Any:
            return [token for token in body(await client.get("/v1/tokens"))["items"] if token["id"] == made["id"]]

        assert (await client.delete(f"/v1/tokens/{made['id']}")).status_code == 204
        (first,) = await listed()
        assert first["revoked_at"]
        assert (await client.delete(f"/v1/tokens/{made['id']}")).status_code == 204
        assert await listed() == [first]
        problem(await client.delete("/v1/tokens/tok_nothing"), 404, "not_found", "token")


async def test_other_tokens_are_looked_up_again_only_where_one_may_still_be_remembered(
    connection: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    doubts, doubt = [], Tokens.doubt

    def noting(tokens: Tokens) -> None:
        doubts.append(tokens)
        doubt(tokens)

    monkeypatch.setattr(Tokens, "doubt", noting)
    async with administered(connection, database_url) as client:
        path = f"/v1/tokens/{await token_id(connection, parent := await new_token(connection))}"
        child = body(await client.post("/v1/tokens", json={"scopes": ["read"]}, headers=parent), 201)
        assert (await client.delete(path, params={"descendants": "false"})).status_code == 204
        assert len(doubts) == 1
        # another process may have just done it, whose answer this one does not know
        await connection.execute("update core.token set revoked_at = now() where revoked_at is not null")
        assert (await client.delete(path, params={"descendants": "false"})).status_code == 204
        assert len(doubts) == 2
        await connection.execute("update core.token set revoked_at = revoked_at - interval '1 minute'")
        assert (await client.delete(path, params={"descendants": "false"})).status_code == 204
        assert len(doubts) == 2
        assert (await client.delete(path)).status_code == 204  # the child is still good
        assert len(doubts) == 3
        problem(await client.get("/v1/spaces", headers=bearer(child["token"])), 401, "unauthorized")


async def test_with_a_token_all_that_it_made_ends(connection: asyncpg.Connection, database_url: str) -> None:
    await build_house(connection)
    admin, limited = await new_token(connection), await new_token(connection, space="house")
    async with guarded(database_url) as client:

        async def make(headers: Headers) -> Headers:
            sent = {"scopes": ["admin", "read"], "space": "room"}
            return bearer(body(await client.post("/v1/tokens", json=sent, headers=headers), 201)["token"])

        child = await make(limited)
        grandchild = await make(child)
        other = await make(admin)
        for headers in (limited, child, grandchild, other):
            body(await client.get("/v1/spaces", headers=headers))
        ids = {await token_id(connection, headers) for headers in (limited, child, grandchild)}
        path = f"/v1/tokens/{await token_id(connection, limited)}"
        assert (await client.delete(path, headers=admin)).status_code == 204
        for headers in (limited, child, grandchild):
            problem(await client.get("/v1/spaces", headers=headers), 401, "unauthorized")
            problem(await client.post("/v1/tokens", json={"scopes": ["read"]}, headers=headers), 401, "unauthorized")
        body(await client.get("/v1/spaces", headers=other))
        listed = body(await client.get("/v1/tokens", headers=admin))["items"]
        assert {token["id"] for token in listed if token["revoked_at"]} == ids


async def test_one_token_alone_can_be_ended(connection: asyncpg.Connection, database_url: str) -> None:
    admin, old = await new_token(connection), await new_token(connection)
    async with guarded(database_url) as client:
        made = body(await client.post("/v1/tokens", json={"scopes": ["read"]}, headers=old), 201)
        path = f"/v1/tokens/{await token_id(connection, old)}"
        assert (await client.delete(path, params={"descendants": "false"}, headers=admin)).status_code == 204
        problem(await client.get("/v1/spaces", headers=old), 401, "unauthorized")
        body(await client.get("/v1/spaces", headers=bearer(made["token"])))
        # again, with all of them
        assert (await client.delete(path, headers=admin)).status_code == 204
        problem(await client.get("/v1/spaces", headers=bearer(made["token"])), 401, "unauthorized")


@pytest.mark.concurrency
async def test_what_is_just_being_made_ends_too(connection: asyncpg.Connection, database_url: str) -> None:
    await build_house(connection)
    parent = await token_id(connection, await new_token(connection, space="house"))
    other = await asyncpg.connect(database_url)
    try:
        async with other.transaction():
            await other.execute("select set_config('headcount.token', $1, true)", parent)
            await calls.create_token(other, digest_of("child"), ["read"])
            revoking = asyncio.create_task(calls.revoke_token(connection, parent))
            await asyncio.sleep(0.2)
            assert not revoking.done(), "it waits for what is being made"
        await asyncio.wait_for(revoking, 10)
    finally:
        await other.close()
    assert await calls.find_tokens(connection, [digest_of("child")]) == []


async def test_a_limited_one_ends_those_of_its_space_only(connection: asyncpg.Connection, database_url: str) -> None:
    await build_house(connection)
    room, house, everywhere = [await new_token(connection, space=space) for space in ("room", "house", None)]
    async with guarded(database_url) as client:
        for other in (house, everywhere):
            answer = await client.delete(f"/v1/tokens/{await token_id(connection, other)}", headers=room)
            problem(answer, 404, "not_found", "token")
            body(await client.get("/v1/spaces", headers=other))
        answer = await client.delete(f"/v1/tokens/{await token_id(connection, room)}", headers=house)
        assert answer.status_code == 204
        problem(await client.get("/v1/spaces", headers=room), 401, "unauthorized")


async def test_a_request_whose_body_comes_slowly_ends_with_its_token(
    connection: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "LOOK_AGAIN_SECONDS", 0.0)
    async with guarded(database_url) as client:
        admin, sender = await new_token(connection), await new_token(connection, "ingest")
        sender_id = await token_id(connection, sender)
        begun, may_end = asyncio.Event(), asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            yield b'{"events": ['
            begun.set()
            await may_end.wait()
            yield b"]}"

        headers = {**sender, "content-type": "application/json"}
        sending = asyncio.create_task(client.post("/v1/events", content=slow(), headers=headers))
        await begun.wait()
        assert (await client.delete(f"/v1/tokens/{sender_id}", headers=admin)).status_code == 204
        may_end.set()
        problem(await sending, 401, "unauthorized")
