"""Whether a count costs more the older the history is: the same questions of 1 and of 12 months of it.

    BENCH_DATABASE_URL=... python -m benchmarks.bench_history [--dpus N] [--months 1 --months 12] [--keep]

1,000 DPUs above ten doors each of 100 spaces, half of which are reset daily and half never, report an event every two
minutes. Each length of history has a database of its own, made on the server, compressed after a week and rolled up as
the jobs would do it; then the databases are asked in turns. Times are taken within the database, around each call.
A year of 1,000 DPUs is 259 million events: about half an hour on two cores, and 5 GB of disk.
"""

import json
import random
import statistics
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString
from urllib.parse import urlsplit, urlunsplit

import click
import psycopg
from psycopg import sql
from rich.console import Console
from rich.table import Table

from benchmarks.database import server_url
from benchmarks.lanes import Bench, Lane, Length, Round
from benchmarks.machine import describe_machine
from headcount.database.migrate import migrate

Connection = psycopg.Connection[tuple[Any, ...]]

ROUNDS = 5
DOORS = 10
DAYS_A_MONTH = 30
COLUMNSTORE_AFTER = timedelta(days=7)

DAY = """
insert into core.event (time, lag_ms, dpu_id, direction, sequence)
select e.time, 20 + floor(random() * 300)::bigint, e.dpu_id, e.direction, 0
from (
  select
    d.dpu_id,
    date_trunc('milliseconds', %(day)s::timestamptz + i * interval '2 minutes' + random() * interval '119 s') as time,
    case when random() < 0.5 then 1 else -1 end as direction
  from generate_series(1, %(dpus)s) as d (dpu_id), generate_series(0, 719) as i
) e
where e.time < %(until)s
"""
COMPRESS = """
select public.compress_chunk(c, if_not_compressed => true)
from public.show_chunks('core.event', older_than => %(older)s::timestamptz) c
"""
# what api.record_events would have kept beside the events
SETTLE = """
update core.dpu_state s set cumulative_count = f.net, first_time = f.first, latest_time = e.latest
from (select f.dpu_id, sum(f.net) as net, min(f.bucket) as first from core.dpu_flow_15m_v1 f group by 1) f,
  (select e.dpu_id, max(e.time) as latest from core.event e where e.time > %(recent)s group by 1) e
where f.dpu_id = s.dpu_id and e.dpu_id = s.dpu_id
"""
SAMPLE = """
create schema bench;
create function bench.sample(statement text, spaces text[], ats timestamptz[]) returns double precision[]
language plpgsql as $$
declare
  v_before timestamptz;
  v_taken double precision[];
begin
  for v_call in 1 .. cardinality(spaces) loop
    v_before := clock_timestamp();
    case statement
      when 'at' then perform c.raw_count from api.get_count(spaces[v_call], ats[v_call]) c;
      when 'now' then perform c.raw_count from api.get_count(spaces[v_call]) c;
      when 'series' then
        perform c.raw_count
        from api.list_space_counts(spaces[v_call], ats[v_call] - interval '30 days', ats[v_call], '1h') c;
    end case;
    v_taken := v_taken || extract(epoch from clock_timestamp() - v_before)::double precision * 1000;
  end loop;
  return v_taken;
end
$$;
"""
AT_REST: LiteralString = """
select
  (select sum(s.total_bytes) from public.chunks_detailed_size('core.event') s
    join timescaledb_information.chunks c on c.chunk_schema = s.chunk_schema and c.chunk_name = s.chunk_name
    where c.is_compressed),
  (select sum(s.total_bytes) from public.chunks_detailed_size('core.event') s),
  (select sum(public.hypertable_size(a.materialization_hypertable_schema || '.' || a.materialization_hypertable_name))
    from timescaledb_information.continuous_aggregates a) + pg_total_relation_size('core.dpu_total')
"""


@dataclass(frozen=True)
class Question:
    name: str
    statement: str
    is_daily: bool
    goal_ms: float
    calls: int


QUESTIONS = (
    Question("count?at=, ten doors, daily reset", "at", True, 1, 300),
    Question("count?at=, ten doors, never reset", "at", False, 1, 300),
    Question("count now, daily reset", "now", True, 0.3, 300),
    Question("count now, never reset", "now", False, 0.3, 300),
    Question("a month of 1 h buckets, daily reset", "series", True, 60, 15),
    Question("a month of 1 h buckets, never reset", "series", False, 60, 15),
)


