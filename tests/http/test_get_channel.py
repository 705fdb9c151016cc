"""GET /v1/channels/{id}."""

import asyncpg
import httpx

from tests.http import body, problem
from tests.notices.support import make_channel


async def test_it_answers_with_the_channel_and_nothing_secret(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await make_channel(connection, "chat", kind="apprise", url="slack://T1/s3cret/s3cret")
    await make_channel(connection, "hook", secret="whsec_" + "QUJD" * 8)
    found = body(await client.get("/v1/channels/chat"))
    assert (found["url"], found["kind"]) == ("slack://...", "apprise")
    assert "secret" not in body(await client.get("/v1/channels/hook"))


async def test_an_unknown_one_is_not_found(client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    problem(await client.get("/v1/channels/nothing"), 404, "not_found", "channel")
