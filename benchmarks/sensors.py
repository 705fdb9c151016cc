"""What heartbeats cost, and how soon silent sensors are found among very many.

    BENCH_DATABASE_URL=... python -m benchmarks.sensors

An hour of heartbeats of all DPUs, one a minute each in requests of 500, as fast as the database takes them: how many
a second, how the rows were updated and how the table grew. Then how long one look at all of them takes
(api.detect_outages), when nobody, some and all have fallen silent; GET /sensors; and heartbeats over HTTP, against
the same routes without the database.
"""

import json
import statistics
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any

import click
import httpx
import psycopg
from rich.console import Console

from benchmarks.client import HOST, get, post, send_all
from benchmarks.database import fresh_database, server_url
from benchmarks.lanes import Bench, Lane, Length, Round
from benchmarks.machine import describe_machine
from benchmarks.processes import serving

BATCH = 500
SITE = """
select core.register_dpus(array(select 'dpu-' || n from generate_series(1, {dpus}) n));
insert into core.space (id) values ('site');
insert into core.doorway (id, side_a_id) select 'door-' || n, 1 from generate_series(1, {dpus}) n;
insert into core.placement (dpu_id, doorway_id, mounted_side, during, recorded_at)
select n, n, 1, tstzrange('2020-01-01', null), now() from generate_series(1, {dpus}) n;
vacuum analyze;
"""
RECORD = """
select count(*) from api.record_heartbeats(
  array(select 'dpu-' || n from generate_series(%(first)s::integer, %(last)s::integer) n),
  array_fill(null::text, array[%(last)s - %(first)s + 1]),
  array_fill(null::timestamptz, array[%(last)s - %(first)s + 1]))
"""
UPDATES = """
select n_tup_upd, n_tup_hot_upd, pg_relation_size(relid), pg_indexes_size(relid)
from pg_stat_user_tables where relname = 'dpu_state'
"""


def make_site(connection: psycopg.Connection, dpus: int) -> None:
    for statement in filter(str.strip, SITE.format(dpus=dpus).split(";\n")):
        connection.execute(statement.encode())


def one(connection: psycopg.Connection, query: str, values: Any = None) -> Any:
    row = connection.execute(query.encode(), values).fetchone()
    return row[0] if row and len(row) == 1 else row


def updates(connection: psycopg.Connection) -> tuple[int, int, int, int]:
    """Once the statistics have arrived."""
    connection.execute("select pg_stat_force_next_flush()")
    time.sleep(1)
    connection.execute("select pg_stat_clear_snapshot()")
    found: tuple[int, int, int, int] = one(connection, UPDATES)
    return found


def beat_once(connection: psycopg.Connection, dpus: int) -> float:
    """A heartbeat of each, in so many seconds."""
    began = time.perf_counter()
    for first in range(1, dpus + 1, BATCH):
        one(connection, RECORD, {"first": first, "last": min(first + BATCH - 1, dpus)})
    return time.perf_counter() - began


def beat(connection: psycopg.Connection, dpus: int, minutes: int, console: Console) -> None:
    for _ in range(3):  # the first ones make each row wider, and so move it
        beat_once(connection, dpus)
        connection.execute("vacuum analyze core.dpu_state")
    before = updates(connection)
    with console.status("") as status:
        taken = []
        for minute in range(minutes):
            status.update(f"minute {minute + 1} of {minutes}")
            taken.append(beat_once(connection, dpus))
    after = updates(connection)
    changed, hot = after[0] - before[0], after[1] - before[1]
    console.print(
        f"heartbeats a second, one connection, {BATCH} a call: {dpus / statistics.median(taken):,.0f} (median minute)"
    )
    console.print(f"share of the minute that {dpus:,} DPUs at one a minute take: {statistics.median(taken) / 60:.1%}")
    console.print(f"updates: {changed:,}, of them HOT: {hot / changed:.2%}")
    sizes = " to ".join(f"{size[2] / 2**20:.1f} + {size[3] / 2**20:.1f} MiB" for size in (before, after))
    console.print(f"core.dpu_state and its index: {sizes}")


def look(connection: psycopg.Connection, console: Console, what: str, rounds: int = 1) -> None:
    taken, turned = [], 0
    for _ in range(rounds):
        began = time.perf_counter()
        turned += one(connection, "select api.detect_outages()")
        taken.append(time.perf_counter() - began)
    console.print(f"api.detect_outages, {what}: {statistics.median(taken) * 1000:,.1f} ms ({turned:,} turned)")


