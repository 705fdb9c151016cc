"""GET /v1/spaces/{space}/uptime."""

import asyncpg
import httpx
import pytest

from headcount.database import calls
from tests.factories import NOON, apply_site
from tests.http import body, problem
from tests.http.reporting import NOW, build_shop


def seconds(answer: dict[str, list[dict[str, float]]]) -> list[tuple[float, float]]:
    return [(bucket["uptime_seconds"], bucket["downtime_seconds"]) for bucket in answer["buckets"]]


async def test_it_tells_of_the_week_before_the_latest_poll(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await build_shop(client, connection)
    assert body(await client.get("/v1/spaces/shop/uptime")) == {
        "space": "shop",
        "time_zone": "UTC",
        "buckets": [
            {
                "start": "2023-01-16T11:15:00Z",
                "end": "2023-01-23T11:15:00Z",
                # 45 minutes of the Monday before, and what the report says
                "uptime_seconds": 2_700 + 6_270,
                "downtime_seconds": 1_830,
            }
        ],
        "polled": True,
    }


async def test_it_says_where_nobody_ever_polled(client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    hours = [{"day": 0, "open": "09:00", "close": "12:00"}]
    await apply_site(connection, spaces=[{"id": "shop", "opening_hours": hours}, {"id": "kiosk"}])
    await calls.record_polls(connection, ["kiosk"], [NOON], [True])
    found = body(await client.get("/v1/spaces/shop/uptime"))
    assert (found["polled"], seconds(found)) == (False, [(0, 10_800)])
    timeline = body(await client.get("/v1/spaces/shop/uptime/timeline"))
    assert (timeline["polled"], timeline["poll_count"]) == (False, 0)
    assert body(await client.get("/v1/spaces/kiosk/uptime"))["polled"]
    before = {"to": "2026-03-04T11:59:59Z"}  # later polls do not count
    assert not body(await client.get("/v1/spaces/kiosk/uptime", params=before))["polled"]
    assert not body(await client.get("/v1/spaces/kiosk/uptime/timeline", params=before))["polled"]


async def test_buckets_are_of_local_time_and_add_up_to_the_whole(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await apply_site(connection, spaces=[{"id": "shop", "time_zone": "America/New_York"}])
    await calls.record_polls(connection, ["shop"] * 2, [NOON, NOON.replace(day=10, microsecond=1)], [True, False])
    window = {"from": "2026-03-06T12:00:00Z", "to": "2026-03-10T12:00:00Z"}
    [whole] = seconds(body(await client.get("/v1/spaces/shop/uptime", params=window)))
    days = body(await client.get("/v1/spaces/shop/uptime", params={**window, "interval": "1d"}))
    assert [bucket["start"][5:13] for bucket in days["buckets"]] == [
        "03-06T12",
        "03-07T05",
        "03-08T05",
        "03-09T04",
        "03-10T04",
    ]
    assert (sum(up for up, _ in seconds(days)), sum(down for _, down in seconds(days))) == whole
    assert sum(seconds(days)[2]) == 23 * 3600


async def test_polls_after_the_end_do_not_count(client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    await build_shop(client, connection)
    window = {"from": "2023-01-23T09:00:00Z", "to": "2023-01-23T11:00:00Z"}
    assert seconds(body(await client.get("/v1/spaces/shop/uptime", params=window))) == [(7_200, 0)]
    window["to"] = NOW
    assert seconds(body(await client.get("/v1/spaces/shop/uptime", params=window))) == [(6_270, 4_530)]


async def test_it_comes_as_csv(client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    await build_shop(client, connection)
    response = await client.get(f"/v1/spaces/shop/uptime?from=2023-01-23T00:00:00Z&to={NOW}&format=csv")
    assert response.text.split() == [
        "start,end,uptime_seconds,downtime_seconds",
        "2023-01-23T00:00:00Z,2023-01-24T00:00:00Z,6270.0,4530.0",
    ]


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        ({"from": "2023-01-24T00:00:00Z", "to": "2023-01-24T00:00:00Z"}, "to"),
        ({"to": "2999-01-24T00:00:00Z"}, "to"),
        ({"from": "2020-01-24T00:00:00Z", "to": NOW, "interval": "1h"}, "interval"),
        ({"interval": "2d"}, "interval"),
    ],
)
async def test_it_refuses_what_cannot_be(client: httpx.AsyncClient, asked: dict[str, str], where: str) -> None:
    await client.put("/v1/spaces/shop", json={})
    problem(await client.get("/v1/spaces/shop/uptime", params=asked), 422, "invalid", where)
    problem(await client.get("/v1/spaces/nowhere/uptime"), 404, "not_found")
