"""PUT /v1/site."""

from typing import Any

import httpx
import msgspec
import pytest

from tests.http import body, event, problem, send

SITE: dict[str, Any] = {
    "spaces": [{"id": "room", "parent": "house"}, {"id": "house", "name": "House"}],
    "doorways": [{"id": "door", "sides": ["room", None]}],
    "dpus": [{"id": "dpu-1", "mac_address": "02:00:00:00:00:00"}],
    "placements": [{"dpu": "dpu-1", "doorway": "door", "mounted_in": "room", "from": "2020-01-01T02:00:00+02:00"}],
}


async def test_it_brings_a_floor_plan_about_and_says_what_changed(client: httpx.AsyncClient) -> None:
    changes = body(await client.put("/v1/site", json=SITE))["changes"]
    assert [(item["kind"], item["id"]) for item in changes] == [
        ("space", "room"),
        ("space", "house"),
        ("doorway", "door"),
        ("dpu", "dpu-1"),
        ("placement", "dpu-1"),
    ]
    assert {item["change"] for item in changes} <= {"created", "updated"}
    await send(client, event(direction=2))
    assert body(await client.get("/v1/spaces/house/count"))["count"] == 2


async def test_it_changes_nothing_the_second_time(client: httpx.AsyncClient) -> None:
    await client.put("/v1/site", json=SITE)
    assert {item["change"] for item in body(await client.put("/v1/site", json=SITE))["changes"]} == {"unchanged"}


async def test_it_takes_a_floor_plan_of_nothing(client: httpx.AsyncClient) -> None:
    assert body(await client.put("/v1/site", json={})) == {"changes": []}


@pytest.mark.parametrize(
    ("part", "fields", "where"),
    [
        ("spaces", {"id": "hall", "parent": "nowhere"}, "spaces[2].parent"),
        ("spaces", {"name": "hall"}, "spaces[2].id"),
        ("doorways", {"id": "gate", "sides": ["room", "nowhere"]}, "doorways[1].sides[1]"),
        ("dpus", {"id": "dpu-2", "mac_address": "x"}, "dpus[1].mac_address"),
        ("placements", {"dpu": "dpu-1", "doorway": "door", "mounted_in": "room"}, "placements[1].from"),
        (
            "placements",
            {"dpu": "dpu-1", "doorway": "door", "mounted_in": "house", "from": "2024-01-01T00:00:00Z"},
            "placements[1].mounted_in",
        ),
    ],
)
async def test_it_takes_all_or_nothing_and_names_the_place(
    client: httpx.AsyncClient, part: str, fields: dict[str, Any], where: str
) -> None:
    problem(await client.put("/v1/site", json={**SITE, part: [*SITE[part], fields]}), 422, "invalid", where)
    assert body(await client.get("/v1/spaces"))["items"] == []


@pytest.mark.parametrize("kind", ["application/json", "application/msgpack"])
@pytest.mark.parametrize("part", ["spaces", "doorways", "dpus", "placements"])
async def test_what_is_far_too_much_is_refused_before_it_is_looked_into(
    client: httpx.AsyncClient, kind: str, part: str
) -> None:
    """None of these is a good one, and nobody has come so far as to notice."""
    encode = msgspec.json.encode if kind.endswith("json") else msgspec.msgpack.encode
    sent = encode({part: [{"x": "y" * 64}] * 1_001})
    answer = await client.put("/v1/site", content=sent, headers={"content-type": kind})
    assert "1,001" in problem(answer, 413, "too_large")["detail"]
    answer = await client.put(
        "/v1/site", content=encode({part: [{"x": "y" * 64}] * 1_000}), headers={"content-type": kind}
    )
    problem(answer, 422, "invalid")


async def test_a_body_of_nothing_but_beginnings_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.put("/v1/site", content=b'{"spaces":[' + b"{}," * 400_000 + b"{}]}")
    problem(answer, 413, "too_large")


async def test_a_large_one_of_long_names_and_opening_hours_is_taken(client: httpx.AsyncClient) -> None:
    hours = [{"day": day % 7, "open": "08:00", "close": "12:00"} for day in range(7)]
    spaces = [{"id": f"s-{n}", "name": "{" * 200, "opening_hours": hours} for n in range(200)]
    assert len(body(await client.put("/v1/site", json={"spaces": spaces}))["changes"]) == 200
