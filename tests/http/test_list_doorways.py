"""GET /v1/doorways."""

import httpx

from tests.http import body, put


async def test_it_lists_page_by_page_in_order_of_id(client: httpx.AsyncClient) -> None:
    await put(client, "spaces/room")
    for name in ("b", "a", "c"):
        await put(client, f"doorways/{name}", sides=["room", None])
    first = body(await client.get("/v1/doorways?limit=2"))
    second = body(await client.get(f"/v1/doorways?limit=2&after={first['next']}"))
    assert [door["id"] for door in first["items"] + second["items"]] == ["a", "b", "c"]
    assert second["next"] is None
