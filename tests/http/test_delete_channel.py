"""DELETE /v1/channels/{id}."""

import asyncpg
import httpx

from headcount.database import calls
from tests.http import body, problem, put
from tests.notices.support import log, make_channel, tell, tell_all


async def test_what_was_sent_stays_what_waits_is_cancelled_and_the_target_is_forgotten(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await make_channel(connection)
    await tell_all(connection, [("offline", 1, None), ("offline", 2, None)])
    claim, _ = await calls.claim_deliveries(connection, 10)
    await calls.finish_delivery(connection, claim.delivery, claim.claim, True, claim.occurred_at, 1)
    assert (await client.delete("/v1/channels/hook")).status_code == 204
    assert [found[2:] for found in await log(connection)] == [("delivered", None), ("cancelled", "channel_deleted")]
    assert await connection.fetchval("select to_jsonb(c)::text ~ 'receiver|whsec' from core.channel c") is False
    assert body(await client.get("/v1/channels"))["items"] == []
    assert len(body(await client.get("/v1/deliveries?channel=hook"))["items"]) == 2
    await tell(connection, "offline", 3)
    assert len(await log(connection)) == 2
    problem(await client.delete("/v1/channels/hook"), 404, "not_found", "channel")
    problem(await client.post("/v1/deliveries/1/replay"), 409, "conflict", "delivery")


async def test_a_new_one_of_that_name_begins_anew(client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    await make_channel(connection)
    await tell(connection, "offline", 1)
    await client.delete("/v1/channels/hook")
    await make_channel(connection)
    await tell(connection, "offline", 2)
    assert [found[2] for found in await log(connection, "hook")] == ["cancelled", "pending"]
    assert len(await calls.claim_deliveries(connection, 10)) == 1


async def test_one_without_history_leaves_nothing(client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    for name in ("a", "b"):
        await put(client, f"channels/{name}", kind="webhook", url="https://receiver.example/hook")
    await tell(connection, "offline")
    await put(client, "channels/c", kind="webhook", url="https://receiver.example/hook")
    for name in ("a", "c"):
        assert (await client.delete(f"/v1/channels/{name}")).status_code == 204
    assert [row["id"] for row in await connection.fetch("select id from core.channel order by id")] == ["a", "b"]
