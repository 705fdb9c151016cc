"""A fleet at work: DPUs that report, readers that ask for counts, a BI tool that asks for more, all at once.

    BENCH_DATABASE_URL=... python -m benchmarks.fleet [--run WAY:SPEED:MINUTES]...

100,000 DPUs at one event a minute each (SPEED: so many a minute), 300 a site, in the rooms of 334 sites. Of the events
2 % come late, by minutes to hours, 1 % come twice, and 100 DPUs are moved in each run, half of them as of an hour ago.
WAY is `http`: a controller of each site posts every second what its DPUs have seen; `alone`: each event is a request;
`gateways`: the controllers publish the same to JetStream; `nats`: each event is a message that the DPU publishes;
`none`: nobody sends. 200 readers ask for a count a second each, and one BI tool asks for something every second.
Latencies count from when a request was due. After each run the counts of all rooms are held against what was sent.
"""

import asyncio
import gc
import itertools
import json
import math
import random
import statistics
import time
from array import array
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import asyncpg
import click
import msgspec
import nats
import uvloop
from nats.js import JetStreamContext
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from benchmarks.client import get, open_line, post
from benchmarks.database import fresh_database, server_url
from benchmarks.jetstream import nats_server
from benchmarks.lanes import ATTEMPTS, Bench, Lane, Length, Round
from benchmarks.machine import describe_machine
from benchmarks.processes import TICKS, Server, cpu_seconds, fields_of, free_port, running, serving

DPUS_A_SITE = 300
ROOMS = 10
LATE, REPEATED = 0.02, 0.01
MOVED = 100
READERS = 200
MICROSECONDS = 1_000_000
HOUR = 3600 * MICROSECONDS
DRAIN_SECONDS = 120.0
WAYS = ("http", "alone", "gateways", "nats", "none")
RUNS = ("none:1:1", "http:1:10", "nats:1:10", "http:5:2", "gateways:5:2", "nats:5:2")
READS = COUNT_NOW, COUNT_AT, SERIES = "count, now", "count, at an instant", "series of six hours"
# What dashboards ask for, of one site after the other.
BI = {
    "people now, of a site's rooms": """
        select n.space, n.count, n.capacity, n.dpus_online, n.dpus_placed
        from bi.space_counts_now n join bi.spaces s on s.space = n.space where s.parent = $1""",
    "the last six hours of a site": """
        select c.bucket, c.count from bi.space_counts_15m c
        where c.space = $1 and c.bucket >= now() - interval '6 hours' order by 1""",
    "entries and exits of a site today": """
        select f.bucket, f.entries, f.exits from bi.space_flows_15m f
        where f.space = $1 and f.bucket >= date_trunc('day', now()) order by 1""",
    "sensors of a room": """
        select d.dpu, d.state, d.last_seen_at from bi.dpus d join bi.placements p on p.dpu = d.dpu
        where p.mounted_in = $1 || '-room-0' and p.until_at is null order by 1""",
}


def rfc_3339(at: int) -> str:
    """Of microseconds since 1970."""
    return f"{datetime.fromtimestamp(at // MICROSECONDS, UTC):%Y-%m-%dT%H:%M:%S}.{at % MICROSECONDS:06d}Z"


