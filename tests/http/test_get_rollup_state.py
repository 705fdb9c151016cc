"""calls.get_rollup_state: how much readers have to take from raw events instead of rollups."""

from datetime import UTC, datetime

import asyncpg

from headcount.database import calls


async def test_it_gives_how_far_the_rollups_have_come_and_what_came_late_since(connection: asyncpg.Connection) -> None:
    state = await calls.get_rollup_state(connection)
    assert (state.materialized_until, state.late_marks) == (datetime(2000, 1, 1, tzinfo=UTC), 0)
    await connection.execute("update core.rollup_state set materialized_until = now() - interval '40 minutes'")
    await connection.execute("insert into core.late_mark (dpu_id, bucket) values (1, '2026-01-05 08:00+00')")
    state = await calls.get_rollup_state(connection)
    assert 2400 <= state.lag_seconds < 2460
    assert state.late_marks == 1
