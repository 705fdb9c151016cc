"""Instants at the ends of what can be written: never a 500, and never silently for ever."""

import httpx
import pytest

from tests.http import body, problem


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00Z", "0001-01-01T03:00:00Z", "0999-12-31T23:59:59Z"])
async def test_it_refuses_to_count_before_the_year_1000(client: httpx.AsyncClient, at: str) -> None:
    await client.put("/v1/spaces/s", json={"reset_at": "04:00", "time_zone": "Europe/Berlin"})
    for address in (f"/v1/spaces/s/count?at={at}", f"/v1/counts?at={at}"):
        assert "1000 to 9999" in problem(await client.get(address), 422, "invalid", "at")["detail"]


async def test_it_counts_at_the_first_instant_it_takes(client: httpx.AsyncClient) -> None:
    await client.put("/v1/spaces/s", json={"reset_at": "04:00", "time_zone": "Europe/Berlin"})
    assert body(await client.get("/v1/spaces/s/count?at=1000-01-01T00:00:00Z"))["count"] == 0


async def test_it_does_not_take_the_last_instant_for_infinity(client: httpx.AsyncClient) -> None:
    await client.put("/v1/spaces/s", json={})
    await client.put("/v1/doorways/w", json={"sides": [None, "s"]})
    await client.put("/v1/dpus/d", json={})
    placement = {"doorway": "w", "mounted_in": "s", "from": "2026-01-01T00:00:00Z"}
    forever = {**placement, "until": "9999-12-31T23:59:59.999999Z"}
    assert (
        "1000 to 9999"
        in problem(await client.post("/v1/dpus/d/placements", json=forever), 422, "invalid", "until")["detail"]
    )
    found = body(await client.post("/v1/dpus/d/placements", json={**placement, "until": "9999-12-31T23:59:59Z"}), 201)
    assert found["until"] == "9999-12-31T23:59:59Z"
