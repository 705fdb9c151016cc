"""GET /v1/doorways/{id}."""

import httpx

from tests.http import body, problem, put


async def test_it_gives_one_doorway(client: httpx.AsyncClient) -> None:
    await put(client, "spaces/room")
    door = await put(client, "doorways/door", sides=[None, "room"])
    assert body(await client.get("/v1/doorways/door")) == door


async def test_it_knows_no_other_doorway(client: httpx.AsyncClient) -> None:
    problem(await client.get("/v1/doorways/door"), 404, "not_found", "doorway")
