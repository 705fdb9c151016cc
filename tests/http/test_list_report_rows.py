"""The rows of a report: GET /v1/reports/{report}/csv."""

from typing import Any

import asyncpg
import httpx
import pytest
from litestar.exceptions import LitestarException

from headcount.app import create_app
from headcount.database import calls
from headcount.routes import reports as routes
from headcount.settings import Settings
from headcount.uptime import reports
from tests.factories import NOON
from tests.http import body
from tests.http.guarded import new_token, token_id
from tests.http.reporting import trigger, wait_for
from tests.http.streams import client_of


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


async def test_it_breaks_off_when_the_token_is_revoked(
    connection: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "CSV_ROWS", 3)
    await calls.record_polls(connection, [f"shop-{number}" for number in range(9)], [NOON] * 9, [True] * 9)
    read, pages = calls.list_report_rows, 0

    async def read_and_revoke(*arguments: Any) -> Any:
        nonlocal pages
        pages += 1
        if pages == 2:
            await calls.revoke_token(connection, await token_id(connection, headers))
            authenticator.tokens.doubt()
        return await read(*arguments)

    headers = await new_token(connection)
    app = create_app(Settings(database_url=database_url, jobs=False, send_notices=False))
    authenticator: Any = app.services.authenticator
    async with app.lifespan(), client_of(app) as client:
        report = body(await client.post("/v1/reports", headers=headers), 202)["id"]
        client.headers.update(headers)
        await wait_for(client, report)
        monkeypatch.setattr(calls, "list_report_rows", read_and_revoke)
        with pytest.raises(LitestarException) as broken_off:
            await client.get(f"/v1/reports/{report}/csv")
    assert isinstance(broken_off.value.__cause__, ExceptionGroup)
    assert broken_off.value.__cause__.subgroup(lambda error: "The rest is not sent" in str(error))
    assert pages == 2


async def test_it_rounds_at_the_end_and_half_away_from_zero(connection: asyncpg.Connection) -> None:
    found = [
        await connection.fetchval("select array[core.round_minutes($1), core.round_hours($2)]::text[]", minutes, hours)
        for minutes, hours in [(300_000, 18_000_000), (299_999, 17_999_999), (3_600_000_000, 604_800_000_000)]
    ]
    assert found == [["0.01", "0.01"], ["0.00", "0.00"], ["60.00", "168.00"]]
