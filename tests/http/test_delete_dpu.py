"""DELETE /v1/dpus/{id}, and what a retired DPU is left out of."""

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx

from headcount.database import calls
from tests.factories import heard, listen, tick
from tests.http import body, event, problem, put, room_with_dpu, send


async def placed(client: httpx.AsyncClient, **query: Any) -> tuple[int, int]:
    dpus = body(await client.get("/v1/spaces/room/count", params=query))["dpus"]
    return dpus["placed"], dpus["online"]


async def test_it_retires_one_that_has_facts_and_they_go_on(client: httpx.AsyncClient) -> None:
    await room_with_dpu(client)
    await send(client, event())
    retired = body(await client.delete("/v1/dpus/dpu-1"))
    assert (retired["id"], retired["state"]) == ("dpu-1", "retired")
    assert retired["retired_at"]
    assert retired["placement"]["doorway"] == "door"
    await send(client, event(timestamp="2026-01-06T08:00:00Z"))
    assert body(await client.get("/v1/spaces/room/count"))["raw_count"] == 2
    assert body(await client.delete("/v1/dpus/dpu-1"))["retired_at"] == retired["retired_at"]


def just_now() -> str:
    """A little ago: the clock of the embedded database goes by milliseconds, and ours may be ahead of it."""
    return (datetime.now(UTC) - timedelta(milliseconds=2)).isoformat().replace("+00:00", "Z")


async def test_it_is_left_out_of_lists_and_of_what_counts_say(client: httpx.AsyncClient) -> None:
    await room_with_dpu(client)
    await send(client, event())
    before = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    assert await placed(client) == (1, 1)
    retired = body(await client.delete("/v1/dpus/dpu-1"))
    for address, found in (
        ("/v1/dpus", []),
        ("/v1/dpus?retired=true", ["dpu-1"]),
        ("/v1/dpus?state=retired", ["dpu-1"]),
        ("/v1/dpus?state=online", []),
    ):
        assert [dpu["id"] for dpu in body(await client.get(address))["items"]] == found, address
    assert body(await client.get("/sensors")) == []
    assert await placed(client) == (0, 0)
    assert await placed(client, at=retired["retired_at"]) == (0, 0)
    assert await placed(client, at=before) == (1, 1)
    now = just_now()
    assert await placed(client, at=now, known_at=before) == (1, 1), "nobody knew yet"
    again = await put(client, "dpus/dpu-1", retired=False)
    assert (again["retired_at"], again["state"]) == (None, "online")
    assert await placed(client) == (1, 1)
    assert await placed(client, at=retired["retired_at"]) == (0, 0)
    assert await placed(client, at=retired["retired_at"], known_at=retired["retired_at"]) == (0, 0)
    now = just_now()
    assert await placed(client, at=now, known_at=retired["retired_at"]) == (0, 0), "nobody knew that it would come back"
    assert [dpu["id"] for dpu in body(await client.get("/v1/dpus"))["items"]] == ["dpu-1"]


async def test_it_removes_one_that_has_no_facts(client: httpx.AsyncClient) -> None:
    await put(client, "dpus/typo", mac_address="02:00:00:00:00:01")
    response = await client.delete("/v1/dpus/typo")
    assert (response.status_code, response.content) == (204, b"")
    problem(await client.get("/v1/dpus/typo"), 404, "not_found")
    await put(client, "dpus/right", mac_address="02:00:00:00:00:01")
    problem(await client.delete("/v1/dpus/typo"), 404, "not_found", "dpu")


async def test_one_that_was_placed_and_never_heard_from_is_retired(client: httpx.AsyncClient) -> None:
    await room_with_dpu(client)
    assert body(await client.delete("/v1/dpus/dpu-1"))["state"] == "retired"


async def test_it_can_be_retired_by_put_and_in_a_floor_plan(client: httpx.AsyncClient) -> None:
    await room_with_dpu(client)
    assert (await put(client, "dpus/dpu-1", retired=True))["state"] == "retired"
    site = {"dpus": [{"id": "dpu-1", "retired": False}], "doorways": [{"id": "door", "retired": True}]}
    for change in ("updated", "unchanged"):
        changes = body(await client.put("/v1/site", json=site))["changes"]
        assert [item["change"] for item in changes] == [change, change]


