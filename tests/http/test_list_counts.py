"""GET /v1/counts."""

import httpx
import pytest

from tests.http import body, event, problem, put, room_with_dpu, send


async def test_it_counts_the_spaces_named_in_the_order_named(client: httpx.AsyncClient) -> None:
    await room_with_dpu(client)
    await put(client, "spaces/hall")
    await send(client, event(direction=2))
    found = body(await client.get("/v1/counts?space=room&space=hall&at=2026-01-06T00:00:00Z"))
    assert found["at"] == "2026-01-06T00:00:00Z"
    assert [(count["space"], count["count"]) for count in found["counts"]] == [("room", 2), ("hall", 0)]
    assert found["counts"][0] == body(await client.get("/v1/spaces/room/count?at=2026-01-06T00:00:00Z"))


async def test_it_counts_a_space_and_all_below_it(client: httpx.AsyncClient) -> None:
    await put(client, "spaces/house")
    await put(client, "spaces/room", parent="house")
    await put(client, "spaces/shed")
    for query, expected in (("?under=house", ["house", "room"]), ("", ["house", "room", "shed"])):
        found = body(await client.get(f"/v1/counts{query}"))
        assert [count["space"] for count in found["counts"]] == expected


async def test_it_says_when_there_is_nothing_to_count(client: httpx.AsyncClient) -> None:
    found = body(await client.get("/v1/counts"))
    assert found["counts"] == []
    assert found["at"].endswith("Z")
    found = body(await client.get("/v1/counts?at=2026-01-01T01:00:00%2B01:00"))
    assert found == {"at": "2026-01-01T00:00:00Z", "counts": []}


async def test_it_counts_what_was_known_at_an_instant(client: httpx.AsyncClient) -> None:
    await room_with_dpu(client)
    await send(client, event(direction=3))
    found = body(await client.get("/v1/counts?at=2026-01-06T00:00:00Z&known_at=2020-01-01T00:00:00Z"))
    assert found["counts"][0]["count"] == 0


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("space=room&under=room", "under"),
        ("at=2999-01-01T00:00:00Z", "at"),
        ("space=a%20b", "space[0]"),
        ("spaces=room", "spaces"),
    ],
)
async def test_it_refuses_questions_that_it_does_not_understand(
    client: httpx.AsyncClient, query: str, where: str
) -> None:
    await put(client, "spaces/room")
    problem(await client.get(f"/v1/counts?{query}"), 422, "invalid", where)


async def test_it_knows_no_other_space(client: httpx.AsyncClient) -> None:
    await put(client, "spaces/hall")
    problem(await client.get("/v1/counts?space=room"), 404, "not_found")
    problem(await client.get("/v1/counts?under=room"), 404, "not_found", "under")
