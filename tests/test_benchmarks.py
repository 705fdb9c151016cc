"""What the benchmarks put in place of the service's own."""

import asyncpg
import httpx

from benchmarks.apps import store_nothing
from tests.http import body, event


async def test_what_only_validates_answers_as_if_it_stored(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    with store_nothing():
        sent = await client.post("/v1/events", json={"events": [event("a"), event("b")]})
        heard = await client.post("/v1/heartbeats", json={"heartbeats": [{"dpu": "a"}]})
    assert body(sent)["accepted"] == 2
    assert body(heard)["accepted"] == 1
    assert await connection.fetchval("select count(*) from core.event") == 0
    assert await connection.fetchval("select count(*) from core.dpu") == 0
