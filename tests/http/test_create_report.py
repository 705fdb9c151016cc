"""GET and POST /trigger_report, POST /v1/reports."""

import csv

import asyncpg
import httpx
import pytest

from headcount.database import calls
from headcount.routes.reports import COLUMNS
from tests.factories import NOON, apply_site
from tests.http import body, problem
from tests.http.guarded import bearer, build_site, guarded, new_token
from tests.http.reporting import NOW, begun, build_shop, trigger, wait_for

HEADER = (
    "store_id,uptime_last_hour(in minutes),uptime_last_day(in hours),update_last_week(in hours),"
    "downtime_last_hour(in minutes),downtime_last_day(in hours),downtime_last_week(in hours)"
)


async def rows(client: httpx.AsyncClient, report: str) -> list[list[str]]:
    await wait_for(client, report)
    response = await client.get("/get_report", params={"report_id": report})
    assert response.status_code == 200
    return [*csv.reader(response.text.splitlines()[1:])]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_it_needs_no_input_and_tells_of_the_time_up_to_the_latest_poll(
    client: httpx.AsyncClient, connection: asyncpg.Connection, method: str
) -> None:
    await build_shop(client, connection)
    started = body(await client.request(method, "/trigger_report"))
    assert set(started) == {"report_id"}
    found = await wait_for(client, started["report_id"])
    assert (found["now"], found["rows"], found["progress"]) == ("2023-01-23T11:15:00Z", 1, 1)
    # 10:15 to 11:15 with the cut at 10:44:30; the week has 45 minutes of the Monday before
    assert await rows(client, started["report_id"]) == [["shop", "29.50", "1.74", "2.49", "30.50", "0.51", "0.51"]]


async def test_it_gives_the_example_of_the_rule(client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    await build_shop(client, connection)
    assert await rows(client, await trigger(client, now=NOW)) == [
        ["shop", "0.00", "1.74", "1.74", "0.00", "1.26", "1.26"]
    ]
    assert ",".join(COLUMNS) == HEADER


async def test_what_is_asked_for_can_stand_in_the_address(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await build_shop(client, connection)
    for method in ("GET", "POST"):
        asked = {"now": NOW, "under": "shop", "format": "json"}
        started = body(await client.request(method, "/trigger_report", params=asked))
        found = await wait_for(client, started["report_id"])
        assert (found["now"], found["under"]) == (NOW, "shop")


async def test_there_is_a_row_for_each_site_that_was_named_anywhere(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    hours = [{"day": 0, "open": "09:00", "close": "12:00"}]
    await apply_site(connection, spaces=[{"id": "open", "opening_hours": hours}, {"id": "no-site"}])
    await calls.record_polls(connection, ["polled"], [NOON], [True])
    await calls.record_hours(connection, ["hours"], [0], ["09:00"], ["12:00"])
    await calls.record_time_zones(connection, ["zone"], ["Asia/Beirut"])
    found = await rows(client, await trigger(client))
    assert [row[0] for row in found] == ["hours", "polled", "zone"], "opening hours of the API make no site"
    assert found[1][1:] == ["60.00", "24.00", "168.00", "0.00", "0.00", "0.00"]
    assert found[2][1:] == ["0.00", "0.00", "0.00", "60.00", "24.00", "168.00"]


async def test_under_limits_it_to_a_subtree(client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    await apply_site(connection, spaces=[{"id": "city"}, {"id": "one", "parent": "city"}, {"id": "two"}])
    await calls.record_polls(connection, ["one", "two"], [NOON] * 2, [True] * 2)
    assert [row[0] for row in await rows(client, await trigger(client, under="city"))] == ["one"]
    problem(await client.post("/trigger_report", json={"under": "nowhere"}), 404, "not_found", "under")


async def test_nothing_is_all_right_too(client: httpx.AsyncClient) -> None:
    assert await rows(client, await trigger(client)) == []


async def test_as_a_resource_it_is_told_at_once(client: httpx.AsyncClient) -> None:
    made = body(await client.post("/v1/reports", json={"now": NOW}), 202)
    assert (made["now"], made["under"]) == (NOW, None)
    assert (await wait_for(client, made["id"]))["csv_url"] == f"/v1/reports/{made['id']}/csv"
    body(await client.post("/v1/reports"), 202)


@pytest.mark.parametrize("sent", [{"nwo": NOW}, {"now": "2023-01-24"}, {"format": "xml"}, {"under": "no id!"}])
async def test_it_refuses_what_it_does_not_understand(client: httpx.AsyncClient, sent: dict[str, str]) -> None:
    problem(await client.post("/v1/reports", json=sent), 422, "invalid")
    problem(await client.get("/trigger_report", params=sent), 422, "invalid")


async def test_it_says_so_when_too_many_wait(connection: asyncpg.Connection, database_url: str) -> None:
    await begun(connection)
    async with guarded(database_url, max_reports=1) as client:
        client.headers.update(await new_token(connection, "read"))
        problem(await client.get("/trigger_report"), 503, "unavailable")


async def test_a_limited_token_reports_on_its_own_part(connection: asyncpg.Connection, database_url: str) -> None:
    await build_site(connection)
    spaces = ["own", "own-room", "secret-b", "secret-campus"]
    await calls.record_polls(connection, spaces, [NOON] * 3 + [NOON.replace(year=2027)], [True] * 4)
    async with guarded(database_url) as client:
        client.headers.update(await new_token(connection, "read", space="own"))
        report = await trigger(client)
        found = await wait_for(client, report)
        assert (found["under"], found["rows"], found["now"]) == ("own", 2, "2026-03-04T12:00:00Z")
        assert [row[0] for row in await rows(client, report)] == ["own", "own-room"]


async def test_a_token_that_asks_again_and_again_takes_nothing_from_others(
    connection: asyncpg.Connection, database_url: str
) -> None:
    polite, greedy = await new_token(connection, "read"), await new_token(connection, "read")
    async with guarded(database_url, keep_reports=1, max_reports=8, report_workers=1) as client:
        mine = body(await client.post("/v1/reports", headers=polite), 202)["id"]
        same = {body(await client.get("/trigger_report", headers=greedy))["report_id"] for _ in range(20)}
        assert len(same) == 1
        flood = [
            await client.get("/trigger_report", headers=greedy, params={"now": f"2026-01-01T00:{minute:02}:00Z"})
            for minute in range(60)
        ]
        for answer in flood:
            if answer.status_code != 200:
                assert "of this token" in problem(answer, 429, "rate_limited")["detail"]
                assert answer.headers["retry-after"]
        client.headers.update(polite)
        body(await client.get("/trigger_report", params={"now": NOW}))
        assert (await wait_for(client, mine))["status"] == "Complete"


async def test_head_makes_no_report(client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    answer = await client.head("/trigger_report")
    assert (answer.status_code, answer.content) == (200, b"")
    assert await connection.fetchval("select count(*) from core.report") == 0
    made = await client.get("/trigger_report")
    assert made.headers["content-length"] == answer.headers["content-length"]


async def test_what_a_limited_token_makes_has_no_share_of_its_own(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build_site(connection)
    parent = await new_token(connection, "admin", space="own")
    async with guarded(database_url, reports_per_hour=3) as client:
        sent = {"scopes": ["read"]}
        made = [body(await client.post("/v1/tokens", json=sent, headers=parent), 201)["token"] for _ in range(4)]
        answers = [
            (await client.post("/v1/reports", json={"now": f"2026-01-0{day}T00:00:00Z"}, headers=bearer(token)))
            for day, token in enumerate(made, 1)
        ]
    assert [answer.status_code for answer in answers] == [202, 202, 202, 429]
