"""What one hostile client does to a service on this machine, each way a function: python -m tests.load.attacks NAME.

Reads what it needs (port, tokens, seconds) as JSON from stdin, and prints how often it was answered what. It sends to
the loopback address alone, and stops by itself.
"""

import asyncio
import gzip
import itertools
import json
import os
import random
import resource
import secrets
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import msgspec

HOST = "127.0.0.1"
MIB = 2**20
PATIENCE = 40.0
FROM = "2026-01-01T00:00:00Z"


class Target(msgspec.Struct, frozen=True):
    port: int
    seconds: float
    # All of one client: its tokens by scope, `limited` an admin's that is limited to a space of that name.
    read: str
    ingest: str
    limited: str
    admin: str


class Attack:
    """One client with as many connections as it likes."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.deadline = time.monotonic() + target.seconds
        self.answers: Counter[str] = Counter()

    def is_over(self) -> bool:
        return time.monotonic() >= self.deadline

    def head(self, method: str, path: str, token: str, length: int = 0, *more: str) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {length}", *more]
        if token:
            lines.append(f"Authorization: Bearer {token}")
        return "\r\n".join([*lines, "", ""]).encode()

    def get(self, path: str, *more: str) -> bytes:
        return self.head("GET", path, self.target.read, 0, *more)

    def post(self, path: str, token: str, body: bytes, *more: str, method: str = "POST") -> bytes:
        return self.head(method, path, token, len(body), *more) + body

    async def together(self, number: int, one: Callable[[int], Awaitable[None]]) -> None:
        """So many connections, each again and again until it is over."""

        async def run(place: int) -> None:
            while not self.is_over():
                try:
                    await one(place)
                except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
                    self.answers["cut"] += 1
                    await asyncio.sleep(0.01)

        await asyncio.gather(*map(run, range(number)))

    async def keep_asking(self, requests: Iterator[bytes], most: int = 1_000_000) -> None:
        """One after the other on one connection, without a pause."""
        reader, writer = await asyncio.open_connection(HOST, self.target.port, limit=MIB)
        try:
            for request in itertools.islice(requests, most):
                if self.is_over():
                    break
                writer.write(request)
                async with asyncio.timeout(PATIENCE):
                    await writer.drain()
                    self.answers[await self.answer(reader)] += 1
        finally:
            writer.close()

    async def answer(self, reader: asyncio.StreamReader) -> str:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if b"content-length:" in head:
            await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0]))
        elif not head.startswith(b"http/1.1 204"):
            raise asyncio.IncompleteReadError(b"", None)
        return head[9:12].decode()

    async def hang_up(self, request: bytes, seconds: float) -> None:
        """Sends, and is gone before there is an answer."""
        _, writer = await asyncio.open_connection(HOST, self.target.port)
        writer.write(request)
        await writer.drain()
        await asyncio.sleep(seconds)
        writer.close()
        self.answers["hung up"] += 1


async def probe_flood(attack: Attack) -> None:
    """300 clients without a token ask whether it is ready."""
    request = attack.head("GET", "/readyz", "")
    await attack.together(300, lambda _: attack.keep_asking(itertools.repeat(request)))


async def strangers(attack: Attack) -> None:
    """Tokens that nobody made, each another one."""

    def requests() -> Iterator[bytes]:
        while True:
            yield attack.head("GET", "/v1/spaces", f"hc_{secrets.token_urlsafe(32)}")

    await attack.together(100, lambda _: attack.keep_asking(requests()))


def bodies() -> list[tuple[str, bytes]]:
    """Kinds and bodies of 8 MiB that take long to look at."""
    room = 8 * MIB - 100
    odd = b'{"dpu":"' + b"\x01" * 780 + b'"}'
    return [
        ("application/json", b'{"events":[["' + b"\x01" * room + b'"]]}'),
        ("application/json", b'{"events":[' + b",".join([odd] * 10_000) + b"]}"),
        ("application/json", b'{"events":[' + b"[" * room),
        ("application/json", b'{"events":[' + b"[" * 2_000 + b"[]," * (room // 4)),
        ("application/json", b'{"events":[[' + b"{}," * (room // 3) + b"{}]]}"),
        ("application/json", b'{"events":[' + b"0," * 9_999 + b"0]}"),
        ("text/csv", b"," * room),
        ("text/csv", b"timestamp,direction,dpu_id\n" + b"\x01" * (room - 100)),
        ("text/csv", b"timestamp,direction,dpu_id\n" + (b"," * 800 + b'"\n') * 9_000),
        ("application/x-ndjson", b"\n" * room),
        ("application/msgpack", b"\x81\xa6events\xdc\x27\x10" + (b"\xdc\x03\x0c" + b"\x80" * 780) * 10_000),
    ]


async def hostile_bodies(attack: Attack) -> None:
    """A few kilobytes each, that inflate to what takes long to look at."""
    packed = [
        attack.post(
            "/v1/events",
            attack.target.ingest,
            gzip.compress(body, 9),
            f"Content-Type: {kind}",
            "Content-Encoding: gzip",
        )
        for kind, body in bodies()
    ]
    await attack.together(8, lambda place: attack.keep_asking(itertools.cycle(packed[place:] + packed[:place])))


async def slow_bodies(attack: Attack) -> None:
    """Bodies that never end: packed ones of reports, and plain ones of events, a piece now and then."""
    bomb = gzip.compress(b" " * 8 * MIB)
    sent = {
        "/trigger_report": (attack.target.read, bomb[:3_000], "Content-Encoding: gzip"),
        "/v1/events": (attack.target.ingest, b" " * 500_000, "Content-Encoding: identity"),
        "/v1/polls": (attack.target.ingest, b" " * 60_000, "Content-Encoding: identity"),
    }

    async def send(place: int) -> None:
        path = list(sent)[place % len(sent)]
        token, body, encoding = sent[path]
        reader, writer = await asyncio.open_connection(HOST, attack.target.port)
        try:
            writer.write(attack.head("POST", path, token, len(body) + 100, encoding) + body)
            for _ in range(100):
                if attack.is_over():
                    break
                writer.write(b" ")
                await writer.drain()
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.2):
                        attack.answers[await attack.answer(reader)] += 1
                        return
        finally:
            writer.close()

    await attack.together(120, send)


async def half_heads(attack: Attack) -> None:
    """Connections whose requests never begin."""
    await attack.together(300, lambda _: attack.hang_up(b"GET /v1/counts HTTP/1.1\r\nHost: x\r\nX-", 1.0))


async def crowd(attack: Attack) -> None:
    """As many of these as there can be connections, and more."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = min(hard, 10_000) if hard != resource.RLIM_INFINITY else 10_000
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    number = min(files - 100, int(attack.target.seconds * 300))
    await attack.together(number, lambda _: attack.hang_up(b"GET /v1/counts HTTP/1.1\r\nHost: x\r\nX-", 5.0))


