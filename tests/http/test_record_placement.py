"""POST /v1/dpus/{id}/placements."""

from typing import Any

import httpx
import pytest

from tests.http import body, event, problem, put, room_with_dpu, send


async def test_it_places_a_dpu_from_now_on(client: httpx.AsyncClient) -> None:
    await put(client, "spaces/room")
    await put(client, "doorways/door", sides=["room", None])
    await put(client, "dpus/dpu-1")
    made = body(await client.post("/v1/dpus/dpu-1/placements", json={"doorway": "door", "mounted_in": "room"}), 201)
    assert made["from"] == made["recorded_at"]
    assert (made["doorway"], made["mounted_in"], made["until"]) == ("door", "room", None)


async def test_it_makes_events_count_where_the_dpu_was(client: httpx.AsyncClient) -> None:
    await room_with_dpu(client)
    await send(client, event(direction=3))
    down = await client.post("/v1/dpus/dpu-1/placements", json={"doorway": None, "from": "2025-01-01T00:00:00Z"})
    assert body(down, 201)["doorway"] is None
    assert body(await client.get("/v1/spaces/room/count"))["count"] == 0
    assert body(await client.get("/v1/dpus/dpu-1"))["placement"] is None


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"mounted_in": "room"}, "doorway"),
        ({"doorway": "nowhere", "mounted_in": "room"}, "doorway"),
        ({"doorway": "door", "mounted_in": "hall"}, "mounted_in"),
        ({"doorway": "door", "mounted_in": "room", "from": "2026-01-01T00:00:00"}, "from"),
        ({"doorway": "door", "mounted_in": "room", "from": 5}, "from"),
        ({"doorway": "door", "mounted_in": "room", "since": "2026-01-01T00:00:00Z"}, "since"),
        (
            {"doorway": "door", "mounted_in": "room", "from": "2026-01-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"},
            "until",
        ),
    ],
)
async def test_it_refuses_places_that_cannot_be(client: httpx.AsyncClient, fields: dict[str, Any], where: str) -> None:
    await room_with_dpu(client)
    problem(await client.post("/v1/dpus/dpu-1/placements", json=fields), 422, "invalid", where)


async def test_it_knows_no_other_dpu(client: httpx.AsyncClient) -> None:
    problem(await client.post("/v1/dpus/dpu-1/placements", json={"doorway": None}), 404, "not_found", "dpu")
