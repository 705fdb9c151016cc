"""headcount and what people would otherwise use: the same questions of the same events, by turns in one run.

    pip install duckdb chdb    # chdb is ClickHouse as a library: some hundred MB
    BENCH_DATABASE_URL=... python -m benchmarks.comparison [--dpus 100] [--months 1] [--rounds 5] [--only DuckDB]

PostgREST is a program: get it from https://github.com/PostgREST/postgrest/releases and put `postgrest` on the PATH.
What is not there is left out, and the end says why.

Months of events of ten doors each of some rooms, made and compressed as by benchmarks.bench_history, is asked for the
count at an instant and for the hours of four weeks. Each peer has to give the same answers before anything is timed.
Peers are told which DPUs are above a room's doors, that none was ever moved, and when the room was reset: headcount
looks that up. DuckDB and ClickHouse run in this process, so without a round trip. Exits 1 where an answer is another
one, 2 where the rounds of a ratio spread by more than 15 % (it is measured again first, as by `python -m benchmarks`).
"""

import http.client
import importlib
import importlib.util
import json
import math
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import click
from rich.console import Console
from rich.table import Table

from benchmarks.bench_history import DOORS, Connection, close_history, open_history
from benchmarks.client import HOST
from benchmarks.database import server_url
from benchmarks.lanes import Lane, State, Verdict, exit_code, settle
from benchmarks.machine import describe_machine
from benchmarks.processes import free_port, serving

ZONE = ZoneInfo("Europe/Berlin")
NEVER = datetime(2000, 1, 1, tzinfo=UTC)
WEEKS = timedelta(weeks=4)
HOUR = timedelta(hours=1)
OURS = "headcount, in the database"
COUNT = """select coalesce(sum(direction), 0) from {events}
where dpu_id in ({dpus}) and time >= {since} and time <= {at}"""
HOURS = """with hours as (
  select {hour} as bucket, sum(direction) as net from {events}
  where dpu_id in ({dpus}) and time >= {start} and time < {end}
  group by 1
)
select (select coalesce(sum(direction), 0) from {events} where dpu_id in ({dpus}) and time < {start})
  + sum(net) over (order by bucket)
from hours order by bucket"""
ROLLUP = """
create materialized view bench.flow with (timescaledb.continuous, timescaledb.materialized_only = false) as
select public.time_bucket('1 hour', time) as bucket, dpu_id, sum(direction) as net
from core.event group by 1, 2 with no data;
call public.refresh_continuous_aggregate('bench.flow', null, now() - interval '1 hour');
vacuum analyze;
"""
ROLLED_COUNT = """select
  (select coalesce(sum(net), 0) from bench.flow
    where dpu_id in ({dpus}) and bucket >= {since} and bucket < {hour_of_at})
  + (select coalesce(sum(direction), 0) from core.event
    where dpu_id in ({dpus}) and time >= {hour_of_at} and time <= {at})"""
ROLLED_HOURS = """with hours as (
  select bucket, sum(net) as net from bench.flow
  where dpu_id in ({dpus}) and bucket >= {start} and bucket < {end}
  group by 1
)
select (select coalesce(sum(net), 0) from bench.flow where dpu_id in ({dpus}) and bucket < {start})
  + sum(net) over (order by bucket)
from hours order by bucket"""

Asked = Callable[["Question"], list[int]]


@dataclass(frozen=True)
class Question:
    """Of a room: the count at an instant since its latest reset, or those at the ends of the hours before it."""

    room: str
    dpus: tuple[int, ...]
    at: datetime
    since: datetime
    is_series: bool = False

    def instants(self) -> dict[str, datetime]:
        hour = self.at.replace(minute=0, second=0, microsecond=0)
        if self.is_series:
            return {"start": self.at - WEEKS, "end": self.at}
        return {"since": self.since, "at": self.at, "hour_of_at": hour}

    def write(self, count: str, hours: str, mark: str, **words: str) -> tuple[str, dict[str, datetime]]:
        """The text in a dialect, and its parameters. `mark`: how that marks one."""
        text = hours if self.is_series else count
        used = {name: at for name, at in self.instants().items() if f"{{{name}}}" in text}
        marks = {name: mark.replace("NAME", name) for name in used}
        return text.format(dpus=", ".join(map(str, self.dpus)), **marks, **words), used


