"""calls.get_import: where an import goes on."""

import asyncpg

from headcount.database import calls


async def test_it_knows_no_file_that_was_never_begun(connection: asyncpg.Connection) -> None:
    assert await calls.get_import(connection, "ab" * 32) is None
    await calls.record_import(connection, "ab" * 32, "events.csv", 2, 1, 0, 0, False)
    found = await calls.get_import(connection, "ab" * 32)
    assert found is not None
    assert (found.lines, found.finished) == (2, False)
