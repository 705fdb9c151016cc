"""Senders that publish until each message is acknowledged by the stream, and what must be stored in the end."""

import asyncio
import itertools
import json
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import nats
from nats.aio.client import Client

from tests.commands.support import PATIENCE, Process, free_port, headcount, running

BEGIN = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=6)
DPUS = 40
SENDERS = 8
ACK_SECONDS = 3
# Between two messages of a sender: more than can be stored only makes the end late.
PAUSE_SECONDS = 0.1


def events(numbers: Sequence[int]) -> list[dict[str, object]]:
    """One for each number, told apart by its time."""
    return [
        {
            "dpu": f"dpu-{number % DPUS}",
            "timestamp": (BEGIN + timedelta(milliseconds=number)).isoformat(),
            "direction": 1,
        }
        for number in numbers
    ]


async def connect(urls: Sequence[str]) -> Client:
    async def ignore(_: Exception) -> None:
        """Servers are killed here."""

    return await nats.connect(
        list(urls), max_reconnect_attempts=-1, reconnect_time_wait=1, error_cb=ignore, connect_timeout=2
    )


class Senders:
    def __init__(self, client: Client) -> None:
        self.jetstream = client.jetstream(timeout=3)
        self.number = itertools.count()
        self.stop = asyncio.Event()
        self.published: list[int] = []
        self.progress = asyncio.Event()

    async def run(self, size: int) -> None:
        while not self.stop.is_set():
            numbers = list(itertools.islice(self.number, size))
            body = events(numbers)
            await self._send(json.dumps(body[0] if size == 1 else {"events": body}).encode(), f"dpu-{size}")
            self.published += numbers
            self.progress.set()
            await asyncio.sleep(PAUSE_SECONDS)

    async def _send(self, body: bytes, name: str) -> None:
        """Again and again without an id of the message, so that the stream may hold it several times."""
        while True:
            try:
                await self.jetstream.publish(f"headcount.events.{name}", body)
                return
            except (nats.errors.Error, OSError):
                await asyncio.sleep(0.1)

    async def get_on(self, number: int, tasks: Sequence["asyncio.Task[None]"]) -> None:
        """Until so many more events are published."""
        wanted = len(self.published) + number
        async with asyncio.timeout(PATIENCE):
            while len(self.published) < wanted:
                for task in tasks:
                    assert not task.done(), task
                self.progress.clear()
                await self.progress.wait()


async def crash_under_load(
    urls: Sequence[str], database_url: str, crash: Callable[[], Awaitable[None]], rounds: int
) -> None:
    """Senders, and a crash after some messages in each round; ends when all that was sent is stored, once."""
    client = await connect(urls)
    senders = Senders(client)
    tasks = [asyncio.create_task(senders.run(1 if number % 2 else 20)) for number in range(SENDERS)]
    for _ in range(rounds):
        await senders.get_on(random.randint(1, 500), tasks)
        await asyncio.sleep(random.random() / 5)
        await crash()
    await senders.get_on(100, tasks)
    senders.stop.set()
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*tasks)
    await client.close()
    await until_stored(database_url, senders.published)


async def stored(connection: asyncpg.Connection) -> list[int]:
    """The numbers of the events that are there."""
    rows = await connection.fetch("select time from core.event order by time")
    return [round((row["time"] - BEGIN) / timedelta(milliseconds=1)) for row in rows]


async def missing(connection: asyncpg.Connection, numbers: Sequence[int]) -> str:
    left = sorted(set(numbers) - set(await stored(connection)))
    return f"{len(left)} of {len(numbers)} events are not stored: {left[:20]}"


async def until_stored(database_url: str, numbers: Sequence[int]) -> None:
    """Every event is there once, and nothing else; sums agree."""
    connection = await asyncpg.connect(database_url, server_settings={"timezone": "UTC"})
    try:
        deadline = time.monotonic() + PATIENCE
        while await connection.fetchval("select count(*) from core.event") < len(numbers):
            assert time.monotonic() < deadline, await missing(connection, numbers)
            await asyncio.sleep(0.1)
        found = await stored(connection)
        total = await connection.fetchval("select sum(cumulative_count) from core.dpu_state")
    finally:
        await connection.close()
    assert found == sorted(numbers)
    assert total == len(numbers)
    verified = await headcount("verify", url=database_url)
    assert verified.exit_code == 0, verified.output


@contextmanager
def consuming(
    folder: Path, urls: Sequence[str], database_url: str, *arguments: object, **variables: str
) -> Iterator[Process]:
    """`headcount consume`, ready; without tokens, unless the variables say otherwise."""
    chosen = {
        "DATABASE_URL": database_url,
        "HEADCOUNT_AUTH": "off",
        "HEADCOUNT_METRICS_PORT": str(free_port()),
        "HEADCOUNT_NATS_URL": ",".join(urls),
    } | variables
    with running(folder, "consume", "--ack-wait", ACK_SECONDS, *arguments, **chosen) as process:
        process.wait_for(" of stream ")  # from now on it pulls
        yield process


class Consumers:
    """Some that share the work, killed in turn and started again."""

    def __init__(
        self, folder: Path, urls: Sequence[str], database_url: str, stack: ExitStack, number: int, *arguments: object
    ) -> None:
        self.folder, self.urls, self.database_url, self.stack = folder, urls, database_url, stack
        self.arguments = arguments
        self.processes = [self.start() for _ in range(number)]
        self.killed = 0

    def start(self) -> Process:
        return self.stack.enter_context(consuming(self.folder, self.urls, self.database_url, *self.arguments))

    async def crash(self) -> None:
        place = self.killed % len(self.processes)
        self.processes[place].kill()
        self.killed += 1
        self.processes[place] = await asyncio.to_thread(self.start)