def detect(connection: psycopg.Connection, dpus: int, console: Console) -> None:
    # as if somebody had listened for an hour
    connection.execute("truncate core.listening")
    connection.execute(
        "insert into core.listening values (now() - interval '1 hour', clock_timestamp(), 0, clock_timestamp())"
    )
    look(connection, console, "nobody silent", 20)
    for share in (100, 1):
        connection.execute(
            "update core.dpu_state set last_seen_at = now() - interval '11 minutes' "
            "where offline_at is null and dpu_id %% %s = 0",
            [share],
        )
        connection.execute("vacuum analyze core.dpu_state")
        look(connection, console, f"{'all' if share == 1 else dpus // share:} silent")
        time.sleep(2.1)
        look(connection, console, "  their incidents")
    look(connection, console, "all of them offline", 20)


def measure_http(url: str, console: Console, seconds: float) -> None:
    many = json.dumps({"heartbeats": [{"dpu": f"dpu-{n}"} for n in range(1, BATCH + 1)]}).encode()
    with ExitStack() as stack:
        servers = {
            "": stack.enter_context(serving(url)),
            ", validate only": stack.enter_context(serving(url, "benchmarks.apps", "validate_only")),
        }
        for kind, request, size, connections in (
            (f"{BATCH} a request, 4 connections", post("/v1/heartbeats", many), BATCH, 4),
            ("one a request, 64 connections", get("/heartbeat?dpu=dpu-1"), 1, 64),
        ):
            for suffix, server in servers.items():
                requests = [request] * int(seconds * (400 if size > 1 else 30_000))
                send_all(server.port, requests[: len(requests) // 10], connections=connections, seconds=0.5)
                load = send_all(server.port, requests, connections=connections, seconds=seconds)
                if set(load.statuses) != {200}:
                    raise RuntimeError(f"the service answered {dict(load.statuses)}: {load.unexpected.decode()}")
                console.print(f"heartbeats a second over HTTP, {kind}{suffix}: {load.per_second * size:,.0f}")
        for address in ("/sensors", "/sensors?limit=100", "/sensors?limit=1000&state=online"):
            load = send_all(servers[""].port, [get(address)] * 50, connections=1, seconds=seconds)
            console.print(f"GET {address}: {load.p50 * 1000:,.0f} ms (median)")


DPUS = 100_000
PAGE = Lane("GET /sensors?limit=1000 of 100,000 sensors", 100, "ms", "lower")
UNCHANGED = Lane("GET /sensors?limit=1000 that the client has (304)", 100, "ms", "lower")


@contextmanager
def open_sensors(_: Length) -> Iterator[Round]:
    with fresh_database(server_url()) as url, ExitStack() as stack:
        with psycopg.connect(url, autocommit=True) as connection:
            make_site(connection, DPUS)
            beat_once(connection, DPUS)
            connection.execute("vacuum analyze core.dpu_state")
        client = stack.enter_context(
            httpx.Client(base_url=f"http://{HOST}:{stack.enter_context(serving(url)).port}", timeout=60)
        )
        page = "/sensors?limit=1000"
        tag = client.get(page).headers["ETag"]

        def ask(status: int, path: str, headers: dict[str, str]) -> float:
            """Milliseconds, the median of 25."""
            taken = []
            for _ in range(25):
                began = time.perf_counter()
                answer = client.get(path, headers=headers)
                taken.append(1e3 * (time.perf_counter() - began))
                if answer.status_code != status:
                    raise RuntimeError(f"GET {path}: {answer.status_code}")
            return statistics.median(taken)

        asked: dict[str, tuple[int, str, dict[str, str]]] = {
            PAGE.name: (200, page, {}),
            UNCHANGED.name: (304, page, {"If-None-Match": tag}),
        }

        def round_(names: Collection[str]) -> dict[str, float]:
            return {name: ask(*asked[name]) for name in names}

        round_(asked)
        yield round_


BENCH = Bench((PAGE, UNCHANGED), open_sensors)


@click.command(help=__doc__)
@click.option("--dpus", default=DPUS, show_default=True)
@click.option("--minutes", default=60, show_default=True, help="Of heartbeats.")
@click.option("--seconds", default=3.0, show_default=True, help="Of each kind of request over HTTP.")
def main(dpus: int, minutes: int, seconds: float) -> None:
    console = Console(width=130)
    with fresh_database(server_url()) as url:
        for name, value in describe_machine(url):
            console.print(f"[bold]{name}[/]: {value}", highlight=False)
        console.print(f"{dpus:,} DPUs, {minutes} minutes, begun {datetime.now(UTC):%Y-%m-%d %H:%M}")
        with psycopg.connect(url, autocommit=True) as connection:
            make_site(connection, dpus)
            beat(connection, dpus, minutes, console)
            detect(connection, dpus, console)
        measure_http(url, console, seconds)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.sensors")
