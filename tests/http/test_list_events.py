"""GET /v1/events."""

import httpx
import pytest

from tests.http import body, event, problem, room_with_dpu, send


async def test_it_lists_the_events_of_a_dpu_in_time_order(client: httpx.AsyncClient) -> None:
    await send(client, event(timestamp="2026-01-05T09:00:00.5Z"), event(direction=-2, sequence=3))
    page = body(await client.get("/v1/events?dpu=dpu-1"))
    assert all(item.pop("received_at") for item in page["items"])
    assert page == {
        "items": [
            {"dpu": "dpu-1", "timestamp": "2026-01-05T08:00:00Z", "direction": -2, "sequence": 3},
            {"dpu": "dpu-1", "timestamp": "2026-01-05T09:00:00.500000Z", "direction": 1, "sequence": 0},
        ],
        "next": None,
    }


async def test_it_lists_the_events_that_counted_for_a_space_with_their_sign(client: httpx.AsyncClient) -> None:
    await room_with_dpu(client)
    await send(client, event(), event(dpu="dpu-2"), event(timestamp="2019-01-01T00:00:00Z"))
    page = body(await client.get("/v1/events?space=room"))
    assert [(item["dpu"], item["sign"]) for item in page["items"]] == [("dpu-1", 1)]


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_it_goes_on_where_a_page_ended_even_within_one_instant(client: httpx.AsyncClient, limit: int) -> None:
    await send(client, *(event(sequence=number) for number in range(5)))
    found, query = [], f"dpu=dpu-1&limit={limit}"
    page = body(await client.get(f"/v1/events?{query}"))
    found += page["items"]
    while page["next"]:
        page = body(await client.get(f"/v1/events?{query}&after={page['next']}"))
        found += page["items"]
    assert [item["sequence"] for item in found] == [0, 1, 2, 3, 4]


async def test_it_lists_a_half_open_range(client: httpx.AsyncClient) -> None:
    await send(client, *(event(timestamp=f"2026-01-05T0{hour}:00:00Z", sequence=hour) for hour in range(1, 5)))
    page = body(await client.get("/v1/events?dpu=dpu-1&from=2026-01-05T02:00:00Z&to=2026-01-05T05:00:00+01:00"))
    assert [item["sequence"] for item in page["items"]] == [2, 3]


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("", "dpu"),
        ("dpu=a&space=b", "dpu"),
        ("dpu=a&from=2026-01-01", "from"),
        ("dpu=a&after=oWE", "after"),
        ("dpu=a&since=x", "since"),
    ],
)
async def test_it_refuses_questions_that_it_does_not_understand(
    client: httpx.AsyncClient, query: str, where: str
) -> None:
    await send(client, event(dpu="a"))
    problem(await client.get(f"/v1/events?{query}"), 422, "invalid", where)


async def test_it_knows_no_other_dpu_or_space(client: httpx.AsyncClient) -> None:
    problem(await client.get("/v1/events?dpu=dpu-1"), 404, "not_found", "dpu")
    problem(await client.get("/v1/events?space=room"), 404, "not_found", "space")
