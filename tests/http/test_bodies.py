"""What one client's bodies may take: memory, time of the event loop, and what they leave to others."""

import asyncio
import gc
import gzip
import itertools
import sys
import threading
import time
import tracemalloc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, TypeVar, cast

import asyncpg
import httpx
import msgspec
import pytest

from headcount.app import create_app
from headcount.http import decoding
from headcount.http.asgi import App
from headcount.http.requests import HttpRequest
from headcount.ingest import heartbeats, sites
from headcount.settings import Settings
from headcount.wire import threads
from headcount.wire.access import EVERYTHING
from headcount.wire.bodies import MAX_BODY, MAX_PLAN_BODY, Bodies, decode_bytes
from headcount.wire.messages.plan import SiteIn
from headcount.wire.problems import Problem
from headcount.wire.shares import Place, Places
from headcount.wire.threads import WorkerThreads
from tests.commands.support import until
from tests.http import body, event, problem
from tests.http.guarded import Headers, new_token, token_id
from tests.http.streams import PATIENCE, client_of

Result = TypeVar("Result")
JSON = {"content-type": "application/json"}
GZIP = {"content-encoding": "gzip"}


async def decode_site(request: HttpRequest) -> SiteIn:
    return await decoding.decode_site(request, Place(Places(1, 1, "floor plans"), None))


LIMITS = {
    ("PUT", "/v1/spaces/room"): 64 * 1024,
    ("PUT", "/v1/doorways/door"): 64 * 1024,
    ("PUT", "/v1/channels/c"): 64 * 1024,
    ("POST", "/v1/tokens"): 64 * 1024,
    ("PUT", "/v1/site"): MAX_BODY,
    ("POST", "/v1/reports"): 4 * 1024,
    ("POST", "/trigger_report"): 4 * 1024,
    ("POST", "/heartbeat"): 4 * 1024,
    ("POST", "/v1/heartbeats"): MAX_BODY,
    ("POST", "/v1/events"): MAX_BODY,
    ("POST", "/v1/polls"): MAX_BODY,
    ("POST", "/ingest"): MAX_BODY,
}


@pytest.mark.parametrize(("method", "path"), LIMITS)
async def test_each_address_takes_bodies_as_long_as_it_needs_and_no_longer(
    client: httpx.AsyncClient, method: str, path: str
) -> None:
    limit = LIMITS[method, path]
    for size, is_too_large in ((limit, False), (limit + 1, True)):
        for packed in (False, True):
            content = b'{"x":' + b" " * (size - 5)
            content = gzip.compress(content) if packed else content
            response = await client.request(method, path, content=content, headers=JSON | (GZIP if packed else {}))
            assert (response.status_code == 413) is is_too_large, response.text
            if is_too_large:
                assert str(limit) in problem(response, 413, "too_large")["detail"]


class Sent:
    """As much of a request as reading its body takes."""

    def __init__(self, app: App, content: bytes, kind: str, **headers: str) -> None:
        self.app = app
        self.content = content
        named = {"content-type": kind, **{name.replace("_", "-"): value for name, value in headers.items()}}
        self.auth = EVERYTHING
        self.scope: dict[str, Any] = {
            "auth": EVERYTHING,
            "headers": [(name.encode(), value.encode()) for name, value in named.items()],
            "state": {},
        }

    async def stream(self) -> AsyncIterator[bytes]:
        yield self.content


def request_of(app: App, content: bytes, kind: str, **headers: str) -> HttpRequest:
    return cast(HttpRequest, Sent(app, content, kind, **headers))


class Turns(NamedTuple):
    """How often the event loop came round, and seconds of processor time: of all threads from one turn to the next at
    most, and in all. They tell who held the interpreter, not how fast or how busy the machine is."""

    number: int
    longest: float
    whole: float

    @property
    def went_on(self) -> bool:
        return self.number > 2 and self.longest < max(0.02, self.whole / 10)


async def count_turns(waited_for: Awaitable[Result]) -> tuple[Result | Problem, Turns]:
    """What came of it, and how the event loop came round meanwhile. Threads change places ten times as often as they
    otherwise do."""
    number, longest = 0, 0.0
    interval = sys.getswitchinterval()
    sys.setswitchinterval(interval / 10)
    gc.disable()  # what the suite left behind is not the matter
    begun = last = time.process_time()
    task = asyncio.ensure_future(waited_for)
    try:
        while not task.done():
            # not always 0: that would take half of the processor from what it waits for
            await asyncio.sleep(0 if number < 3 else 0.001)
            number += 1
            now = time.process_time()
            last, longest = now, max(longest, now - last)
        turns = Turns(number, longest, last - begun)
        try:
            return task.result(), turns
        except Problem as found:
            return found, turns
    finally:
        gc.enable()
        sys.setswitchinterval(interval)


