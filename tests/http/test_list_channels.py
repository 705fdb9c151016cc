"""GET /v1/channels."""

import asyncpg
import httpx

from tests.http import body
from tests.notices.support import make_channel


async def test_it_lists_all_page_by_page(client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    for name in ("d", "b", "a", "c", "e"):
        await make_channel(connection, name)
    assert (await client.delete("/v1/channels/b")).status_code == 204
    first = body(await client.get("/v1/channels?limit=3"))
    second = body(await client.get("/v1/channels", params={"limit": 3, "after": first["next"]}))
    assert [item["id"] for item in first["items"] + second["items"]] == ["a", "c", "d", "e"]
    assert second["next"] is None
    assert all("secret" not in item for item in first["items"])
