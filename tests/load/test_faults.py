"""Faults of the machine under load: a full disk, and a clock that jumps. TEST_CRASHES: how often (make soak: 20).

All that was acknowledged has to be there once; what was refused for a clock is run again, and then there as well.
"""

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import httpx
import pytest

from headcount.database.migrate import migrate
from tests.commands.support import PATIENCE, headcount
from tests.factories import LONG_AGO, apply_site
from tests.load.cluster import Cluster, private_cluster
from tests.load.test_crash import Service

ROUNDS = max(1, int(os.environ.get("TEST_CRASHES", "3")) // 3)
CLIENTS = 8
DPUS = 20
HOUR = 3600

pytestmark = pytest.mark.concurrency

Identity = tuple[str, datetime, int]


class LiveClients:
    """Sensors whose clocks go: each event is sent until it is acknowledged, stored or refused."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.stop = asyncio.Event()
        self.numbers = 0
        self.accepted: list[Identity] = []
        self.refused: list[Identity] = []
        self.duplicates = self.unavailable = self.suspected = self.cut = 0
        self.longest_seconds = 0.0
        self.acknowledged_at = time.monotonic()
        self.tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self.tasks = [asyncio.create_task(self._run(1 if number % 2 else 20)) for number in range(CLIENTS)]

    async def until(self, is_so: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not is_so():
            for task in self.tasks:
                if task.done():
                    task.result()
            assert time.monotonic() < deadline, f"{what} does not come about: {self.told()}"
            await asyncio.sleep(0.02)

    async def get_on(self, number: int = 200) -> None:
        """Until so many more are stored."""
        wanted = len(self.accepted) + number
        await self.until(lambda: len(self.accepted) >= wanted, "that more is stored")

    async def finish(self) -> None:
        """All that was begun is acknowledged."""
        self.stop.set()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*self.tasks)

    def told(self) -> str:
        return (
            f"{len(self.accepted)} events acknowledged, {len(self.refused)} refused and run again; "
            f"{self.duplicates} came twice, {self.unavailable} x 503, {self.suspected} x clock_suspect, "
            f"{self.cut} connections cut, {self.longest_seconds:.1f} s without an acknowledgement"
        )

    async def _run(self, size: int) -> None:
        async with httpx.AsyncClient(timeout=20) as client:
            while not self.stop.is_set():
                await self._send(client, self._report(size))

    def _report(self, size: int) -> list[Identity]:
        found = []
        for _ in range(size):
            self.numbers += 1
            found.append((f"dpu-{self.numbers % DPUS}", datetime.now(UTC), self.numbers % 32_768))
        return found

    async def _send(self, client: httpx.AsyncClient, events: list[Identity]) -> None:
        body = {
            "events": [
                {"dpu": dpu, "timestamp": at.isoformat(), "direction": 1, "sequence": sequence}
                for dpu, at, sequence in events
            ]
        }
        while True:
            try:
                answer = await client.post(f"{self.url}/v1/events", json=body)
            except httpx.TransportError:
                self.cut += 1
            else:
                if answer.status_code == 200:
                    self._note(events, answer.json())
                    return
                assert answer.status_code == 503, answer.text
                if answer.json()["code"] == "clock_suspect":
                    self.suspected += 1
                else:
                    self.unavailable += 1
            await asyncio.sleep(0.1)

    def _note(self, events: Sequence[Identity], found: dict[str, object]) -> None:
        rejected = found["rejected"]
        assert isinstance(rejected, list)
        assert {one["code"] for one in rejected} <= {"in_future"}, rejected
        refused = {one["index"] for one in rejected}
        self.refused += [event for index, event in enumerate(events) if index in refused]
        self.accepted += [event for index, event in enumerate(events) if index not in refused]
        duplicates = found["duplicates"]
        assert isinstance(duplicates, int)
        self.duplicates += duplicates
        now = time.monotonic()
        self.longest_seconds = max(self.longest_seconds, now - self.acknowledged_at)
        self.acknowledged_at = now


async def build(url: str) -> None:
    """Placed DPUs: what they say of our clock counts."""
    connection = await asyncpg.connect(url, server_settings={"timezone": "UTC"})
    try:
        await apply_site(
            connection,
            spaces=[{"id": "hall"}],
            doorways=[{"id": "door", "sides": [None, "hall"]}],
            dpus=[{"id": f"dpu-{number}"} for number in range(DPUS)],
            placements=[
                {"dpu": f"dpu-{number}", "doorway": "door", "mounted_in": "hall", "from": LONG_AGO.isoformat()}
                for number in range(DPUS)
            ],
        )
    finally:
        await connection.close()


async def endure(
    cluster: Cluster, folder: Path, fault: Callable[[LiveClients], Awaitable[None]], rounds: int = ROUNDS
) -> LiveClients:
    """A fault in each round, under load; then everything that was sent is there once, and sums agree."""
    migrate(cluster.url)
    await build(cluster.url)
    with ExitStack() as stack:
        service = Service(folder, cluster.url, stack)
        clients = LiveClients(service.port)
        clients.start()
        for _ in range(rounds):
            await clients.get_on()
            await fault(clients)
        await clients.get_on()
        await clients.finish()
        await run_again(clients)
    await check(cluster, clients)
    return clients


async def run_again(clients: LiveClients) -> None:
    """What was refused for a clock."""
    async with httpx.AsyncClient(timeout=60, base_url=clients.url) as client:
        answer = await client.post("/v1/rejected/rerun", json={"code": "in_future"})
        assert answer.status_code == 200, answer.text
        assert answer.json()["accepted"] == len(clients.refused), answer.text


async def check(cluster: Cluster, clients: LiveClients) -> None:
    connection = await asyncpg.connect(cluster.url, server_settings={"timezone": "UTC"})
    try:
        rows = await connection.fetch(
            "select d.id, e.time, e.sequence from core.event e join core.dpu d on d.dpu_id = e.dpu_id"
        )
        count = await connection.fetchval("select raw_count from api.get_count(space => 'hall')")
    finally:
        await connection.close()
    stored = sorted((row["id"], row["time"], row["sequence"]) for row in rows)
    acknowledged = sorted(clients.accepted + clients.refused)
    assert len(set(stored)) == len(stored), "something is there twice"
    assert stored == acknowledged
    assert count == len(stored)
    verified = await headcount("verify", url=cluster.url)
    assert verified.exit_code == 0, verified.output


def say(capsys: pytest.CaptureFixture[str], what: str, clients: LiveClients) -> None:
    with capsys.disabled():
        print(f"\n{what}, {ROUNDS} x: {clients.told()}; 0 lost, 0 doubled", end="", flush=True)


# A full disk


class Disk:
    """A small one, that can be filled up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.filler = folder / "filler"

    def fill(self) -> None:
        with self.filler.open("ab", buffering=0) as filler:
            for piece in (bytes(2**20), bytes(4096)):
                try:
                    while True:
                        filler.write(piece)
                except OSError:
                    pass

    def free(self) -> None:
        self.filler.unlink()


@contextmanager
def small_disk(megabytes: int) -> Iterator[Disk]:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a small disk needs root, who can mount one")
    with tempfile.TemporaryDirectory(prefix="headcount-disk-") as folder:
        Path(folder).chmod(0o755)
        options = ("-t", "tmpfs", "-o", f"size={megabytes}m", "headcount-test", folder)
        mounted = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
        if mounted.returncode != 0:
            pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
        try:
            yield Disk(Path(folder))
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


async def test_what_was_acknowledged_is_stored_once_though_the_disk_is_full(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_disk(400) as disk:

        def make(cluster: Cluster) -> None:
            # WAL is somewhere else: the server goes on, and refuses what needs room
            cluster.make()
            data = disk.folder / "data"
            shutil.copytree(cluster.data, data, ignore=shutil.ignore_patterns("pg_wal"))
            own(cluster, data)
            (data / "pg_wal").symlink_to(cluster.data / "pg_wal")
            cluster.data = data

        async def fill(clients: LiveClients) -> None:
            await asyncio.to_thread(disk.fill)
            refused = clients.unavailable
            await clients.until(lambda: clients.unavailable > refused + 20, "that the full disk is noticed")
            disk.free()

        with private_cluster(fill=make) as cluster:
            clients = await endure(cluster, tmp_path, fill)
            said = (cluster.data / "log").read_text()
            assert "No space left on device" in said
            assert "PANIC" not in said
    say(capsys, "the disk of the data is full", clients)


async def test_what_was_acknowledged_is_stored_once_though_the_disk_of_the_wal_is_full(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """PostgreSQL ends then, and has to be started."""
    with small_disk(200) as disk:

        def make(cluster: Cluster) -> None:
            cluster.make()
            wal = disk.folder / "pg_wal"
            shutil.move(cluster.data / "pg_wal", wal)
            own(cluster, wal)
            (cluster.data / "pg_wal").symlink_to(wal)

        with private_cluster(fill=make) as cluster:

            async def fill(clients: LiveClients) -> None:
                await asyncio.to_thread(disk.fill)
                await asyncio.to_thread(switch_until_it_ends, cluster)
                disk.free()
                await asyncio.to_thread(cluster.start)

            clients = await endure(cluster, tmp_path, fill)
            assert "PANIC" in (cluster.data / "log").read_text()
    say(capsys, "the disk of the WAL is full, and PostgreSQL ends", clients)


def own(cluster: Cluster, folder: Path) -> None:
    """All of it is the server's."""
    if cluster.user is not None:
        for path in (folder, *folder.rglob("*")):
            shutil.chown(path, cluster.user)


def switch_until_it_ends(cluster: Cluster) -> None:
    """Each switch needs the next file."""
    deadline = time.monotonic() + PATIENCE
    while cluster.process is not None and cluster.process.poll() is None:
        assert time.monotonic() < deadline, "it has room for the WAL"
        cluster.run("select pg_switch_wal()")


# A clock that jumps

LIBRARIES = ("/usr/lib/*/faketime/libfaketime.so.1", "/usr/lib/faketime/libfaketime.so.1")


class Clock:
    """That of a server, which can be set while it runs."""

    def __init__(self, file: Path, library: Path) -> None:
        self.file = file
        self.library = library
        self.set(0)

    def set(self, seconds: int) -> None:
        fresh = self.file.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}\n")
        fresh.chmod(0o644)
        fresh.rename(self.file)

    def wind(self, cluster: Cluster) -> None:
        cluster.make("jit = off")
        cluster.environment |= {
            "LD_PRELOAD": str(self.library),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DISABLE_SHM": "1",
            "NO_FAKE_STAT": "1",
        }


@contextmanager
def loose_clock() -> Iterator[Clock]:
    found = [path for pattern in LIBRARIES for path in Path("/").glob(pattern.lstrip("/"))]
    if not found:
        pytest.skip("a clock that can be set needs libfaketime: apt-get install libfaketime")
    with tempfile.TemporaryDirectory(prefix="headcount-clock-") as folder:
        Path(folder).chmod(0o755)
        yield Clock(Path(folder) / "offset", found[0])


async def test_nothing_is_lost_where_the_clock_of_the_database_is_an_hour_behind_for_a_while(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything comes from ahead of it then: it is told to come again, but for the first few."""
    with loose_clock() as clock, private_cluster(fill=clock.wind) as cluster:

        async def jump(clients: LiveClients) -> None:
            stored, suspected = len(clients.accepted), clients.suspected
            clock.set(-HOUR)
            await clients.until(lambda: clients.suspected > suspected + 50, "that the clock is suspected")
            # what was on its way may still have been stored
            assert len(clients.accepted) - stored < 500
            clock.set(0)

        clients = await endure(cluster, tmp_path, jump)
    assert clients.suspected
    assert len(clients.refused) < 20 * ROUNDS * CLIENTS
    say(capsys, "the clock is an hour behind", clients)


async def test_nothing_is_lost_where_the_clock_of_the_database_is_an_hour_ahead_for_a_while(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with loose_clock() as clock, private_cluster(fill=clock.wind) as cluster:

        async def jump(clients: LiveClients) -> None:
            clock.set(HOUR)
            await clients.get_on(500)
            clock.set(0)

        clients = await endure(cluster, tmp_path, jump)
        connection = await asyncpg.connect(cluster.url)
        outages = await connection.fetchval("select count(*) from core.outage where superseded_at is null")
        await connection.close()
    assert outages == 0
    assert clients.refused == []
    say(capsys, "the clock is an hour ahead", clients)
