"""GET /v1/dpus."""

import asyncpg
import httpx
import pytest

from tests.factories import NOON, heard, listen, seconds, tick
from tests.http import body, event, problem, put, room_with_dpu


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["dpu-1", "dpu-2", "dpu-3"]),
        ("?placed=true", ["dpu-1"]),
        ("?placed=false", ["dpu-2", "dpu-3"]),
        ("?state=offline", ["dpu-2"]),
        ("?state=quiet", ["dpu-3"]),
        ("?state=never_seen", ["dpu-1"]),
        ("?space=room", ["dpu-1"]),
        ("?space=room&placed=false", []),
        ("?limit=1", ["dpu-1"]),
    ],
)
async def test_it_lists_the_dpus_asked_for(
    client: httpx.AsyncClient, connection: asyncpg.Connection, query: str, expected: list[str]
) -> None:
    await room_with_dpu(client)
    await heard(connection, ("dpu-2", NOON))
    await client.post("/v1/events?backfill=true", json={"events": [event(dpu="dpu-3")]})
    await listen(connection, NOON, NOON + seconds(600))
    await tick(connection, NOON + seconds(601))
    page = body(await client.get(f"/v1/dpus{query}"))
    assert [dpu["id"] for dpu in page["items"]] == expected
    assert bool(page["next"]) == (query == "?limit=1")


@pytest.mark.parametrize(
    ("query", "where"), [("state=asleep", "state"), ("placed=maybe", "placed"), ("space=", "space")]
)
async def test_it_refuses_filters_that_cannot_be(client: httpx.AsyncClient, query: str, where: str) -> None:
    problem(await client.get(f"/v1/dpus?{query}"), 422, "invalid", where)


async def test_it_knows_no_other_space(client: httpx.AsyncClient) -> None:
    await put(client, "dpus/dpu-1")
    problem(await client.get("/v1/dpus?space=room"), 404, "not_found", "space")
