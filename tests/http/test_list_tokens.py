"""GET /v1/tokens."""

import asyncpg

from tests.factories import build_house
from tests.http import body, problem
from tests.http.guarded import administered, bearer, guarded, new_token, token_id


async def test_it_lists_all_page_by_page(connection: asyncpg.Connection, database_url: str) -> None:
    admin = await new_token(connection)
    own = await token_id(connection, admin)
    async with guarded(database_url) as client:
        client.headers.update(admin)
        made = [body(await client.post("/v1/tokens", json={"scopes": ["read"]}), 201)["id"] for _ in range(5)]
        assert (await client.delete(f"/v1/tokens/{made[0]}")).status_code == 204
        first = body(await client.get("/v1/tokens?limit=4"))
        second = body(await client.get("/v1/tokens", params={"limit": 4, "after": first["next"]}))
    found = first["items"] + second["items"]
    assert [token["id"] for token in found] == sorted([own, *made])
    assert second["next"] is None
    assert {token["id"] for token in found if token["revoked_at"]} == {made[0]}
    assert {token["id"]: token["created_by"] for token in found} == {own: None, **dict.fromkeys(made, own)}
    assert all("token" not in token and "digest" not in token for token in found)


async def test_a_limited_one_is_not_told_of_a_maker_beyond_it(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build_house(connection)
    async with administered(connection, database_url) as client:
        sent = {"scopes": ["admin"], "space": "house"}
        made = body(await client.post("/v1/tokens", json=sent), 201)
        own = bearer(made["token"])
        below = body(await client.post("/v1/tokens", json={"scopes": ["admin"]}, headers=own), 201)
        found = body(await client.get("/v1/tokens", headers=own))["items"]
        assert {token["id"]: token["created_by"] for token in found} == {made["id"]: None, below["id"]: made["id"]}


async def test_a_limited_one_sees_those_of_its_space_and_below(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build_house(connection)
    admin = await new_token(connection, space="house")
    below = await new_token(connection, space="room")
    everywhere = await new_token(connection)
    async with guarded(database_url) as client:

        async def seen(headers: dict[str, str]) -> set[str]:
            return {token["id"] for token in body(await client.get("/v1/tokens", headers=headers))["items"]}

        ids = [await token_id(connection, headers) for headers in (admin, below, everywhere)]
        assert await seen(everywhere) == set(ids)
        assert await seen(admin) == set(ids[:2])
        assert await seen(below) == {ids[1]}


async def test_one_that_may_change_reads_too_and_the_list_shows_it(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build_house(connection)
    admin = await new_token(connection, "admin", space="house")
    await connection.execute("update core.token set scopes = '{admin}'")  # as a release before stored it
    async with guarded(database_url) as client:
        client.headers.update(admin)
        assert [token["scopes"] for token in body(await client.get("/v1/tokens"))["items"]] == [["read", "admin"]]
        made = body(await client.post("/v1/tokens", json={"scopes": ["read"]}), 201)
        assert made["scopes"] == ["read"]
        assert len(body(await client.get("/v1/counts"))["counts"]) == 2
        refused = problem(await client.post("/v1/tokens", json={"scopes": ["ingest"]}), 403, "forbidden", "scopes")
        assert "It can give read, admin." in refused["detail"]