async def pipe(attack: Attack) -> None:
    """Requests without a token, thousands in one piece, of which nobody reads an answer."""
    requests = b"GET /a HTTP/1.1\r\n\r\n" * 12_000
    await attack.together(8, lambda _: attack.hang_up(requests, 0.1))


async def schema(attack: Attack) -> None:
    """The description of the API, which anybody may have."""
    request = attack.head("GET", "/schema", "")
    await attack.together(100, lambda _: attack.keep_asking(itertools.repeat(request)))


async def large_heads(attack: Attack) -> None:
    """Heads of thousands of lines, long paths and long queries, without a token."""
    requests = [
        attack.head("GET", "/", "", 0, *["a:b"] * 12_000),
        attack.head("GET", "/a" * 30_000, ""),
        attack.head("GET", "/healthz?" + "%41=%42&" * 1_000, ""),
        attack.head("GET", "/" + "%C3%A4" * 10_000, ""),
    ]
    await attack.together(50, lambda place: attack.keep_asking(itertools.repeat(requests[place % len(requests)])))


async def history(attack: Attack) -> None:
    """Counts as they were known, which read every event: some wait for them, others go away at once and come again."""
    known = attack.get("/v1/counts?known_at=2999-01-01T00:00:00Z")
    series = attack.get("/v1/spaces/hall/counts?from=2020-01-01T00:00:00Z&to=2026-01-01T00:00:00Z&interval=1d")

    async def ask(place: int) -> None:
        if place % 2:
            await attack.hang_up(known, 0.1)
        else:
            await attack.keep_asking(itertools.cycle([known, series]), 10)

    await attack.together(40, ask)


