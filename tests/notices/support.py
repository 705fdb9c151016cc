"""Receivers of notices on this machine, and a service that sends to them."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import asyncpg
import httpx
from standardwebhooks import Webhook

from headcount.database import calls
from headcount.settings import Settings
from headcount.wire.messages.notices import DeliveryOut
from tests.commands.support import PATIENCE
from tests.http.streams import served

LOCAL = ("127.0.0.0/8", "::1/128")

Received = dict[str, Any]
Answer = tuple[int, dict[str, str], bytes]


class Receiver:
    """Takes every request; `answer` may be changed at any time. What came is in `seen`, oldest first."""

    def __init__(self) -> None:
        self.seen: list[Received] = []
        self.answer: Callable[[Received], Awaitable[Answer]] = accept
        self.port = 0
        self.came = asyncio.Event()
        self.waiting: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self.waiting.add(task)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            request, *lines = head.rstrip().split("\r\n")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            seen = {"request": request, "headers": headers, "body": body}
            self.seen.append(seen)
            self.came.set()
            status, more, content = await self.answer(seen)
            more = {"Content-Length": str(len(content)), "Connection": "close", **more}
            fields = "".join(f"{name}: {value}\r\n" for name, value in more.items())
            writer.write(f"HTTP/1.1 {status} So\r\n{fields}\r\n".encode() + content)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.waiting.discard(task)
            writer.close()

    async def wait_for(self, number: int) -> list[Received]:
        """Returns when so many requests have come."""
        async with asyncio.timeout(PATIENCE):
            while len(self.seen) < number:
                self.came.clear()
                await self.came.wait()
        return self.seen


async def accept(_: Received) -> Answer:
    return 204, {}, b""


async def never(_: Received) -> Answer:
    await asyncio.Event().wait()
    raise AssertionError


def always(status: int, content: bytes = b"", **headers: str) -> Callable[[Received], Awaitable[Answer]]:
    async def answer(_: Received) -> Answer:
        return status, headers, content

    return answer


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    found = Receiver()
    server = await asyncio.start_server(found._serve, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()
        for task in list(found.waiting):
            task.cancel()
        await asyncio.gather(*found.waiting, return_exceptions=True)


@asynccontextmanager
async def service(database_url: str, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service of its own, which may send to this machine."""
    settings = {"auth": "off", "private_targets": LOCAL, **settings}
    async with served(Settings(database_url=database_url, **settings)) as client:
        yield client


async def put_channel(client: httpx.AsyncClient, name: str, **fields: Any) -> Any:
    answer = await client.put(f"/v1/channels/{name}", json=fields)
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


def verified(secret: str, seen: Received) -> Any:
    """The body, after the signature was checked as a receiver would."""
    return Webhook(secret).verify(seen["body"], seen["headers"])


async def tell(
    connection: asyncpg.Connection,
    kind: str,
    incident: int | None = 1,
    space: str | None = None,
    /,
    **details: Any,
) -> None:
    """Adds one notice, as the detection of outages does."""
    await tell_all(connection, [(kind, incident, space)], **details)


async def tell_all(
    connection: asyncpg.Connection, notices: list[tuple[str, int | None, str | None]], **details: Any
) -> None:
    data = {"kind": "dpu_offline", "dpus": ["dpu-1"], "dpu_count": 1, **details}
    await connection.execute(
        """
        select core.add_notices(
          $1::text[], $2, array(select (select s.space_id from core.space s where s.id = g.id)
                        from unnest($3::text[]) with ordinality as g (id, place) order by g.place),
          array_fill(timestamptz '2026-03-04 12:00:00Z', array[cardinality($1::text[])]),
          array_fill($4::jsonb, array[cardinality($1::text[])]))
        """,
        [kind for kind, _, _ in notices],
        [incident for _, incident, _ in notices],
        [space for _, _, space in notices],
        json.dumps(data),
    )


async def log(connection: asyncpg.Connection, channel: str | None = None) -> list[tuple[str, str, str, str | None]]:
    """What became of everything, oldest first: channel, kind, state, reason."""
    rows = await calls.list_deliveries(connection, channel, max_rows=1000)
    return [(row.channel, row.kind, row.state, row.reason) for row in reversed(rows)]


async def make_channel(connection: asyncpg.Connection, name: str = "hook", **fields: Any) -> None:
    """A webhook that nothing is ever sent to, unless a test says otherwise."""
    fields = {"kind": "webhook", "url": "https://receiver.example/hook", **fields}
    await connection.execute(
        "select api.put_channel(channel => $1, patch => $2)", name, json.dumps(fields, default=str)
    )


async def told_at(connection: asyncpg.Connection, at: datetime) -> None:
    """What was told until now was told at that instant of the past."""
    await connection.execute("update core.notice set created_at = $1 where created_at > now() - interval '1 hour'", at)


async def until_settled(connection: asyncpg.Connection) -> list[DeliveryOut]:
    """All deliveries, newest first, once none of them waits."""
    async with asyncio.timeout(PATIENCE):
        while True:
            rows = await calls.list_deliveries(connection, max_rows=1000)
            if rows and all(row.state != "pending" for row in rows):
                return rows
            await asyncio.sleep(0.05)


async def hasten(connection: asyncpg.Connection) -> None:
    """Makes due what waits for its next try."""
    await connection.execute("update core.delivery set due_at = now() where state = 'pending' and claim is null")


@asynccontextmanager
async def impatience(connection_url: str) -> AsyncIterator[None]:
    """What has failed is due again at once."""

    async def run() -> None:
        session = await asyncpg.connect(connection_url)
        try:
            while True:
                await hasten(session)
                await asyncio.sleep(0.05)
        finally:
            session.terminate()

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
