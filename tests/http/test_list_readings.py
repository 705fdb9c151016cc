"""GET /devices/{id}, as to its data (api.list_readings)."""

from typing import Any

import httpx

from tests.http import body, event, send


async def ingest(client: httpx.AsyncClient, *readings: tuple[str, int]) -> Any:
    sent = [{"timestamp": timestamp, "count": count} for timestamp, count in readings]
    return body(await client.post("/ingest", json={"id": "1234", "readings": sent}))


async def test_it_gives_readings_in_time_order_in_their_shortest_form(client: httpx.AsyncClient) -> None:
    await ingest(client, ("2023-01-01T00:00:00.120Z", 2), ("2023-01-01T01:00:00+01:00", 3), ("2022-12-31T23:59:59Z", 5))
    assert list(body(await client.get("/devices/1234"))["data"].items()) == [
        ("2022-12-31T23:59:59Z", 5),
        ("2023-01-01T00:00:00Z", 3),
        ("2023-01-01T00:00:00.12Z", 2),
    ]


async def test_it_sums_several_sequences_of_one_instant(client: httpx.AsyncClient) -> None:
    await send(client, event(direction=2), event(direction=3, sequence=1))
    assert body(await client.get("/devices/dpu-1"))["data"] == {"2026-01-05T08:00:00Z": 5}


async def test_it_gives_the_newest_of_a_range(client: httpx.AsyncClient) -> None:
    await ingest(client, *((f"2023-01-0{day}T00:00:00Z", day) for day in range(1, 6)))
    found = body(await client.get("/devices/1234?from=2023-01-02T00:00:00Z&to=2023-01-05T00:00:00Z&limit=2"))
    assert list(found["data"].values()) == [3, 4]
    assert found["cumulative_count"] == 15
