"""GET /v1/dpus/{id}/availability."""

from datetime import datetime

import asyncpg
import httpx
import pytest

from tests.factories import LONG_AGO, NOON, apply_site, hear, heard, listen, seconds, tick
from tests.http import body, problem
from tests.http.guarded import build_site, guarded, new_token

HOUR = "from=2026-03-04T12:00:00Z&to=2026-03-04T13:00:00Z"


async def outage(connection: asyncpg.Connection, dpu: str, base: datetime) -> None:
    """Heard of at base, offline from 10 to 20 minutes later, heard of until 30 minutes later."""
    await heard(connection, (dpu, base))
    await listen(connection, base, base + seconds(1200))
    await heard(connection, (dpu, base + seconds(1200)), (dpu, base + seconds(1500)), (dpu, base + seconds(1800)))


async def test_it_tells_how_much_of_a_time_a_dpu_was_online(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await outage(connection, "d", NOON)
    assert body(await client.get(f"/v1/dpus/d/availability?{HOUR}")) == {
        "dpu": "d",
        "from": "2026-03-04T12:00:00Z",
        "to": "2026-03-04T13:00:00Z",
        "online_seconds": 3000.0,
        "offline_seconds": 600.0,
        "availability": pytest.approx(5 / 6),
        "outages": [{"from": "2026-03-04T12:10:00Z", "until": "2026-03-04T12:20:00Z"}],
    }
    cut = body(await client.get("/v1/dpus/d/availability?from=2026-03-04T11:00:00Z&to=2026-03-04T12:15:00Z"))
    assert (cut["online_seconds"], cut["offline_seconds"]) == (600.0, 300.0), "not before it was heard of"
    assert cut["outages"] == [{"from": "2026-03-04T12:10:00Z", "until": "2026-03-04T12:15:00Z"}]


async def test_a_late_heartbeat_removes_the_outage(client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    await outage(connection, "d", NOON)
    assert await hear(connection, ("d", NOON + seconds(599))) == [None], "an old one, and yet it is news"
    assert await hear(connection, ("d", NOON + seconds(599))) == ["duplicate"]
    found = body(await client.get(f"/v1/dpus/d/availability?{HOUR}"))
    assert found["outages"] == [{"from": "2026-03-04T12:19:59Z", "until": "2026-03-04T12:20:00Z"}]
    assert await hear(connection, ("d", NOON + seconds(800))) == [None]
    found = body(await client.get(f"/v1/dpus/d/availability?{HOUR}"))
    assert (found["availability"], found["outages"]) == (1.0, [])


async def test_it_lasts_while_nobody_is_heard(client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    await heard(connection, ("d", NOON))
    await listen(connection, NOON, NOON + seconds(900))
    await tick(connection, NOON + seconds(900))
    found = body(await client.get("/v1/dpus/d/availability"))
    assert (found["availability"], found["online_seconds"]) == (0.0, 0.0)
    assert found["outages"] == [{"from": found["from"], "until": found["to"]}]


async def test_it_says_nothing_of_a_time_of_which_nobody_knows(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await heard(connection, ("d", NOON))
    for query in ("to=2026-03-04T12:00:00Z", "from=2999-01-01T00:00:00Z&to=2999-01-02T00:00:00Z"):
        found = body(await client.get(f"/v1/dpus/d/availability?{query}"))
        assert (found["online_seconds"], found["offline_seconds"], found["availability"]) == (0.0, 0.0, None)
    problem(await client.get("/v1/dpus/d/availability?from=2999-01-01T00:00:00Z"), 422, "invalid", "to")
    problem(await client.get("/v1/dpus/other/availability"), 404, "not_found", "dpu")


async def test_a_limited_token_knows_of_the_time_at_its_doorways(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build_site(connection)
    await apply_site(
        connection,
        dpus=[{"id": "came"}],
        placements=[
            {"dpu": "came", "doorway": "secret-inner", "mounted_in": "secret-b", "from": LONG_AGO, "until": NOON},
            {"dpu": "came", "doorway": "own-inner", "mounted_in": "own", "from": NOON},
        ],
    )
    await outage(connection, "came", NOON - seconds(900))
    async with guarded(database_url) as client:
        own = await new_token(connection, space="own")
        path = "/v1/dpus/came/availability?from=2026-03-04T11:00:00Z&to=2026-03-04T13:00:00Z"
        found = body(await client.get(path, headers=own))
        assert (found["online_seconds"], found["offline_seconds"]) == (3300.0, 300.0)
        assert found["outages"] == [{"from": "2026-03-04T12:00:00Z", "until": "2026-03-04T12:05:00Z"}]
