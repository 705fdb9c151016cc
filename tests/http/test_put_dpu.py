"""PUT /v1/dpus/{id}."""

from typing import Any

import httpx
import pytest

from tests.http import body, problem, put


async def test_it_registers_a_dpu_and_then_names_it(client: httpx.AsyncClient) -> None:
    created = body(await client.put("/v1/dpus/dpu-1", json={"mac_address": "02:00:00:00:00:0A"}), 201)
    assert created == {
        "id": "dpu-1",
        "name": None,
        "mac_address": "02:00:00:00:00:0a",
        "state": "never_seen",
        "last_seen": None,
        "placement": None,
        "cumulative_count": 0,
        "latest_timestamp": None,
        "rejected_last_day": 0,
        "clock": "ok",
        "retired_at": None,
        "offline_after_seconds": None,
        "effective_offline_after_seconds": 600,
        "first_heard": None,
    }
    assert body(await client.put("/v1/dpus/dpu-1", json={"name": "Door"})) == {**created, "name": "Door"}


async def test_it_gives_a_mac_address_to_one_dpu_only(client: httpx.AsyncClient) -> None:
    await put(client, "dpus/dpu-1", mac_address="02:00:00:00:00:0A")
    problem(await client.put("/v1/dpus/dpu-2", json={"mac_address": "02-00-00-00-00-0a"}), 409, "conflict")


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"mac_address": "02:00:00:00:00"}, "mac_address"),
        ({"mac_address": "0g:00:00:00:00:00"}, "mac_address"),
        ({"mac": "02:00:00:00:00:00"}, "mac"),
    ],
)
async def test_it_refuses_what_cannot_be(client: httpx.AsyncClient, fields: dict[str, Any], where: str) -> None:
    problem(await client.put("/v1/dpus/dpu-1", json=fields), 422, "invalid", where)


async def test_it_has_a_threshold_of_its_own(client: httpx.AsyncClient) -> None:
    await put(client, "spaces/room", offline_after_seconds=60)
    site = {
        "doorways": [{"id": "door", "sides": [None, "room"]}],
        "dpus": [{"id": "dpu-1", "offline_after_seconds": 30}, {"id": "dpu-2"}],
        "placements": [
            {"dpu": dpu, "doorway": "door", "mounted_in": "room", "from": "2026-01-05T09:00:00Z"}
            for dpu in ("dpu-1", "dpu-2")
        ],
    }
    assert (await client.put("/v1/site", json=site)).status_code == 200
    names = ("offline_after_seconds", "effective_offline_after_seconds")
    one, two = body(await client.get("/v1/dpus"))["items"]
    assert ([one[name] for name in names], [two[name] for name in names]) == ([30, 30], [None, 60])
    cleared = await put(client, "dpus/dpu-1", offline_after_seconds=None)
    assert [cleared[name] for name in names] == [None, 60]
    for wrong in (0, 2_678_401, "10", 1.5):
        answer = await client.put("/v1/dpus/dpu-1", json={"offline_after_seconds": wrong})
        problem(answer, 422, "invalid", "offline_after_seconds")


async def test_a_mac_address_that_is_the_id_of_another_dpu_is_taken(client: httpx.AsyncClient) -> None:
    body(await client.post("/v1/heartbeats", json={"heartbeats": [{"mac_address": "02:00:00:00:00:0a"}]}))
    await put(client, "dpus/02:00:00:00:00:0a", mac_address=None)
    problem(
        await client.put("/v1/dpus/dpu-2", json={"mac_address": "02:00:00:00:00:0a"}), 409, "conflict", "mac_address"
    )
    await put(client, "dpus/02:00:00:00:00:0a", mac_address="02:00:00:00:00:0b")
    await put(client, "dpus/dpu-2", mac_address="02:00:00:00:00:0a")
