"""POST /v1/channels/{id}/test."""

import asyncpg
import httpx

from tests.http import body, problem
from tests.notices.support import always, log, put_channel, receiver, service, verified


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
