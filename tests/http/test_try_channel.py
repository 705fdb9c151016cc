"""POST /v1/channels/{id}/test."""

import asyncpg
import httpx

from tests.factories import build_house
from tests.http import body, problem
from tests.http.guarded import bearer, guarded, new_token
from tests.notices.support import LOCAL, always, log, put_channel, receiver, service, verified


async def test_it_sends_a_test_notice_now_and_tells_what_came_of_it(
    connection: asyncpg.Connection, database_url: str
) -> None:
    async with receiver() as hook, service(database_url, send_notices=False) as client:
        muted = {"events": ["over_capacity"], "muted_until": "2099-01-01T00:00:00Z"}
        secret = (await put_channel(client, "hook", kind="webhook", url=hook.url, **muted))["secret"]
        found = body(await client.post("/v1/channels/hook/test"))
        (seen,) = hook.seen
        assert verified(secret, seen)["type"] == "channel.test"
        assert (found["state"], found["kind"], found["notice"]) == ("delivered", "test", seen["headers"]["webhook-id"])
        assert found["tries"][0]["status"] == 204


async def test_a_test_that_fails_is_not_tried_again(connection: asyncpg.Connection, database_url: str) -> None:
    async with receiver() as hook, service(database_url, send_notices=False) as client:
        hook.answer = always(500, b"No room")
        await put_channel(client, "hook", kind="webhook", url=hook.url)
        found = body(await client.post("/v1/channels/hook/test"))
        assert (found["state"], found["next_try_at"]) == ("failed", None)
        (tried,) = found["tries"]
        assert (tried["status"], tried["answer"], tried["delivered"]) == (500, "No room", False)
        assert await log(connection) == [("hook", "test", "failed", None)]
        assert body(await client.get("/v1/channels/hook"))["failing_since"]


async def test_an_unknown_channel_is_not_found(client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    problem(await client.post("/v1/channels/nothing/test"), 404, "not_found", "channel")


async def test_a_channel_is_tested_so_often_a_minute_in_all_processes_together(
    connection: asyncpg.Connection, database_url: str
) -> None:
    async with (
        receiver() as hook,
        service(database_url, send_notices=False) as one,
        service(database_url, send_notices=False) as other,
    ):
        await put_channel(one, "hook", kind="webhook", url=hook.url)
        await put_channel(one, "second", kind="webhook", url=hook.url)
        for client in (one, other, one):
            body(await client.post("/v1/channels/hook/test"))
        for client in (one, other):
            refused = await client.post("/v1/channels/hook/test")
            problem(refused, 429, "rate_limited")
            assert refused.headers["retry-after"] == "10"
        assert len(hook.seen) == 3
        body(await one.post("/v1/channels/second/test"))
        await connection.execute("update core.notice set created_at = created_at - interval '1 minute'")
        body(await one.post("/v1/channels/hook/test"))


async def test_a_token_and_those_it_made_test_so_often_a_minute_by_all_channels(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build_house(connection)
    limited, other = await new_token(connection, space="house"), await new_token(connection, space="house")
    async with receiver() as hook, guarded(database_url, send_notices=False, private_targets=LOCAL) as client:
        sent = {"scopes": ["admin"]}
        child = bearer(body(await client.post("/v1/tokens", json=sent, headers=limited), 201)["token"])
        for number in range(12):
            channel = {"kind": "webhook", "url": hook.url}
            body(await client.put(f"/v1/channels/hook-{number}", json=channel, headers=limited), 201)
        for number in range(10):
            headers = (limited, child)[number % 2]
            body(await client.post(f"/v1/channels/hook-{number}/test", headers=headers))
        for headers in (limited, child):
            problem(await client.post("/v1/channels/hook-10/test", headers=headers), 429, "rate_limited")
        body(await client.post("/v1/channels/hook-11/test", headers=other))
