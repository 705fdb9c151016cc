"""A sensor falls silent while the service runs, and comes back."""

import asyncio
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from tests.commands.support import free_port, serving
from tests.http import body, put

PATIENCE = 60.0


async def until(client: httpx.AsyncClient, path: str, condition: Callable[[Any], bool]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not condition(found := body(await client.get(path))):
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.1)
    return found


async def offline_from(connection: asyncpg.Connection, heard: datetime) -> datetime:
    """Two seconds later; more where the service stood still, on a busy machine, and listened again only then."""
    stood_still = await connection.fetchval("select exists (select from core.listening where from_at > $1)", heard)
    found = await connection.fetchval("select offline_at from core.list_offline_at($1, 2)", heard)
    assert isinstance(found, datetime)
    assert stood_still or found == heard + timedelta(seconds=2)
    return found


async def test_it_is_offline_from_its_last_sign_plus_the_threshold_until_the_next_sign(
    connection: asyncpg.Connection, database_url: str, tmp_path: Path
) -> None:
    port = free_port()
    with serving(tmp_path, database_url, port):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            await put(client, "spaces/site", offline_after_seconds=2)
            await put(client, "doorways/door", sides=["site", None])
            await put(client, "dpus/front", mac_address="02:00:00:00:00:01")
            placement = {"doorway": "door", "mounted_in": "site", "from": "2026-01-01T00:00:00Z"}
            assert (await client.post("/v1/dpus/front/placements", json=placement)).status_code == 201
            heard = body(await client.get("/heartbeat?mac_address=02:00:00:00:00:01"))["last_seen"]
            (sensor,) = await until(client, "/sensors", lambda found: found[0]["state"] == "offline")
            assert sensor["last_seen"] == heard
            began = await offline_from(connection, datetime.fromisoformat(heard))
            assert datetime.fromisoformat(sensor["since"]) == began
            page = await until(client, "/v1/incidents?open=true", lambda found: bool(found["items"]))
            assert (page["items"][0]["dpus"], page["items"][0]["space"]) == (["front"], "site")
            back = body(await client.post("/heartbeat", json={"dpu": "front"}))["last_seen"]
            await until(client, "/v1/incidents?open=true", lambda found: not found["items"])
            (incident,) = body(await client.get("/v1/incidents"))["items"]
            assert datetime.fromisoformat(incident["started_at"]) == began
            assert (incident["ended_at"], incident["corrected"]) == (back, False)
    recorded = await connection.fetchval("select detected_at from core.outage order by outage_id limit 1")
    # it looks once a second
    assert recorded - began < timedelta(seconds=PATIENCE / 2)
