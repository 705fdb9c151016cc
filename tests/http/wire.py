"""A wire to the database that can be cut."""

import asyncio
import itertools
from urllib.parse import parse_qs, urlsplit, urlunsplit

import httpx

from tests.http.streams import PATIENCE


async def until_ready(client: httpx.AsyncClient, status: int, words: str = "") -> httpx.Response:
    """The answer of /readyz once it has this status and these words in it: it is as of a second ago."""
    async with asyncio.timeout(PATIENCE):
        for _ in itertools.count():
            response = await client.get("/readyz")
            if response.status_code == status and words in response.text:
                break
            await asyncio.sleep(0.05)
    return response


class Wire:
    """A TCP port in front of the database that can be cut and mended, frozen and thawed."""

    def __init__(self, database_url: str) -> None:
        self.parts = urlsplit(database_url)
        self.writers: list[asyncio.StreamWriter] = []
        self.server: asyncio.Server | None = None
        self.port = 0
        self.passes = asyncio.Event()
        self.passes.set()

    @property
    def url(self) -> str:
        user = self.parts.netloc.rpartition("@")[0]
        return urlunsplit(self.parts._replace(netloc=f"{user}@127.0.0.1:{self.port}", query="sslmode=disable"))

    def freeze(self) -> None:
        """Nothing passes any more, and nobody is told: as a network that drops everything, or a server that stands."""
        self.passes.clear()

    async def thaw(self) -> None:
        """What was held back comes through."""
        self.passes.set()
        await asyncio.sleep(0)

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
        await self.passes.wait()
        port = self.parts.port or 5432
        if folder := parse_qs(self.parts.query).get("host"):
            back_reader, back_writer = await asyncio.open_unix_connection(f"{folder[0]}/.s.PGSQL.{port}")
        else:
            back_reader, back_writer = await asyncio.open_connection(self.parts.hostname or "127.0.0.1", port)
        self.writers += [writer, back_writer]
        await asyncio.gather(self._pump(reader, back_writer), self._pump(back_reader, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                await self.passes.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()
