"""Polls in and reports out at full size: 14,092 sites, 1.8 million polls in a week.

    BENCH_DATABASE_URL=... python -m benchmarks.uptime [--sites N] [--rounds N]

`headcount import` of a file of polls beside COPY of the same rows into a table like core.poll, in turns; then reports
over all of them by a service of its own while polls keep arriving, and the memory of the database process that
computes them, where it runs on this machine. With the store data beside the repository (../shared/data/stores) its
hours, zones and make_scale.py are used, else sites of our own making.
"""

import csv
import json
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import psycopg
from rich.console import Console
from rich.table import Table

from benchmarks.client import HOST
from benchmarks.database import fresh_database, server_url
from benchmarks.lanes import Bench, Lane, Length, Round
from benchmarks.machine import describe_machine
from benchmarks.processes import serving

STORES = Path(__file__).parents[2] / "shared" / "data" / "stores"
SITES = 14_092
START = datetime(2023, 1, 18, tzinfo=UTC)
HOURS = 187
ZONES = ["America/New_York"] * 6 + ["America/Los_Angeles", "America/Chicago", "America/Denver", "America/Phoenix"]
OPEN = [("00:00:00", "23:59:59"), ("11:00:00", "23:00:00"), ("10:30:00", "02:00:00"), ("06:00:00", "22:00:00")]
# As many as an import commits at a time.
BLOCK = 10_000
EQUAL_TABLE = """
create table bench_poll (like core.poll including all);
select create_hypertable('bench_poll', by_range('time', interval '7 days'), create_default_indexes => false);
"""
COMPUTING = "select pid from pg_stat_activity where query like '%api.compute_report%' and pid <> pg_backend_pid()"
ARRIVING = 500  # polls in a request
PAUSE_SECONDS = 0.2


def make_files(folder: Path, sites: int) -> list[Path]:
    """Hours, zones and polls."""
    polls = folder / "polls.csv"
    if STORES.is_dir():
        subprocess.run([sys.executable, STORES / "make_scale.py", polls], check=True)
        if sites < SITES:
            keep_some(polls, sites)
        return [STORES / "real2023" / "menu_hours.csv.gz", STORES / "real2023" / "timezones.csv.gz", polls]
    chance = random.Random(14_092)
    names = [str(chance.randrange(10**17, 9 * 10**18)) for _ in range(sites)]
    write(folder / "zones.csv", ("store_id", "timezone_str"), ([name, chance.choice(ZONES)] for name in names))
    hours = ([name, day, *chance.choice(OPEN)] for name in names for day in range(7) if chance.random() < 0.8)
    write(folder / "hours.csv", ("store_id", "day", "start_time_local", "end_time_local"), hours)
    write(polls, ("store_id", "timestamp_utc", "status"), make_polls(names, chance))
    return [folder / "hours.csv", folder / "zones.csv", polls]


def make_polls(names: list[str], chance: random.Random) -> Iterator[list[str]]:
    for name in names:
        offset, is_active = chance.uniform(0, 780), chance.random() < 0.7
        for hour in range(HOURS):
            if chance.random() < 0.08:
                is_active = not is_active
            if chance.random() < 0.7:
                at = START + timedelta(hours=hour, seconds=offset + chance.uniform(0, 120))
                yield [name, f"{at:%Y-%m-%d %H:%M:%S.%f} UTC", "active" if is_active else "inactive"]


