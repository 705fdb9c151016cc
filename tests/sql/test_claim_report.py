"""api.claim_report: whoever computes a report has it alone, and not for ever."""

import asyncio

import asyncpg
import httpx
import pytest

from headcount.database import calls
from tests.http.reporting import begun, wait_for


async def test_there_may_be_nothing_to_do(connection: asyncpg.Connection) -> None:
    assert await calls.claim_report(connection) is None


async def test_nobody_else_gets_it_while_it_is_held_and_somebody_does_when_it_is_not(
    connection: asyncpg.Connection,
) -> None:
    async with connection.transaction():
        report = await calls.create_report(connection)
        for attempt in (1, 2, 3):
            claim = await calls.claim_report(connection, 600)
            assert claim is not None
            assert (claim.id, claim.attempt) == (report, attempt)
            assert await calls.claim_report(connection, 600) is None
            await calls.extend_report(connection, report, attempt, 0.5, -1)
        assert await calls.claim_report(connection) is None
        found = await calls.get_report(connection, report)
        assert (found.status, found.detail) == ("Failed", "The process that computed it ended early, three times.")


async def test_the_service_goes_on_with_what_a_dead_one_left_behind(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    report, attempt = await begun(connection, lease_seconds=0.1)
    assert (await wait_for(client, report))["rows"] == 0
    assert await connection.fetchval("select attempts from core.report") == attempt + 1


@pytest.mark.concurrency
async def test_of_many_who_ask_at_once_one_gets_it(connection: asyncpg.Connection, database_url: str) -> None:
    others = [await asyncpg.connect(database_url) for _ in range(6)]
    try:
        for _ in range(20):
            await connection.execute("truncate core.report cascade")
            report = await calls.create_report(connection)
            found = await asyncio.gather(*(calls.claim_report(other) for other in others))
            # or one of the service's workers was quicker
            assert len([claim for claim in found if claim]) <= 1
            assert await connection.fetchval("select attempts from core.report where id = $1", report) == 1
    finally:
        for other in others:
            await other.close()
