"""calls.record_import: how far an import has come."""

import asyncpg

from headcount.database import calls
from headcount.wire.messages.service import ImportRow


async def test_it_keeps_the_latest_state_of_an_import(connection: asyncpg.Connection) -> None:
    for lines, finished in ((1001, False), (1501, True)):
        await calls.record_import(
            connection, "ab" * 32, "events.csv", lines, accepted=lines - 4, duplicates=2, rejected=1, finished=finished
        )
    assert await calls.get_import(connection, "ab" * 32) == ImportRow(
        lines=1501, accepted=1497, duplicates=2, rejected=1, finished=True
    )
