"""calls.get_wal_position: how far the primary has come, by which a replica is judged."""

from datetime import UTC, datetime, timedelta

import asyncpg

from headcount.database import calls
from tests.factories import build_house


async def test_what_is_committed_moves_it_on(connection: asyncpg.Connection) -> None:
    before = await calls.get_wal_position(connection)
    await build_house(connection)
    after = await calls.get_wal_position(connection)
    assert before.wal_bytes is not None
    assert after.wal_bytes is not None
    assert before.wal_bytes < after.wal_bytes
    assert (before.is_standby, before.system_id) == (False, after.system_id)
    assert abs(datetime.now(UTC) - after.at) < timedelta(minutes=1)
