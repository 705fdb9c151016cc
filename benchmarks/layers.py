"""What each layer costs: COPY, api.record_events, HTTP, and the same route without the database (README.md).

BENCH_DATABASE_URL=... python -m benchmarks.layers
"""

import asyncio
import statistics
import struct
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg
import click
import psycopg
import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.client import get, send_all
from benchmarks.database import fresh_database, server_url
from benchmarks.lanes import Bench, Lane, Length, Round, rates_of
from benchmarks.machine import describe_machine
from benchmarks.processes import Server, free_port, running, serving
from benchmarks.traffic import Columns, Traffic, make_site

BATCH = 1_000
EQUAL_TABLE = """
create table bench_event (like core.event including all);
select create_hypertable('bench_event', by_range('time', (
  select d.time_interval from timescaledb_information.dimensions d
  where d.hypertable_schema = 'core' and d.hypertable_name = 'event')), create_default_indexes => false);
"""
COPY = "copy bench_event (time, lag_ms, dpu_id, direction, sequence) from stdin"
RECORD = "select * from api.record_events(dpus => $1, times => $2, directions => $3, sequences => $4)"
COPIED = "COPY binary, 50,000 rows a transaction"
STORED = f"api.record_events, {BATCH:,} rows a call"
LATE, AGAIN = "  an hour late", "  sent again"
BULK, GATEWAY = f"HTTP, {BATCH:,} events a request, 4 connections", "  each request of 50 DPUs"
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
BINARY_HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
BINARY_ROW = struct.Struct(">hiqiqiiiiih")

BIASES = (
    "Client, service and database share the cores: every layer takes from the others, and a client on another "
    "machine would see higher rates.",
    "The data fit into memory and were written just before: a warm cache, short indexes, no compressed chunk touched.",
    "COPY and the first line of api.record_events have one connection and so one core; the others have more.",
    "Requests, arrays and COPY blocks are made before the clock starts; answers are checked for status 200 only.",
    "Unless it says otherwise a call brings one event, on time, of each of 1,000 DPUs out of 10,000: a row to lock and "
    "update for each event. COPY gets numbers for DPUs, fails the whole block on one duplicate and keeps no sums; "
    "record_events resolves names, judges, locks and sums.",
    "Ratios are medians of ratios within a round, so that noise which lasts longer than a round cancels out; "
    "the spread (slowest to fastest round) says how much noise there was.",
)


@dataclass
class Layer:
    """One thing that is measured: `run` returns how many units it did in how many seconds."""

    name: str
    unit: str
    run: Callable[[float], tuple[int, float]]
    base: str
    # A second one to compare with.
    peer: str | None = None


def copy_text(columns: Columns, ids: dict[str, int]) -> bytes:
    return "".join(
        f"{at:%Y-%m-%d %H:%M:%S.%f}+00\t0\t{ids[dpu]}\t{direction}\t{sequence}\n"
        for dpu, at, direction, sequence in zip(*columns, strict=True)
    ).encode()


def copy_binary(columns: Columns, ids: dict[str, int]) -> bytes:
    rows = [BINARY_HEADER]
    for dpu, at, direction, sequence in zip(*columns, strict=True):
        since = at - EPOCH
        micros = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
        rows.append(BINARY_ROW.pack(5, 8, micros, 8, 0, 4, ids[dpu], 4, direction, 2, sequence))
    return b"".join(rows) + struct.pack(">h", -1)


def copy_lane(
    url: str, traffic: Traffic, ids: dict[str, int], *, binary: bool, batches: int
) -> Callable[[float], tuple[int, float]]:
    """COPY blocks of 1,000 rows; `batches` blocks to a transaction."""
    encode = copy_binary if binary else copy_text
    statement = f"{COPY} (format {'binary' if binary else 'text'})"

    def run(seconds: float) -> tuple[int, float]:
        sent, taken = 0, 0.0
        with psycopg.connect(url, autocommit=True) as connection:
            while taken < seconds:
                block = encode(traffic.columns(BATCH * batches), ids)
                before = time.perf_counter()
                with connection.cursor() as cursor, cursor.copy(statement) as copy:
                    copy.write(block)
                taken += time.perf_counter() - before
                sent += BATCH * batches
        return sent, taken

    return run


