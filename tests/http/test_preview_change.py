"""?dry_run=true on changes of the floor plan."""

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from tests.http import body, event, problem, put, room_with_dpu, send

NINE = datetime(2026, 11, 5, 9, tzinfo=UTC)
PLACEMENTS = "/v1/dpus/dpu-1/placements"


def show(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")


async def open_by_day(client: httpx.AsyncClient) -> None:
    """Ten people from 9 to 17 o'clock, on 23 days."""
    await room_with_dpu(client)
    days = [NINE + timedelta(days=number) for number in range(23)]
    await send(
        client,
        *(event(timestamp=show(day), direction=10) for day in days),
        *(event(timestamp=show(day + timedelta(hours=8)), direction=-10) for day in days),
    )


async def test_a_move_that_begins_and_ends_at_night_is_not_missed(client: httpx.AsyncClient) -> None:
    await open_by_day(client)
    night = NINE - timedelta(hours=12)
    moved = {"doorway": None, "from": show(night), "until": show(night + timedelta(days=24))}
    found = body(await client.post(PLACEMENTS, params={"dry_run": "true"}, json=moved))
    assert found.pop("recorded_at")
    assert found == {
        "doorway": None,
        "mounted_in": None,
        "from": show(night),
        "until": show(night + timedelta(days=24)),
        "dry_run": True,
        "counts": [
            {
                "space": "room",
                "from": show(NINE),
                "to": show(NINE + timedelta(days=22, hours=8) - timedelta(microseconds=1)),
                "largest_change": 10,
                "at": show(NINE),
                "before": 10,
                "after": 0,
            }
        ],
    }
    noon = show(NINE + timedelta(days=15, hours=3))
    assert body(await client.get("/v1/spaces/room/count", params={"at": noon}))["raw_count"] == 10
    assert "dry_run" not in body(await client.post(PLACEMENTS, json=moved), 201)
    assert body(await client.get("/v1/spaces/room/count", params={"at": noon}))["raw_count"] == 0


@pytest.mark.parametrize(
    ("method", "path", "content", "fields", "before_and_after"),
    [
        ("PUT", "/v1/spaces/room?dry_run=true", {"reset_at": "12:00"}, {"id": "room", "reset_at": "12:00"}, (10, 0)),
        ("PUT", "/v1/spaces/room?dry_run=true", {"parent": None}, {"parent": None}, None),
        ("PUT", "/v1/spaces/new?dry_run=true", {"capacity": 3}, {"id": "new", "capacity": 3}, None),
        (
            "PUT",
            "/v1/site?dry_run=true",
            {"placements": [{"dpu": "dpu-1", "doorway": "door", "from": "2020-01-01T00:00:00Z"}]},
            {"changes": [{"kind": "placement", "id": "dpu-1", "change": "updated"}]},
            (10, -10),
        ),
        (
            "POST",
            "/v1/spaces/room/resets?dry_run=true",
            {"count": 4, "at": "2026-11-05T12:00:00Z"},
            {"space": "room", "count": 4, "at": "2026-11-05T12:00:00Z"},
            (10, 4),
        ),
        ("DELETE", f"{PLACEMENTS}?from=2020-01-01T00:00:00Z&dry_run=true", None, {}, (10, 0)),
        ("DELETE", "/v1/spaces/room/resets?at=2019-01-01T00:00:00Z&dry_run=true", None, {}, (7, 0)),
    ],
)
async def test_it_answers_what_the_change_would_answer_and_the_counts(
    client: httpx.AsyncClient,
    method: str,
    path: str,
    content: Any,
    fields: dict[str, Any],
    before_and_after: tuple[int, int] | None,
) -> None:
    await open_by_day(client)
    await client.post("/v1/spaces/room/resets", json={"count": 7, "at": "2019-01-01T00:00:00Z"})
    await client.post("/v1/spaces/room/resets", json={"count": 0, "at": "2019-01-02T00:00:00Z"})
    found = body(await client.request(method, path, json=content))
    assert found["dry_run"] is True
    assert {name: found[name] for name in fields} == fields
    changes = [(change["before"], change["after"]) for change in found["counts"]]
    assert changes == ([before_and_after] if before_and_after else [])


async def test_nothing_is_there_afterwards(client: httpx.AsyncClient) -> None:
    body(await client.put("/v1/spaces/new?dry_run=true", json={}))
    problem(await client.get("/v1/spaces/new"), 404, "not_found")


async def test_it_refuses_what_the_change_refuses(client: httpx.AsyncClient) -> None:
    await room_with_dpu(client)
    moved = {"doorway": "door", "mounted_in": "nowhere"}
    problem(await client.post(f"{PLACEMENTS}?dry_run=true", json=moved), 422, "invalid", "mounted_in")
    problem(await client.post(f"{PLACEMENTS}?dry_run=perhaps", json=moved), 422, "invalid", "dry_run")
    problem(await client.put("/v1/doorways/door?dry_run=true", json={}), 422, "invalid", "dry_run")


@pytest.mark.concurrency
async def test_it_waits_for_the_floor_plan_for_no_longer_than_two_seconds(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await room_with_dpu(client)
    async with connection.transaction():
        await connection.execute("select core.lock_plan()")
        response = await client.put("/v1/spaces/room?dry_run=true", json={"reset_at": "04:00"})
    detail = problem(response, 503, "unavailable")["detail"]
    assert "2 seconds" in detail
    assert "Nothing was changed" in detail
    assert response.headers["retry-after"]


async def test_two_spaces_are_told_from_the_one_that_changes_most(client: httpx.AsyncClient) -> None:
    await put(client, "spaces/house", reset_at="10:00")
    await put(client, "spaces/room", parent="house", reset_at="never")
    await put(client, "doorways/door", sides=["room", None])
    await put(client, "dpus/dpu-1")
    await client.post(PLACEMENTS, json={"doorway": "door", "mounted_in": "room", "from": "2020-01-01T00:00:00Z"})
    await send(client, event(timestamp=show(NINE)), event(timestamp=show(NINE + timedelta(days=1)), direction=2))
    found = body(await client.delete(f"{PLACEMENTS}?from=2020-01-01T00:00:00Z&dry_run=true"))
    assert [(change["space"], change["largest_change"]) for change in found["counts"]] == [("room", 3), ("house", 2)]