async def counts(attack: Attack) -> None:
    """Current counts of everything, and of as many spaces as can be named."""
    named = attack.get("/v1/counts?" + "&".join(["space=hall"] + [f"space=room-{n}" for n in range(200)]))
    every = attack.get("/v1/counts")
    await attack.together(200, lambda place: attack.keep_asking(itertools.repeat(named if place % 2 else every)))


async def last_id(attack: Attack) -> str:
    """The id of the last event that a new stream begins with."""
    reader, writer = await asyncio.open_connection(HOST, attack.target.port)
    writer.write(attack.get("/v1/live"))
    found = "0"
    async with asyncio.timeout(PATIENCE):
        while "@" not in found:  # all but the last say that everything is to come
            line = (await reader.readline()).decode()
            found = line.partition("id: ")[2].strip() if line.startswith("id: ") else found
    writer.close()
    return found


async def old_resumes(attack: Attack) -> None:
    """Streams that come back with the first id that they ever had."""
    first = await last_id(attack)
    await attack.together(20, lambda _: attack.hang_up(attack.get("/v1/live", f"Last-Event-ID: {first}"), 0.2))


async def listeners(attack: Attack) -> None:
    """Streams of many selections that come and go."""

    async def listen(place: int) -> None:
        await attack.hang_up(attack.get(f"/v1/live?space=hall&space=room-{place}"), 0.5)

    await attack.together(150, listen)


async def rejoins(attack: Attack) -> None:
    """50 streams of 950 spaces each, that hang up at the first piece and come again with others of a thousand."""
    await attack.keep_asking(iter([own_site(attack, "UTC")]))
    names = [f"space=own-{number}" for number in range(1_000)]
    numbers = itertools.count()

    async def come(_: int) -> None:
        first = next(numbers) * 7 % 1_000
        reader, writer = await asyncio.open_connection(HOST, attack.target.port)
        try:
            writer.write(attack.get("/v1/live?" + "&".join((names[first:] + names[:first])[:950])))
            async with asyncio.timeout(PATIENCE):
                attack.answers[(await reader.readuntil(b"\r\n"))[9:12].decode()] += 1
        finally:
            writer.close()

    await attack.together(50, come)


async def many_names(attack: Attack) -> None:
    """A thousand streams, each of a thousand spaces of a limited token, which changes one of them all the time."""
    await attack.keep_asking(iter([own_site(attack, "UTC")]))
    names = "&".join(f"space=own-{number}" for number in range(1_000))

    def changes() -> Iterator[bytes]:
        for number in itertools.count():
            body = json.dumps({"name": str(number)}).encode()
            yield attack.post("/v1/spaces/own-0", attack.target.limited, body, method="PUT")

    async def hold(_: int) -> None:
        reader, writer = await asyncio.open_connection(HOST, attack.target.port)
        try:
            writer.write(attack.head("GET", f"/v1/live?{names}", attack.target.limited))
            async with asyncio.timeout(PATIENCE):
                status = (await reader.readuntil(b"\r\n"))[9:12].decode()
            attack.answers[status] += 1
            if status == "200":
                await asyncio.sleep(attack.deadline - time.monotonic())
        finally:
            writer.close()

    await asyncio.gather(attack.together(1_000, hold), attack.together(1, lambda _: attack.keep_asking(changes())))


async def reports(attack: Attack) -> None:
    """One report after the other."""
    await attack.together(20, lambda _: attack.keep_asking(itertools.repeat(attack.get("/trigger_report"))))


async def plan_changes(attack: Attack) -> None:
    """A limited token puts a long chain of spaces, again and again, and changes its zones."""

    def site(zone: str) -> bytes:
        spaces = [
            {"id": f"chain-{number}", "parent": f"chain-{number - 1}" if number else "limited", "time_zone": zone}
            for number in range(1_000)
        ]
        return attack.post("/v1/site", attack.target.limited, json.dumps({"spaces": spaces}).encode(), method="PUT")

    requests = [site(zone) for zone in ("UTC", "UTC", "Europe/Berlin")]
    await attack.together(3, lambda _: attack.keep_asking(itertools.cycle(requests)))