def write(path: Path, header: tuple[str, ...], rows: Iterator[list[Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def keep_some(polls: Path, sites: int) -> None:
    """Those of the first sites of a file that has them one after the other."""
    with polls.open(newline="") as file:
        header, *rows = csv.reader(file)
    kept = set(list(dict.fromkeys(row[0] for row in rows))[:sites])
    write(polls, tuple(header), (row for row in rows if row[0] in kept))


def import_file(url: str, path: Path) -> float:
    """How long it takes, the start of the command included."""
    before = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run(
            [sys.executable, "-m", "headcount.cli", "import", path],
            env={"DATABASE_URL": url, "PYTHONPATH": str(Path(__file__).parents[1])},
            cwd=folder,
            capture_output=True,
            text=True,
        )
    if result.returncode or "rejected 0" not in result.stdout:
        raise click.ClickException(f"{path}: {result.stdout}{result.stderr}")
    return time.perf_counter() - before


def read_blocks(url: str, polls: Path) -> list[bytes]:
    """The polls as COPY takes them, with the numbers of the spaces in place of their names."""
    with psycopg.connect(url) as connection:
        ids: dict[str, int] = dict(connection.execute("select id, space_id from core.space").fetchall())
    with polls.open(newline="") as file:
        lines = [
            f"{row['timestamp_utc'].removesuffix(' UTC')}+00\t0\t{ids[row['store_id']]}\t{row['status'] == 'active'}\n"
            for row in csv.DictReader(file)
        ]
    return ["".join(lines[start : start + BLOCK]).encode() for start in range(0, len(lines), BLOCK)]


def copy(url: str, blocks: list[bytes]) -> float:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("drop table if exists bench_poll")
        connection.execute(EQUAL_TABLE.encode())
        before = time.perf_counter()
        for block in blocks:
            with (
                connection.cursor() as cursor,
                cursor.copy("copy bench_poll (time, lag_ms, space_id, is_active) from stdin") as copying,
            ):
                copying.write(block)
        return time.perf_counter() - before


def call(port: int, path: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"http://{HOST}:{port}{path}", data, {"Accept": "application/json", "Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


@contextmanager
def arriving(port: int, spaces: list[str]) -> Iterator[list[int]]:
    """Polls come in until it is left; counts them."""
    over = threading.Event()
    sent: list[int] = []

    def send() -> None:
        chance = random.Random(1)
        while not over.wait(PAUSE_SECONDS):
            at = START + timedelta(seconds=chance.uniform(0, HOURS * 3600))
            polls = [
                {"space": name, "timestamp": at.isoformat(), "status": "active"}
                for name in chance.choices(spaces, k=ARRIVING)
            ]
            sent.append(call(port, "/v1/polls", {"polls": polls})["accepted"])

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield sent
    finally:
        over.set()
        thread.join()


def memory_of(pid: int) -> int:
    """Bytes of a process that are its own; 0 where nobody can tell."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon")), 0)


def report(url: str, port: int) -> tuple[float, int, int]:
    """Seconds from asking for a report until it is complete, its rows, and the peak of the process's own memory."""
    peak = 0
    with psycopg.connect(url, autocommit=True) as connection:
        before = time.perf_counter()
        started = call(port, "/trigger_report", {})["report_id"]
        while (found := call(port, f"/get_report?report_id={started}"))["status"] == "Running":
            for (pid,) in connection.execute(COMPUTING).fetchall():
                peak = max(peak, memory_of(pid))
            time.sleep(0.05)
        taken = time.perf_counter() - before
    if found["status"] != "Complete":
        raise click.ClickException(f"The report is {found}")
    return taken, found["rows"], peak


REPORT = Lane(f"full uptime report, {SITES:,} sites", 2.5, "s", "lower")


@contextmanager
def open_uptime(_: Length) -> Iterator[Round]:
    with tempfile.TemporaryDirectory() as temporary, fresh_database(server_url()) as url:
        for path in make_files(Path(temporary), SITES):
            import_file(url, path)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("vacuum analyze core.poll")
        with serving(url) as server:
            report(url, server.port)
            yield lambda _: {REPORT.name: report(url, server.port)[0]}


BENCH = Bench((REPORT,), open_uptime)


@click.command(help=__doc__)
@click.option("--sites", default=SITES, show_default=True)
@click.option("--rounds", default=3, show_default=True)
def main(sites: int, rounds: int) -> None:
    console = Console(width=130)
    with tempfile.TemporaryDirectory() as temporary, fresh_database(server_url()) as url:
        for name, value in describe_machine(url):
            console.print(f"[bold]{name}[/]: {value}", highlight=False)
        hours, zones, polls = make_files(Path(temporary), sites)
        table = Table()
        for column in ("", "", "goal"):
            table.add_column(column)
        table.add_row("import of opening hours", f"{import_file(url, hours):.1f} s", "")
        table.add_row("import of zones", f"{import_file(url, zones):.1f} s", "")

        imports, copies = [], []
        for round_ in range(rounds):
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("truncate core.poll, core.import")
            imports.append(import_file(url, polls))
            if not round_:
                blocks = read_blocks(url, polls)
            copies.append(copy(url, blocks))
        number = sum(block.count(b"\n") for block in blocks)
        table.add_row(f"COPY of {number:,} polls", f"{number / statistics.median(copies):,.0f} rows/s", "")
        ratio = statistics.median(two / one for one, two in zip(imports, copies, strict=True))
        table.add_row(
            "headcount import of them", f"{number / statistics.median(imports):,.0f} rows/s, {ratio:.2f} of COPY", "0.3"
        )

        with serving(url) as server:
            port = server.port
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("drop table bench_poll")
                connection.execute("vacuum analyze core.poll")
                spaces = [row[0] for row in connection.execute("select id from core.space").fetchall()]
            for title, is_busy in (("a report", False), ("while polls arrive", True)):
                sent: list[int] = []
                if is_busy:
                    with arriving(port, spaces) as sent:
                        found = [report(url, port) for _ in range(rounds)]
                else:
                    found = [report(url, port) for _ in range(rounds)]
                taken = [one[0] for one in found]
                table.add_row(
                    f"{title}: {found[0][1]:,} sites{f', {sum(sent):,} polls meanwhile' if sent else ''}",
                    f"{statistics.median(taken):.1f} s ({min(taken):.1f} to {max(taken):.1f})",
                    f"{REPORT.goal:g} {REPORT.unit}",
                )
                peak = max(one[2] for one in found)
                table.add_row("  memory of the database process", f"{peak / 2**20:.0f} MiB" if peak else "?", "500 MB")
        console.print(table)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.uptime")
