"""How soon a change reaches a thousand listeners of one site, and what they cost the service.

    BENCH_DATABASE_URL=... python -m benchmarks.listeners

Every listener follows the whole site. A change is one event, posted by itself; how long it takes is measured from the
answer to that post (its commit) to the arrival of the new count at each listener.
"""

import asyncio
import re
import statistics
import time
from datetime import UTC, datetime, timedelta
from typing import cast

import click
import httpx
import uvloop
from rich.console import Console

from benchmarks.client import HOST, get
from benchmarks.database import fresh_database, server_url
from benchmarks.machine import describe_machine
from benchmarks.processes import Server, serving

ROOMS = 20
COUNT_OF_SITE = re.compile(rb'"space":"site"[^}]*?"raw_count":(\d+)')
TAIL = 300  # bytes, of what may be the beginning of a count
PATIENCE = 60.0
MIB = 1024 * 1024
MOST_SECONDS = 1.0
MOST_MIB = 300


class Audience:
    """All listeners, and when each of them heard of the count that is waited for."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.wanted = 0
        self.heard: dict[Listener, float] = {}
        self.everybody = asyncio.Event()

    def expect(self, count: int) -> None:
        self.wanted = count
        self.heard.clear()
        self.everybody.clear()

    def hear(self, listener: "Listener", count: int) -> None:
        if count >= self.wanted and listener not in self.heard:
            self.heard[listener] = time.perf_counter()
            if len(self.heard) == self.size:
                self.everybody.set()


class Listener(asyncio.Protocol):
    """One stream."""

    def __init__(self, audience: Audience) -> None:
        self.audience = audience
        self.tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(get("/v1/live"))

    def data_received(self, data: bytes) -> None:
        self.tail = self.tail[-TAIL:] + data
        for found in COUNT_OF_SITE.finditer(self.tail):
            self.audience.hear(self, int(found[1]))


def site() -> dict[str, object]:
    """A site with a front door, and rooms within; people go through the front door and each room's."""
    rooms = [f"room-{number}" for number in range(ROOMS)]
    doors: dict[str, tuple[str | None, str]] = {
        "front": (None, "site"),
        **{f"door-{room}": ("site", room) for room in rooms},
    }
    return {
        "spaces": [{"id": "site", "capacity": 500}, *({"id": room, "parent": "site"} for room in rooms)],
        "doorways": [{"id": door, "sides": sides} for door, sides in doors.items()],
        "dpus": [{"id": f"dpu-{door}"} for door in doors],
        "placements": [
            {"dpu": f"dpu-{door}", "doorway": door, "mounted_in": inside, "from": "2020-01-01T00:00:00Z"}
            for door, (_, inside) in doors.items()
        ],
    }


async def connect(port: int, audience: Audience) -> list[Listener]:
    """Listeners that have been told the counts; 50 at a time."""
    loop = asyncio.get_running_loop()
    listeners: list[Listener] = []
    for start in range(0, audience.size, 50):
        batch = [
            loop.create_connection(lambda: Listener(audience), HOST, port)
            for _ in range(min(50, audience.size - start))
        ]
        listeners += [listener for _, listener in await asyncio.gather(*batch)]
    await asyncio.wait_for(audience.everybody.wait(), PATIENCE)
    return listeners


async def measure(server: Server, size: int, changes: int, console: Console) -> bool:
    audience = Audience(size)
    async with httpx.AsyncClient(base_url=f"http://{HOST}:{server.port}", timeout=PATIENCE) as client:
        (await client.put("/v1/site", json=site())).raise_for_status()
        before = most = server.memory()
        began = time.perf_counter()
        listeners = await connect(server.port, audience)
        joined = time.perf_counter() - began
        cpu = server.cpu_seconds()
        latencies: list[float] = []
        first = datetime.now(UTC) - timedelta(hours=1)
        began = time.perf_counter()
        for number in range(1, changes + 1):
            audience.expect(number)
            at = (first + timedelta(seconds=number)).isoformat()
            room = f"dpu-door-room-{number % ROOMS}"
            events = [{"dpu": dpu, "timestamp": at, "direction": 1} for dpu in ("dpu-front", room)]
            (await client.post("/v1/events", json={"events": events})).raise_for_status()
            committed = time.perf_counter()
            await asyncio.wait_for(audience.everybody.wait(), PATIENCE)
            latencies += [max(heard - committed, 0.0) for heard in audience.heard.values()]
            most = max(most, server.memory())
            await asyncio.sleep(0.05)
        seconds = time.perf_counter() - began
        cpu = server.cpu_seconds() - cpu
        for listener in listeners:
            listener.transport.close()
    p50, p99, worst = statistics.median(latencies), statistics.quantiles(latencies, n=100)[98], max(latencies)
    for line in (
        f"{size} listeners, {changes} changes of 2 counts each",
        f"  joined within {joined:.2f} s, each told {ROOMS + 1} counts",
        f"  a change reaches one of them in {p50:.3f} s (median), {p99:.3f} s (p99), {worst:.3f} s (slowest of all)",
        f"  memory of the service: {before / MIB:.0f} MiB before, {most / MIB:.0f} MiB at most",
        f"  CPU of the service: {cpu / changes * 1000:.0f} ms a change, {cpu / seconds:.0%} of a core",
    ):
        console.print(line, highlight=False)
    return worst < MOST_SECONDS and most < MOST_MIB * MIB


@click.command(help=__doc__)
@click.option("--listeners", default=1_000, show_default=True)
@click.option("--changes", default=30, show_default=True)
def main(listeners: int, changes: int) -> None:
    console = Console(width=130)
    with fresh_database(server_url()) as url:
        for name, value in describe_machine(url):
            console.print(f"[bold]{name}[/]: {value}", highlight=False)
        with serving(url) as server:
            good = uvloop.run(measure(server, listeners, changes, console))
    console.print(f"All within {MOST_SECONDS:g} s and {MOST_MIB} MiB: {'yes' if good else 'NO'}")
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.listeners")
