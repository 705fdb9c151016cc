"""Embedded databases of these tests' own, copied from a template so that each starts at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import asyncpg
import pytest
import pytest_asyncio
from asyncpg.pool import PoolConnectionProxy

from headcount.embedded import EmbeddedDatabase, copy_template, make_template
from headcount.embedded.package import cache_folder
from tests.commands.support import PATIENCE


class Connect(Protocol):
    """Connects to the shared database; the connection is closed when the test is over."""

    async def __call__(self, **options: Any) -> asyncpg.Connection[asyncpg.Record]: ...


async def fetch_tuple(
    connection: asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record], query: str
) -> tuple[Any, ...]:
    row = await connection.fetchrow(query)
    assert row is not None
    return tuple(row)


async def wait_until(is_true: Callable[[], bool | Awaitable[bool]]) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        answer = is_true()
        if answer if isinstance(answer, bool) else await answer:
            return
        assert time.monotonic() < deadline, "waited for too long"
        await asyncio.sleep(0.02)


@pytest.fixture(scope="session")
def template() -> Path:
    """An empty database, made once per user and version of the package."""
    return make_template(cache_folder(), [b"empty"], lambda url: None)


MakeDatabase = Callable[..., EmbeddedDatabase]


@pytest.fixture
def make_database(template: Path, tmp_path: Path) -> Iterator[MakeDatabase]:
    """Makes databases of the test's own, not started; they are stopped when the test is over. None runs for so
    long that compiling it well would pay."""
    with ExitStack() as stack:
        count = 0

        def make(**options: Any) -> EmbeddedDatabase:
            nonlocal count
            count += 1
            directory = tmp_path / f"database{count}"
            copy_template(template, directory)
            database = EmbeddedDatabase(directory, **{"optimized": False, **options})
            stack.callback(database.stop)
            return database

        yield make


@pytest.fixture(scope="session")
def url(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database that tests share; they leave alone what they did not make."""
    directory = tmp_path_factory.mktemp("shared")
    copy_template(template, directory)
    # so long that nobody is ended since this process stood still
    with EmbeddedDatabase(directory, idle_in_transaction_seconds=60, durable=False) as database:
        yield database.url


@pytest.fixture
def impatient_url(make_database: MakeDatabase) -> Iterator[str]:
    """A database that soon ends whoever keeps others waiting."""
    with make_database(idle_in_transaction_seconds=1, durable=False) as database:
        yield database.url


@pytest_asyncio.fixture
async def connect(url: str) -> AsyncIterator[Connect]:
    async for found in connecting(url):
        yield found


async def connecting(url: str) -> AsyncIterator[Connect]:
    connections: list[asyncpg.Connection[asyncpg.Record]] = []

    async def connect(**options: Any) -> asyncpg.Connection[asyncpg.Record]:
        connections.append(await asyncpg.connect(url, **options))
        return connections[-1]

    yield connect
    for connection in connections:
        if not connection.is_closed():
            await connection.close()


@pytest_asyncio.fixture
async def schema(connect: Connect) -> AsyncIterator[str]:
    """A schema of the test's own, dropped when the test is over."""
    owner = await connect()
    await owner.execute("create schema s")
    yield "s"
    await owner.execute("set client_min_messages = warning; drop schema s cascade")
