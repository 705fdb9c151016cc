"""Events a second through NATS against the same bodies over HTTP, into one database.

python -m benchmarks.jetstream --seconds 5 --rounds 3

The stream is filled before the clock starts, so that the consumer is measured and not who publishes. The clock runs
from when the consumer answers until the last event is stored, and only what is stored meanwhile counts.
"""

import asyncio
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import asyncpg
import click
import nats
from nats.js import api
from rich.console import Console
from rich.table import Table

from benchmarks.client import END_OF_HEADERS, HOST, post, send_all
from benchmarks.database import fresh_database, server_url
from benchmarks.machine import describe_machine
from benchmarks.processes import free_port, running, serving
from benchmarks.traffic import Traffic, make_site

SIZES = (1, 100, 1_000)
# More than any of them can store, so that a lane has enough to do.
EVENTS_A_SECOND = {1: 12_000, 100: 60_000, 1_000: 60_000}
CONNECTIONS = {1: 64, 100: 8, 1_000: 4}
LOOK_SECONDS = 0.02


@contextmanager
def nats_server() -> Iterator[str]:
    """A server of its own, with JetStream on disk."""
    program = shutil.which("nats-server")
    if program is None:
        raise click.ClickException("There is no nats-server (apt-get install nats-server).")
    with tempfile.TemporaryDirectory(prefix="headcount-nats-") as folder:
        port = free_port()
        arguments = (program, "--jetstream", "--store_dir", folder, "--addr", HOST, "--port", str(port))
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen(arguments, stdout=log, stderr=log)
        try:
            yield f"nats://{HOST}:{port}"
        finally:
            process.terminate()
            process.wait(20)


async def publish(url: str, bodies: list[bytes]) -> None:
    """Returns when all of them are in the stream."""
    client = await nats.connect(url, max_reconnect_attempts=20)
    jetstream = client.jetstream(publish_async_max_pending=1_000)
    # As the consumer would make it; it leaves what is there as it is.
    await jetstream.add_stream(
        name="headcount-events", subjects=["headcount.events.>"], retention=api.RetentionPolicy.WORK_QUEUE
    )
    for body in bodies:
        await jetstream.publish_async("headcount.events.bench", body, wait_stall=60)
    await jetstream.publish_async_completed()
    await client.close()


async def watch(url: str, number: int) -> tuple[int, float]:
    """Events that are stored from the first look on until there are so many, and the seconds it takes."""
    connection = await asyncpg.connect(url)
    try:
        first, begin = await count(connection), time.perf_counter()
        while (now := await count(connection)) < number:
            if time.perf_counter() - begin > 600:
                raise RuntimeError(f"the consumer stored {now:,} of {number:,} events")
            await asyncio.sleep(LOOK_SECONDS)
        return now - first, time.perf_counter() - begin
    finally:
        await connection.close()


async def count(connection: asyncpg.Connection) -> int:
    found = await connection.fetchval("select sum(cumulative_count) from core.dpu_state")
    return int(found or 0)


async def count_at(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        return await count(connection)
    finally:
        await connection.close()


def bodies(traffic: Traffic, size: int, number: int) -> list[bytes]:
    """All in one direction, so that sums tell how many are stored."""
    requests = (traffic.request(size) for _ in range(number))
    return [request.partition(END_OF_HEADERS)[2].replace(b'"direction":-1', b'"direction":1') for request in requests]


def through_nats(url: str, database_url: str, traffic: Traffic, size: int, seconds: float) -> float:
    """Events a second."""
    number = int(seconds * EVENTS_A_SECOND[size] / size)
    asyncio.run(publish(url, bodies(traffic, size, number)))
    before = asyncio.run(count_at(database_url))
    port = free_port()
    environment = {
        "DATABASE_URL": database_url,
        "HEADCOUNT_AUTH": "off",
        "HEADCOUNT_METRICS_PORT": str(port),
        "HEADCOUNT_NATS_URL": url,
    }
    with running(("headcount.cli", "consume"), port, environment):
        stored, taken = asyncio.run(watch(database_url, before + number * size))
    return stored / taken


def over_http(port: int, traffic: Traffic, size: int, seconds: float) -> float:
    """Events a second."""
    requests = [post("/v1/events", body) for body in bodies(traffic, size, int(seconds * EVENTS_A_SECOND[size] / size))]
    load = send_all(port, requests, connections=CONNECTIONS[size], seconds=seconds)
    if set(load.statuses) != {200}:
        raise RuntimeError(f"the service answered {dict(load.statuses)}: {load.unexpected.decode()}")
    return load.statuses[200] * size / load.seconds


@click.command(help=__doc__)
@click.option("--seconds", default=5.0, show_default=True, help="How much each lane is given to do.")
@click.option("--rounds", default=3, show_default=True)
def main(seconds: float, rounds: int) -> None:
    rates: dict[tuple[int, str], list[float]] = {}
    with ExitStack() as stack:
        url = stack.enter_context(fresh_database(server_url()))
        make_site(url)
        broker = stack.enter_context(nats_server())
        port = stack.enter_context(serving(url)).port
        traffic = Traffic()
        for _ in range(rounds):
            for size in SIZES:
                rates.setdefault((size, "HTTP"), []).append(over_http(port, traffic, size, seconds))
                rates.setdefault((size, "NATS"), []).append(through_nats(broker, url, traffic, size, seconds))
        for name, value in describe_machine(url):
            click.echo(f"{name}: {value}")
    table = Table("events a message", "HTTP, events/s", "NATS, events/s", "ratio", title=f"Medians of {rounds} rounds")
    for size in SIZES:
        http, broker_rates = rates[size, "HTTP"], rates[size, "NATS"]
        ratio = statistics.median(b / h for b, h in zip(broker_rates, http, strict=True))
        table.add_row(
            f"{size:,}", f"{statistics.median(http):,.0f}", f"{statistics.median(broker_rates):,.0f}", f"{ratio:.2f}"
        )
    Console().print(table)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.jetstream")
