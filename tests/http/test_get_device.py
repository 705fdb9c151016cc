"""GET /devices/{id}, .../latest_timestamp and .../cumulative_count (api.get_device)."""

import httpx
import pytest

from tests.http import body, event, problem, send


async def test_it_gives_the_latest_instant_and_the_sum(client: httpx.AsyncClient) -> None:
    await send(client, event(direction=-2), event(timestamp="2026-01-05T09:00:00.500Z", direction=5))
    latest = {"latest_timestamp": "2026-01-05T09:00:00.5Z"}
    assert body(await client.get("/devices/dpu-1/latest_timestamp")) == latest
    assert body(await client.get("/devices/dpu-1/cumulative_count")) == {"cumulative_count": 3}
    found = body(await client.get("/devices/dpu-1"))
    assert found == {"data": found["data"], **latest, "cumulative_count": 3}


@pytest.mark.parametrize("path", ["", "/latest_timestamp", "/cumulative_count"])
async def test_it_knows_no_device_that_was_never_heard_of(client: httpx.AsyncClient, path: str) -> None:
    problem(await client.get(f"/devices/1234{path}"), 404, "not_found", "device")
    problem(await client.get(f"/devices/a%20b{path}"), 422, "invalid", "device")


@pytest.mark.parametrize("query", ["limit=0", "limit=10001", "from=x", "after=x"])
async def test_it_refuses_questions_that_it_does_not_understand(client: httpx.AsyncClient, query: str) -> None:
    problem(await client.get(f"/devices/1234?{query}"), 422, "invalid", query.split("=")[0])