def make_site(connection: Connection, dpus: int) -> None:
    connection.execute("select _timescaledb_functions.stop_background_workers()")
    connection.execute(SAMPLE)
    spaces = dpus // DOORS
    site = {
        "spaces": [{"id": "campus", "time_zone": "Europe/Berlin"}]
        + [{"id": f"space-{n}", "parent": "campus", "reset_at": "never" if n % 2 else "04:00"} for n in range(spaces)],
        "doorways": [{"id": f"door-{n}", "sides": [None, f"space-{n // DOORS}"]} for n in range(dpus)],
        "dpus": [{"id": f"dpu-{n}"} for n in range(dpus)],
        "placements": [
            {
                "dpu": f"dpu-{n}",
                "doorway": f"door-{n}",
                "mounted_in": f"space-{n // DOORS}",
                "from": "2001-01-01T00:00:00Z",
            }
            for n in range(dpus)
        ],
    }
    connection.execute("select * from api.apply_site(site => %s)", [json.dumps(site)])


def add_history(connection: Connection, dpus: int, until: datetime, days: range, console: Console) -> None:
    """Days before `until`, as they would be found: compressed after a week, rolled up, live rows as they should be."""
    before = time.perf_counter()
    today = until.replace(hour=0, minute=0, second=0, microsecond=0)
    for number in days:
        day = today - timedelta(days=number)  # whole chunks: compressed once
        connection.execute(DAY, {"day": day, "until": until, "dpus": dpus})
        if number % 5 == 4:  # what is on disk stays small
            connection.execute(COMPRESS, {"older": until - COLUMNSTORE_AFTER})
    connection.execute(COMPRESS, {"older": until - COLUMNSTORE_AFTER})
    made = time.perf_counter()
    # it grew behind what was rolled up already
    connection.execute("truncate core.dpu_total")
    connection.execute(
        "update core.rollup_state set materialized_until = '2000-01-01 00:00:00+00', totals_until = '-infinity'"
    )
    connection.execute("call core.run_upkeep()")
    rolled = time.perf_counter()
    connection.execute(SETTLE, {"recent": until - timedelta(hours=2)})
    connection.execute("select core.rederive_live(array(select space_id from core.space))")
    connection.execute("vacuum analyze core.event")
    connection.execute("analyze")
    console.print(
        f"{len(days)} days made in {made - before:.0f} s, rolled up in {rolled - made:.0f} s, "
        f"settled in {time.perf_counter() - rolled:.0f} s",
        highlight=False,
    )