class Site:
    """DPUs above the doors of a site's rooms, what they report, and what the rooms' counts are by that."""

    def __init__(self, number: int, dpus: int, moving: int) -> None:
        self.name = f"site-{number}"
        self.random = random.Random(number)
        self.dpus = dpus
        self.step = 0  # from an event of one DPU to that of the next, in microseconds
        self.next = 0
        self.turn = 0
        self.again: list[dict[str, object]] = []
        self.nets = [0] * ROOMS
        self.sent = 0
        self.distinct = 0
        # of those that are moved once: when, and in which direction; and since when they hang in room 9
        self.of_moving = {dpu: (array("q"), array("b")) for dpu in range(moving)}
        self.moved_at: dict[int, int] = {}

    def room(self, dpu: int) -> int:
        return dpu % ROOMS

    def begin(self, now: int, period: int) -> None:
        """From now on each DPU sends an event in every period (microseconds)."""
        self.step = period // self.dpus
        self.next = max(self.next, now + self.random.randrange(self.step))

    def plan(self) -> dict[str, object]:
        spaces: list[dict[str, object]] = [{"id": self.name, "name": self.name, "capacity": 1_000}]
        spaces += [{"id": f"{self.name}-room-{room}", "parent": self.name, "capacity": 100} for room in range(ROOMS)]
        rooms = [(dpu, f"{self.name}-room-{self.room(dpu)}") for dpu in range(self.dpus)]
        return {
            "spaces": spaces,
            "doorways": [{"id": f"{self.name}-door-{dpu}", "sides": [room, None]} for dpu, room in rooms],
            "dpus": [{"id": f"{self.name}-dpu-{dpu}"} for dpu, _ in rooms],
            "placements": [
                {
                    "dpu": f"{self.name}-dpu-{dpu}",
                    "doorway": f"{self.name}-door-{dpu}",
                    "mounted_in": room,
                    "from": "2020-01-01T00:00:00Z",
                }
                for dpu, room in rooms
            ],
        }

    def events(self, until: int) -> Iterator[dict[str, object]]:
        """What is sent of the time until then: new events, late ones among them, and some once more."""
        again, self.again = self.again, []
        self.sent += len(again)
        yield from again
        while self.next < until:
            dpu, round_ = self.turn % self.dpus, self.turn // self.dpus
            at = self.next
            if self.random.random() < LATE:
                # another one of then, which comes only now; its fraction of a second is its own
                at -= self.random.randrange(300, 12 * 3600) * MICROSECONDS
            direction = 1 if round_ % 2 == 0 else -1
            event: dict[str, object] = {
                "dpu": f"{self.name}-dpu-{dpu}",
                "timestamp": rfc_3339(at),
                "direction": direction,
                "sequence": self.turn % 32_768,
            }
            if dpu in self.of_moving:
                self.of_moving[dpu][0].append(at)
                self.of_moving[dpu][1].append(direction)
            else:
                self.nets[self.room(dpu)] += direction
            if self.random.random() < REPEATED:
                self.again.append(event)
            self.turn += 1
            self.next += self.step
            self.sent += 1
            self.distinct += 1
            yield event

    def settle(self) -> list[int]:
        """The counts of the rooms, when all is sent."""
        nets = list(self.nets)
        for dpu, events in self.of_moving.items():
            for at, direction in zip(*events, strict=True):
                nets[ROOMS - 1 if at >= self.moved_at.get(dpu, at + 1) else self.room(dpu)] += direction
        return nets


class Latencies:
    """In seconds, by kind."""

    def __init__(self) -> None:
        self.by_kind: dict[str, list[float]] = defaultdict(list)

    def rows(self) -> Iterator[list[str]]:
        for kind, taken in self.by_kind.items():
            if len(taken) >= 2:
                cuts = statistics.quantiles(taken, n=100)
                yield [kind, f"{len(taken):,}", *(f"{cut * 1000:,.1f} ms" for cut in (cuts[49], cuts[98], max(taken)))]