def latest_reset(at: datetime) -> datetime:
    """04:00 local time."""
    local = at.astimezone(ZONE)
    reset = local.replace(hour=4, minute=0, second=0, microsecond=0)
    return (reset if reset <= local else reset - timedelta(days=1)).astimezone(UTC)


def make_questions(connection: Connection, dpus: int, until: datetime) -> dict[str, list[Question]]:
    """By what is asked."""
    numbers: dict[str, int] = dict(connection.execute("select id, dpu_id from core.dpu").fetchall())
    chance = random.Random(1)
    full_hour = until.replace(minute=0, second=0, microsecond=0)

    def make(is_daily: bool, is_series: bool) -> Question:
        room = chance.choice([n for n in range(dpus // DOORS) if (n % 2 == 0) == is_daily])
        above = tuple(numbers[f"dpu-{n}"] for n in range(room * DOORS, (room + 1) * DOORS))
        at = full_hour if is_series else until - timedelta(seconds=chance.uniform(0, WEEKS.total_seconds()))
        return Question(f"space-{room}", above, at, latest_reset(at) if is_daily else NEVER, is_series)

    return {
        "count at an instant, reset daily": [make(True, False) for _ in range(30)],
        "count at an instant, never reset": [make(False, False) for _ in range(30)],
        "the hours of four weeks, never reset": [make(False, True) for _ in range(3)],
    }


# Peers: each gives what answers a question. One that cannot be had raises click.ClickException, which says why.


@contextmanager
def headcount_in_sql(connection: Connection, _: Path) -> Iterator[Asked]:
    def ask(question: Question) -> list[int]:
        if question.is_series:
            text = "select raw_count from api.list_space_counts(%s, %s, %s, '1h') order by start_at"
            values = [question.room, question.at - WEEKS, question.at]
        else:
            text, values = "select raw_count from api.get_count(%s, %s)", [question.room, question.at]
        return [row[0] for row in connection.execute(text.encode(), values, prepare=True).fetchall()]

    yield ask


@contextmanager
def plain_sql(connection: Connection, _: Path) -> Iterator[Asked]:
    def ask(question: Question) -> list[int]:
        words = {"events": "core.event", "hour": "public.time_bucket('1 hour', time)"}
        text, values = question.write(COUNT, HOURS, "%(NAME)s", **words)
        return [int(row[0]) for row in connection.execute(text.encode(), values, prepare=True).fetchall()]

    yield ask


@contextmanager
def continuous_aggregate(connection: Connection, _: Path) -> Iterator[Asked]:
    for statement in filter(str.strip, ROLLUP.split(";\n")):
        connection.execute(statement.encode())

    def ask(question: Question) -> list[int]:
        text, values = question.write(ROLLED_COUNT, ROLLED_HOURS, "%(NAME)s")
        return [int(row[0]) for row in connection.execute(text.encode(), values, prepare=True).fetchall()]

    yield ask


@contextmanager
def duckdb(_: Connection, events: Path) -> Iterator[Asked]:
    need("duckdb")
    import duckdb

    with duckdb.connect() as session:
        session.execute("set time zone 'UTC'")
        session.execute("create table event (time timestamp, dpu_id integer, direction integer)")
        session.execute(f"insert into event select * from read_csv('{events}', header = false) order by 2, 1")

        def ask(question: Question) -> list[int]:
            text, values = question.write(COUNT, HOURS, "$NAME", events="event", hour="date_trunc('hour', time)")
            return [
                int(row[0])
                for row in session.execute(text, {k: v.replace(tzinfo=None) for k, v in values.items()}).fetchall()
            ]

        yield ask


@contextmanager
def clickhouse(_: Connection, events: Path) -> Iterator[Asked]:
    need("chdb")
    session = importlib.import_module("chdb.session").Session()
    try:
        columns = "time DateTime64(6, 'UTC'), dpu_id Int32, direction Int32"
        quoted = columns.replace("'", "\\'")
        session.query("create database bench")
        session.query(f"create table bench.event ({columns}) engine = MergeTree order by (dpu_id, time)")
        session.query(f"insert into bench.event select * from file('{events}', 'CSV', '{quoted}')")
        session.query("optimize table bench.event final")

        def ask(question: Question) -> list[int]:
            mark = "{NAME:DateTime64(6, 'UTC')}"
            text, values = question.write(COUNT, HOURS, mark, events="bench.event", hour="toStartOfHour(time)")
            written = {name: f"{at:%Y-%m-%d %H:%M:%S.%f}" for name, at in values.items()}
            return list(map(int, str(session.query(text, "TSV", params=written)).split()))

        yield ask
    finally:
        session.close()


@contextmanager
def headcount_over_http(connection: Connection, _: Path) -> Iterator[Asked]:
    with serving(url_of(connection)) as server:
        get = getter(server.port)

        def ask(question: Question) -> list[int]:
            if not question.is_series:
                found = get(f"/v1/spaces/{question.room}/count", at=stamp(question.at))
                return [found["raw_count"]]
            times = {"from": stamp(question.at - WEEKS), "to": stamp(question.at), "interval": "1h"}
            return [bucket["raw_count"] for bucket in get(f"/v1/spaces/{question.room}/counts", **times)["buckets"]]

        yield ask


@contextmanager
def postgrest(connection: Connection, _: Path) -> Iterator[Asked]:
    program = shutil.which("postgrest")
    if program is None:
        raise click.ClickException("get `postgrest` from https://github.com/PostgREST/postgrest/releases onto the PATH")
    port = free_port()
    settings = {
        "PGRST_DB_URI": url_of(connection),
        "PGRST_DB_SCHEMAS": "api",
        "PGRST_DB_ANON_ROLE": "headcount_service",
        "PGRST_SERVER_HOST": HOST,
        "PGRST_SERVER_PORT": str(port),
    }
    process = subprocess.Popen(
        [program], env={**os.environ, **settings}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        get = getter(port)

        def ask(question: Question) -> list[int]:
            if question.is_series:
                times = {"from_at": stamp(question.at - WEEKS), "to_at": stamp(question.at), "grain": "1h"}
                rows = get("/rpc/list_space_counts", space=question.room, select="raw_count", order="start_at", **times)
            else:
                rows = get("/rpc/get_count", space=question.room, at=stamp(question.at), select="raw_count")
            return [row["raw_count"] for row in rows]

        yield ask
    finally:
        process.terminate()
        process.wait(20)


Opened = Callable[[Connection, Path], AbstractContextManager[Asked]]
# By name; those over HTTP are compared with ours over HTTP.
OURS_HTTP = "headcount, over HTTP"
PEERS: dict[str, tuple[Opened, str]] = {
    OURS: (headcount_in_sql, OURS),
    "plain SQL on the same hypertable": (plain_sql, OURS),
    "real-time continuous aggregate, hours": (continuous_aggregate, OURS),
    "DuckDB": (duckdb, OURS),
    "ClickHouse (chdb)": (clickhouse, OURS),
    OURS_HTTP: (headcount_over_http, OURS_HTTP),
    "PostgREST before the same functions": (postgrest, OURS_HTTP),
}


def need(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise click.ClickException(f"pip install {package}")


def url_of(connection: Connection) -> str:
    return server_url().rpartition("/")[0] + "/" + connection.info.dbname


def stamp(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S.%f}Z"


def getter(port: int) -> Callable[..., Any]:
    """GET over one connection, which waits for a server that is just starting."""
    connection = http.client.HTTPConnection(HOST, port, timeout=60)

    def get(path: str, **query: str) -> Any:
        deadline = time.monotonic() + 30
        while True:
            try:
                connection.request("GET", f"{path}?{urlencode(query)}", headers={"Accept": "application/json"})
                answer = connection.getresponse()
                body = answer.read()
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    raise
                connection.close()
                time.sleep(0.1)
                continue
            if answer.status == 200:
                return json.loads(body)
            if answer.status != 503 or time.monotonic() > deadline:
                raise RuntimeError(f"GET {path}: {answer.status} {body[:500].decode()}")
            time.sleep(0.1)

    return get


def write_events(connection: Connection, path: Path) -> int:
    """As CSV. How many."""
    with connection.cursor() as cursor, path.open("wb") as file:
        with cursor.copy(
            "copy (select to_char(time at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'), dpu_id, direction "
            "from core.event) to stdout (format csv)"
        ) as copy:
            for block in copy:
                file.write(block)
        return cursor.rowcount


def find_wrong(questions: Collection[Question], peers: Mapping[str, Asked]) -> list[str]:
    """Peers that answer otherwise than headcount in its database."""
    wrong = []
    for question in questions:
        right = peers[OURS](question)
        for name, ask in peers.items():
            if (answer := ask(question)) != right:
                wrong.append(f"{name}: {question.room} at {question.at}: {answer[:5]}, and not {right[:5]}")
    return wrong


def compare(
    asked: Mapping[str, list[Question]], peers: Mapping[str, Asked], rounds: int
) -> tuple[list[Verdict], dict[str, float]]:
    """By question and peer: times to headcount's, within a round; and the median milliseconds."""
    lanes = [Lane(f"{what}: {name}", math.inf, "times", "lower") for what in asked for name in peers]
    taken: dict[str, list[float]] = defaultdict(list)

    def round_(names: Collection[str]) -> dict[str, float]:
        found: dict[str, float] = {}
        for what, questions in asked.items():
            for name, ask in peers.items():
                wanted = {f"{what}: {peer}" for peer in peers if name in (peer, PEERS[peer][1])}
                if wanted.isdisjoint(names):
                    continue
                times = []
                for question in questions:
                    began = time.perf_counter()
                    ask(question)
                    times.append(1e3 * (time.perf_counter() - began))
                found[f"{what}: {name}"] = statistics.median(times)
        for name, milliseconds in found.items():
            taken[name].append(milliseconds)
        bases = {f"{what}: {name}": f"{what}: {PEERS[name][1]}" for what in asked for name in peers}
        return {name: found[name] / found[bases[name]] for name in names}

    verdicts = settle(lanes, round_, rounds)
    return verdicts, {name: statistics.median(times) for name, times in taken.items()}


def show(verdicts: list[Verdict], taken: Mapping[str, float], events: int, console: Console) -> None:
    table = Table("", title=f"{events:,} events: median milliseconds, and times what headcount takes")
    for column in ("ms", "times", "spread", ""):
        table.add_column(column, justify="right" if column else "left")
    last = verdicts[-1].lane.name.partition(": ")[2]
    for verdict in verdicts:
        name = verdict.lane.name
        spreads = verdict.state is State.NOT_MEASURED
        cells = f"{taken[name]:.2f}", f"{verdict.figure:.2f}", f"{verdict.spread:.0%}", verdict.state.value * spreads
        table.add_row(name, *cells, end_section=name.endswith(last))
    console.print(table)


@click.command(help=__doc__)
@click.option("--dpus", default=100, show_default=True, help="Above ten doors each of so many rooms.")
@click.option("--months", default=1, show_default=True, help="Of history.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--only", default="", help="Peers with this in their name.")
def main(dpus: int, months: int, rounds: int, only: str) -> None:
    console = Console(width=130, highlight=False)
    server = server_url()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headcount-comparison-")))
        connection, until = open_history(server, dpus, months, console)
        stack.callback(close_history, connection, server, False)
        for name, value in describe_machine(url_of(connection)):
            console.print(f"[bold]{name}[/]: {value}")
        csv = folder / "events.csv"
        events = write_events(connection, csv)
        peers: dict[str, Asked] = {}
        for name, (opened, _) in PEERS.items():
            if only in name or name in (OURS, OURS_HTTP):
                try:
                    peers[name] = stack.enter_context(opened(connection, csv))
                except click.ClickException as error:
                    console.print(f"[yellow]left out[/]: {name}: {error.message}")
        asked = make_questions(connection, dpus, until)
        if wrong := find_wrong([question for questions in asked.values() for question in questions], peers):
            console.print("\n".join(wrong[:20]))
            sys.exit(1)
        console.print(f"All {len(peers)} give the same answers to {sum(map(len, asked.values()))} questions.")
        verdicts, taken = compare(asked, peers, rounds)
    show(verdicts, taken, events, console)
    sys.exit(exit_code(verdicts))


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.comparison")
