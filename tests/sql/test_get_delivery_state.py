"""api.get_delivery_state."""

import asyncpg

from headcount.database import calls
from tests.notices.support import make_channel, tell


async def test_it_tells_what_waits_and_for_how_long(connection: asyncpg.Connection) -> None:
    found = await calls.get_delivery_state(connection)
    assert (found.pending, found.oldest_seconds) == (0, 0)
    await make_channel(connection)
    for number in range(3):
        await tell(connection, "offline", number)
    await connection.execute("update core.delivery set created_at = now() - interval '100 s' where delivery_id = 2")
    await connection.execute("update core.delivery set state = 'failed', settled_at = now() where delivery_id = 1")
    found = await calls.get_delivery_state(connection)
    assert found.pending == 2
    assert 100 <= found.oldest_seconds < 130
