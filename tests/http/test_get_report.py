"""GET /get_report, GET /v1/reports/{report}."""

import asyncpg
import httpx

from headcount.database import calls
from tests.factories import NOON, apply_site
from tests.http import body, problem
from tests.http.guarded import build_site, guarded, new_token
from tests.http.reporting import NOW, begun, build_shop, trigger, wait_for


async def test_while_it_runs_it_tells_how_far_it_is(client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    report, attempt = await begun(connection)
    assert body(await client.get(f"/get_report?report_id={report}")) == {"status": "Running", "progress": 0}
    await calls.extend_report(connection, report, attempt, 0.4, 600)
    response = await client.get(f"/get_report?report_id={report}")
    assert body(response) == {"status": "Running", "progress": 0.4}
    assert response.headers["x-report-status"] == "Running"
    found = body(await client.get(f"/v1/reports/{report}"))
    assert (found["progress"], found["rows"], found["csv_url"]) == (0.4, None, None)
    problem(await client.get(f"/v1/reports/{report}/csv"), 409, "conflict")


async def test_when_it_is_complete_it_is_the_csv(client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    await build_shop(client, connection)
    report = await trigger(client, now=NOW)
    await wait_for(client, report)
    response = await client.get(f"/get_report?report_id={report}")
    assert response.headers["content-type"].startswith("text/csv")
    assert response.headers["x-report-status"] == "Complete"
    assert response.headers["content-disposition"] == f'attachment; filename="uptime-{report}.csv"'
    assert response.text.splitlines()[1] == "shop,0.00,1.74,1.74,0.00,1.26,1.26"
    assert (await client.get(f"/v1/reports/{report}/csv")).text == response.text


async def test_who_prefers_json_is_told_where_the_csv_is(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await build_shop(client, connection)
    report = await trigger(client)
    await wait_for(client, report)
    response = await client.get(f"/get_report?report_id={report}", headers={"accept": "application/json"})
    assert response.headers["x-report-status"] == "Complete"
    assert body(response) == {"status": "Complete", "csv_url": f"/v1/reports/{report}/csv", "rows": 1}


async def test_the_format_asked_for_with_the_report_holds_unless_another_is_preferred(
    client: httpx.AsyncClient,
) -> None:
    report = await trigger(client, format="json")
    await wait_for(client, report)
    assert body(await client.get(f"/get_report?report_id={report}"))["status"] == "Complete"
    response = await client.get(f"/get_report?report_id={report}", headers={"accept": "text/csv"})
    assert response.headers["content-type"].startswith("text/csv")


async def test_when_it_failed_it_says_why(client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    report, attempt = await begun(connection)
    await calls.fail_report(connection, report, attempt, "It was too much.")
    response = await client.get(f"/get_report?report_id={report}")
    assert body(response) == {"status": "Failed", "detail": "It was too much."}
    assert response.headers["x-report-status"] == "Failed"


async def test_an_id_that_nobody_was_given_is_unknown(client: httpx.AsyncClient) -> None:
    for path in ("/get_report?report_id=nothing", "/v1/reports/nothing", "/v1/reports/nothing/csv"):
        problem(await client.get(path), 404, "not_found")
    problem(await client.get("/get_report"), 422, "invalid")


async def test_a_limited_token_reads_reports_of_its_part_and_of_them_what_is_its_part_now(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build_site(connection)
    await apply_site(connection, spaces=[{"id": "secret-later", "parent": "own"}])
    spaces = ["own", "own-room", "secret-b", "secret-later"]
    await calls.record_polls(connection, spaces, [NOON] * 4, [True] * 4)
    async with guarded(database_url) as client:
        everything = await new_token(connection, "read")
        client.headers.update(everything)
        whole, part = await trigger(client), await trigger(client, under="own")
        for report in (whole, part):
            await wait_for(client, report)
        await apply_site(connection, spaces=[{"id": "secret-later", "parent": None}])
        client.headers.update(await new_token(connection, "read", space="own"))
        problem(await client.get(f"/get_report?report_id={whole}"), 404, "not_found")
        problem(await client.get(f"/v1/reports/{whole}/csv"), 404, "not_found")
        assert [found["id"] for found in body(await client.get("/v1/reports"))["items"]] == [part]
        assert body(await client.get(f"/v1/reports/{part}"))["rows"] == 2
        response = await client.get(f"/get_report?report_id={part}")
        assert [line.split(",")[0] for line in response.text.splitlines()[1:]] == ["own", "own-room"]
