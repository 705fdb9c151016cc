"""GET /v1/spaces/{id}/resets."""

import httpx

from tests.http import body, problem, put


async def test_it_lists_the_explicit_resets_page_by_page(client: httpx.AsyncClient) -> None:
    await put(client, "spaces/room")
    for day in (3, 1, 2):
        await client.post("/v1/spaces/room/resets", json={"count": day, "at": f"2026-01-0{day}T00:00:00Z"})
    first = body(await client.get("/v1/spaces/room/resets?limit=2"))
    second = body(await client.get(f"/v1/spaces/room/resets?limit=2&after={first['next']}"))
    assert [item["count"] for item in first["items"]] == [1, 2]
    assert [item["count"] for item in second["items"]] == [3]
    assert second["next"] is None
    some = body(await client.get("/v1/spaces/room/resets?from=2026-01-02T00:00:00Z&to=2026-01-03T00:00:00Z"))
    assert [item["count"] for item in some["items"]] == [2]


async def test_it_lists_the_daily_ones_of_a_range_on_request(client: httpx.AsyncClient) -> None:
    await put(client, "spaces/room", reset_at="04:00", time_zone="Europe/Paris")
    # A blank for the T, and the plus of the offset left unescaped.
    page = body(
        await client.get("/v1/spaces/room/resets?scheduled=true&from=2026-01-01 00:00:00Z&to=2026-01-03T00:00:00+01:00")
    )
    assert page["items"] == [
        {"at": "2026-01-01T03:00:00Z", "count": 0, "scheduled": True, "recorded_at": None},
        {"at": "2026-01-02T03:00:00Z", "count": 0, "scheduled": True, "recorded_at": None},
    ]


async def test_it_knows_no_other_space(client: httpx.AsyncClient) -> None:
    problem(await client.get("/v1/spaces/room/resets"), 404, "not_found", "space")