async def messenger_addresses(attack: Attack) -> None:
    """A limited token makes channels with long addresses of Apprise, which are refused once they have been read."""
    url = f"gchat://ws/key/token@{'/..' * 655}?zz=1"
    body = json.dumps({"kind": "apprise", "url": url}).encode()
    request = attack.post("/v1/channels/x", attack.target.limited, body, method="PUT")
    await attack.together(48, lambda _: attack.keep_asking(itertools.repeat(request)))


def own_site(attack: Attack, zone: str, query: str = "") -> bytes:
    """A thousand spaces of the limited token, each with a zone and a reset of its own."""
    spaces = [{"id": f"own-{number}", "time_zone": zone, "reset_at": "04:00"} for number in range(1_000)]
    body = json.dumps({"spaces": spaces}).encode()
    return attack.post(f"/v1/site{query}", attack.target.limited, body, method="PUT")


async def own_spaces(attack: Attack) -> None:
    """A limited token makes as many spaces as it may, and changes all of them, or each by itself, again and again."""
    numbers = itertools.count()

    def requests(place: int) -> Iterator[bytes]:
        for zone in itertools.cycle(("UTC", "Europe/Berlin")):
            yield own_site(attack, zone)
            for _ in range(20):
                body = json.dumps({"time_zone": zone, "reset_at": f"{place:02}:00"}).encode()
                path = f"/v1/spaces/own-{next(numbers) % 6_000}"
                yield attack.post(path, attack.target.limited, body, method="PUT")

    await attack.together(4, lambda place: attack.keep_asking(requests(place)))


async def dry_runs(attack: Attack) -> None:
    """A limited token asks what would be if it changed all its spaces."""
    requests = [own_site(attack, zone, "?dry_run=true") for zone in ("UTC", "Europe/Berlin")]
    await attack.together(8, lambda _: attack.keep_asking(itertools.cycle(requests)))


def whole_sites(attack: Attack, query: str = "") -> list[bytes]:
    """Changes of the whole site, each as large as a request may be: zones, floors, sensors that move and retire."""

    def site(**items: object) -> bytes:
        body = json.dumps(items).encode()
        return attack.post(f"/v1/site{query}", attack.target.admin, body, method="PUT")

    def rooms(**more: object) -> bytes:
        return site(spaces=[{"id": f"big-{number}", **more} for number in range(1_000)])

    def moved(door: int) -> bytes:
        return site(
            placements=[
                {"dpu": f"dpu-{number}", "doorway": f"door-{(number + door) % 10}", "mounted_in": "hall", "from": FROM}
                for number in range(10, 1_010)
            ]
        )

    def sensors(**more: object) -> bytes:
        return site(dpus=[{"id": f"dpu-{number}", **more} for number in range(10, 1_010)])

    return [
        site(spaces=[{"id": "big"}, {"id": "floor", "parent": "big"}]),
        rooms(parent="floor"),
        site(spaces=[{"id": "big", "time_zone": "Asia/Tokyo", "reset_at": "03:00"}]),
        rooms(time_zone="Europe/Berlin", reset_at="04:00"),
        moved(0),
        sensors(retired=True, offline_after_seconds=60),
        site(spaces=[{"id": "floor", "parent": "hall"}]),
        rooms(time_zone=None, reset_at=None, parent="big"),
        moved(1),
        sensors(retired=False, offline_after_seconds=None),
        site(spaces=[{"id": "floor", "parent": "big"}, {"id": "big", "time_zone": "UTC", "reset_at": "never"}]),
    ]


async def whole_changes(attack: Attack) -> None:
    """One who may change everything does so, all the time."""
    requests = whole_sites(attack)
    await attack.together(6, lambda _: attack.keep_asking(itertools.cycle(requests)))


async def whole_dry_runs(attack: Attack) -> None:
    """The same asks what would be."""
    requests = whole_sites(attack, "?dry_run=true")
    await attack.keep_asking(iter(whole_sites(attack)[:2]))
    await attack.together(6, lambda place: attack.keep_asking(itertools.cycle(requests[place:] + requests[:place])))


