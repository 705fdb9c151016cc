"""calls.get_schema: what the service checks before it speaks to a database."""

import asyncpg

from headcount.database import calls
from headcount.database.schema import expected_schema


async def test_it_gives_the_migrations_that_ran_and_the_hash_of_the_repeatable_files(
    connection: asyncpg.Connection,
) -> None:
    expected = expected_schema()
    found = {row.number: row for row in await calls.get_schema(connection)}
    assert found.pop(0).sha256 == expected.repeatable_sha256
    assert {number: row.sha256 for number, row in found.items()} == {
        number: migration.sha256 for number, migration in expected.migrations.items()
    }
