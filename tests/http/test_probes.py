"""GET /healthz and /readyz, and a service whose database comes and goes."""

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

import asyncpg
import httpx
import pytest

from service.db import Database
from service.errors import Problem
from service.schema import SchemaMismatch
from service.settings import Settings
from tests.http import body, problem
from tests.http.streams import served


async def test_it_is_healthy_and_ready(client: httpx.AsyncClient) -> None:
    assert body(await client.get("/healthz")) == {"status": "ok"}
    assert body(await client.get("/readyz")) == {"status": "ok"}


class Wire:
    """A TCP port in front of the database that can be cut and mended."""

    def __init__(self, database_url: str) -> None:
        self.parts = urlsplit(database_url)
        self.writers: list[asyncio.StreamWriter] = []
        self.server: asyncio.Server | None = None
        self.port = 0

    @property
    def url(self) -> str:
        user = self.parts.netloc.rpartition("@")[0]
        return urlunsplit(self.parts._replace(netloc=f"{user}@127.0.0.1:{self.port}", query="sslmode=disable"))

    async def mend(self) -> None:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        assert self.server
        self.server.close()
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()
        await asyncio.sleep(0.05)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = self.parts.port or 5432
        if folder := parse_qs(self.parts.query).get("host"):
            back_reader, back_writer = await asyncio.open_unix_connection(f"{folder[0]}/.s.PGSQL.{port}")
        else:
            back_reader, back_writer = await asyncio.open_connection(self.parts.hostname or "127.0.0.1", port)
        self.writers += [writer, back_writer]
        await asyncio.gather(_pump(reader, back_writer), _pump(back_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


def service_at(url: str, **settings: Any) -> AbstractAsyncContextManager[httpx.AsyncClient]:
    return served(Settings(database_url=url, auth="off", jobs=False, **settings))


async def test_it_starts_without_a_database_and_heals_when_it_comes_goes_and_comes_back(
    database_url: str, connection: asyncpg.Connection
) -> None:
    wire = Wire(database_url)
    await wire.mend()
    await wire.cut()
    async with service_at(wire.url, acquire_seconds=2.0) as client:
        for _ in range(2):
            for path in ("/readyz", "/v1/spaces"):
                response = await client.get(path)
                problem(response, 503, "unavailable")
                assert response.headers["retry-after"] == "1"
            assert body(await client.get("/healthz"))
            await wire.mend()
            body(await client.get("/readyz"))
            body(await client.get("/v1/spaces"))
            await wire.cut()
        await wire.mend()
        body(await client.get("/v1/spaces"))
        await wire.cut()


async def test_it_refuses_to_start_on_a_database_that_was_not_migrated(fresh_database_url: str) -> None:
    with pytest.raises(SchemaMismatch, match="headcount migrate"):
        async with service_at(fresh_database_url):
            pass


async def test_it_is_not_ready_once_the_schema_is_another(own_database_url: str) -> None:
    async with service_at(own_database_url) as client:
        body(await client.get("/readyz"))
        owner = await asyncpg.connect(own_database_url)
        await owner.execute("update meta.repeatable set sha256 = 'another' where name = 'repeatable'")
        await owner.close()
        found = problem(await client.get("/readyz"), 503, "unavailable")
        assert "headcount migrate" in found["detail"]


async def test_it_turns_requests_away_at_once_when_too_many_wait(database_url: str) -> None:
    database = Database(Settings(database_url=database_url, auth="off", pool_size=1, max_waiting=1))
    async with database.lifespan(None):
        assert database.pool
        async with database.pool.acquire():
            waiting = asyncio.create_task(database.fetch("select 1"))
            await asyncio.sleep(0.05)
            with pytest.raises(Problem) as raised:
                await database.fetch("select 1")
            assert raised.value.kind.code == "unavailable"
        assert len(await waiting) == 1