async def resets(attack: Attack) -> None:
    """Resets of the hall, told and taken back, and their dry runs."""

    def requests(place: int) -> Iterator[bytes]:
        path = "/v1/spaces/hall/resets"
        for second in itertools.count():
            at = f"2026-01-05T{place:02}:{second // 60 % 60:02}:{second % 60:02}Z"
            body = json.dumps({"count": 1, "at": at}).encode()
            for query in ("?dry_run=true", ""):
                yield attack.post(path + query, attack.target.admin, body)
            for query in ("&dry_run=true", ""):
                yield attack.post(f"{path}?at={at}{query}", attack.target.admin, b"", method="DELETE")

    await attack.together(8, lambda place: attack.keep_asking(requests(place)))


async def reruns(attack: Attack) -> None:
    """Refused events are run again while the floor plan changes: each waits for the other, and all others for both."""
    lines = "".join(f"1999-12-01T08:00:00Z,1,dpu-9,{number}\n" for number in range(10_000))
    body = ("timestamp,direction,dpu_id,sequence\n" + lines).encode()
    refused = attack.post("/v1/events", attack.target.ingest, body, "Content-Type: text/csv")
    again = attack.post("/v1/rejected/rerun", attack.target.limited, b"{}")
    changes = [own_site(attack, zone) for zone in ("UTC", "Europe/Berlin")]
    await attack.keep_asking(iter([refused]))
    await attack.together(6, lambda place: attack.keep_asking(itertools.cycle([again] if place % 2 else changes)))


async def unknown_sensors(attack: Attack) -> None:
    """Events of sensors that nobody knows, each of another one."""
    numbers = itertools.count()

    def requests() -> Iterator[bytes]:
        while True:
            first = next(numbers) * 10_000
            lines = "".join(f"2026-01-05T08:00:00Z,1,{os.getpid()}-{first + n}\n" for n in range(10_000))
            body = ("timestamp,direction,dpu_id\n" + lines).encode()
            yield attack.post("/v1/events", attack.target.ingest, body, "Content-Type: text/csv")

    await attack.together(4, lambda _: attack.keep_asking(requests()))


async def sensors(attack: Attack) -> None:
    """The list of all sensors, on many connections."""
    await attack.together(16, lambda _: attack.keep_asking(itertools.repeat(attack.get("/sensors"))))


async def events(attack: Attack) -> None:
    """As many events as can be sent, of one sensor."""
    numbers = itertools.count()

    def requests() -> Iterator[bytes]:
        while True:
            at = (datetime(2026, 1, 5, tzinfo=UTC) + timedelta(seconds=next(numbers))).isoformat()
            lines = "".join(f"{at},1,dpu-9,{n}\n" for n in range(500))
            body = ("timestamp,direction,dpu_id,sequence\n" + lines).encode()
            yield attack.post("/v1/events", attack.target.ingest, body, "Content-Type: text/csv")

    await attack.together(100, lambda _: attack.keep_asking(requests()))


async def late_day(attack: Attack) -> None:
    """Events of the last day of the sensors of a space, 10,000 at a time, in as many quarter-hours as there are."""
    chance = random.Random(1)

    def requests(place: int) -> Iterator[bytes]:
        for number in itertools.count():
            now = datetime.now(UTC)
            times = [now - timedelta(hours=1 + 25 * chance.random()) for _ in range(10_000)]
            lines = "".join(
                f"{at.isoformat()},1,dpu-{n % 10},{(number + place) % 1000}\n" for n, at in enumerate(times)
            )
            body = ("timestamp,direction,dpu_id,sequence\n" + lines).encode()
            yield attack.post("/v1/events", attack.target.ingest, body, "Content-Type: text/csv")

    await attack.together(4, lambda place: attack.keep_asking(requests(place)))


async def late_parts(attack: Attack) -> None:
    """Late events, a thousand at a time, and newest ones, of a sensor that was placed often, below many spaces."""
    chance = random.Random(2)

    def requests(place: int) -> Iterator[bytes]:
        for number in itertools.count():
            now = datetime.now(UTC)
            times = [now] if place == 0 else [now - timedelta(hours=0.1 + 79 * chance.random()) for _ in range(1000)]
            lines = "".join(f"{at.isoformat()},1,dpu-deep,{(number + place) % 1000}\n" for at in times)
            body = ("timestamp,direction,dpu_id,sequence\n" + lines).encode()
            yield attack.post("/v1/events", attack.target.ingest, body, "Content-Type: text/csv")

    await attack.together(3, lambda place: attack.keep_asking(requests(place)))


