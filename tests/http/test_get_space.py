"""GET /v1/spaces/{id}."""

import httpx

from tests.http import body, problem, put


async def test_it_gives_one_space(client: httpx.AsyncClient) -> None:
    room = await put(client, "spaces/room", name="Café")
    assert body(await client.get("/v1/spaces/room")) == room


async def test_it_knows_no_other_space(client: httpx.AsyncClient) -> None:
    problem(await client.get("/v1/spaces/room"), 404, "not_found", "space")