def ask(connection: Connection, question: Question, dpus: int, until: datetime, days: int) -> float:
    """The median time of a call, in milliseconds."""
    # the same spaces and shares of the history for every length
    chance = random.Random(1)
    numbers = [n for n in range(dpus // DOORS) if (n % 2 == 0) == question.is_daily]
    spaces = [f"space-{chance.choice(numbers)}" for _ in range(question.calls)]
    span = timedelta(days=days - 1)
    ats = [until - span * chance.random() for _ in range(question.calls)]
    if question.statement == "series":
        ats = [until - max(timedelta(), span - timedelta(days=30)) * chance.random() for _ in range(question.calls)]
    rows = connection.execute("select unnest(bench.sample(%s, %s, %s))", [question.statement, spaces, ats]).fetchall()
    return statistics.median(float(row[0]) for row in rows)


def show(medians: dict[str, dict[int, list[float]]], console: Console) -> None:
    table = Table(title=f"Within the database, ms: median of {ROUNDS} rounds (and the fastest)")
    table.add_column("")
    lengths = sorted(next(iter(medians.values())))
    for months in lengths:
        table.add_column(f"{months} months" if months > 1 else "1 month", justify="right")
    for column in ("growth", "goal"):
        table.add_column(column, justify="right")
    for question in QUESTIONS:
        rounds = medians[question.name]
        growths = [last / first for first, last in zip(rounds[lengths[0]], rounds[lengths[-1]], strict=True)]
        table.add_row(
            question.name,
            *(f"{statistics.median(rounds[months]):.2f} ({min(rounds[months]):.2f})" for months in lengths),
            f"{statistics.median(growths):.2f}",
            f"{question.goal_ms:g}",
        )
    console.print(table)


def open_history(server: str, dpus: int, months: int, console: Console) -> tuple[Connection, datetime]:
    """A database with that much history, and where it ends; one that an earlier run kept, if there is one."""
    name = f"headcount_history_{dpus}_{months}"
    url = urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    with psycopg.connect(server, autocommit=True) as connection:
        is_there = connection.execute("select 1 from pg_database where datname = %s", [name]).fetchone()
        if not is_there:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    migrate(url, on_step=lambda _: None)
    history: Connection = psycopg.connect(url, autocommit=True)
    if not is_there:
        make_site(history, dpus)
        add_history(history, dpus, datetime.now(UTC), range(months * DAYS_A_MONTH), console)
    history.execute("call core.rederive_due()")
    until = history.execute("select max(latest_time) from core.dpu_state").fetchone()
    if until is None or not isinstance(until[0], datetime):
        raise click.ClickException(f"Database {name} was not filled to the end: drop it.")
    return history, until[0]


def close_history(connection: Connection, server: str, keep: bool) -> None:
    name = connection.info.dbname
    connection.close()
    if not keep:
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def bytes_at_rest(connection: Connection, dpus: int, months: int) -> tuple[float, float, float]:
    """Of an event, with its index; of rollups, an event; and GiB of both."""
    at_rest, events, rollups = map(float, connection.execute(AT_REST).fetchone() or ())
    count, days = dpus * 720, months * DAYS_A_MONTH
    return at_rest / (count * (days - 8)), rollups / (count * days), (events + rollups) / 2**30


SHORTEST, LONGEST = 1, 12  # months
DPUS = 300
GROWING = {
    Lane(f"{question.name}: {LONGEST} months to {SHORTEST}", 1.1, "times", "lower"): question
    for question in QUESTIONS
    if question.statement in ("at", "now")
}
TAKING = {
    Lane(f"{question.name}, in the database", question.goal_ms, "ms", "lower"): question
    for question in QUESTIONS
    if question.statement == "at"
}
AT_REST_LANE = Lane("an event at rest, with its index", 6.6, "bytes", "lower")


@contextmanager
def open_histories(length: Length) -> Iterator[Round]:
    server, console = server_url(), Console(quiet=True)
    with ExitStack() as stack:
        histories = {}
        for months in (SHORTEST, LONGEST):
            connection, until = open_history(server, DPUS, months, console)
            stack.callback(close_history, connection, server, length.keeps)
            histories[months] = connection, until

        def take(question: Question, months: int) -> float:
            connection, until = histories[months]
            return ask(connection, question, DPUS, until, months * DAYS_A_MONTH)

        def round_(names: Collection[str]) -> dict[str, float]:
            lanes = {lane: question for lane, question in (TAKING | GROWING).items() if lane.name in names}
            taken = {
                (question, months): take(question, months)
                for question in dict.fromkeys(lanes.values())
                for months in (SHORTEST, LONGEST)
            }
            found = {
                lane.name: taken[question, LONGEST] / (taken[question, SHORTEST] if lane in GROWING else 1)
                for lane, question in lanes.items()
            }
            return found | {AT_REST_LANE.name: bytes_at_rest(histories[LONGEST][0], DPUS, LONGEST)[0]}

        round_([lane.name for lane in TAKING | GROWING])  # caches
        yield round_


BENCH = Bench((*TAKING, *GROWING, AT_REST_LANE), open_histories)


@click.command(help=__doc__)
@click.option("--dpus", default=1_000, show_default=True)
@click.option("--months", multiple=True, type=int, default=(1, 12), show_default=True, help="Lengths, ascending.")
@click.option("--keep", is_flag=True, help="Leave the databases for the next run.")
def main(dpus: int, months: tuple[int, ...], keep: bool) -> None:
    console = Console(width=130)
    server = server_url()
    for name, value in describe_machine(server):
        console.print(f"[bold]{name}[/]: {value}", highlight=False)
    histories = {length: open_history(server, dpus, length, console) for length in months}
    medians: dict[str, dict[int, list[float]]] = {q.name: {length: [] for length in months} for q in QUESTIONS}
    for number in range(ROUNDS + 1):
        for question in QUESTIONS:
            for length, (connection, until) in histories.items():
                median = ask(connection, question, dpus, until, length * DAYS_A_MONTH)
                if number > 0:  # the first round warms up
                    medians[question.name][length].append(median)
    show(medians, console)
    for length, (connection, _) in histories.items():
        at_rest, rollups, gibibytes = bytes_at_rest(connection, dpus, length)
        console.print(
            f"{length} months: bytes an event at rest, with its index: {at_rest:.1f}; "
            f"rollups: {rollups:.1f} more; on disk: {gibibytes:.1f} GiB",
            highlight=False,
        )
        close_history(connection, server, keep)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.bench_history")
