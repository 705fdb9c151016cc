"""DELETE /v1/doorways/{id}."""

import httpx

from tests.http import body, event, problem, put, room_with_dpu, send


async def ids(client: httpx.AsyncClient, address: str) -> list[str]:
    return [item["id"] for item in body(await client.get(address))["items"]]


async def test_it_retires_one_at_which_a_dpu_was_placed(client: httpx.AsyncClient) -> None:
    await room_with_dpu(client)
    retired = body(await client.delete("/v1/doorways/door"))
    assert retired["retired_at"]
    assert await ids(client, "/v1/doorways") == []
    assert await ids(client, "/v1/doorways?retired=true") == ["door"]
    await send(client, event())
    assert body(await client.get("/v1/spaces/room/count"))["raw_count"] == 1
    assert (await put(client, "doorways/door", retired=False))["retired_at"] is None
    assert await ids(client, "/v1/doorways") == ["door"]


async def test_it_removes_one_at_which_none_was_placed(client: httpx.AsyncClient) -> None:
    await put(client, "spaces/room")
    await put(client, "doorways/door", sides=["room", None])
    response = await client.delete("/v1/doorways/door")
    assert (response.status_code, response.content) == (204, b"")
    problem(await client.get("/v1/doorways/door"), 404, "not_found")
    problem(await client.delete("/v1/doorways/door"), 404, "not_found", "doorway")
    await put(client, "doorways/door", sides=[None, "room"])
