"""GET /v1/dpus/{id}."""

from datetime import UTC, datetime, timedelta

import asyncpg
import httpx

from tests.factories import NOON, heard, listen, seconds, tick
from tests.http import body, event, problem, put, room_with_dpu, send


async def test_it_gives_state_place_and_sum_of_a_dpu(client: httpx.AsyncClient) -> None:
    await room_with_dpu(client)
    await send(client, event(direction=3), event(timestamp="2026-01-05T09:00:00Z", direction=-1))
    found = body(await client.get("/v1/dpus/dpu-1"))
    assert found["last_seen"] == found.pop("first_heard"), "when they were received"
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


async def test_it_was_not_heard_yet_while_all_of_it_was_backfilled(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    """Neither heartbeats nor a threshold make its silence count before its first live message."""
    await room_with_dpu(client)
    await put(client, "spaces/room", offline_after_seconds=20)
    old = datetime.now(UTC) - timedelta(hours=5)
    kept = {"events": [event(timestamp=old.isoformat())]}
    assert (await client.post("/v1/events?backfill=true", json=kept)).is_success
    beat = [{"dpu": "dpu-1", "timestamp": old.isoformat()}]
    assert (await client.post("/v1/heartbeats?backfill=true", json={"heartbeats": beat})).is_success
    await listen(connection, old, datetime.now(UTC) + timedelta(minutes=5))
    await tick(connection, datetime.now(UTC) + timedelta(minutes=5))
    found = body(await client.get("/v1/dpus/dpu-1"))
    assert (found["state"], found["first_heard"]) == ("quiet", None)
    assert await connection.fetchval("select count(*) from core.outage") == 0
    # its first live message arms it
    await send(client, event())
    found = body(await client.get("/v1/dpus/dpu-1"))
    assert (found["state"], found["first_heard"]) == ("online", found["last_seen"])
    await listen(connection, datetime.now(UTC) + timedelta(minutes=5), datetime.now(UTC) + timedelta(minutes=9))
    await tick(connection, datetime.now(UTC) + timedelta(minutes=9))
    assert body(await client.get("/v1/dpus/dpu-1"))["state"] == "offline"
