"""api.find_tokens."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from headcount.database import calls
from headcount.http.auth import digest_of
from tests.factories import build_house


async def make(connection: asyncpg.Connection, name: str, **more: object) -> bytes:
    digest = digest_of(name)
    await connection.execute(
        "select api.create_token(digest => $1, scopes => '{read}', name => $2, space => $3, expires_at => $4)",
        digest,
        name,
        more.get("space"),
        more.get("expires_at"),
    )
    return digest


async def test_it_finds_the_good_ones_only(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    good, limited = await make(connection, "good"), await make(connection, "limited", space="room")
    revoked = await make(connection, "revoked")
    expired = await make(connection, "expired", expires_at=datetime.now(UTC) + timedelta(days=1))
    await connection.execute("update core.token set expires_at = clock_timestamp() where name = 'expired'")
    await connection.execute("select api.revoke_token(token => id) from core.token where name = 'revoked'")
    found = await calls.find_tokens(connection, [revoked, limited, expired, digest_of("unknown"), good, good])
    assert {row.digest: row.is_limited for row in found} == {good: False, limited: True}
    assert await calls.find_tokens(connection, []) == []


async def test_it_notes_the_use_once_a_minute_at_most(connection: asyncpg.Connection) -> None:
    digest = await make(connection, "token")

    async def written() -> tuple[str, datetime]:
        (row,) = await connection.fetch("select xmin::text, last_used_at from core.token")
        return tuple(row)

    assert await connection.fetchval("select last_used_at from core.token") is None
    await calls.find_tokens(connection, [digest])
    first = await written()
    await calls.find_tokens(connection, [digest])
    assert await written() == first, "nothing was written"
    await connection.execute("update core.token set last_used_at = last_used_at - interval '1 minute'")
    await calls.find_tokens(connection, [digest])
    assert (await written())[1] >= first[1]


@pytest.mark.concurrency
async def test_nobody_waits_for_another_to_note_the_use(connection: asyncpg.Connection, database_url: str) -> None:
    digest = await make(connection, "token")
    other = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            await calls.find_tokens(connection, [digest])
            assert len(await asyncio.wait_for(calls.find_tokens(other, [digest]), 10)) == 1
    finally:
        await other.close()
