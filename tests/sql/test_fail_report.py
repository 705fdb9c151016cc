"""api.fail_report."""

import asyncpg

from headcount.database import calls
from tests.http.reporting import begun


async def test_only_who_has_the_report_fails_it(connection: asyncpg.Connection) -> None:
    report, attempt = await begun(connection)
    await calls.fail_report(connection, report, attempt - 1, "no")
    assert (await calls.get_report(connection, report)).status == "Running"
    await calls.fail_report(connection, report, attempt, "yes")
    await calls.fail_report(connection, report, attempt, "no")
    found = await calls.get_report(connection, report)
    assert (found.status, found.detail) == ("Failed", "yes")
    assert found.finished_at is not None
