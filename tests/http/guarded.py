"""A service that asks for tokens, tokens for it, and a site of which one token sees a part.

Every id beyond that part begins with `secret`, and every event there with a direction of 1777777...: neither may ever
come out.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import asyncpg
import httpx

from headcount.database import calls
from headcount.http.auth import digest_of, make_token
from headcount.settings import Settings
from tests.factories import NOON, apply_site, record, seconds
from tests.http.streams import served

Headers = dict[str, str]


@asynccontextmanager
async def guarded(database_url: str, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service of its own that asks for tokens."""
    async with served(Settings(database_url=database_url, jobs=False, **settings)) as client:
        yield client


@asynccontextmanager
async def administered(
    connection: asyncpg.Connection, database_url: str, **settings: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """The same, with a token that may do all."""
    async with guarded(database_url, **settings) as client:
        client.headers.update(await new_token(connection))
        yield client


def bearer(token: str) -> Headers:
    return {"Authorization": f"Bearer {token}"}


async def new_token(
    connection: asyncpg.Connection, *scopes: str, space: str | None = None, expires_at: datetime | None = None
) -> Headers:
    """The header of a new token; all scopes, unless some are named."""
    token = make_token()
    await calls.create_token(
        connection, digest_of(token), scopes or ("ingest", "read", "admin"), space=space, expires_at=expires_at
    )
    return bearer(token)


async def token_id(connection: asyncpg.Connection, headers: Headers) -> str:
    digest = digest_of(headers["Authorization"].removeprefix("Bearer "))
    return str(await connection.fetchval("select id from core.token where digest = $1", digest))


LONG_AGO = "2020-01-01T00:00:00Z"
MOVED_AT = NOON


async def build_site(connection: asyncpg.Connection) -> None:
    """Outside | secret-campus > (own > own-room) and (secret-b > secret-room).

    Between them own-front (secret-campus, own), own-inner, secret-inner and secret-main. DPUs hang above the doorway
    of their name; `moved` hung above secret-inner until MOVED_AT, and above own-inner since; `loose` nowhere.
    """
    doorways: dict[str, list[str | None]] = {
        "secret-main": [None, "secret-campus"],
        "own-front": ["secret-campus", "own"],
        "own-inner": ["own", "own-room"],
        "secret-b-front": ["secret-campus", "secret-b"],
        "secret-inner": ["secret-b", "secret-room"],
    }
    moved = MOVED_AT.isoformat()
    await apply_site(
        connection,
        spaces=[
            {"id": "secret-campus"},
            {"id": "own", "parent": "secret-campus", "capacity": 10},
            {"id": "own-room", "parent": "own"},
            {"id": "secret-b", "parent": "secret-campus"},
            {"id": "secret-room", "parent": "secret-b"},
        ],
        doorways=[{"id": name, "sides": sides} for name, sides in doorways.items()],
        dpus=[{"id": name} for name in (*doorways, "moved", "secret-loose")],
        placements=[
            *(
                {"dpu": name, "doorway": name, "mounted_in": sides[0], "from": LONG_AGO}
                for name, sides in doorways.items()
            ),
            {"dpu": "moved", "doorway": "secret-inner", "mounted_in": "secret-b", "from": LONG_AGO, "until": moved},
            {"dpu": "moved", "doorway": "own-inner", "mounted_in": "own-room", "from": moved},
        ],
    )
    before, after = NOON - seconds(3600), NOON + seconds(3600)
    assert not await record(
        connection,
        [
            ("own-front", after, -3),
            ("own-inner", after, -1),
            ("moved", before, 177_777_771),
            ("moved", after, 2),
            ("secret-inner", after, 177_777_772),
            ("secret-b-front", after, 177_777_773),
            ("secret-main", after, 177_777_774),
            ("secret-loose", after, 177_777_775),
        ],
    )


def leaks(text: str) -> bool:
    return "secret" in text or "7777777" in text