class Fleet:
    """All sites, in a database."""

    def __init__(self, url: str, dpus: int, runs: int) -> None:
        self.url = url
        self.dpus = dpus
        sizes = [DPUS_A_SITE] * (dpus // DPUS_A_SITE) + ([dpus % DPUS_A_SITE] if dpus % DPUS_A_SITE else [])
        self.sites = [Site(number, size, runs if number < MOVED else 0) for number, size in enumerate(sizes)]

    async def build(self, port: int) -> float:
        """In so many seconds."""
        begin = time.perf_counter()
        line = await open_line(port)
        for site in self.sites:
            request = post("/v1/site", json.dumps(site.plan()).encode())
            status, answer = await line.ask(request.replace(b"POST", b"PUT", 1))
            if status != 200:
                raise RuntimeError(f"PUT /v1/site: {status} {answer.decode()}")
        return time.perf_counter() - begin

    @property
    def sent(self) -> int:
        return sum(site.sent for site in self.sites)

    @property
    def distinct(self) -> int:
        return sum(site.distinct for site in self.sites)

    async def settle(self) -> float:
        """Waits for what is still on its way, for so many seconds."""
        connection = await asyncpg.connect(self.url)
        begin = time.perf_counter()
        while await connection.fetchval("select count(*) from core.event") < self.distinct:
            if time.perf_counter() > begin + DRAIN_SECONDS:
                break
            await asyncio.sleep(0.1)
        await connection.close()
        return time.perf_counter() - begin

    async def check(self) -> list[str]:
        """What is not as it was sent."""
        connection = await asyncpg.connect(self.url)
        stored = await connection.fetchval("select count(*) from core.event")
        rows = await connection.fetch("select space, raw_count from bi.space_counts_now")
        await connection.close()
        counts = {row["space"]: row["raw_count"] for row in rows}
        return [f"{stored:,} events are stored, of {self.distinct:,}"] * (stored != self.distinct) + [
            f"{site.name}-room-{room}: {counts[f'{site.name}-room-{room}']}, and {net} is right"
            for site in self.sites
            for room, net in enumerate(site.settle())
            if counts[f"{site.name}-room-{room}"] != net
        ]


class Run(msgspec.Struct):
    """A way, and for how long. `number`: which of a fleet's runs it is."""

    way: str
    speed: float
    minutes: float
    fleet: Fleet
    number: int
    begin: float = 0.0
    latencies: Latencies = msgspec.field(default_factory=Latencies)
    failures: Counter[str] = msgspec.field(default_factory=Counter)
    bytes: int = 0
    behind: float = 0.0
    pending: list[int] = []
    late: float = 0.0  # after the end all of it was stored

    @property
    def seconds(self) -> float:
        return self.minutes * 60

    @property
    def sites(self) -> list[Site]:
        return self.fleet.sites

    async def go(self, port: int, broker: str | None) -> None:
        """All of them at work for as long as it lasts."""
        now = time.time_ns() // 1000
        for site in self.sites:
            site.begin(now, int(60 * MICROSECONDS / self.speed))
        self.begin = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(READERS):
                group.create_task(self.read(port, number))
            group.create_task(self.ask_bi())
            if self.way != "none":
                group.create_task(self.move(port))
            if broker is not None:
                group.create_task(self.publish(broker))
            elif self.way != "none":
                for number, site in enumerate(self.sites):
                    group.create_task(self.control(port, site, number / len(self.sites)))

    @property
    def end(self) -> float:
        return self.begin + self.seconds

    async def until(self, due: float) -> None:
        await asyncio.sleep(due - time.perf_counter())

    # Who sends

    async def control(self, port: int, site: Site, phase: float) -> None:
        """The controller of a site: a request a second, or one for each event."""
        line = await open_line(port)
        due = self.begin + phase
        while (due := due + 1) < self.end:
            await self.until(due)
            events = list(site.events(time.time_ns() // 1000))
            for some in [[event] for event in events] if self.way == "alone" else [events] if events else []:
                request = post("/v1/events", json.dumps({"events": some}, separators=(",", ":")).encode())
                self.bytes += len(request)
                began = due if self.way == "http" else time.perf_counter()
                while True:
                    status, answer = await line.ask(request)
                    if status == 200:
                        break
                    self.failures[f"POST /v1/events: {status}"] += 1
                    if status not in (429, 503):
                        raise RuntimeError(answer.decode())
                    await asyncio.sleep(1)
                self.latencies.by_kind["POST /v1/events"].append(time.perf_counter() - began)
            self.behind = max(self.behind, time.perf_counter() - due)

    async def publish(self, broker: str) -> None:
        """Each message is in the stream before the next second is over."""
        client = await nats.connect(broker)
        jetstream = client.jetstream(publish_async_max_pending=20_000)
        watching = asyncio.create_task(self.watch(jetstream))
        if self.way == "gateways":
            async with asyncio.TaskGroup() as group:
                for number, site in enumerate(self.sites):
                    group.create_task(self.publish_together(jetstream, site, number / len(self.sites)))
        else:
            await self.publish_alone(jetstream)
        await jetstream.publish_async_completed()
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        await client.close()

    async def publish_alone(self, jetstream: JetStreamContext) -> None:
        """All DPUs."""
        due = self.begin
        while (due := due + 0.05) < self.end:
            await self.until(due)
            now = time.time_ns() // 1000
            for site in self.sites:
                for event in site.events(now):
                    await self.put(jetstream, site, event)
            self.behind = max(self.behind, time.perf_counter() - due)

    async def publish_together(self, jetstream: JetStreamContext, site: Site, phase: float) -> None:
        """The controller of a site: a message a second."""
        due = self.begin + phase
        while (due := due + 1) < self.end:
            await self.until(due)
            if events := list(site.events(time.time_ns() // 1000)):
                await self.put(jetstream, site, {"events": events})
            self.behind = max(self.behind, time.perf_counter() - due)

    async def put(self, jetstream: JetStreamContext, site: Site, message: object) -> None:
        body = json.dumps(message, separators=(",", ":")).encode()
        self.bytes += len(body)
        await jetstream.publish_async(f"headcount.events.{site.name}", body, wait_stall=60)

    async def watch(self, jetstream: JetStreamContext) -> None:
        """What nobody has acknowledged yet, once a second."""
        while True:
            info = await jetstream.consumer_info("headcount-events", "headcount-events")
            self.pending.append((info.num_pending or 0) + (info.num_ack_pending or 0))
            await asyncio.sleep(1)

    async def move(self, port: int) -> None:
        """DPUs are hung elsewhere, one after the other; of half of them it is known an hour late."""
        line = await open_line(port)
        moving = [site for site in self.sites if site.of_moving]
        for number, site in enumerate(moving):
            due = self.begin + self.seconds * (number + 1) / (len(moving) + 1)
            await self.until(due)
            since = time.time_ns() // 1000 - (HOUR if number % 2 else 0)
            body = {
                "doorway": f"{site.name}-door-{ROOMS - 1}",
                "mounted_in": f"{site.name}-room-{ROOMS - 1}",
                "from": rfc_3339(since),
            }
            path = f"/v1/dpus/{site.name}-dpu-{self.number}/placements"
            status, answer = await line.ask(post(path, json.dumps(body).encode()))
            if status not in (200, 201):
                raise RuntimeError(f"{path}: {status} {answer.decode()}")
            site.moved_at[self.number] = since
            self.latencies.by_kind["a DPU is moved"].append(time.perf_counter() - due)

    # Who asks

    async def read(self, port: int, number: int) -> None:
        line = await open_line(port)
        chance = random.Random(f"reader {number}")
        due = self.begin + number / READERS
        while (due := due + 1) < self.end:
            await self.until(due)
            kind, path = self.question(chance)
            status, answer = await line.ask(get(path))
            if status != 200:
                self.failures[f"{kind}: {status}"] += 1
                if status not in (429, 503):
                    raise RuntimeError(f"{path}: {status} {answer.decode()}")
            self.latencies.by_kind[kind].append(time.perf_counter() - due)

    def question(self, chance: random.Random) -> tuple[str, str]:
        site = chance.choice(self.sites).name
        space = chance.choice([site, f"{site}-room-{chance.randrange(ROOMS)}"])
        now = datetime.now(UTC)
        match chance.random():
            case share if share < 0.85:
                return COUNT_NOW, f"/v1/spaces/{space}/count"
            case share if share < 0.95:
                at = now - timedelta(seconds=chance.uniform(1, 12 * 3600))
                return COUNT_AT, f"/v1/spaces/{space}/count?at={at:%Y-%m-%dT%H:%M:%S}Z"
            case _:
                times = f"from={now - timedelta(hours=6):%Y-%m-%dT%H:%M:%S}Z&to={now:%Y-%m-%dT%H:%M:%S}Z"
                return SERIES, f"/v1/spaces/{site}/counts?{times}&interval=15m"

    async def ask_bi(self) -> None:
        connection = await asyncpg.connect(self.fleet.url, server_settings={"role": "headcount_bi"})
        chance = random.Random("bi")
        due = self.begin
        while (due := max(due + 1, time.perf_counter())) < self.end:  # one at a time
            await self.until(due)
            query = chance.choice(list(BI.values()))
            await connection.fetch(query, chance.choice(self.sites).name)
            self.latencies.by_kind["BI query"].append(time.perf_counter() - due)
        await connection.close()


class Used(NamedTuple):
    """What a database has taken so far: CPU seconds of its processes, not a number where they run elsewhere; bytes."""

    cpu_seconds: float
    log: int


async def look(url: str) -> Used:
    connection = await asyncpg.connect(url)
    log = await connection.fetchval("select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint")
    seconds = cpu_seconds_of_server(await connection.fetchval("select pg_backend_pid()"))
    await connection.close()
    return Used(seconds, log)


def cpu_seconds_of_server(backend: int) -> float:
    """Of the server and its children, those that are gone included."""
    try:
        postmaster = int(fields_of(backend)[1])
        gone = sum(int(ticks) for ticks in fields_of(postmaster)[13:15])
        return cpu_seconds(postmaster) + gone / TICKS
    except OSError:
        return math.nan


async def ingest_lag(port: int) -> str:
    """From an event's own time to its commit, by the service's histogram."""
    line = await open_line(port)
    _, answer = await line.ask(get("/metrics"))
    buckets: list[tuple[float, float]] = []
    for family in text_string_to_metric_families(answer.decode()):
        if family.name == "headcount_ingest_lag_seconds":
            buckets = [(float(s.labels["le"]), s.value) for s in family.samples if s.name.endswith("_bucket")]
    total = max((count for _, count in buckets), default=0)
    return ", ".join(
        f"{share:.0%} within {next((le for le, count in buckets if count >= share * total), math.inf):g} s"
        for share in (0.5, 0.9, 0.97)
    )


async def compress(url: str) -> tuple[int, int]:
    """Bytes of the hypertable of events with its indexes, before and after its chunks are compressed."""
    connection = await asyncpg.connect(url)
    query = "select sum(total_bytes)::bigint from chunks_detailed_size('core.event')"
    before = await connection.fetchval(query)
    await connection.fetch("select compress_chunk(c) from show_chunks('core.event') c")
    after = await connection.fetchval(query)
    await connection.close()
    return before, after


async def measure(run: Run, server: Server, consumers: list[Server], broker: str | None) -> list[str]:
    """What came of it, line by line."""
    fleet = run.fleet
    sent, distinct, before = fleet.sent, fleet.distinct, await look(fleet.url)
    cpu = [process.cpu_seconds() for process in (server, *consumers)]
    gc.collect()
    gc.freeze()  # or what we measure is at times our own collection
    await run.go(server.port, broker)
    drained = await fleet.settle()
    sent, distinct, after = fleet.sent - sent, fleet.distinct - distinct, await look(fleet.url)
    serve, *consume = (p.cpu_seconds() - first for p, first in zip((server, *consumers), cpu, strict=True))
    shares = {"the database": after.cpu_seconds - before.cpu_seconds, "headcount serve": serve}
    if consume:
        shares["headcount consume"] = sum(consume)
    run.late = max(time.perf_counter() - run.end, 0.0)
    lines = [
        f"events sent: {sent:,} ({sent / run.seconds:,.0f}/s), of them new: {distinct:,}",
        f"senders were behind by {run.behind:.2f} s at most; all was stored {drained:.1f} s after the end",
        f"from event to commit: {await ingest_lag((consumers or [server])[0].port)}",
        "CPU, readers and BI included: "
        + "; ".join(
            f"{what} {taken / run.seconds:.0%} of a core" + (f", {taken / sent * 1e6:,.0f} µs an event" if sent else "")
            for what, taken in shares.items()
        ),
        f"write-ahead log: {(after.log - before.log) / run.seconds / 1024:,.0f} KiB/s; "
        f"sent: {run.bytes / run.seconds / 1024:,.0f} KiB/s",
        f"refused, and sent again: {dict(run.failures) or 'nothing'}",
    ]
    if run.pending:
        median, most = statistics.median(run.pending), max(run.pending)
        lines.append(f"messages not acknowledged yet, once a second: median {median:,.0f}, most {most:,}")
    return lines


def read_run(text: str) -> tuple[str, float, float]:
    """Raises ValueError."""
    way, speed, minutes = text.split(":")
    if way not in WAYS:
        raise ValueError(way)
    return way, float(speed), float(minutes)


def take_turn(run: Run, consumers: int, console: Console) -> tuple[list[str], list[str]]:
    """The services of a run, started for it. Lines of what came of it, and what is not as it was sent."""
    fleet = run.fleet
    with ExitStack() as stack:
        server = stack.enter_context(serving(fleet.url))
        broker, consuming = None, list[Server]()
        if run.way in ("nats", "gateways"):
            broker = stack.enter_context(nats_server())
            consuming = [stack.enter_context(consume(fleet.url, broker)) for _ in range(consumers)]
        if not run.number:
            seconds = uvloop.run(fleet.build(server.port))
            console.print(f"{fleet.dpus:,} DPUs at {len(fleet.sites):,} sites: PUT /v1/site took {seconds:,.0f} s")
        lines = uvloop.run(measure(run, server, consuming, broker))
    return lines, uvloop.run(fleet.check())


@contextmanager
def consume(url: str, broker: str) -> Iterator[Server]:
    port = free_port()
    environment = {
        "DATABASE_URL": url,
        "HEADCOUNT_AUTH": "off",
        "HEADCOUNT_METRICS_PORT": str(port),
        "HEADCOUNT_NATS_URL": broker,
    }
    with running(("headcount.cli", "consume"), port, environment) as server:
        yield server


DPUS = 100_000
# Who is as late as this still keeps up.
LATE_SECONDS = 1.0


def make_bench(way: str, name: str, speed: float) -> Bench:
    """A fleet that sends so many times what an ordinary one does."""
    keeping_up = Lane(f"{DPUS:,} DPUs {name}, all counts right", speed, "times an event a minute", "higher", True)
    reading = Lane(f"reads p99, {DPUS:,} DPUs {name} at {speed:g} times", 50, "ms", "lower", True)

    @contextmanager
    def open_fleet(length: Length) -> Iterator[Round]:
        with fresh_database(server_url()) as url:
            fleet = Fleet(url, DPUS, length.rounds * ATTEMPTS)
            console, numbers = Console(quiet=True), itertools.count()

            def round_(_: Collection[str]) -> dict[str, float]:
                run = Run(way, speed, 2 if length.is_long else 0.5, fleet, next(numbers))
                _, wrong = take_turn(run, 1, console)
                kept_up = run.seconds / (run.seconds + max(run.late - LATE_SECONDS, 0))
                reads = [seconds for kind in READS for seconds in run.latencies.by_kind[kind]]
                return {
                    keeping_up.name: 0 if wrong else speed * kept_up,
                    reading.name: 1e3 * statistics.quantiles(reads, n=100)[98],
                }

            yield round_

    return Bench((keeping_up, reading), open_fleet)


HTTP = make_bench("http", "over HTTP by controllers", 30)
NATS = make_bench("gateways", "through NATS by gateways", 20)


@click.command(help=__doc__)
@click.option("--run", "runs", multiple=True, default=RUNS, show_default=True, help="WAY:SPEED:MINUTES")
@click.option("--dpus", default=DPUS, show_default=True)
@click.option("--consumers", default=1, show_default=True, help="Processes of headcount consume.")
def main(runs: tuple[str, ...], dpus: int, consumers: int) -> None:
    try:
        asked = [read_run(text) for text in runs]
    except ValueError as error:
        raise click.UsageError(f"--run takes WAY:SPEED:MINUTES, such as http:1:10, and not {error}.") from None
    console = Console(width=130, highlight=False)
    wrong: list[str] = []
    with fresh_database(server_url()) as url:
        for name, value in describe_machine(url):
            console.print(f"[bold]{name}[/]: {value}")
        fleet = Fleet(url, dpus, len(asked))
        for number, (way, speed, minutes) in enumerate(asked):
            run = Run(way, speed, minutes, fleet, number)
            lines, found = take_turn(run, consumers, console)
            table = Table("", "requests", "median", "99 %", "slowest", title=f"{way}, speed {speed:g}, {minutes:g} min")
            for row in run.latencies.rows():
                table.add_row(*row)
            console.print(table)
            for line in lines:
                console.print(line)
            wrong += found
            console.print("\n".join(found[:10]) or f"counts of {len(fleet.sites) * ROOMS:,} rooms: all right")
        plain, packed = uvloop.run(compress(url))
        console.print(
            f"core.event with its indexes: {plain / fleet.distinct:,.0f} bytes an event, "
            f"{packed / fleet.distinct:,.1f} when compressed"
        )
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.fleet")
