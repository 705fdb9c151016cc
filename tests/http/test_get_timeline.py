"""GET /v1/spaces/{space}/uptime/timeline."""

import asyncpg
import httpx
import pytest

from headcount.database import calls
from tests.factories import NOON, apply_site
from tests.http import body, poll, problem
from tests.http.guarded import build_site, guarded, new_token
from tests.http.reporting import NOW, build_shop

TIMELINE = "/v1/spaces/shop/uptime/timeline"


def stretches(found: list[dict[str, str]]) -> list[tuple[str, str]]:
    return [(stretch["start"], stretch["end"]) for stretch in found]


async def test_it_tells_of_what_the_example_is_made(client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    await build_shop(client, connection)
    polls = [poll("shop", "2023-01-23T08:59:59Z"), poll("shop", "2023-01-23T11:30:00Z")]
    assert body(await client.post("/v1/polls", json={"polls": polls}))["accepted"] == 2
    window = {"from": "2023-01-23T06:00:00Z", "to": "2023-01-23T11:15:00Z"}
    assert body(await client.get(TIMELINE, params=window)) == {
        "space": "shop",
        "time_zone": "UTC",
        **window,
        "days": [
            {
                "start": "2023-01-23T00:00:00Z",
                "end": "2023-01-24T00:00:00Z",
                "uptime_seconds": 6_270,
                "downtime_seconds": 1_830,
            }
        ],
        "open": [{"start": "2023-01-23T09:00:00Z", "end": "2023-01-23T11:15:00Z"}],
        "up": [{"start": "2023-01-23T09:00:00Z", "end": "2023-01-23T10:44:30Z"}],
        "down": [{"start": "2023-01-23T10:44:30Z", "end": "2023-01-23T11:15:00Z"}],
        "poll_count": 3,
        "polls": [
            {"timestamp": "2023-01-23T08:59:59Z", "status": "active", "in_opening_hours": False},
            {"timestamp": "2023-01-23T10:14:00Z", "status": "active", "in_opening_hours": True},
            # the now of the rule belongs to what was observed, and to nothing that is measured
            {"timestamp": "2023-01-23T11:15:00Z", "status": "inactive", "in_opening_hours": True},
        ],
        "polled": True,
    }


async def test_it_is_of_the_week_before_the_latest_poll(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await build_shop(client, connection)
    found = body(await client.get(TIMELINE))
    assert (found["from"], found["to"]) == ("2023-01-16T11:15:00Z", "2023-01-23T11:15:00Z")
    assert [day["start"][:10] for day in found["days"]] == [f"2023-01-{day}" for day in range(16, 24)]
    assert stretches(found["open"])[0] == ("2023-01-16T11:15:00Z", "2023-01-16T12:00:00Z")


async def test_a_site_without_hours_that_was_never_polled_is_open_and_down(client: httpx.AsyncClient) -> None:
    await client.put("/v1/spaces/shop", json={})
    found = body(await client.get(TIMELINE, params={"from": "2023-01-23T00:00:00Z", "to": NOW}))
    assert found["open"] == found["down"] == [{"start": "2023-01-23T00:00:00Z", "end": NOW}]
    assert (found["up"], found["polls"], found["poll_count"]) == ([], [], 0)


async def test_its_days_are_those_that_uptime_adds_up(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    hours = [{"day": day, "open": "20:00", "close": "03:00"} for day in range(7)]
    await apply_site(connection, spaces=[{"id": "shop", "time_zone": "America/New_York", "opening_hours": hours}])
    times = [NOON.replace(day=7, hour=2), NOON.replace(day=8, hour=6, minute=30, microsecond=1)]
    await calls.record_polls(connection, ["shop"] * 3, [*times, times[0]], [True, True, False])
    window = {"from": "2026-03-06T12:00:00Z", "to": "2026-03-10T12:00:00Z"}
    days = body(await client.get(TIMELINE, params=window))["days"]
    assert [day["start"][5:13] for day in days] == ["03-06T05", "03-07T05", "03-08T05", "03-09T04", "03-10T04"]
    buckets = body(await client.get("/v1/spaces/shop/uptime", params={**window, "interval": "1d"}))["buckets"]
    sums = [(day["uptime_seconds"], day["downtime_seconds"]) for day in days]
    assert sums == [(bucket["uptime_seconds"], bucket["downtime_seconds"]) for bucket in buckets]
    assert all(map(sum, zip(*sums, strict=True))), "up at times, and down at others"


async def test_of_many_polls_it_gives_the_newest(connection: asyncpg.Connection) -> None:
    await apply_site(connection, spaces=[{"id": "shop"}])
    times = [NOON.replace(minute=minute) for minute in range(10)]
    await calls.record_polls(connection, ["shop"] * 10, times, [minute % 2 > 0 for minute in range(10)])
    found = await calls.get_timeline(connection, "shop", None, None, 3)
    assert [poll.timestamp for poll in found.polls] == times[-3:]
    assert [poll.status for poll in found.polls] == ["active", "inactive", "active"]
    assert found.poll_count == 10


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        ({"from": NOW, "to": NOW}, "to"),
        ({"to": "2999-01-24T00:00:00Z"}, "to"),
        ({"from": "2022-12-23T23:59:59Z", "to": NOW}, "from"),
    ],
)
async def test_it_refuses_what_cannot_be(client: httpx.AsyncClient, asked: dict[str, str], where: str) -> None:
    await client.put("/v1/spaces/shop", json={})
    problem(await client.get(TIMELINE, params=asked), 422, "invalid", where)
    problem(await client.get("/v1/spaces/nowhere/uptime/timeline"), 404, "not_found")


async def test_it_refuses_more_changes_than_can_be_shown(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await apply_site(connection, spaces=[{"id": "shop"}])
    await connection.execute(
        """
        insert into core.poll (time, lag_ms, space_id, is_active)
        select timestamptz '2023-01-23 00:00+00' + n * interval '1 second', 0, s.space_id, n % 2 = 0
        from generate_series(0, 20002) as n, core.space s
        """
    )
    problem(await client.get(TIMELINE), 422, "invalid", "from")
    found = body(await client.get(TIMELINE, params={"from": "2023-01-23T00:00:00Z", "to": "2023-01-23T05:00:00Z"}))
    assert (len(found["up"]), len(found["polls"]), found["poll_count"]) == (9_001, 10_000, 18_001)


async def test_a_limited_token_sees_no_polls_of_others(connection: asyncpg.Connection, database_url: str) -> None:
    await build_site(connection)
    await calls.record_polls(connection, ["own-room", "secret-b"], [NOON, NOON.replace(day=20)], [True, False])
    async with guarded(database_url) as client:
        client.headers.update(await new_token(connection, space="own"))
        found = body(await client.get("/v1/spaces/own-room/uptime/timeline"))
        assert found["to"] == found["polls"][-1]["timestamp"], "the latest poll within reach"
        problem(await client.get("/v1/spaces/secret-b/uptime/timeline"), 404, "not_found")
