"""uvicorn or granian: the same app under both, one worker each, in interleaved rounds on one database.

    pip install granian==2.8.7    # for this only: the service does not need it
    BENCH_DATABASE_URL=... python -m benchmarks.asgi_servers [--rounds 5] [--seconds 4] [--app validate_only]

Then how they behave: stopped with SIGTERM while a request waits for the database, with connections that stall in
the middle of a request or do nothing, and how much memory they take.
"""

import asyncio
import os
import selectors
import socket
import statistics
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta

import click
import psycopg
from rich.console import Console
from rich.table import Table

from benchmarks.client import HOST, Load, post, send_all
from benchmarks.database import fresh_database, server_url
from benchmarks.processes import Server, free_port, running
from benchmarks.traffic import Traffic, make_site

# The first is what `headcount serve` does: uvicorn's server inside our process, with limits of ours.
OURS = "headcount serve"
SERVERS = {
    OURS: ("benchmarks.apps",),
    "uvicorn": (
        *("uvicorn", "--factory", "--loop", "uvloop", "--http", "httptools", "--ws", "none"),
        *("--no-access-log", "--log-level", "warning", "--timeout-graceful-shutdown", "10"),
    ),
    "granian": (
        *("granian", "--factory", "--interface", "asgi", "--loop", "uvloop", "--no-ws", "--http", "1"),
        *("--log-level", "warning", "--workers-kill-timeout", "10", "--backlog", "2048", "--backpressure", "8192"),
    ),
}
STALLED = 200
PATIENCE = 45.0
NOBODY_ELSE = f"  while {2 * STALLED} connections are stalled, nobody else gets an answer"


def start(name: str, app: str, url: str) -> tuple[tuple[str, ...], int, dict[str, str]]:
    port = free_port()
    where: tuple[str, ...] = ("--host", HOST, "--port", str(port), f"benchmarks.apps:{app}")
    if name == OURS:
        where = (app,)
    environment = {"DATABASE_URL": url, "HEADCOUNT_AUTH": "off", "HEADCOUNT_PORT": str(port)}
    return (*SERVERS[name], *where), port, environment


def compare_speed(url: str, app: str, rounds: int, seconds: float, console: Console) -> None:
    traffic = Traffic()
    # far more than can be sent in time; what is left over is thrown away
    workloads: dict[str, tuple[Callable[[], list[bytes]], int]] = {
        "single-event POST, 64 connections": (lambda: [traffic.request(1) for _ in range(int(6000 * seconds))], 64),
        "1,000-event POST, 4 connections": (lambda: [traffic.request(1000) for _ in range(int(150 * seconds))], 4),
        "GET count, 64 connections": (lambda: [traffic.count_request()] * int(6000 * seconds), 64),
    }
    found: dict[tuple[str, str], list[tuple[Load, float]]] = defaultdict(list)
    with ExitStack() as stack:
        servers = {name: stack.enter_context(running(*start(name, app, url))) for name in SERVERS}
        for server in servers.values():
            send_all(server.port, [traffic.request(1) for _ in range(500)], connections=64)
        for number in range(rounds):
            order = list(servers)[number % len(servers) :] + list(servers)[: number % len(servers)]
            for workload, (make, connections) in workloads.items():
                for name in order:
                    requests = make()
                    before = servers[name].cpu_seconds()
                    load = send_all(servers[name].port, requests, connections=connections, seconds=seconds)
                    if set(load.statuses) != {200}:
                        raise RuntimeError(f"{name}: {load.statuses} {load.unexpected!r}")
                    found[workload, name].append((load, servers[name].cpu_seconds() - before))
        memory = {name: server.memory() for name, server in servers.items()}

    table = Table(title=f"App {app}: medians of {rounds} interleaved rounds of {seconds:g} s")
    for column in ("", "server", "requests/s", "of ours", "p50 ms", "p99 ms", "CPU ms a request", "of ours"):
        table.add_column(column, justify="left" if column in ("", "server") else "right")
    for workload in workloads:
        base = found[workload, OURS]
        for name in servers:
            runs = found[workload, name]
            # round by round, since the machine is not equally fast in all of them
            ratio = statistics.median(r.per_second / b.per_second for (r, _), (b, _) in zip(runs, base, strict=True))
            cpu = [seconds / load.statuses[200] for load, seconds in runs]
            base_cpu = [seconds / load.statuses[200] for load, seconds in base]
            table.add_row(
                workload if name == OURS else "",
                name,
                f"{statistics.median(load.per_second for load, _ in runs):,.0f}",
                f"{ratio:.2f}",
                f"{1000 * statistics.median(load.p50 for load, _ in runs):.1f}",
                f"{1000 * statistics.median(load.p99 for load, _ in runs):.1f}",
                f"{1000 * statistics.median(cpu):.3f}",
                f"{statistics.median(c / b for c, b in zip(cpu, base_cpu, strict=True)):.2f}",
            )
    console.print(table)
    console.print("memory afterwards: " + ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in memory.items()))


