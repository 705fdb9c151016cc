from datetime import UTC, datetime, timedelta

import asyncpg

from service import calls
from tests.factories import record


async def test_what_is_30_days_old_is_dropped_and_counted(connection: asyncpg.Connection) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    await record(connection, [("new", later, 1), ("old", later, 1)])
    await calls.record_polls(connection, ["a"], [later], [True])
    await connection.execute(
        "update core.rejected_event set received_at = received_at - interval '30 days 1 minute' where dpu = 'old'"
    )
    await connection.execute("update core.rejected_poll set received_at = received_at - interval '31 days'")
    await connection.execute("select core.drop_refused(), core.drop_refused()")
    assert [item.dpu for item in await calls.list_rejected(connection)] == ["new"]
    state = await calls.get_refusal_state(connection)
    assert (state.dropped_events, state.dropped_polls) == (1, 1)
