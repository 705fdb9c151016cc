"""How long a chunk of core.event should be, for 100,000 DPUs that send an event a minute each.

    BENCH_DATABASE_URL=... python -m benchmarks.chunk_interval [--interval 1h --interval 6h ...] [--dpus N]

Each candidate has a database of its own, in which a chunk is filled in the order of arrival until five minutes
before its end. Then those five minutes are stored: calls of api.record_events with 1,000 DPUs each, 2 % of the
events up to an hour late, the candidates in turn, right after a checkpoint, which is what five minutes of the real
load cost between two checkpoints. Then each chunk is compressed while a late event for it is trying to get in.
--year instead fills a year of chunks with a small site, to see what many chunks cost a count.

At full size one day takes 20 GB of disk. With a tenth of the DPUs everything that matters is a tenth: give the
server a tenth of its shared_buffers for each candidate that is compared.
Nothing else may write to the server meanwhile: WAL and buffers are counted for the whole of it.
"""

import asyncio
import math
import os
import statistics
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import click
import psycopg
from rich.console import Console
from rich.table import Table

from benchmarks.database import fresh_database, server_url

INTERVALS = {
    "1h": timedelta(hours=1),
    "6h": timedelta(hours=6),
    "12h": timedelta(hours=12),
    "1d": timedelta(days=1),
    "7d": timedelta(days=7),
}
# DPUs a call, scattered over all of them; the calls of a minute bring all.
BATCH = 1_000
MEASURED_MINUTES = 5
LATE_PERCENT = 2
COLUMNSTORE_AFTER = timedelta(days=7)

RECORD = "select * from api.record_events($1, $2, $3, $4)"

ROSTER = """
create unlogged table roster as
select s.slice, d.dpu_id
from core.dpu d, lateral (select d.dpu_id * 7919 %% %(slices)s as slice) s
order by 1, 2
"""
# One minute after the other, slice after slice: the order in which the events would arrive.
FILL = """
insert into core.event (time, lag_ms, dpu_id, direction, sequence)
select e.time, 1000 + floor(random() * 1000)::bigint, e.dpu_id, e.direction, 0
from generate_series(
  %(from)s::timestamptz, %(until)s::timestamptz - interval '1 minute', interval '1 minute'
) as m (minute)
cross join lateral (
  select
    m.minute + make_interval(secs => r.slice * 60.0 / %(slices)s + floor(random() * 500) / 1000) as time,
    r.dpu_id,
    case when random() < 0.5 then 1 else -1 end as direction
  from roster r
  where m.minute is not null
) e
"""
SIZES = """
select sum(pg_table_size(c)), sum(pg_indexes_size(c))
from public.show_chunks('core.event', newer_than => %(from)s::timestamptz, older_than => %(until)s::timestamptz) c
"""
BUFFERS = """
select coalesce(sum(heap_blks_hit + idx_blks_hit), 0), coalesce(sum(heap_blks_read + idx_blks_read), 0)
from pg_statio_user_tables where schemaname = '_timescaledb_internal'
"""
DIRTY_INDEX_PAGES = """
select count(*)
from pg_buffercache b
join pg_class c on c.relfilenode = b.relfilenode
join pg_index i on i.indexrelid = c.oid
join public.show_chunks('core.event') s on s = i.indrelid
where b.isdirty and b.reldatabase = (select oid from pg_database where datname = current_database())
"""

Connection = psycopg.Connection[tuple[float, ...]]
Columns = tuple[list[str], list[datetime], list[int], list[int]]


@dataclass
class Result:
    interval: str
    rows: int = 0
    cpu_per_call: float = 0
    call_p50: float = 0
    call_p99: float = 0
    wal_per_event: float = 0
    hot_pages: int = 0
    hit_rate: float = 0
    table_per_event: float = 0
    index_per_event: float = 0
    compress_seconds: float = 0
    compressed_per_event: float = 0
    longest_wait: float = 0


class Candidate:
    """A whole chunk that lies in the past; chunks are aligned to UTC midnight by TimescaleDB."""

    def __init__(self, result: Result, url: str) -> None:
        self.result = result
        self.url = url
        self.interval = INTERVALS[result.interval]
        midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        self.begin = midnight - timedelta(days=1) - self.interval
        self.measured = midnight - timedelta(days=1, minutes=MEASURED_MINUTES)
        self.calls: list[Columns] = []
        self.times: list[float] = []
        self.cpu = 0.0
        self.wal = 0


def one(connection: Connection, query: str, parameters: dict[str, object] | None = None) -> tuple[float, ...]:
    row = connection.execute(query, parameters).fetchone()
    if row is None:
        raise LookupError(query)
    return row


