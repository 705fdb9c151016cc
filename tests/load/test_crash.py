"""kill -9 under load, of the service and of the database. TEST_CRASHES: how often (make soak: 20)."""

import asyncio
import itertools
import json
import os
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import httpx
import pytest

from headcount.database.migrate import migrate
from tests.commands.support import PATIENCE, Process, free_port, headcount, serving
from tests.load.cluster import private_cluster

CRASHES = int(os.environ.get("TEST_CRASHES", "2"))
CLIENTS = 16
DPUS = 40
BEGIN = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=6)


class Clients:
    """Send events until each is acknowledged: what is sent again may be stored already, and is a duplicate then."""

    def __init__(self, *ports: int) -> None:
        self.urls = [f"http://127.0.0.1:{port}/v1/events" for port in ports]
        self.number = itertools.count()
        self.stop = asyncio.Event()
        self.acknowledged: list[int] = []
        self.wanted = 0
        self.enough = asyncio.Event()
        self.accepted = self.duplicates = self.retries = 0

    def body(self, numbers: list[int]) -> bytes:
        events = [
            {
                "dpu": f"dpu-{number % DPUS}",
                "timestamp": (BEGIN + timedelta(milliseconds=number)).isoformat(),
                "direction": 1,
            }
            for number in numbers
        ]
        return json.dumps({"events": events}).encode()

    async def run(self, size: int) -> None:
        async with httpx.AsyncClient(timeout=PATIENCE) as client:
            while not self.stop.is_set():
                numbers = list(itertools.islice(self.number, size))
                await self._send(client, self.body(numbers), size)
                self.acknowledged += numbers
                if len(self.acknowledged) >= self.wanted:
                    self.enough.set()

    async def get_on(self, number: int, tasks: Sequence[asyncio.Task[None]]) -> None:
        """Until so many more events are acknowledged."""
        self.wanted = len(self.acknowledged) + number
        self.enough.clear()
        enough = asyncio.create_task(self.enough.wait())
        done, _ = await asyncio.wait({enough, *tasks}, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
        assert enough in done, f"only {len(self.acknowledged)} events were acknowledged, after {self.retries} retries"

    async def _send(self, client: httpx.AsyncClient, body: bytes, size: int) -> None:
        while True:
            try:
                url = random.choice(self.urls)
                answer = await client.post(url, content=body, headers={"content-type": "application/json"})
            except httpx.TransportError:
                answer = None
            if answer is not None:
                assert answer.status_code in (200, 429, 503), answer.text
                if answer.status_code == 200:
                    found = answer.json()
                    assert found["accepted"] + found["duplicates"] == size, found
                    self.accepted += found["accepted"]
                    self.duplicates += found["duplicates"]
                    return
            self.retries += 1
            await asyncio.sleep(0.2)


async def crash_under_load(database_url: str, port: int, crash: Callable[[], Awaitable[None]], rounds: int) -> Clients:
    """Clients, and a crash after some acknowledgements in each round; ends when all they sent is acknowledged."""
    clients = Clients(port)
    tasks = [asyncio.create_task(clients.run(1 if number % 4 else 50)) for number in range(CLIENTS)]
    for _ in range(rounds):
        await clients.get_on(random.randint(1, 400), tasks)
        await asyncio.sleep(random.random() / 20)  # anywhere between two commits
        await crash()
    await clients.get_on(100, tasks)
    clients.stop.set()
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*tasks)
    await check(database_url, clients)
    return clients


async def check(database_url: str, clients: Clients) -> None:
    """Every acknowledged event is there once, and nothing else; sums agree."""
    connection = await asyncpg.connect(database_url, server_settings={"timezone": "UTC"})
    try:
        stored = await connection.fetch("select time from core.event")
        total = await connection.fetchval("select sum(cumulative_count) from core.dpu_state")
    finally:
        await connection.close()
    numbers = sorted(round((row["time"] - BEGIN) / timedelta(milliseconds=1)) for row in stored)
    assert numbers == sorted(clients.acknowledged)
    assert total == len(numbers)
    assert clients.accepted + clients.duplicates == len(numbers)
    verified = await headcount("verify", url=database_url)
    assert verified.exit_code == 0, verified.output


class Service:
    """`headcount serve`, killed and started again."""

    def __init__(self, folder: Path, database_url: str, stack: ExitStack) -> None:
        self.folder, self.database_url, self.stack = folder, database_url, stack
        self.port = free_port()
        self.process = self._start()

    def _start(self) -> Process:
        return self.stack.enter_context(serving(self.folder, self.database_url, self.port))

    async def crash(self) -> None:
        self.process.kill()
        self.process = await asyncio.to_thread(self._start)

    async def stop(self) -> None:
        assert await asyncio.to_thread(self.process.end) == 0, self.process.said
        self.process = await asyncio.to_thread(self._start)


async def test_a_stop_answers_everything_that_it_commits(own_database_url: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        service = Service(tmp_path, own_database_url, stack)
        clients = await crash_under_load(own_database_url, service.port, service.stop, CRASHES)
    assert clients.retries
    assert not clients.duplicates  # would be something committed whose answer was lost


async def test_what_was_acknowledged_is_stored_once_however_often_the_service_is_killed(
    own_database_url: str, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        service = Service(tmp_path, own_database_url, stack)
        clients = await crash_under_load(own_database_url, service.port, service.crash, CRASHES)
    assert clients.retries


@pytest.mark.concurrency
async def test_what_was_acknowledged_is_stored_once_however_often_all_sessions_are_ended(
    own_database_url: str, tmp_path: Path
) -> None:
    async def end_sessions() -> None:
        connection = await asyncpg.connect(own_database_url)
        ended = await connection.fetch(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where application_name = 'headcount' and datname = current_database()"
        )
        await connection.close()
        assert ended

    with ExitStack() as stack:
        service = Service(tmp_path, own_database_url, stack)
        clients = await crash_under_load(own_database_url, service.port, end_sessions, CRASHES)
    assert clients.retries


@pytest.mark.concurrency
async def test_what_was_acknowledged_is_stored_once_however_often_service_and_database_are_killed(
    tmp_path: Path,
) -> None:
    with private_cluster() as cluster, ExitStack() as stack:
        migrate(cluster.url)
        service = Service(tmp_path, cluster.url, stack)

        async def kill_database() -> None:
            cluster.kill()
            await asyncio.to_thread(cluster.start)

        crashes = itertools.cycle([kill_database, service.crash])

        async def crash() -> None:
            await next(crashes)()

        clients = await crash_under_load(cluster.url, service.port, crash, CRASHES)
    assert clients.retries