def record_lane(url: str, traffic: Traffic, connections: int) -> Callable[[float], tuple[int, float]]:
    """Calls of 1,000 rows over some connections at once."""

    async def call(connection: asyncpg.Connection, batches: list[Columns], deadline: float) -> int:
        sent = 0
        while batches and time.perf_counter() < deadline:
            verdicts = await connection.fetch(RECORD, *batches.pop())
            if verdicts:
                raise AssertionError(f"{len(verdicts)} events were not accepted: {verdicts[0]}")
            sent += BATCH
        return sent

    async def measure(seconds: float) -> tuple[int, float]:
        batches = [traffic.columns(BATCH) for _ in range(int(100 * seconds))][::-1]
        settings = {"role": "headcount_service", "timezone": "UTC"}
        opened = [await asyncpg.connect(url, server_settings=settings) for _ in range(connections)]
        before = time.perf_counter()
        sent = await asyncio.gather(*(call(connection, batches, before + seconds) for connection in opened))
        taken = time.perf_counter() - before
        for connection in opened:
            await connection.close()
        return sum(sent), taken

    return lambda seconds: uvloop.run(measure(seconds))


def again_lane(url: str, traffic: Traffic) -> Callable[[float], tuple[int, float]]:
    """Calls of 1,000 rows that were stored just before; only the second time counts."""

    async def measure(seconds: float) -> tuple[int, float]:
        connection = await asyncpg.connect(url, server_settings={"role": "headcount_service", "timezone": "UTC"})
        sent, taken = 0, 0.0
        while taken < seconds:
            batch = traffic.columns(BATCH)
            await connection.fetch(RECORD, *batch)
            before = time.perf_counter()
            verdicts = await connection.fetch(RECORD, *batch)
            taken += time.perf_counter() - before
            sent += BATCH
            if [row["verdict"] for row in verdicts] != ["duplicate"] * BATCH:
                raise AssertionError("not all events were taken for duplicates")
        await connection.close()
        return sent, taken

    return lambda seconds: uvloop.run(measure(seconds))


def http_lane(
    server: Server, traffic: Traffic, size: int, connections: int, *, repeat: int = 1
) -> Callable[[float], tuple[int, float]]:
    """POST /v1/events with `size` events each; counts events. `repeat`: for servers that do not store them."""

    def run(seconds: float) -> tuple[int, float]:
        # more than can be sent in time
        requests = [traffic.request(size) for _ in range(int(seconds * (150 if size > 1 else 5_000)))]
        load = send_all(server.port, requests * repeat, connections=connections, seconds=seconds)
        if set(load.statuses) != {200}:
            raise RuntimeError(f"the service answered {dict(load.statuses)}: {load.unexpected.decode()}")
        return load.statuses[200] * size, load.seconds

    return run


def get_lane(server: Server, path: str, connections: int) -> Callable[[float], tuple[int, float]]:
    def run(seconds: float) -> tuple[int, float]:
        load = send_all(server.port, [get(path)] * int(seconds * 30_000), connections=connections, seconds=seconds)
        if set(load.statuses) != {200}:
            raise RuntimeError(f"the service answered {dict(load.statuses)}: {load.unexpected.decode()}")
        return load.statuses[200], load.seconds

    return run


def make_layers(url: str, stack: ExitStack) -> list[Layer]:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(EQUAL_TABLE)
        ids: dict[str, int] = dict(connection.execute("select id, dpu_id from core.dpu").fetchall())
    traffic = Traffic()

    service = stack.enter_context(serving(url))
    validating = stack.enter_context(serving(url, "benchmarks.apps", "validate_only"))
    port = free_port()
    fixed = stack.enter_context(running(("benchmarks.client", str(port)), port, {}, "/"))
    single, count = "HTTP, one event a request, 64 connections", "HTTP, current count, 64 connections"
    equal = f"COPY binary, {BATCH:,} rows a transaction"
    return [
        Layer(COPIED, "rows", copy_lane(url, traffic, ids, binary=True, batches=50), COPIED),
        Layer(
            "COPY text, 50,000 rows a transaction",
            "rows",
            copy_lane(url, traffic, ids, binary=False, batches=50),
            COPIED,
        ),
        Layer(
            equal,
            "rows",
            copy_lane(url, traffic, ids, binary=True, batches=1),
            COPIED,
        ),
        Layer(STORED, "rows", record_lane(url, traffic, 1), COPIED, equal),
        Layer("  each call of 50 DPUs", "rows", record_lane(url, Traffic(50), 1), COPIED, equal),
        Layer(LATE, "rows", record_lane(url, Traffic(lag=timedelta(hours=1)), 1), STORED, equal),
        Layer(AGAIN, "rows", again_lane(url, traffic), STORED, equal),
        Layer("  over 4 connections", "rows", record_lane(url, traffic, 4), COPIED, equal),
        Layer(BULK, "events", http_lane(service, traffic, BATCH, 4), COPIED, equal),
        Layer(GATEWAY, "events", http_lane(service, Traffic(50), BATCH, 4), COPIED, equal),
        Layer("  the same, validate only", "events", http_lane(validating, traffic, BATCH, 4, repeat=30), BULK),
        Layer("  the client's own ceiling", "events", http_lane(fixed, traffic, BATCH, 4, repeat=200), BULK),
        Layer(single, "requests", http_lane(service, traffic, 1, 64), single),
        Layer("  the same, validate only", "requests", http_lane(validating, traffic, 1, 64, repeat=5), single),
        Layer("  the client's own ceiling", "requests", http_lane(fixed, traffic, 1, 64, repeat=20), single),
        Layer(count, "requests", get_lane(service, "/v1/spaces/hall/count", 64), count),
        Layer("  nothing (GET /healthz)", "requests", get_lane(service, "/healthz", 64), count),
    ]


