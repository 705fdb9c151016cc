"""GET /v1/dpus/{id}."""

import asyncpg
import httpx

from tests.factories import NOON, heard, listen, seconds, tick
from tests.http import body, event, problem, room_with_dpu, send


async def test_it_gives_state_place_and_sum_of_a_dpu(client: httpx.AsyncClient) -> None:
    await room_with_dpu(client)
    await send(client, event(direction=3), event(timestamp="2026-01-05T09:00:00Z", direction=-1))
    found = body(await client.get("/v1/dpus/dpu-1"))
    assert found.pop("last_seen") > found["placement"].pop("recorded_at"), "when they were received"
    assert found == {
        "id": "dpu-1",
        "name": None,
        "mac_address": None,
        "state": "online",
        "placement": {"doorway": "door", "mounted_in": "room", "from": "2020-01-01T00:00:00Z", "until": None},
        "cumulative_count": 2,
        "latest_timestamp": "2026-01-05T09:00:00Z",
        "rejected_last_day": 0,
        "clock": "ok",
        "retired_at": None,
        "offline_after_seconds": None,
        "effective_offline_after_seconds": 600,
    }


async def test_it_is_online_as_long_as_nobody_listened_in_vain(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await heard(connection, ("dpu-1", NOON))
    await listen(connection, NOON, NOON + seconds(599))
    for later, state in ((600 - 0.000001, "online"), (600, "offline")):
        await tick(connection, NOON + seconds(later))
        assert body(await client.get("/v1/dpus/dpu-1"))["state"] == state


async def test_it_knows_a_dpu_by_its_first_event(client: httpx.AsyncClient) -> None:
    problem(await client.get("/v1/dpus/dpu-1"), 404, "not_found", "dpu")
    await send(client, event())
    assert body(await client.get("/v1/dpus/dpu-1"))["placement"] is None
