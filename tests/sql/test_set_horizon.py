from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from headcount.database import calls
from tests.factories import differences, record

OLD = datetime(2005, 7, 24, 12, tzinfo=UTC)


async def test_it_takes_nothing_before_2010_until_somebody_says_otherwise(connection: asyncpg.Connection) -> None:
    assert await record(connection, [("door", OLD, 1)]) == [(0, "too_old")]
    detail = await connection.fetchval("select detail from core.rejected_event")
    assert detail.startswith("The timestamp is before 2010-01-01T00:00:00Z.")
    assert "HEADCOUNT_EVENTS_FROM" in detail


async def test_it_takes_what_is_not_before_the_horizon(connection: asyncpg.Connection) -> None:
    horizon = datetime(2005, 1, 1, tzinfo=UTC)
    assert await calls.set_horizon(connection, horizon) == horizon
    before = horizon - timedelta(microseconds=1)
    assert await record(connection, [("door", OLD, 1), ("door", horizon, 1), ("door", before, 1)]) == [(2, "too_old")]


async def test_what_is_stored_stays_when_the_horizon_moves_behind_it(connection: asyncpg.Connection) -> None:
    await calls.set_horizon(connection, datetime(2005, 1, 1, tzinfo=UTC))
    await record(connection, [("door", OLD, 3)])
    await calls.set_horizon(connection, datetime(2020, 1, 1, tzinfo=UTC))
    assert await record(connection, [("door", OLD, 1, 1)]) == [(0, "too_old")]
    events = await calls.list_events(connection, "door")
    assert [(event.timestamp, event.direction) for event in events] == [(OLD, 3)]
    assert (await calls.get_dpu(connection, "door")).cumulative_count == 3
    assert await differences(connection) == []


async def test_null_leaves_it_as_it_is(connection: asyncpg.Connection) -> None:
    await calls.set_horizon(connection, OLD)
    assert await calls.set_horizon(connection, None) == OLD


@pytest.mark.parametrize("years", [-30, 1])
async def test_it_refuses_what_makes_no_sense(connection: asyncpg.Connection, years: int) -> None:
    at = datetime.now(UTC) + timedelta(days=365 * years)
    with pytest.raises(asyncpg.PostgresError) as refused:
        await calls.set_horizon(connection, at)
    assert (refused.value.sqlstate, refused.value.detail) == ("PT422", "HEADCOUNT_EVENTS_FROM")
