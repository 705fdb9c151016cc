"""CPU of `headcount serve`, and of its database, on the routes that are called most; beside another checkout.

    BENCH_DATABASE_URL=... python -m benchmarks.routes [--against PATH] [--rounds 7] [--requests 3000]

PATH is the root of another checkout of this repository, for example of `git worktree add PATH main~1`. Both run in
this Python environment, each on a database that it migrated itself, with tokens. Within a round both get the same
requests, by turns; which one is first changes from round to round. Ratios are taken round by round. The database
server must run on this machine.
"""

import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import click
import psycopg
from rich.console import Console
from rich.table import Table

from benchmarks.client import Load, get, send_all
from benchmarks.database import server_url
from benchmarks.machine import describe_machine
from benchmarks.processes import Server, free_port, running
from benchmarks.traffic import Traffic, make_site

HERE = Path(__file__).parents[1]
CONNECTIONS = 64


@dataclass
class Served:
    """A checkout, as it is served."""

    name: str
    server: Server
    token: str
    traffic: Traffic
    database: psycopg.Connection

    def run(self, route: "Route", requests: int) -> tuple[float, float]:
        """CPU seconds of the service and of its database for each of some requests."""
        sent = [route.make(self.traffic) for _ in range(requests // route.share)]
        service, database = process_seconds(self.server.process.pid), self.database_seconds()
        self.send(sent, route.connections)
        done = len(sent) * route.units
        return (
            (process_seconds(self.server.process.pid) - service) / done,
            (self.database_seconds() - database) / done,
        )

    def rate(self, requests: list[bytes], connections: int, seconds: float) -> float:
        """Answers a second."""
        return self.send(requests, connections, seconds).per_second

    def send(self, requests: list[bytes], connections: int, seconds: float = 3600) -> Load:
        """With its token."""
        head = f"Authorization: Bearer {self.token}\r\nHost: ".encode()
        authorized = [request.replace(b"Host: ", head, 1) for request in requests]
        load = send_all(self.server.port, authorized, connections=connections, seconds=seconds)
        if set(load.statuses) != {200}:
            raise RuntimeError(f"{self.name}: {load.statuses} {load.unexpected!r}")
        return load

    def database_seconds(self) -> float:
        """Of the sessions of the service, which keeps them."""
        statement = "select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
        return sum(process_seconds(pid) for (pid,) in self.database.execute(statement).fetchall())


@dataclass(frozen=True)
class Route:
    """What is asked: for one of `share` requests of the others, with so many units in each."""

    make: Callable[[Traffic], bytes]
    connections: int = 64
    share: int = 1
    units: int = 1


ROUTES = {
    "single-event POST /v1/events": Route(lambda traffic: traffic.request(1)),
    "POST /v1/events of 1,000 events, an event": Route(lambda traffic: traffic.request(1_000), 4, 30, 1_000),
    "current GET /v1/spaces/{space}/count": Route(lambda _: get("/v1/spaces/hall/count")),
}
SIDES = ("service", "database")


def process_seconds(pid: int) -> float:
    """User and system time of another process so far, to the nanosecond: by its CPU clock, which has this number."""
    return time.clock_gettime((~pid << 3) | 2)


@contextmanager
def serving(checkout: Path, server: str) -> Iterator[Served]:
    """`headcount serve` of a checkout on a database of its own, dropped afterwards."""
    name, port = f"headcount_bench_{uuid4().hex[:8]}", free_port()
    url = urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    # Until 0.1.2 the package was the folder itself.
    is_old = (checkout / "service" / "cli.py").exists()
    cli = "service.cli" if is_old else "headcount.cli"
    environment = {
        "DATABASE_URL": url,
        "HEADCOUNT_AUTH": "required",
        "HEADCOUNT_PORT": str(port),
        "PYTHONPATH": str(checkout if is_old else checkout / "service"),
    }

    def run(*arguments: str) -> str:
        """What a command of the checkout prints."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=checkout,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments[:3])}: {done.stderr}")
        return done.stdout

    with psycopg.connect(server, autocommit=True) as connection, ExitStack() as stack:
        connection.execute(f"create database {name}")
        stack.callback(connection.execute, f"drop database if exists {name} with (force)")
        run("-m", cli, "migrate")
        token = run("-m", cli, "token", "create", "--scope", "ingest,read").split()[-1]
        make_site(url)
        server_process = stack.enter_context(running((cli, "serve"), port, environment, folder=checkout))
        database = stack.enter_context(psycopg.connect(url, autocommit=True))
        yield Served(checkout.name, server_process, token, Traffic(), database)


@click.command(help=__doc__)
@click.option("--against", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Another checkout.")
@click.option("--rounds", default=7, show_default=True)
@click.option("--requests", default=3_000, show_default=True, help="Of each route and checkout in each round.")
def main(against: Path | None, rounds: int, requests: int) -> None:
    console = Console(width=130)
    checkouts = [HERE, *([against.resolve()] if against else [])]
    # By route, checkout and side: one number for each round.
    found: dict[tuple[str, int, int], list[float]] = defaultdict(list)
    with ExitStack() as stack:
        for name, value in describe_machine(server_url()):
            console.print(f"[bold]{name}[/]: {value}", highlight=False)
        served = [stack.enter_context(serving(checkout, server_url())) for checkout in checkouts]
        for route in ROUTES.values():
            for each in served:
                each.run(route, requests // 3)  # connections, caches, the first chunk
        for round_ in range(rounds):
            for name, route in ROUTES.items():
                for number in range(len(served)) if round_ % 2 else reversed(range(len(served))):
                    for side, seconds in enumerate(served[number].run(route, requests)):
                        found[name, number, side].append(1e6 * seconds)
    table = Table(title=f"CPU for a request or an event: medians of {rounds} rounds of {requests:,} requests")
    for column in ("", "of the", "microseconds", "lowest to highest", "the other's", "of it"):
        table.add_column(column, justify="left" if column in ("", "of the") else "right")
    for name in ROUTES:
        for side, of in enumerate(SIDES):
            ours, others = (found[name, number, side] for number in range(2))
            cells = [name, of, f"{statistics.median(ours):.1f}", f"{min(ours):.1f} to {max(ours):.1f}"]
            if others:
                ratio = statistics.median(one / other for one, other in zip(ours, others, strict=True))
                cells += [f"{statistics.median(others):.1f}", f"{ratio:.3f}"]
            table.add_row(*cells, end_section=side == 1)
    console.print(table)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.routes")