def exchange(connection: socket.socket) -> bytes:
    """What the server still sends, up to its closing the connection or 15 s of silence."""
    connection.settimeout(15)
    received = bytearray()
    try:
        while piece := connection.recv(65536):
            received += piece
            head, _, body = received.partition(b"\r\n\r\n")
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:") and len(body) >= int(line[15:]):
                    return bytes(received)
    except OSError as error:
        return bytes(received) or repr(error).encode()
    return bytes(received)


def connect(server: Server) -> socket.socket:
    return socket.create_connection((HOST, server.port), timeout=15)


def close_times(connections: dict[str, socket.socket], since: float) -> dict[str, str]:
    """How long after `since` the server closes each of some connections on which nothing happens."""
    closed = dict.fromkeys(connections, f"not within {PATIENCE:.0f} s")
    with selectors.DefaultSelector() as selector:
        for name, connection in connections.items():
            selector.register(connection, selectors.EVENT_READ, name)
        while selector.get_map() and (left := since + PATIENCE - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                connection = connections[key.data]
                try:
                    if connection.recv(65536):
                        continue
                except OSError:
                    pass
                closed[key.data] = f"after {time.monotonic() - since:.0f} s"
                selector.unregister(connection)
    return closed


def stop_gracefully(url: str, name: str) -> str:
    """SIGTERM while a request waits for the database and other connections are idle."""
    traffic = Traffic(lag=timedelta(days=365 * (1 + list(SERVERS).index(name))))
    with psycopg.connect(url) as blocker, running(*start(name, "service", url)) as server:
        send_all(server.port, [traffic.request(1)], connections=1)
        idle = connect(server)
        idle.sendall(traffic.request(1))
        exchange(idle)
        blocker.execute("select from core.dpu_state for update")
        waiting = connect(server)
        waiting.sendall(traffic.request(1))
        time.sleep(1)
        server.terminate()
        before = time.monotonic()
        time.sleep(1)
        try:
            late = socket.create_connection((HOST, server.port), timeout=2)
            late.sendall(traffic.request(1))
            late.settimeout(1)
            refused = "accepted, answer: " + repr(late.recv(100)[:15])
        except TimeoutError:
            refused = "accepted, no answer"
        except OSError as error:
            refused = type(error).__name__
        blocker.rollback()
        answer = exchange(waiting)
        try:
            code: int | str = server.process.wait(30)
        except subprocess.TimeoutExpired:
            code = "does not end"
        taken = time.monotonic() - before
    return (
        f"request in flight: {answer[9:12].decode() or 'lost'}; a connection made after SIGTERM: {refused}; "
        f"ended with {code} after {taken:.1f} s"
    )


def stall(url: str, name: str) -> list[str]:
    """Clients that stop in the middle."""
    lines = []
    traffic = Traffic(lag=timedelta(days=365 * (11 + list(SERVERS).index(name))))
    with running(*start(name, "service", url)) as server:
        send_all(server.port, [traffic.request(1) for _ in range(100)], connections=8)
        before = server.memory()
        request = traffic.request(1)
        stalled_at = time.monotonic()
        head = [connect(server) for _ in range(STALLED)]
        for connection in head:
            connection.sendall(request[:40])
        body = [connect(server) for _ in range(STALLED)]
        for connection in body:
            connection.sendall(request[:-10])
        idle = [connect(server) for _ in range(STALLED)]
        for connection in idle:
            connection.sendall(traffic.request(1))
            if not exchange(connection).startswith(b"HTTP/1.1 200"):
                raise TimeoutError
        load = send_all(server.port, [traffic.request(1) for _ in range(1000)], connections=64)
        lines.append(f"others meanwhile: {dict(load.statuses)}, p99 {1000 * load.p99:.0f} ms")
        lines.append(f"memory for {3 * STALLED} stalled or idle connections: {(server.memory() - before) / 1e6:.1f} MB")
        sample = {"idle": idle[0], "stalled in the headers": head[0], "stalled in the body": body[0]}
        for what, when in close_times(sample, stalled_at).items():
            lines.append(f"closed, {what}: {when}")
        for connection in (*idle, *head, *body):
            connection.close()

        # Bodies of 100 MB that the service refuses at 8 MB: what is held of them?
        before = server.memory()
        huge = [connect(server) for _ in range(10)]
        peak = asyncio.run(flood(server, huge))
        lines.append(f"ten bodies of 100 MB, chunked: at most {(peak - before) / 1e6:.0f} MB more memory")
        for connection in huge:
            connection.close()
        load = send_all(server.port, [traffic.request(1) for _ in range(1000)], connections=64)
        lines.append(f"afterwards: {dict(load.statuses)}")
        waiting = connect(server)
        waiting.sendall(request[:-10])
        server.terminate()
        now = time.monotonic()
        try:
            code: int | str = server.process.wait(30)
        except subprocess.TimeoutExpired:
            code = "does not end"
        lines.append(f"SIGTERM with a stalled body: ended with {code} after {time.monotonic() - now:.1f} s")
    return lines


async def flood(server: Server, connections: list[socket.socket]) -> int:
    """Sends much on each connection at once; the most memory the server took meanwhile."""
    peak = server.memory()
    loop = asyncio.get_running_loop()
    head = post("/v1/events", b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    piece = b"100000\r\n" + b" " * 0x100000 + b"\r\n"

    async def send(connection: socket.socket) -> None:
        connection.setblocking(False)
        try:
            await loop.sock_sendall(connection, head)
            for _ in range(100):
                await asyncio.wait_for(loop.sock_sendall(connection, piece), 5)
        except (OSError, TimeoutError):
            pass

    tasks = [asyncio.create_task(send(connection)) for connection in connections]
    while not all(task.done() for task in tasks):
        peak = max(peak, server.memory())
        await asyncio.sleep(0.05)
    return max(peak, server.memory())


@click.command(help=__doc__)
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=4.0, show_default=True, help="Of each workload in each round.")
@click.option("--app", type=click.Choice(["service", "validate_only"]), default="service", show_default=True)
@click.option("--only", type=click.Choice(["speed", "behaviour"]), default=None)
@click.option("--server", "names", type=click.Choice(list(SERVERS)), multiple=True, help="Whose behaviour; all.")
def main(rounds: int, seconds: float, app: str, only: str | None, names: tuple[str, ...]) -> None:
    console = Console(width=150 if not os.environ.get("COLUMNS") else None)
    with fresh_database(server_url()) as url:
        make_site(url)
        if only != "behaviour":
            compare_speed(url, app, rounds, seconds, console)
        if only != "speed":
            for name in names or SERVERS:
                console.print(f"{name}\n  {stop_gracefully(url, name)}", highlight=False)
                try:
                    for line in stall(url, name):
                        console.print(f"  {line}", highlight=False)
                except TimeoutError:
                    console.print(NOBODY_ELSE, highlight=False)


if __name__ == "__main__":
    main()
