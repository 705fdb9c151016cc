"""PUT /v1/spaces/{id}."""

from typing import Any

import httpx
import msgspec
import pytest

from tests.http import body, problem, put

HOURS = [{"day": 0, "open": "09:00", "close": "17:00"}]


async def test_it_creates_a_space_and_then_changes_it(client: httpx.AsyncClient) -> None:
    created = body(await client.put("/v1/spaces/room", json={"name": "Room", "opening_hours": HOURS}), 201)
    assert created == {
        "id": "room",
        "name": "Room",
        "parent": None,
        "time_zone": None,
        "capacity": None,
        "reset_at": None,
        "opening_hours": HOURS,
        "effective_time_zone": "UTC",
        "effective_reset_at": "never",
        "offline_after_seconds": None,
        "effective_offline_after_seconds": 600,
        "retired_at": None,
    }
    changed = body(await client.put("/v1/spaces/room", json={"capacity": 5}), 200)
    assert changed == {**created, "capacity": 5}


async def test_it_leaves_what_is_absent_and_clears_what_is_null(client: httpx.AsyncClient) -> None:
    await put(client, "spaces/room", name="Room", capacity=5, time_zone="Europe/Paris")
    assert (await put(client, "spaces/room"))["name"] == "Room"
    cleared = await put(client, "spaces/room", name=None, time_zone=None)
    assert (cleared["name"], cleared["time_zone"], cleared["capacity"]) == (None, None, 5)


async def test_it_inherits_after_how_much_silence_a_sensor_is_offline(client: httpx.AsyncClient) -> None:
    await put(client, "spaces/house", offline_after_seconds=60)
    room = await put(client, "spaces/room", parent="house")
    assert (room["offline_after_seconds"], room["effective_offline_after_seconds"]) == (None, 60)
    room = await put(client, "spaces/room", offline_after_seconds=2)
    assert (room["offline_after_seconds"], room["effective_offline_after_seconds"]) == (2, 2)
    room = await put(client, "spaces/room", offline_after_seconds=None)
    assert room["effective_offline_after_seconds"] == 60
    for wrong in (0, -1, 2_678_401, "2"):
        answer = await client.put("/v1/spaces/room", json={"offline_after_seconds": wrong})
        problem(answer, 422, "invalid", "offline_after_seconds")


async def test_it_inherits_zone_and_reset_from_the_parent(client: httpx.AsyncClient) -> None:
    await put(client, "spaces/house", time_zone="Europe/Paris", reset_at="04:00")
    room = await put(client, "spaces/room", parent="house")
    assert (room["effective_time_zone"], room["effective_reset_at"]) == ("Europe/Paris", "04:00")


async def test_it_takes_and_gives_msgpack(client: httpx.AsyncClient) -> None:
    response = await client.put(
        "/v1/spaces/room",
        content=msgspec.msgpack.encode({"name": "Room", "opening_hours": HOURS}),
        headers={"content-type": "application/msgpack", "accept": "application/msgpack"},
    )
    assert response.status_code == 201
    assert msgspec.msgpack.decode(response.content)["opening_hours"] == HOURS


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"nmae": "x"}, "nmae"),
        ({"name": "x" * 201}, "name"),
        ({"name": "a\u0000b"}, "name"),
        ({"name": 7}, "name"),
        ({"capacity": -1}, "capacity"),
        ({"capacity": 2**31}, "capacity"),
        ({"capacity": 1.5}, "capacity"),
        ({"parent": "x" * 65}, "parent"),
        ({"parent": "room"}, "parent"),
        ({"parent": "nowhere"}, "parent"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"time_zone": "CET"}, "time_zone"),
        ({"reset_at": "25:00"}, "reset_at"),
        ({"opening_hours": [{"day": 7, "open": "09:00", "close": "17:00"}]}, "opening_hours[0].day"),
        ({"opening_hours": [{"day": 0, "open": "9", "close": "17:00"}]}, "opening_hours[0].open"),
        ({"opening_hours": [{"day": 0, "open": "09:00"}]}, "opening_hours[0].close"),
    ],
)
async def test_it_refuses_what_cannot_be_and_names_the_place(
    client: httpx.AsyncClient, fields: dict[str, Any], where: str
) -> None:
    await put(client, "spaces/room", name="Room")
    problem(await client.put("/v1/spaces/room", json=fields), 422, "invalid", where)
    assert body(await client.get("/v1/spaces/room"))["name"] == "Room"


@pytest.mark.parametrize(
    "space", ["x" * 65, "a%20b", "%27%3B%20drop%20table%20core.space%3B", "%00", "caf%C3%A9", "a%0A"]
)
async def test_it_refuses_an_id_that_is_none(client: httpx.AsyncClient, space: str) -> None:
    problem(await client.put(f"/v1/spaces/{space}", json={}), 422, "invalid", "space")
