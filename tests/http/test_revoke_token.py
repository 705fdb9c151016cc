"""DELETE /v1/tokens/{token}."""

import asyncpg
import httpx

from tests.factories import build_house
from tests.http import body, problem
from tests.http.guarded import guarded, new_token, token_id


async def test_it_ends_a_token_and_keeps_it_in_the_list(client: httpx.AsyncClient) -> None:
    made = body(await client.post("/v1/tokens", json={"scopes": ["read"]}), 201)
    assert (await client.delete(f"/v1/tokens/{made['id']}")).status_code == 204
    (first,) = body(await client.get("/v1/tokens"))["items"]
    assert first["revoked_at"]
    assert (await client.delete(f"/v1/tokens/{made['id']}")).status_code == 204
    assert body(await client.get("/v1/tokens"))["items"] == [first]
    problem(await client.delete("/v1/tokens/tok_nothing"), 404, "not_found", "token")


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
