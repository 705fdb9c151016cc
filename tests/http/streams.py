"""Listening to GET /v1/live in process, where httpx would wait for the end of the answer."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import asyncpg
import httpx

from headcount.app import create_app
from headcount.http.asgi import App
from headcount.live.feed import Live
from headcount.settings import Settings

PATIENCE = 60.0  # seconds, on a machine that is busy with other things


class Event(NamedTuple):
    id: str
    name: str
    data: Any


class Stream:
    """An answer as it comes. With `may_send` cleared it is a client that takes nothing."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.text = ""
        self.events: list[Event] = []
        self.is_over = False
        self.may_send = asyncio.Event()
        self.may_send.set()
        self.hung_up = asyncio.Event()
        self.dropped = asyncio.Event()
        self.news = asyncio.Condition()

    async def receive(self) -> Any:
        await self.hung_up.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        await self.may_send.wait()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.text += message["body"].decode()
            self.is_over = not message.get("more_body", False)
            *blocks, self.text = self.text.split("\n\n")
            self.events += [parse(block) for block in blocks]
        async with self.news:
            self.news.notify_all()

    async def wait_for(self, count: int) -> list[Event]:
        """The events, as soon as there are so many."""
        await self.wait_until(lambda: len(self.events) >= count or self.is_over)
        return self.events

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE), self.news:
            await self.news.wait_for(condition)

    async def wait_for_end(self) -> None:
        await self.wait_until(lambda: self.is_over)

    def counts(self) -> list[tuple[str, int]]:
        return [(event.data["space"], event.data["raw_count"]) for event in self.events if event.name == "count"]


def parse(block: str) -> Event:
    fields = {"id": "", "event": "message", "data": "null"}
    for line in block.split("\n"):
        if not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
    return Event(fields["id"], fields["event"], json.loads(fields["data"]))


@asynccontextmanager
async def listening(
    app: App,
    query: str = "",
    last_id: str | None = None,
    headers: Mapping[str, str] | None = None,
    method: str = "GET",
) -> AsyncIterator[Stream]:
    """GET (or HEAD) /v1/live, once its head has come; hangs up at the end."""
    sent = {"Host": "localhost", **(headers or {}), **({"Last-Event-ID": last_id} if last_id else {})}
    stream = Stream()
    scope: Any = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": "/v1/live",
        "raw_path": b"/v1/live",
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in sent.items()],
        "server": ("localhost", 80),
        "client": ("127.0.0.1", 1),
    }
    task = asyncio.create_task(app(scope, stream.receive, stream.send))
    task.add_done_callback(lambda _: stream.dropped.set())
    try:
        await stream.wait_until(lambda: stream.status > 0)
        yield stream
    finally:
        stream.hung_up.set()
        stream.may_send.set()
        async with asyncio.timeout(PATIENCE):
            await task
            feed: Live = app.services.live
            if feed.task and not feed.listening:
                await asyncio.wait({feed.task})  # what it reads would be in the way of the next test


@asynccontextmanager
async def behind(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Whoever asks what changed is told that it is too long ago, as if it had stood still for two minutes."""
    text = await connection.fetchval("select pg_get_functiondef('core.is_far_behind'::regproc)")
    head, _, _ = text.partition("AS $function$")
    await connection.execute(f"{head} AS 'begin return true; end'")
    try:
        yield
    finally:
        await connection.execute(text)


def hanging_up(app: App) -> Callable[[Any, Any, Any], Awaitable[None]]:
    """The app as httpx can ask it: who asks for a stream hangs up when the first piece of it has come."""

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] != "/v1/live" or scope["method"] != "GET":
            await app(scope, receive, send)
            return
        has_come = asyncio.Event()

        async def receive_end() -> Any:
            await has_come.wait()
            return {"type": "http.disconnect"}

        async def send_first(message: Any) -> None:
            if message["type"] == "http.response.start":
                await send(message)
            elif not has_come.is_set():
                has_come.set()
                await send({**message, "more_body": False})

        await app(scope, receive_end, send_first)

    return asgi


def client_of(app: App) -> httpx.AsyncClient:
    """A client of the service in process."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=hanging_up(app)), base_url="http://localhost")


@asynccontextmanager
async def served(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service of its own."""
    app = create_app(settings)
    async with app.lifespan(), client_of(app) as client:
        yield client