ROOM = MAX_BODY - 100
MANY_ODD = b'{"dpu":"' + b"\x01" * 780 + b'"}'
HOSTILE: dict[str, tuple[Callable[[HttpRequest], Awaitable[Any]], str, bytes]] = {
    "control characters": (
        decoding.decode_events,
        "application/json",
        b'{"events":[' + b",".join([MANY_ODD] * 10_000) + b"]}",
    ),
    "brackets": (decoding.decode_events, "application/json", b'{"events":[' + b"[" * ROOM),
    "pairs of brackets": (
        decoding.decode_events,
        "application/json",
        b'{"events":[' + b"[" * 2_000 + b"[]," * (ROOM // 4),
    ),
    "one long item": (decoding.decode_events, "application/json", b'{"events":[[' + b"{}," * (ROOM // 3) + b"{}]]}"),
    "lines of commas": (
        decoding.decode_events,
        "text/csv",
        b"timestamp,direction,dpu_id\n" + (b"," * 800 + b'"\n') * 9_000,
    ),
    "lines of control characters": (
        decoding.decode_events,
        "application/x-ndjson",
        (MANY_ODD + b"\n") * 10_000,
    ),
    "maps": (
        decoding.decode_events,
        "application/msgpack",
        b"\x81\xa6events\xdc\x27\x10" + (b"\xdc\x03\x0c" + b"\x80" * 780) * 10_000,
    ),
    "polls": (decoding.decode_polls, "text/csv", b"store_id,status,timestamp_utc\n" + b"\xff,,\n" * 10_000),
    "heartbeats": (
        decoding.decode_heartbeats,
        "application/json",
        b'{"heartbeats":[' + b",".join([b'{"dpu":"' + b"a" * 780 + b'"}'] * 10_000) + b"]}",
    ),
    "a long text of escapes": (
        decoding.decode_events,
        "application/json",
        b'{"events":["' + b"\\u0041" * (ROOM // 6) + b'"]}',
    ),
}


LARGE = 2 * 1024 * 1024


def packed_text(text: str) -> bytes:
    return bytes([0xA0 | len(text)]) + text.encode()


def packed_map(**fields: bytes) -> bytes:
    return bytes([0x80 | len(fields)]) + b"".join(packed_text(name) + value for name, value in fields.items())


def packed_array(item: bytes, size: int = LARGE) -> bytes:
    """As many as fit."""
    number = size // len(item)
    return b"\xdd" + number.to_bytes(4) + item * number


AN_INSTANT = b"\xd6\xff" + (1_764_400_000).to_bytes(4)
ONE_HOUR = {"day": 0, "open": "00:00", "close": "00:00"}
# By name of what is in it: what decodes it, one good item as MessagePack, and what it needs beside the items.
KINDS: dict[str, tuple[Callable[[HttpRequest], Awaitable[Any]], bytes, bytes]] = {
    "events": (
        decoding.decode_events,
        packed_map(dpu=packed_text("a"), timestamp=AN_INSTANT, direction=b"\x01"),
        b"",
    ),
    "polls": (
        decoding.decode_polls,
        packed_map(space=packed_text("a"), timestamp=AN_INSTANT, status=packed_text("active")),
        b"",
    ),
    "readings": (
        decoding.decode_readings,
        packed_map(timestamp=AN_INSTANT, count=b"\x01"),
        packed_text("id") + packed_text("a"),
    ),
    "heartbeats": (decoding.decode_heartbeats, packed_map(dpu=packed_text("a")), b""),
    **{kind: (decode_site, packed_map(id=packed_text("a")), b"") for kind in ("spaces", "placements")},
}
JSON_ITEMS = {
    "zeros": b"0",
    "objects": b"{}",
    "arrays": b"[]",
    "texts": b'""',
    "named objects": b'{"id":"a"}',
    "wide arrays": b"[" + b"[]," * 266 + b"0]",
    "wide objects": msgspec.json.encode({f"{number:x}": number for number in range(90)}),
}


def json_of(name: str, item: bytes, most: int) -> bytes:
    number = min(most, LARGE // (len(item) + 1))
    before = b'"id":"a",' if name == "readings" else b""
    return b'{%b"%b":[%b]}' % (before, name.encode(), b",".join([item] * number))


def msgpack_of(name: str, item: bytes, and_then: bytes = b"") -> bytes:
    """The array of items; and what counts instead of it, if that follows under the same name."""
    _, _, beside = KINDS[name]
    parts = [beside, packed_text(name) + packed_array(item), and_then and packed_text(name) + and_then]
    return bytes([0x80 | sum(map(bool, parts))]) + b"".join(parts)


def site_of(number: int, hours: int, encode: Callable[[object], bytes]) -> bytes:
    return encode({"spaces": [{"id": f"s{place}", "opening_hours": [ONE_HOUR] * hours} for place in range(number)]})


def many_small_things() -> Iterator[Any]:
    for name, (decode, good, _) in KINDS.items():
        for what, item in JSON_ITEMS.items():
            made = partial(json_of, name, item, 9_000 if what.startswith("wide") else LARGE)
            yield pytest.param(decode, "application/json", made, id=f"{name}, {what}")
        for what, item in (("zeros", b"\0"), ("maps", b"\x80"), ("arrays", b"\x90"), ("good items", good)):
            for and_then in (b"", b"\x91" + good):
                made = partial(msgpack_of, name, item, and_then)
                yield pytest.param(decode, "application/msgpack", made, id=f"{name}, {what}, {and_then!r}")
    for kind, encode in (("application/json", msgspec.json.encode), ("application/msgpack", msgspec.msgpack.encode)):
        for number, hours in ((1_000, 45), (45, 1_000), (1, 45_000)):
            made = partial(site_of, number, hours, encode)
            yield pytest.param(
                decode_site,
                kind,
                made,
                id=f"{number} spaces, {hours} hours, {kind}",
            )


@pytest.mark.parametrize(("decode", "kind", "made"), list(many_small_things()))
async def test_no_body_becomes_far_more_than_it_was(
    app: App, decode: Callable[[HttpRequest], Awaitable[Any]], kind: str, made: Callable[[], bytes]
) -> None:
    content = made()
    assert len(content) < MAX_BODY
    tracemalloc.start()
    try:
        with suppress(Problem):
            await decode(request_of(app, content, kind))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 10 * LARGE


@pytest.mark.parametrize("encode", [msgspec.json.encode, msgspec.msgpack.encode])
async def test_a_large_floor_plan_is_decoded_thing_by_thing(
    app: App, monkeypatch: pytest.MonkeyPatch, encode: Callable[[object], bytes]
) -> None:
    decoded: list[int] = []

    def note(body: bytes | msgspec.Raw, *rest: Any) -> Any:
        decoded.append(len(bytes(body)))
        return decode_bytes(body, *rest)

    monkeypatch.setattr(sites, "decode_bytes", note)
    kind = "application/json" if encode is msgspec.json.encode else "application/msgpack"
    content = site_of(1_000, 45, encode)
    site = await decode_site(request_of(app, content, kind))
    assert msgspec.to_builtins(site)["spaces"] == msgspec.json.decode(site_of(1_000, 45, msgspec.json.encode))["spaces"]
    whole, *parts = decoded
    assert whole == len(content)
    assert len(parts) == 1_000
    assert max(parts) < MAX_PLAN_BODY
    with pytest.raises(Problem, match=r"`spaces\[0\]` has more than 65536 bytes"):
        await decode_site(request_of(app, site_of(1, 45_000, encode), kind))


@pytest.mark.parametrize("encode", [msgspec.json.encode, msgspec.msgpack.encode])
async def test_what_is_wrong_in_a_large_floor_plan_is_named_as_in_a_small_one(
    app: App, encode: Callable[[object], bytes]
) -> None:
    kind = "application/json" if encode is msgspec.json.encode else "application/msgpack"
    good = [{"id": f"s{number}", "name": "x" * 200} for number in range(500)]
    for spaces in (
        [{"id": "a"}, 7],
        [{"id": "a"}, {"name": "b"}],
        [{"id": "a"}, {"id": "b", "colour": 1}],
        [{"id": "a", "opening_hours": [ONE_HOUR, ONE_HOUR | {"day": 7}]}],
        [{"id": "a", "capacity": "many"}],
        {"id": "a"},
    ):
        said = []
        for dpus in ([], [{"id": f"d{number}", "name": "x" * 200} for number in range(500)]):
            with pytest.raises(Problem) as raised:
                await decode_site(request_of(app, encode({"spaces": spaces, "dpus": dpus}), kind))
            said.append((raised.value.kind.code, raised.value.detail, raised.value.errors))
        assert said[0] == said[1]
    site = await decode_site(request_of(app, encode({"spaces": good}), kind))
    assert [space.id for space in site.spaces] == [space["id"] for space in good]


def test_of_a_list_that_comes_twice_the_last_counts_in_every_format() -> None:
    good = packed_map(dpu=packed_text("a"))
    content = b"\x82" + 2 * (packed_text("heartbeats") + packed_array(good, 20_000))
    assert heartbeats.decode_heartbeat_batch(content, "application/msgpack").received == 20_000 // len(good)


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("is_packed", [False, True])
async def test_the_event_loop_goes_on_while_a_large_body_is_decoded(app: App, name: str, is_packed: bool) -> None:
    decode, kind, content = HOSTILE[name]
    assert len(content) <= MAX_BODY
    sent = gzip.compress(content, 1) if is_packed else content
    headers = {"content_encoding": "gzip"} if is_packed else {}
    found, turns = await count_turns(decode(request_of(app, sent, kind, **headers)))
    assert turns.went_on, turns
    if not isinstance(found, Problem):
        assert found.received <= 10_000
    assert app.services.bodies.held == 0


async def test_a_small_body_that_has_to_be_read_item_by_item_does_not_stop_the_event_loop_either(app: App) -> None:
    content = b'{"events":[' + b"0," * 9_999 + b"0]}"
    found, turns = await count_turns(decoding.decode_events(request_of(app, content, "application/json")))
    assert not isinstance(found, Problem)
    assert found.received == len(found.refusals) == 10_000
    assert turns.went_on, turns


async def test_what_is_small_or_good_is_decoded_at_once(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a thread was asked")

    monkeypatch.setattr(WorkerThreads, "run", refuse)
    good = msgspec.json.encode({"events": [event(sequence=number) for number in range(150)]})
    for content in (good[:10_000], b'{"events":[{"dpu":"a"},7]}', gzip.compress(good)):
        is_packed = content[:2] == b"\x1f\x8b"
        headers = {"content_encoding": "gzip"} if is_packed else {}
        if content.startswith(b'{"events":[{"dpu":"dpu-1"') and not content.endswith(b"]}"):
            content = content[: content.rindex(b"},{")] + b"}]}"
        found, _ = await count_turns(decoding.decode_events(request_of(app, content, "application/json", **headers)))
        assert not isinstance(found, Problem)


async def test_a_header_of_many_columns_is_refused_before_it_is_taken_apart(client: httpx.AsyncClient) -> None:
    for content in (b"," * ROOM, b"timestamp," * 10_000, b'"' + b"x" * 200_000 + b'"'):
        response = await client.post("/v1/events", content=content, headers={"content-type": "text/csv"})
        assert "must be a header" in problem(response, 422, "invalid")["detail"]


async def test_what_is_said_of_a_value_that_is_wrong_is_short(client: httpx.AsyncClient) -> None:
    response = await client.put("/v1/channels/c", json={"kind": "a" * 60_000})
    assert len(problem(response, 422, "invalid")["detail"]) < 2_000
    content = b'{"heartbeats":[{"dpu":"' + b"a" * 1_000_000 + b'"}]}'
    response = await client.post("/v1/heartbeats", content=content, headers=JSON)
    assert len(response.content) < 4_000


async def test_the_good_events_beside_one_that_is_too_long_are_taken(client: httpx.AsyncClient) -> None:
    for bad in (
        b'{"dpu":"' + b"a" * 100_000 + b'"}',
        b'"' + b"a" * 100_000 + b'"',
        b"1" * 100_000,
        b"[" + b"{}," * 30_000 + b"1]",
    ):
        content = b'{"events":[' + bad + b"," + msgspec.json.encode(event()) + b"]}"
        answer = body(await client.post("/v1/events", content=content, headers=JSON))
        assert answer["accepted"] + answer["duplicates"] == 1
        assert [item["index"] for item in answer["rejected"]] == [0]
        assert "longer than 16,384" in answer["rejected"][0]["detail"]


def test_a_client_has_a_quarter_of_the_room_for_bodies_and_small_ones_always_have_some() -> None:
    bodies = Bodies(1024 * 1024)
    quarter, small, large = 256 * 1024, 64 * 1024, 64 * 1024 + 1
    bodies.check("one", quarter, quarter)
    bodies.hold("one", quarter)
    with pytest.raises(Problem) as raised:
        bodies.check("one", 1, 1)
    assert (raised.value.kind.status, raised.value.headers) == (429, {"Retry-After": "1"})
    for other in ("two", "three"):
        bodies.check(other, quarter, quarter)
        bodies.hold(other, quarter)
    bodies.check("four", 2 * small, 2 * small)
    bodies.hold("four", 2 * small)
    with pytest.raises(Problem) as raised:
        bodies.check("five", large, large)
    assert raised.value.kind.status == 503
    bodies.check("five", small, small)
    for client, held in (("one", quarter), ("two", quarter), ("three", quarter), ("four", 2 * small)):
        bodies.hold(client, -held)
    assert (bodies.held, bodies.of_client.held) == (0, {})


async def test_bodies_that_never_end_are_in_the_way_of_their_own_token_only(
    connection: asyncpg.Connection, database_url: str
) -> None:
    reader, writer = await new_token(connection, "read"), await new_token(connection, "ingest")
    slow = await new_token(connection, "ingest")
    app = create_app(Settings(database_url=database_url, jobs=False, max_body_bytes=1024 * 1024))
    may_end = asyncio.Event()

    async def stalling(content: bytes) -> AsyncIterator[bytes]:
        yield content
        await may_end.wait()

    async with app.lifespan(), client_of(app) as client:

        def send(path: str, content: bytes, token: Headers, **headers: str) -> asyncio.Task[httpx.Response]:
            sent = JSON | token | headers
            return asyncio.create_task(client.post(path, content=stalling(content), headers=sent))

        # a report has a few bytes, and what it would be inflated to is not held before it has come
        bomb = gzip.compress(b" " * MAX_BODY)[:4_000]
        waiting = [send("/trigger_report", bomb, reader, **{"content-encoding": "gzip"}) for _ in range(8)]
        waiting += [send("/v1/events", b" " * 200_000, slow)]
        async with asyncio.timeout(PATIENCE):
            for _ in itertools.count():
                if app.services.bodies.held >= 200_000 + 8 * len(bomb):
                    break
                await asyncio.sleep(0.01)
        assert app.services.bodies.held == 200_000 + 8 * len(bomb)
        assert app.services.bodies.of_client.held[await token_id(connection, slow)] == 200_000
        refused = await client.post("/v1/events", content=b" " * 100_000, headers=JSON | slow)
        assert "of this token" in problem(refused, 429, "rate_limited")["detail"]
        stored = await client.post("/v1/events", json={"events": [event()]}, headers=writer)
        assert body(stored)["accepted"] == 1
        may_end.set()
        await asyncio.gather(*waiting)
        assert app.services.bodies.held == 0


async def test_of_one_client_one_body_is_decoded_at_a_time_and_those_of_others_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threads, "MAX_PAUSE_SECONDS", 0.0)
    some = WorkerThreads()
    may_end = threading.Event()
    begun: list[str] = []

    def work(name: str) -> str:
        begun.append(name)
        may_end.wait(PATIENCE)
        return name

    async with some.lifespan(None):
        first = [asyncio.create_task(some.run("one", lambda: work("one"))) for _ in range(3)]
        await until(lambda: len(begun) == 1)
        other = asyncio.create_task(some.run("other", lambda: work("other")))
        await until(lambda: len(begun) == 2)
        assert begun == ["one", "other"]
        first[1].cancel()
        may_end.set()
        found = await asyncio.gather(*first, other, return_exceptions=True)
        assert [found[0], found[2], found[3]] == ["one", "one", "other"]
        assert isinstance(found[1], asyncio.CancelledError)
        await until(lambda: some.turns == {})


async def test_a_thread_passes_on_what_goes_wrong() -> None:
    some = WorkerThreads()

    def fail() -> None:
        raise Problem("malformed", "It is no good.")

    async with some.lifespan(None):
        with pytest.raises(Problem, match="no good"):
            await some.run("one", fail)


async def test_only_what_is_read_in_no_time_is_read_by_the_event_loop(
    app: App, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: WorkerThreads = app.services.worker_threads
    run, read = threads.run, []

    async def note(name: str | None, work: Any, check: Any) -> Any:
        read.append(name)
        return await run(name, work, check)

    monkeypatch.setattr(threads, "run", note)
    for number, is_beside in ((1, False), (64, False), (100, False), (500, True)):
        read.clear()
        events = [event(sequence=place) for place in range(number)]
        assert body(await client.post("/v1/events", json={"events": events}))["received"] == number
        assert bool(read) is is_beside, number


async def test_a_body_that_is_refused_is_gone_at_once() -> None:
    """And not when garbage is collected, by when there may be a hundred of them."""

    class Inflated:
        pass

    made: list[weakref.ref[Inflated]] = []

    def refuse() -> None:
        inflated = Inflated()
        made.append(weakref.ref(inflated))
        raise Problem("rate_limited", "Later.")

    worker_threads = WorkerThreads()
    gc.disable()
    try:
        async with worker_threads.lifespan(None):
            with suppress(Problem):
                await worker_threads.run("one", refuse)
            await until(lambda: made[0]() is None)  # the thread has put it away
    finally:
        gc.enable()
