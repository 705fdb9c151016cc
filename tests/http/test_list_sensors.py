"""GET /sensors."""

import asyncpg
import httpx

from tests.factories import NOON, apply_site, hear, listen, record, seconds, tick
from tests.http import body, problem


async def build(connection: asyncpg.Connection) -> None:
    """A house with a room; `a` mounted in the room, `b` outside the house, `c` nowhere, `d` never heard of."""
    await apply_site(
        connection,
        spaces=[{"id": "house"}, {"id": "room", "parent": "house"}],
        doorways=[{"id": "front", "sides": [None, "house"]}, {"id": "inner", "sides": ["house", "room"]}],
        dpus=[{"id": "a", "mac_address": "02:00:00:00:00:01"}, {"id": "b", "name": "B"}, {"id": "c"}, {"id": "d"}],
        placements=[
            {"dpu": "a", "doorway": "inner", "mounted_in": "room", "from": "2020-01-01T00:00:00Z"},
            {"dpu": "b", "doorway": "front", "mounted_in": None, "from": "2020-01-01T00:00:00Z"},
        ],
    )
    assert await hear(connection, ("a", NOON), ("b", NOON), ("c", NOON)) == [None] * 3
    await record(connection, [("a", NOON + seconds(300), 1)])
    await listen(connection, NOON, NOON + seconds(600))
    await tick(connection, NOON + seconds(605))


async def test_it_lists_them_those_that_are_offline_first(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await build(connection)
    assert body(await client.get("/sensors")) == [
        {
            "id": "b",
            "mac_address": None,
            "last_heartbeat": "2026-03-04T12:00:00Z",
            "state": "offline",
            "space": "house",
            "name": "B",
            "last_seen": "2026-03-04T12:00:00Z",
            "since": "2026-03-04T12:10:00Z",
        },
        {
            "id": "c",
            "mac_address": None,
            "last_heartbeat": "2026-03-04T12:00:00Z",
            "state": "offline",
            "space": None,
            "name": None,
            "last_seen": "2026-03-04T12:00:00Z",
            "since": "2026-03-04T12:10:00Z",
        },
        {
            "id": "a",
            "mac_address": "02:00:00:00:00:01",
            "last_heartbeat": "2026-03-04T12:00:00Z",
            "state": "online",
            "space": "room",
            "name": None,
            "last_seen": "2026-03-04T12:05:00Z",
            "since": "2026-03-04T12:00:00Z",
        },
        {
            "id": "d",
            "mac_address": None,
            "last_heartbeat": None,
            "state": "never_seen",
            "space": None,
            "name": None,
            "last_seen": None,
            "since": None,
        },
    ]


async def test_it_filters_by_space_and_state(client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    await build(connection)
    for query, expected in (
        ("space=house", ["b", "a"]),
        ("space=room", ["a"]),
        ("state=offline", ["b", "c"]),
        ("state=never_seen", ["d"]),
        ("space=house&state=offline", ["b"]),
    ):
        assert [sensor["id"] for sensor in body(await client.get(f"/sensors?{query}"))] == expected
    problem(await client.get("/sensors?space=cellar"), 404, "not_found", "space")
    problem(await client.get("/sensors?state=asleep"), 422, "invalid", "state")
