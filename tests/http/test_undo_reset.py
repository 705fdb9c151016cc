"""DELETE /v1/spaces/{id}/resets."""

import httpx

from tests.http import body, problem, put

ADDRESS = "/v1/spaces/room/resets"
AT = "2026-01-01T00:00:00Z"


async def test_it_takes_back_a_reset(client: httpx.AsyncClient) -> None:
    await put(client, "spaces/room")
    for count in (5, 7):
        body(await client.post(ADDRESS, json={"count": count, "at": AT}), 201)
    for count in (5, 0):
        response = await client.delete(ADDRESS, params={"at": AT})
        assert (response.status_code, response.content) == (204, b"")
        assert body(await client.get("/v1/spaces/room/count"))["raw_count"] == count
    assert body(await client.get(ADDRESS))["items"] == []
    problem(await client.delete(ADDRESS, params={"at": AT}), 404, "not_found", "at")


async def test_it_wants_to_know_which(client: httpx.AsyncClient) -> None:
    await put(client, "spaces/room", reset_at="00:00")
    problem(await client.delete(ADDRESS), 422, "invalid", "at")
    problem(await client.delete(ADDRESS, params={"at": AT}), 404, "not_found", "at")
    problem(await client.delete("/v1/spaces/gone/resets", params={"at": AT}), 404, "not_found", "space")