# By goal: the layer, and the one it is compared with.
GOALS: dict[Lane, tuple[str, str]] = {
    Lane(f"{BATCH:,} events of {BATCH:,} DPUs over HTTP", 0.6, "of COPY by 50,000", "higher"): (BULK, COPIED),
    Lane(f"{BATCH:,} events of 50 DPUs over HTTP", 0.8, "of COPY by 50,000", "higher"): (GATEWAY, COPIED),
    Lane("events an hour late", 0.7, "of those on time", "higher"): (LATE, STORED),
    # It may cost at most the same.
    Lane("a batch sent again", 1, "of the rate of the first time", "higher"): (AGAIN, STORED),
}


@contextmanager
def open_layers(length: Length) -> Iterator[Round]:
    with fresh_database(server_url()) as url, ExitStack() as stack:
        make_site(url)
        runs = {layer.name: layer.run for layer in make_layers(url, stack)}

        def round_(names: Collection[str]) -> dict[str, float]:
            pairs = {lane.name: pair for lane, pair in GOALS.items() if lane.name in names}
            rates = rates_of({name: runs[name] for pair in pairs.values() for name in pair}, length.seconds)
            return {name: rates[layer] / rates[base] for name, (layer, base) in pairs.items()}

        for name in {name for pair in GOALS.values() for name in pair}:
            runs[name](0.5)  # connections, caches, the first chunk
        yield round_


BENCH = Bench(tuple(GOALS), open_layers)


def compare(rates: list[float], others: list[float]) -> float:
    """The median of the ratios within a round."""
    return statistics.median(rate / other for rate, other in zip(rates, others, strict=True))


def show(layers: list[Layer], rates: dict[int, list[float]], rounds: int, seconds: float, console: Console) -> None:
    table = Table(title=f"Medians of {rounds} interleaved rounds of {seconds:g} s a layer")
    for column in ("", "a second", "", "slowest to fastest round", "ratio", "to"):
        table.add_column(column, justify="right" if column in ("a second", "ratio") else "left")
    numbers = {layer.name: number for number, layer in reversed(list(enumerate(layers)))}
    for number, layer in enumerate(layers):
        base = rates[numbers[layer.base]]
        ratio = compare(rates[number], base)
        against = "" if layer.base == layer.name else layer.base.split(",")[0]
        if layer.peer in numbers:
            against += f"; {compare(rates[number], rates[numbers[layer.peer]]):.2f} to COPY by {BATCH:,} rows"
        table.add_row(
            layer.name,
            f"{statistics.median(rates[number]):,.0f}",
            layer.unit,
            f"{min(rates[number]):,.0f} to {max(rates[number]):,.0f}",
            f"{ratio:.2f}",
            against,
            end_section=number + 1 < len(layers) and layers[number + 1].name.startswith(("HTTP", "api")),
        )
    console.print(table)


@click.command(help=__doc__)
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=3.0, show_default=True, help="Of each layer in each round.")
@click.option("--only", default="", help="Layers with this in their name, and those they are compared with.")
def main(rounds: int, seconds: float, only: str) -> None:
    console = Console(width=130)
    with fresh_database(server_url()) as url, ExitStack() as stack:
        for name, value in describe_machine(url):
            console.print(f"[bold]{name}[/]: {value}", highlight=False)
        make_site(url)
        layers = make_layers(url, stack)
        bases = {layer.base for layer in layers if only in layer.name or only in layer.base}
        layers = [layer for layer in layers if layer.name in bases or only in layer.name or only in layer.base]
        for layer in layers:
            layer.run(0.5)  # connections, caches, the first chunk
        rates: dict[int, list[float]] = defaultdict(list)
        with console.status("") as status:
            for round_ in range(rounds):
                for number, layer in enumerate(layers):
                    status.update(f"round {round_ + 1} of {rounds}: {layer.name}")
                    done, taken = layer.run(seconds)
                    rates[number].append(done / taken)
        show(layers, rates, rounds, seconds, console)
        console.print("[bold]Biases[/]", highlight=False)
        for bias in BIASES:
            console.print(f"- {bias}", highlight=False)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.layers")
