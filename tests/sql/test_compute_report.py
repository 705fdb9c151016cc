"""api.compute_report: one snapshot, whatever is stored meanwhile."""

from datetime import timedelta

import asyncpg
import pytest

from headcount.database import calls
from tests.factories import NOON
from tests.http.reporting import begun


async def test_it_goes_on_behind_the_last_site_until_there_is_none(connection: asyncpg.Connection) -> None:
    await calls.record_polls(connection, ["a", "b", "c", "d"], [NOON] * 4, [True] * 4)
    report, attempt = await begun(connection)
    async with connection.transaction(isolation="repeatable_read"):
        steps = [await calls.compute_report(connection, report, attempt, None, 2)]
        while (last := steps[-1].last_site) is not None:
            steps.append(await calls.compute_report(connection, report, attempt, last, 2))
    assert [(step.last_site, step.progress) for step in steps] == [("b", 0.5), ("d", 1), (None, 1)]
    found = await calls.get_report(connection, report)
    assert (found.status, found.row_count, found.now_at) == ("Complete", 4, NOON)
    assert [row.site for row in await calls.list_report_rows(connection, report)] == ["a", "b", "c", "d"]


async def test_it_wants_one_snapshot_and_that_nobody_else_took_it(connection: asyncpg.Connection) -> None:
    report, attempt = await begun(connection)
    with pytest.raises(asyncpg.PostgresError) as refused:
        await calls.compute_report(connection, report, attempt)
    assert refused.value.sqlstate == "PT422"
    async with connection.transaction(isolation="repeatable_read"):
        with pytest.raises(asyncpg.PostgresError) as refused:
            await calls.compute_report(connection, report, attempt - 1)
    assert refused.value.sqlstate == "PT409"


@pytest.mark.concurrency
async def test_polls_that_arrive_meanwhile_are_not_in_it(connection: asyncpg.Connection, database_url: str) -> None:
    await calls.record_polls(connection, ["a", "b"], [NOON] * 2, [True] * 2)
    report, attempt = await begun(connection)
    other = await asyncpg.connect(database_url)
    try:
        async with connection.transaction(isolation="repeatable_read"):
            step = await calls.compute_report(connection, report, attempt, None, 1)
            later, earlier = NOON + timedelta(minutes=1), NOON - timedelta(minutes=5)
            await calls.record_polls(other, ["b", "b", "b2"], [later, earlier, NOON], [False] * 3)
            await calls.extend_report(other, report, attempt, 0.5)  # which stands in nobody's way
            while step.last_site is not None:
                step = await calls.compute_report(connection, report, attempt, step.last_site, 1)
        rows = await calls.list_report_rows(connection, report)
        assert [(row.site, float(row.uptime_last_hour)) for row in rows] == [("a", 60), ("b", 60)]
        assert (await calls.get_report(connection, report)).now_at == NOON
    finally:
        await other.close()