def prepare(connection: Connection, interval: timedelta, dpus: int) -> None:
    connection.execute("select _timescaledb_functions.stop_background_workers()")
    connection.execute("create extension if not exists pg_buffercache")
    connection.execute("select public.set_chunk_time_interval('core.event', %s)", [interval])
    connection.execute("select core.register_dpus(array(select 'dpu-' || n from generate_series(1, %s) n))", [dpus])
    connection.execute(ROSTER, {"slices": dpus // BATCH})
    connection.execute("vacuum analyze core.dpu, core.dpu_state, roster")


def hash_of(number: int) -> int:
    """Evenly spread and the same in every run."""
    return number * 2654435761 % 2**32


def make_calls(slices: list[list[int]], start: datetime) -> list[Columns]:
    """The arguments of api.record_events for the measured minutes, in order of time."""
    calls = []
    for minute in range(MEASURED_MINUTES):
        for number, dpus in enumerate(slices):
            times = []
            for dpu in dpus:
                noise = hash_of(dpu + 1_000_003 * minute)
                at = start + timedelta(minutes=minute, seconds=number * 60 / len(slices), milliseconds=noise % 500)
                if noise // 500 % 100 < LATE_PERCENT:
                    at -= timedelta(microseconds=1 + noise % 3_600_000_000)
                times.append(at)
            directions = [1 if hash_of(dpu + minute) % 2 else -1 for dpu in dpus]
            calls.append(([f"dpu-{dpu}" for dpu in dpus], times, directions, [0] * len(dpus)))
    return calls


def backend_cpu(pid: int) -> float:
    """Seconds of CPU of a session's process; nan if the server is not on this machine."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return math.nan
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def wal_position(connection: asyncpg.Connection) -> int:
    return int(await connection.fetchval("select (pg_current_wal_lsn() - '0/0')::bigint"))


async def record(candidates: list[Candidate]) -> None:
    """Sends the calls of all candidates, a minute of each in turn."""
    settings = {"role": "headcount_service", "timezone": "UTC"}
    connections = [await asyncpg.connect(c.url, server_settings=settings) for c in candidates]
    pids = [connection.get_server_pid() for connection in connections]
    started = [backend_cpu(pid) for pid in pids]
    total = len(candidates[0].calls)
    step = max(1, total // MEASURED_MINUTES)
    for begin in range(0, total, step):
        for candidate, connection in zip(candidates, connections, strict=True):
            before_wal = await wal_position(connection)
            for call in candidate.calls[begin : begin + step]:
                before = time.perf_counter()
                verdicts = await connection.fetch(RECORD, *call)
                candidate.times.append(time.perf_counter() - before)
                if verdicts:
                    raise AssertionError(f"{len(verdicts)} events were not accepted: {verdicts[0]}")
            candidate.wal += await wal_position(connection) - before_wal
    for candidate, connection, pid, start in zip(candidates, connections, pids, started, strict=True):
        candidate.cpu = backend_cpu(pid) - start
        await connection.close()


def sent(connection: Connection, at: datetime) -> bool:
    try:
        connection.execute(
            "select * from api.record_events(array['dpu-1'], array[%s::timestamptz], '{1}', '{7}')", [at]
        )
    except psycopg.errors.LockNotAvailable:
        return False
    return True


def compress(url: str, chunk: str, inside: datetime) -> tuple[float, float]:
    """Seconds that compressing a chunk takes, and the longest that a late event for it has to wait."""
    done = threading.Event()
    waits = [0.0]

    def send_late() -> None:
        with psycopg.connect(url, autocommit=True) as late:
            number = 0
            while not done.is_set():
                number += 1
                before = time.perf_counter()
                # the lock_timeout of api.record_events would end the wait: try again, as a client would
                while not sent(late, inside + timedelta(microseconds=number)):
                    pass
                waits.append(time.perf_counter() - before)
                done.wait(0.05)

    sender = threading.Thread(target=send_late)
    with psycopg.connect(url, autocommit=True) as connection:
        sender.start()
        before = time.perf_counter()
        connection.execute("call public.convert_to_columnstore(%s::regclass)", [chunk])
        taken = time.perf_counter() - before
    done.set()
    sender.join()
    return taken, max(waits)


def fill(candidate: Candidate, dpus: int, console: Console) -> None:
    """Everything up to the measured minutes, as it would have arrived."""
    result = candidate.result
    with psycopg.connect(candidate.url, autocommit=True) as connection:
        prepare(connection, candidate.interval, dpus)
        slices: list[list[int]] = [[] for _ in range(dpus // BATCH)]
        # ids are given in order to a fresh table, so dpu_id n is dpu-n
        for slice_, dpu in connection.execute("select slice, dpu_id from roster order by 1, 2"):
            slices[int(slice_)].append(int(dpu))
        candidate.calls = make_calls(slices, candidate.measured)
        before = time.perf_counter()
        # an hour before the chunk as well: late events fall into it
        at = candidate.begin - timedelta(hours=1)
        while at < candidate.measured:
            until = min(at + timedelta(minutes=5), candidate.measured)
            connection.execute(FILL, {"from": at, "until": until, "slices": dpus // BATCH})
            at = until
        taken = time.perf_counter() - before
        rows = dpus * int((candidate.measured - candidate.begin + timedelta(hours=1)) / timedelta(minutes=1))
        connection.execute("vacuum (analyze) core.event")
    result.rows = int(candidate.interval / timedelta(minutes=1)) * dpus
    console.print(f"{result.interval}: filled {rows:,} rows in {taken:.0f} s")


def look(candidate: Candidate) -> None:
    """What five minutes did to the pages, and how large all is."""
    result = candidate.result
    events = sum(len(call[0]) for call in candidate.calls)
    result.cpu_per_call = candidate.cpu / len(candidate.calls)
    result.call_p50 = statistics.median(candidate.times)
    result.call_p99 = statistics.quantiles(candidate.times, n=100)[98]
    result.wal_per_event = candidate.wal / events
    with psycopg.connect(candidate.url, autocommit=True) as connection:
        hit, read = one(connection, BUFFERS)
        result.hit_rate = float(hit) / max(1.0, float(hit) + float(read))
        result.hot_pages = int(one(connection, DIRTY_INDEX_PAGES)[0])
        end = candidate.begin + candidate.interval
        table, index = one(connection, SIZES, {"from": candidate.begin, "until": end})
        result.table_per_event, result.index_per_event = float(table) / result.rows, float(index) / result.rows


def compress_chunk(candidate: Candidate) -> None:
    result = candidate.result
    end = candidate.begin + candidate.interval
    with psycopg.connect(candidate.url, autocommit=True) as connection:
        (chunk,) = connection.execute(
            "select show_chunks::text from public.show_chunks('core.event', newer_than => %s, older_than => %s)",
            [candidate.begin, end],
        ).fetchone() or ("",)
        result.compress_seconds, result.longest_wait = compress(candidate.url, str(chunk), candidate.measured)
        (size,) = one(
            connection,
            "select sum(after_compression_total_bytes) from public.chunk_columnstore_stats('core.event')",
        )
        result.compressed_per_event = float(size) / result.rows


def measure(server: str, names: Iterable[str], dpus: int, console: Console) -> list[Result]:
    with ExitStack() as stack:
        candidates = [Candidate(Result(name), stack.enter_context(fresh_database(server))) for name in names]
        with ThreadPoolExecutor(len(candidates)) as pool:
            list(pool.map(lambda candidate: fill(candidate, dpus, console), candidates))
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute("checkpoint")
        for candidate in candidates:
            with psycopg.connect(candidate.url, autocommit=True) as connection:
                connection.execute("select pg_stat_reset()")
        asyncio.run(record(candidates))
        time.sleep(2)  # the statistics come in late
        for candidate in candidates:
            look(candidate)
        for candidate in candidates:
            compress_chunk(candidate)
            console.print(candidate.result)
        return [candidate.result for candidate in candidates]


def show(results: Iterable[Result], dpus: int, console: Console) -> None:
    results = list(results)
    table = Table(title=f"One chunk of core.event, {dpus:,} DPUs at an event a minute")
    table.add_column("chunk interval")
    for result in results:
        table.add_column(result.interval, justify="right")

    def row(name: str, *values: str) -> None:
        table.add_row(name, *values)

    open_time = [(COLUMNSTORE_AFTER + INTERVALS[r.interval]) / timedelta(minutes=1) * dpus for r in results]
    row("events in a chunk", *(f"{r.rows:,}" for r in results))
    row("CPU ms a call of 1,000 in the database", *(f"{1000 * r.cpu_per_call:.1f}" for r in results))
    row("ms a call of 1,000: median", *(f"{1000 * r.call_p50:.1f}" for r in results))
    row("ms a call of 1,000: 99th percentile", *(f"{1000 * r.call_p99:.1f}" for r in results))
    row("WAL bytes an event", *(f"{r.wal_per_event:,.0f}" for r in results))
    row("index pages changed in 5 minutes", *(f"{r.hot_pages:,}" for r in results))
    row("buffer hits", *(f"{100 * r.hit_rate:.2f} %" for r in results))
    row("bytes an event: table", *(f"{r.table_per_event:.1f}" for r in results))
    row("bytes an event: index", *(f"{r.index_per_event:.1f}" for r in results))
    row("bytes an event: compressed", *(f"{r.compressed_per_event:.1f}" for r in results))
    row("index of the open chunk, GB", *(f"{r.index_per_event * r.rows / 1e9:.2f}" for r in results))
    row("s to compress the chunk", *(f"{r.compress_seconds:.1f}" for r in results))
    row("s a late event waits for it, at most", *(f"{r.longest_wait:.1f}" for r in results))
    row("chunks not compressed yet", *(f"{COLUMNSTORE_AFTER / INTERVALS[r.interval] + 1:.0f}" for r in results))
    row(
        "GB not compressed yet, at most",
        *(f"{n * (r.table_per_event + r.index_per_event) / 1e9:.0f}" for n, r in zip(open_time, results, strict=True)),
    )
    console.print(table)


YEAR = timedelta(days=365)
YEAR_DPUS = 10
YEAR_SITE = """
select api.put_space('daily', '{"reset_at": "00:00"}');
select api.put_space('never', '{}');
select core.register_dpus(array(select 'dpu-' || n from generate_series(1, 20) n));
create temporary table door as
select n, case when n <= 10 then 'daily' else 'never' end as space from generate_series(1, 20) n;
select api.put_doorway('door-' || n, jsonb_build_object('sides', jsonb_build_array(null, space))) from door;
select api.record_placement('dpu-' || n, 'door-' || n, space, '2000-01-01') from door;
"""
YEAR_FILL = """
insert into core.event (time, lag_ms, dpu_id, direction, sequence)
select h, 0, n, 1, 0
from generate_series(%(from)s::timestamptz, %(until)s::timestamptz, interval '1 hour') h, generate_series(1, 20) n
"""


def measure_year(server: str, name: str, console: Console) -> tuple[str, ...]:
    end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    with fresh_database(server) as url, psycopg.connect(url, autocommit=True) as connection:
        connection.execute("select _timescaledb_functions.stop_background_workers()")
        connection.execute("select public.set_chunk_time_interval('core.event', %s)", [INTERVALS[name]])
        connection.execute(YEAR_SITE)
        at = end - YEAR
        while at < end:
            until = min(at + timedelta(days=7), end)
            connection.execute(YEAR_FILL, {"from": at, "until": until - timedelta(hours=1)})
            at = until
        chunks = [
            row[0]
            for row in connection.execute(
                "select show_chunks::text from public.show_chunks('core.event', older_than => %s)",
                [end - COLUMNSTORE_AFTER],
            )
        ]
        before = time.perf_counter()
        for chunk in chunks:
            connection.execute("call public.convert_to_columnstore(%s::regclass)", [chunk])
        taken = time.perf_counter() - before
        connection.execute("analyze core.event")
        (total,) = one(connection, "select count(*) from public.show_chunks('core.event')")
        console.print(f"{name}: {total} chunks, {len(chunks)} compressed in {taken:.0f} s")

        def count(space: str, at: datetime, rounds: int) -> str:
            times = []
            with psycopg.connect(url) as reader:
                for _ in range(rounds):
                    before = time.perf_counter()
                    try:
                        reader.execute("select * from api.get_count(%s, %s)", [space, at])
                    except psycopg.Error as error:
                        return f"{error.sqlstate}: {error.diag.message_primary}"
                    times.append(time.perf_counter() - before)
                locks = reader.execute("select count(*) from pg_locks where pid = pg_backend_pid()").fetchone()
            return f"{1000 * times[0]:.0f} / {1000 * statistics.median(times):.1f} ({(locks or (0,))[0]:,} locks)"

        return (
            f"{int(total):,}",
            count("daily", end, 30),
            count("daily", end - timedelta(days=100), 30),
            count("never", end, 5),
        )


def show_year(results: dict[str, tuple[str, ...]], console: Console) -> None:
    table = Table(title="A year of chunks: ms for one count of ten doors, first in a session / median (locks held)")
    table.add_column("chunk interval")
    for name in results:
        table.add_column(name, justify="right")
    rows = ("chunks", "daily reset, now", "daily reset, 100 days ago", "never reset, now (whole history)")
    for name, values in zip(rows, zip(*results.values(), strict=True), strict=True):
        table.add_row(name, *values)
    console.print(table)


@click.command(help=__doc__)
@click.option("--interval", "intervals", multiple=True, type=click.Choice(list(INTERVALS)), default=("1h", "6h", "1d"))
@click.option("--dpus", default=100_000, show_default=True, help="In thousands: a call brings 1,000.")
@click.option("--year", is_flag=True, help="Measure counting over a year of chunks instead.")
def main(intervals: tuple[str, ...], dpus: int, year: bool) -> None:
    server = server_url()
    console = Console(width=120)
    if year:
        show_year({name: measure_year(server, name, console) for name in intervals}, console)
    else:
        show(measure(server, intervals, dpus, console), dpus, console)


if __name__ == "__main__":
    main()