async def new_days(attack: Attack) -> None:
    """Small requests of one sensor: some with its newest events, the others with old ones, each of a day of its own."""
    ages = itertools.cycle(range(30, 6_000))  # days that are not too old

    def request(times: list[datetime], query: str = "") -> bytes:
        events = [{"dpu": "dpu-new-days", "timestamp": at.isoformat(), "direction": 1} for at in times]
        return attack.post(f"/v1/events{query}", attack.target.ingest, json.dumps({"events": events}).encode())

    def requests(place: int) -> Iterator[bytes]:
        while True:
            now = datetime.now(UTC)
            if place < 2:
                yield request([now])
            else:
                yield request([now - timedelta(days=next(ages)) for _ in range(4)], "?backfill=true" * (place % 2))

    await attack.together(64, lambda place: attack.keep_asking(requests(place)))


async def unknown_polls(attack: Attack) -> None:
    """Polls of spaces that nobody knows, 10,000 at a time: soon none of them is made."""
    numbers = itertools.count()

    def requests() -> Iterator[bytes]:
        while True:
            first = next(numbers) * 10_000
            polls = [
                {"space": f"poll-{os.getpid()}-{first + n}", "timestamp": "2026-01-05T08:00:00Z", "status": "active"}
                for n in range(10_000)
            ]
            yield attack.post("/v1/polls", attack.target.ingest, json.dumps({"polls": polls}).encode())

    await attack.together(4, lambda _: attack.keep_asking(requests()))


async def clock(attack: Attack) -> None:
    """Sensors that nobody knows: an event of each that is accepted, and then events of all of them in two days."""
    names = [f"clock-{os.getpid()}-{number}" for number in range(200)]

    def body(dpus: list[str], at: datetime) -> bytes:
        events = [{"dpu": dpu, "timestamp": at.isoformat(), "direction": 1} for dpu in dpus]
        return attack.post("/v1/events", attack.target.ingest, json.dumps({"events": events}).encode())

    def requests(place: int) -> Iterator[bytes]:
        yield body(names, datetime.now(UTC) - timedelta(seconds=1))
        for number in itertools.count(place):
            yield body([names[number % len(names)]], datetime.now(UTC) + timedelta(days=2, microseconds=number))

    await attack.together(200, lambda place: attack.keep_asking(requests(place)))


async def count404(attack: Attack) -> None:
    """Counts of spaces that are not there, on many connections, each of another one."""
    await attack.together(
        400, lambda place: attack.keep_asking(itertools.repeat(attack.get(f"/v1/spaces/nope-{place}/count")))
    )


async def fresh(attack: Attack) -> None:
    """As many events of now as can be sent, a little less at a time than would have a transaction of their own."""
    numbers = itertools.count()

    def requests() -> Iterator[bytes]:
        while True:
            at, first = datetime.now(UTC) - timedelta(seconds=1), next(numbers) * 999
            lines = "".join(f"{(at - timedelta(microseconds=first + n)).isoformat()},1,dpu-8\n" for n in range(999))
            body = ("timestamp,direction,dpu_id\n" + lines).encode()
            yield attack.post("/v1/events", attack.target.ingest, body, "Content-Type: text/csv")

    await attack.together(50, lambda _: attack.keep_asking(requests()))


async def sensors_apart(attack: Attack) -> None:
    """Lists of sensors, each of another space."""
    await attack.together(
        200, lambda place: attack.keep_asking(itertools.repeat(attack.get(f"/sensors?space=room-{place % 200}")))
    )


async def forged_resumes(attack: Attack) -> None:
    """Streams that come back with ids made up of an old snapshot and the instant of now."""
    snapshot, _, _, history = (await last_id(attack)).split("@")
    oldest = max(3, int(snapshot.split(":")[0]) - 1_000_000)
    numbers = itertools.count()

    async def come_back(_: int) -> None:
        at = time.time_ns() // 1000 - next(numbers) % 1000
        forged = f"{oldest}:{oldest}:@{at}@{at}@{history}"
        await attack.hang_up(attack.get("/v1/live", f"Last-Event-ID: {forged}"), 0.2)

    await attack.together(100, come_back)


