"""DELETE /v1/spaces/{id}."""

import httpx

from tests.http import problem, put


async def test_it_deletes_a_space_to_which_nothing_refers(client: httpx.AsyncClient) -> None:
    await put(client, "spaces/room")
    response = await client.delete("/v1/spaces/room")
    assert (response.status_code, response.content) == (204, b"")
    problem(await client.get("/v1/spaces/room"), 404, "not_found")


async def test_it_keeps_a_space_to_which_something_refers(client: httpx.AsyncClient) -> None:
    await put(client, "spaces/house")
    await put(client, "spaces/room", parent="house")
    problem(await client.delete("/v1/spaces/house"), 409, "conflict")


async def test_it_knows_no_other_space(client: httpx.AsyncClient) -> None:
    problem(await client.delete("/v1/spaces/room"), 404, "not_found")
