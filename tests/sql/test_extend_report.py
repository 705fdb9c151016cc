"""api.extend_report."""

import asyncpg

from headcount.database import calls
from tests.http.reporting import begun


async def test_only_who_has_the_report_says_how_far_it_is(connection: asyncpg.Connection) -> None:
    report, attempt = await begun(connection)
    await calls.extend_report(connection, report, attempt, 0.25, 600)
    await calls.extend_report(connection, report, attempt + 1, 0.75, 600)
    assert (await calls.get_report(connection, report)).progress == 0.25
