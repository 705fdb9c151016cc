"""GET /v1/spaces/{id}/count."""

from datetime import UTC, datetime

import asyncpg
import httpx
import msgspec
import pytest

from tests.http import body, event, problem, put, room_with_dpu, send
from tests.properties import rollups


async def test_it_counts_at_an_instant(client: httpx.AsyncClient) -> None:
    await room_with_dpu(client)
    await send(client, event(direction=5), event(timestamp="2026-01-05T09:00:00Z", direction=-1))
    assert body(await client.get("/v1/spaces/room/count?at=2026-01-05T09:30:00%2B01:00")) == {
        "space": "room",
        "at": "2026-01-05T08:30:00Z",
        "count": 5,
        "raw_count": 5,
        "since": None,
        "capacity": 10,
        "utilization": 0.5,
        "dpus": {"placed": 1, "online": 1},
        "counted": True,
        "counted_since": "2026-01-05T08:00:00Z",
    }
    assert body(await client.get("/v1/spaces/room/count"))["count"] == 4


async def test_it_shows_missed_people_in_the_raw_count_only(client: httpx.AsyncClient) -> None:
    await room_with_dpu(client)
    await send(client, event(direction=-3))
    found = body(await client.get("/v1/spaces/room/count"))
    assert (found["count"], found["raw_count"]) == (0, -3)


async def test_it_counts_what_was_known_at_an_instant(client: httpx.AsyncClient) -> None:
    await room_with_dpu(client)
    await send(client, event(direction=3))
    at = "at=2026-01-05T10:00:00Z"
    assert body(await client.get(f"/v1/spaces/room/count?{at}&known_at=2020-01-01T00:00:00Z"))["count"] == 0
    assert body(await client.get(f"/v1/spaces/room/count?{at}&known_at=2999-01-01T00:00:00Z"))["count"] == 3


async def test_it_understands_an_offset_whose_plus_was_not_escaped(client: httpx.AsyncClient) -> None:
    await put(client, "spaces/room")
    found = body(await client.get("/v1/spaces/room/count?at=2026-01-01T00:00:00+02:00"))
    assert found["at"] == "2025-12-31T22:00:00Z"


async def test_it_answers_in_msgpack_on_request(client: httpx.AsyncClient) -> None:
    await put(client, "spaces/room")
    response = await client.get("/v1/spaces/room/count", headers={"accept": "application/msgpack"})
    assert response.headers["content-type"] == "application/msgpack"
    assert msgspec.msgpack.decode(response.content)["count"] == 0


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("at=2999-01-01T00:00:00Z", "at"),
        ("at=2026-01-01T00:00:00", "at"),
        ("at=", "at"),
        ("at=9999-12-31T23:59:59-01:00", "at"),
        ("at=2026-01-01T00:00:00Z&at=2026-01-01T00:00:00Z", "at"),
        ("att=2026-01-01T00:00:00Z", "att"),
        ("known_at=soon", "known_at"),
    ],
)
async def test_it_refuses_questions_that_it_does_not_understand(
    client: httpx.AsyncClient, query: str, where: str
) -> None:
    await put(client, "spaces/room")
    problem(await client.get(f"/v1/spaces/room/count?{query}"), 422, "invalid", where)


async def test_it_knows_no_other_space(client: httpx.AsyncClient) -> None:
    problem(await client.get("/v1/spaces/room/count"), 404, "not_found", "space")


async def test_it_tells_what_retention_left_and_what_it_did_not(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await room_with_dpu(client)
    await send(client, event(timestamp="2026-01-05T08:29:00Z", direction=2))
    await rollups.refresh(connection)
    await rollups.retain(connection, datetime(2026, 1, 6, tzinfo=UTC))
    found = body(await client.get("/v1/spaces/room/count?at=2026-01-05T08:30:00Z"))
    assert (found["count"], found["dpus"]) == (2, {"placed": 1, "online": 1})
    lost = problem(await client.get("/v1/spaces/room/count?at=2026-01-05T08:29:30Z"), 422, "invalid", "at")
    assert "Events before 2026-01-06T00:00:00Z were dropped" in lost["detail"]
    assert "such as 2026-01-05T08:30:00Z" in lost["detail"]
    problem(await client.get("/v1/spaces/room/count?known_at=2999-01-01T00:00:00Z"), 422, "invalid", "known_at")
    assert body(await client.get("/v1/spaces/room/count"))["count"] == 2