class Blast(asyncio.Protocol):
    """A connection with so many requests ahead, and another one for each answer, of which only the status is read."""

    def __init__(self, attack: Attack, requests: Iterator[bytes], ahead: int) -> None:
        self.attack = attack
        self.requests = requests
        self.ahead = ahead
        self.is_lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(b"".join(itertools.islice(self.requests, self.ahead)))

    def data_received(self, data: bytes) -> None:
        _, *answers = data.split(b"HTTP/1.1 ")
        for answer in answers:
            self.attack.answers[answer[:3].decode()] += 1
        self.transport.write(b"".join(itertools.islice(self.requests, len(answers))))

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost.set()


async def blast(attack: Attack, connections: int, requests: Iterator[bytes], ahead: int) -> None:
    """As fast as one process can, on so many connections."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    async def send(_: int) -> None:
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_connection(
            lambda: Blast(attack, requests, ahead), HOST, attack.target.port
        )
        try:
            await protocol.is_lost.wait()
            attack.answers["cut"] += 1
        finally:
            transport.abort()

    await attack.together(connections, send)


def small_requests(attack: Attack) -> Iterator[bytes]:
    """The smallest ones that cost a whole one: an event of now each."""
    for number in itertools.count():
        at = datetime.now(UTC) - timedelta(microseconds=number % 900_000)
        body = b'{"events":[{"dpu":"dpu-8","timestamp":"%b","direction":1}]}' % at.isoformat().encode()
        yield attack.post("/v1/events", attack.target.ingest, body)


async def small_events(attack: Attack) -> None:
    """One event a request, on two thousand connections, each again as soon as it is answered, whatever that says."""
    await blast(attack, 2_000, small_requests(attack), 1)


async def small_events_ahead(attack: Attack) -> None:
    """The same on hundreds of them, as many ahead as there may be."""
    await blast(attack, 400, small_requests(attack), 16)


async def small_counts(attack: Attack) -> None:
    """The count of one space, on two thousand connections."""
    await blast(attack, 2_000, itertools.repeat(attack.get("/v1/spaces/hall/count")), 1)


async def nothings(attack: Attack) -> None:
    """What is refused at once, as many ahead as there may be: no scope, no such address, no such page."""
    requests = [
        attack.post("/v1/events", attack.target.read, b"{}"),
        attack.get("/v1/nothing"),
        attack.get("/v1/spaces?a=1"),
    ]
    await blast(attack, 400, itertools.cycle(requests), 16)


async def unread_answers(attack: Attack) -> None:
    """Large answers, several asked for ahead on each connection, of which nobody reads anything."""
    large = [attack.get("/v1/counts"), attack.get("/sensors"), attack.get("/v1/events?dpu=dpu-1&limit=1000")]
    await attack.together(300, lambda place: attack.hang_up(large[place % 3] * 16, 10.0))


ATTACKS = (
    probe_flood,
    strangers,
    hostile_bodies,
    slow_bodies,
    half_heads,
    crowd,
    pipe,
    schema,
    large_heads,
    history,
    counts,
    old_resumes,
    listeners,
    rejoins,
    many_names,
    reports,
    plan_changes,
    messenger_addresses,
    own_spaces,
    dry_runs,
    whole_changes,
    whole_dry_runs,
    resets,
    reruns,
    unknown_sensors,
    unknown_polls,
    late_day,
    late_parts,
    new_days,
    sensors,
    events,
    clock,
    count404,
    fresh,
    sensors_apart,
    forged_resumes,
    small_events,
    small_events_ahead,
    small_counts,
    nothings,
    unread_answers,
)


async def run(name: str, target: Target) -> Counter[str]:
    attack = Attack(target)
    by_name = {function.__name__: function for function in ATTACKS}
    # Whoever waits for an answer that comes late is ended with the rest.
    with suppress(TimeoutError):
        async with asyncio.timeout(target.seconds + 1):
            await by_name[name](attack)
    return attack.answers


if __name__ == "__main__":
    os.nice(10)  # it stands for another machine
    target = msgspec.json.decode(sys.stdin.buffer.read(), type=Target)
    print(json.dumps(asyncio.run(run(sys.argv[1], target))))
