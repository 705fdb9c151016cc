"""GET /v1/reports/{report}/rows."""

import asyncpg
import httpx

from headcount.database import calls
from tests.factories import NOON, seconds
from tests.http import body, problem, put
from tests.http.reporting import begun, trigger, wait_for


async def test_it_says_which_sites_were_never_polled_and_what_they_are_called(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await put(client, "spaces/shop", name="Corner shop")
    await calls.record_polls(connection, ["shop"], [NOON], [True])
    await calls.record_polls(connection, ["later"], [NOON + seconds(60)], [True])
    await calls.record_time_zones(connection, ["zone"], ["Asia/Beirut"])
    report = await trigger(client, now=NOON.isoformat())
    await wait_for(client, report)
    found = body(await client.get(f"/v1/reports/{report}/rows"))
    assert found["next"] is None
    assert [(row["space"], row["name"], row["polled"]) for row in found["items"]] == [
        ("later", None, False),
        ("shop", "Corner shop", True),
        ("zone", None, False),
    ]
    assert found["items"][1] == {
        "space": "shop",
        "name": "Corner shop",
        "polled": True,
        "uptime_last_hour_minutes": 60.0,
        "uptime_last_day_hours": 24.0,
        "uptime_last_week_hours": 168.0,
        "downtime_last_hour_minutes": 0.0,
        "downtime_last_day_hours": 0.0,
        "downtime_last_week_hours": 0.0,
    }


async def test_all_rows_come_page_by_page(client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    names = [f"Shop-{number}" for number in range(5)] + ["shop-0"]
    await calls.record_polls(connection, names, [NOON] * 6, [True] * 6)
    report = await trigger(client)
    await wait_for(client, report)
    told, after = [], ""
    while after is not None:
        page = body(await client.get(f"/v1/reports/{report}/rows?limit=4{after and f'&after={after}'}"))
        told += [row["space"] for row in page["items"]]
        after = page["next"]
    assert told == names


async def test_only_a_complete_report_has_rows(client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    report, _ = await begun(connection)
    problem(await client.get(f"/v1/reports/{report}/rows"), 409, "conflict", "report")
    problem(await client.get("/v1/reports/none/rows"), 404, "not_found", "report")
