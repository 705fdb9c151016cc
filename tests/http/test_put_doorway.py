"""PUT /v1/doorways/{id}."""

from typing import Any

import httpx
import pytest

from tests.http import body, problem, put, room_with_dpu


async def test_it_creates_a_doorway_and_then_names_it(client: httpx.AsyncClient) -> None:
    await put(client, "spaces/room")
    created = body(await client.put("/v1/doorways/door", json={"sides": ["room", None]}), 201)
    assert created == {"id": "door", "name": None, "sides": ["room", None], "retired_at": None}
    assert body(await client.put("/v1/doorways/door", json={"name": "Door"})) == {**created, "name": "Door"}


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"sides": ["room"]}, "sides"),
        ({"sides": ["room", None, None]}, "sides"),
        ({"sides": [1, None]}, "sides[0]"),
        ({"sides": ["room", "a b"]}, "sides[1]"),
        ({"sides": ["room", "nowhere"]}, "sides[1]"),
        ({"sides": None}, "sides"),
        ({"side": []}, "side"),
    ],
)
async def test_it_refuses_sides_that_cannot_be(client: httpx.AsyncClient, fields: dict[str, Any], where: str) -> None:
    await put(client, "spaces/room")
    problem(await client.put("/v1/doorways/door", json=fields), 422, "invalid", where)


async def test_it_keeps_the_sides_once_a_dpu_was_placed(client: httpx.AsyncClient) -> None:
    await room_with_dpu(client)
    problem(await client.put("/v1/doorways/door", json={"sides": [None, "room"]}), 409, "conflict")