async def test_its_incident_ends_and_nobody_is_told_that_it_is_back(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    now = datetime.now(UTC)
    await room_with_dpu(client)
    await put(client, "channels/hook", kind="webhook", url="https://example.org/", events=["offline", "online"])
    silent = now - timedelta(hours=3)
    await heard(connection, ("dpu-1", silent))
    await listen(connection, silent, now)
    await tick(connection, now)
    await tick(connection, now + timedelta(seconds=3))
    (incident,) = body(await client.get("/v1/incidents?open=true"))["items"]
    assert incident["dpus"] == ["dpu-1"]
    retired = body(await client.delete("/v1/dpus/dpu-1"))
    await tick(connection, now + timedelta(seconds=6))
    assert body(await client.get("/v1/incidents?open=true"))["items"] == []
    (incident,) = body(await client.get("/v1/incidents"))["items"]
    assert (incident["ended_at"], incident["corrected"]) == (retired["retired_at"], False)
    kinds = await connection.fetch("select kind from core.notice")
    assert [row["kind"] for row in kinds] == ["offline"]
    assert await calls.list_differences(connection) == []


async def test_its_silence_is_no_outage(client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    now = datetime.now(UTC)
    await room_with_dpu(client)
    silent = now - timedelta(minutes=5)
    await heard(connection, ("dpu-1", silent))
    await client.delete("/v1/dpus/dpu-1")
    await listen(connection, silent, now + timedelta(hours=1))
    await tick(connection, now + timedelta(hours=1))
    assert await connection.fetchval("select count(*) from core.outage") == 0


async def test_its_silence_counts_from_when_it_was_brought_back(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await room_with_dpu(client)
    now = datetime.now(UTC)
    silent = now - timedelta(hours=3)
    await heard(connection, ("dpu-1", silent))
    await put(client, "dpus/dpu-1", retired=True)
    await listen(connection, silent, now + timedelta(minutes=5))
    await tick(connection, now + timedelta(minutes=5))
    await put(client, "dpus/dpu-1", retired=False)
    await tick(connection, now + timedelta(minutes=5))
    assert await connection.fetchval("select count(*) from core.outage") == 0
    await listen(connection, now + timedelta(minutes=5), now + timedelta(hours=1))
    await tick(connection, now + timedelta(hours=1))
    (offline_at,) = [row["offline_at"] for row in await connection.fetch("select offline_at from core.outage")]
    assert timedelta(minutes=9) < offline_at - now < timedelta(minutes=30)
    assert await calls.list_differences(connection) == []


async def test_it_is_online_from_when_it_was_brought_back_until_its_threshold_is_over(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    now = datetime.now(UTC)
    await room_with_dpu(client)
    silent = now - timedelta(hours=3)
    await heard(connection, ("dpu-1", silent))
    await put(client, "dpus/dpu-1", retired=True)
    assert (await put(client, "dpus/dpu-1", retired=False))["state"] == "online"


async def test_a_heartbeat_after_it_was_retired_does_not_move_the_end_of_its_incident(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    now = datetime.now(UTC)
    await room_with_dpu(client)
    silent = now - timedelta(hours=3)
    await heard(connection, ("dpu-1", silent))
    await listen(connection, silent, now)
    await tick(connection, now)
    await tick(connection, now + timedelta(seconds=3))
    retired = body(await client.delete("/v1/dpus/dpu-1"))["retired_at"]
    await tick(connection, now + timedelta(seconds=6))

    async def end() -> tuple[str, bool]:
        (incident,) = body(await client.get("/v1/incidents"))["items"]
        return incident["ended_at"], incident["corrected"]

    assert await end() == (retired, False)
    assert (await client.post("/v1/heartbeats", json={"heartbeats": [{"dpu": "dpu-1"}]})).is_success
    await tick(connection, now + timedelta(seconds=9))
    assert await end() == (retired, False)
    # nor does one that is settled after it was brought back
    await put(client, "dpus/dpu-1", retired=False)
    await connection.execute("update core.outage set pending = true where superseded_at is null")
    await tick(connection, now + timedelta(seconds=12))
    assert await end() == (retired, False)
