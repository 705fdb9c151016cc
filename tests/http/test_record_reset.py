"""POST /v1/spaces/{id}/resets."""

from typing import Any

import httpx
import pytest

from tests.http import body, event, problem, room_with_dpu, send


async def test_it_starts_the_count_from_what_was_counted(client: httpx.AsyncClient) -> None:
    await room_with_dpu(client)
    await send(client, event(timestamp="2026-01-05T08:00:00Z", direction=9), event(timestamp="2026-01-05T10:00:00Z"))
    reset = {"count": 4, "at": "2026-01-05T10:00:00+01:00"}
    made = body(await client.post("/v1/spaces/room/resets", json=reset), 201)
    assert made.pop("recorded_at")
    assert made == {"space": "room", "at": "2026-01-05T09:00:00Z", "count": 4}
    count = body(await client.get("/v1/spaces/room/count"))
    assert (count["count"], count["since"]) == (5, "2026-01-05T09:00:00Z")


async def test_it_takes_now_where_nothing_is_said(client: httpx.AsyncClient) -> None:
    await room_with_dpu(client)
    made = body(await client.post("/v1/spaces/room/resets", json={"count": 0}), 201)
    assert made["at"] == made["recorded_at"]


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({}, "count"),
        ({"count": -1}, "count"),
        ({"count": 2**31}, "count"),
        ({"count": "1"}, "count"),
        ({"count": 1, "at": "2999-01-01T00:00:00Z"}, "at"),
        ({"count": 1, "at": "2026-01-01T00:00:00"}, "at"),
        ({"count": 1, "time": "2026-01-01T00:00:00Z"}, "time"),
    ],
)
async def test_it_refuses_what_cannot_be(client: httpx.AsyncClient, fields: dict[str, Any], where: str) -> None:
    await room_with_dpu(client)
    problem(await client.post("/v1/spaces/room/resets", json=fields), 422, "invalid", where)


async def test_it_knows_no_other_space(client: httpx.AsyncClient) -> None:
    problem(await client.post("/v1/spaces/room/resets", json={"count": 1}), 404, "not_found", "space")
