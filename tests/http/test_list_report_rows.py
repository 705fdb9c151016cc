"""The rows of a report: GET /v1/reports/{report}/csv."""

import asyncpg
import httpx
import pytest

from headcount.database import calls
from headcount.routes import reports as routes
from headcount.uptime import reports
from tests.factories import NOON
from tests.http.reporting import trigger, wait_for


async def test_all_of_them_come_however_many_pages_they_are(
    client: httpx.AsyncClient, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "CSV_ROWS", 3)
    monkeypatch.setattr(reports, "SITES", 4)
    names = [f"Shop-{number}" for number in range(9)] + ["shop-0"]
    await calls.record_polls(connection, names, [NOON] * 10, [True] * 10)
    report = await trigger(client)
    assert (await wait_for(client, report))["rows"] == 10
    lines = (await client.get(f"/v1/reports/{report}/csv")).text.split("\n")
    assert [line.split(",")[0] for line in lines[1:]] == [*names, ""]


async def test_it_rounds_at_the_end_and_half_away_from_zero(connection: asyncpg.Connection) -> None:
    found = [
        await connection.fetchval("select array[core.round_minutes($1), core.round_hours($2)]::text[]", minutes, hours)
        for minutes, hours in [(300_000, 18_000_000), (299_999, 17_999_999), (3_600_000_000, 604_800_000_000)]
    ]
    assert found == [["0.01", "0.01"], ["0.00", "0.00"], ["60.00", "168.00"]]
