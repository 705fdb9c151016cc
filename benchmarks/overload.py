"""Ten times what the service can store: what it answers, what it holds, what is stored, and how soon it is over.

python -m benchmarks.overload --seconds 60
"""

import asyncio
import itertools
import json
import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import asyncpg
import click
import uvloop

from benchmarks.client import END_OF_HEADERS, HOST, post
from benchmarks.database import fresh_database, server_url
from benchmarks.processes import Server, serving
from benchmarks.traffic import DPUS, make_site

SIZE = 1_000
CONNECTIONS = 300
PAUSE_SECONDS = 0.2


class Requests:
    """Never the same event twice. Made from templates: a client that is slower than the service is no flood."""

    def __init__(self) -> None:
        self.number = itertools.count()
        self.begin = datetime.now(UTC) - timedelta(hours=3)
        self.templates = [
            "timestamp,direction,dpu_id\n" + "".join(f"@,1,dpu-{dpu}\n" for dpu in range(start, start + SIZE))
            for start in range(0, DPUS, SIZE)
        ]

    def make(self) -> bytes:
        number = next(self.number)
        at = self.begin + timedelta(milliseconds=number)
        body = self.templates[number % len(self.templates)].replace("@", f"{at:%Y-%m-%dT%H:%M:%S.%f}Z")
        return post("/v1/events", body.encode(), "text/csv")


@dataclass
class Flood:
    """What came of it. `cut`: connections that ended before an answer could be read."""

    seconds: float = 0
    statuses: Counter[int] = field(default_factory=Counter)
    accepted: int = 0
    cut: int = 0
    memory_before: int = 0
    memory_peak: int = 0
    recovered_after: float = 0
    stored: int = 0

    @property
    def times_too_much(self) -> float:
        return (self.statuses.total() + self.cut) * SIZE / max(self.accepted, 1)


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> tuple[int, bytes]:
    writer.write(request)
    head = await reader.readuntil(END_OF_HEADERS)
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
    return int(head[9:12]), await reader.readexactly(length)


async def _keep_sending(port: int, requests: Requests, flood: Flood, deadline: float) -> None:
    """One client: sends without end; what is refused comes again, sooner than Retry-After asks for."""
    request = b""
    while time.monotonic() < deadline:
        try:
            reader, writer = await asyncio.open_connection(HOST, port)
        except OSError:
            flood.cut += 1
            continue
        try:
            while time.monotonic() < deadline:
                request = request or requests.make()
                status, body = await _exchange(reader, writer, request)
                flood.statuses[status] += 1
                if status == 200:
                    flood.accepted += json.loads(body)["accepted"]
                    request = b""
                else:
                    await asyncio.sleep(PAUSE_SECONDS)
        except (OSError, asyncio.IncompleteReadError):
            flood.cut += 1
        finally:
            writer.close()


async def _recover(port: int, requests: Requests, flood: Flood) -> None:
    """Until a request is answered with 200 again."""
    begin = time.monotonic()
    status = 0
    while status != 200 and time.monotonic() < begin + 60:
        reader, writer = await asyncio.open_connection(HOST, port)
        try:
            status, body = await _exchange(reader, writer, requests.make())
        finally:
            writer.close()
        if status == 200:
            flood.accepted += json.loads(body)["accepted"]
    flood.recovered_after = time.monotonic() - begin


async def _watch(server: Server, flood: Flood) -> None:
    while True:
        flood.memory_peak = max(flood.memory_peak, server.memory())
        await asyncio.sleep(0.1)


async def flood_with(server: Server, database_url: str, requests: Requests, seconds: float) -> Flood:
    """Offers as many events as its clients can send, for some seconds, then looks."""
    flood = Flood(memory_before=server.memory())
    watching = asyncio.create_task(_watch(server, flood))
    begin = time.monotonic()
    clients = (_keep_sending(server.port, requests, flood, begin + seconds) for _ in range(CONNECTIONS))
    await asyncio.gather(*clients)
    flood.seconds = time.monotonic() - begin
    await _recover(server.port, requests, flood)
    watching.cancel()
    connection = await asyncpg.connect(database_url)
    try:
        flood.stored = await connection.fetchval("select count(*) from core.event where sequence = 0")
    finally:
        await connection.close()
    return flood


@click.command(help=__doc__)
@click.option("--seconds", default=60.0, show_default=True)
def main(seconds: float) -> None:
    with fresh_database(server_url()) as url, ExitStack() as stack:
        make_site(url)
        server = stack.enter_context(serving(url))
        flood = uvloop.run(flood_with(server, url, Requests(), seconds))
    click.echo(f"offered {flood.times_too_much:.1f} times what was accepted, over {CONNECTIONS} connections")
    click.echo(f"answers {dict(flood.statuses)}, connections cut {flood.cut}")
    click.echo(
        f"accepted {flood.accepted:,} events, stored {flood.stored:,}, {flood.accepted / flood.seconds:,.0f} a second"
    )
    click.echo(f"memory {flood.memory_before / 2**20:.0f} MiB before, at most {flood.memory_peak / 2**20:.0f} MiB")
    click.echo(f"answered again {flood.recovered_after:.2f} s after the end")
    sys.exit(flood.accepted != flood.stored or not set(flood.statuses) <= {200, 429, 503})


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.overload")
