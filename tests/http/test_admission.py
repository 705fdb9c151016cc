"""How much of one client is under way at once: headcount.http.admission, by itself and over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx
import pytest

from headcount.app import create_app
from headcount.http import admission, auth
from headcount.http import server as server_module
from headcount.http.admission import UNREAD_ANSWERS, Admission, ClientLoad, TrackedRequest, key_of
from headcount.http.server import Server, listen
from headcount.settings import Settings
from headcount.wire.problems import Problem
from tests.commands.support import until
from tests.http import body, event, problem
from tests.http.guarded import new_token, token_id
from tests.http.streams import PATIENCE

pytestmark = pytest.mark.usefixtures("connection")


class Caller:
    """A connection with one request."""

    def __init__(self, control: Admission, authorization: int | None, is_probe: bool = False) -> None:
        self.is_lost = False
        self.begun = 0
        self.refused = ""
        self.tracked = TrackedRequest(control, self, None, authorization, is_probe)
        control.submit(self.tracked)

    def note_identified(self, load: ClientLoad) -> None:
        self.identified = load

    def begin(self, tracked: TrackedRequest) -> None:
        self.begun += 1

    def refuse(self, tracked: TrackedRequest, detail: str) -> None:
        self.refused = detail


@pytest.fixture
def control(monkeypatch: pytest.MonkeyPatch) -> Admission:
    """With room for few, where two headers are of one client and a third is of another one."""
    monkeypatch.setattr(admission, "UNDER_WAY", 2)
    monkeypatch.setattr(admission, "WAITING", 3)
    monkeypatch.setattr(admission, "REFUSE_SECONDS", 0.0)
    monkeypatch.setattr(admission, "BEGUN_A_ROUND", 1_000)
    control = Admission()
    for authorization, client in ((1, "one"), (11, "one"), (2, "two")):
        control.remember(authorization, client)
    return control


async def test_what_is_beyond_a_clients_part_waits_for_its_own_and_then_is_refused(control: Admission) -> None:
    callers = [Caller(control, number) for number in (1, 11, 1, 11, 1, 1)]
    assert [caller.begun for caller in callers] == [1, 1, 0, 0, 0, 0]
    assert [bool(caller.refused) for caller in callers] == [False] * 5 + [True]
    assert Caller(control, 2).begun, "others come in meanwhile"
    callers[1].tracked.leave()
    callers[1].tracked.leave()
    assert [caller.begun for caller in callers] == [1, 1, 1, 0, 0, 0], "the first that waited has the place"


async def test_of_many_requests_that_come_at_once_few_begin_in_a_round_of_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else the first steps of all of them would come before the next step of anybody else's."""
    monkeypatch.setattr(admission, "BEGUN_A_ROUND", 3)
    control = Admission()
    control.remember(1, "one")
    control.remember(2, "two")
    callers = [Caller(control, 1) for _ in range(8)]
    other = Caller(control, 2)
    begun = []
    for _ in range(3):
        begun.append(sum(caller.begun for caller in callers))
        await asyncio.sleep(0)
    assert (begun, other.begun) == ([3, 6, 8], 1)
    for caller in (*callers, other):
        caller.tracked.leave()


async def test_whoever_went_away_takes_no_turn(control: Admission) -> None:
    first, _, gone, last = (Caller(control, 1) for _ in range(4))
    gone.is_lost = True
    first.tracked.leave()
    assert (gone.begun, last.begun) == (0, 1)


async def test_unidentified_requests_wait_and_are_never_refused(control: Admission) -> None:
    callers = [Caller(control, None) for _ in range(100)]
    assert sum(caller.begun for caller in callers) == 2
    for caller in callers:
        caller.tracked.leave()
    assert all(caller.begun == 1 and not caller.refused for caller in callers)
    assert control.unidentified.under_way == 0


async def test_who_turns_out_to_be_a_client_has_its_part_and_leaves_that_of_others(
    control: Admission,
) -> None:
    first, second, third = (Caller(control, 99) for _ in range(3))
    assert (first.begun, second.begun, third.begun) == (1, 1, 0)
    await first.tracked.identify("one")
    load = control.known[1]
    assert third.begun, "it is known whose it is by now"
    assert (control.unidentified.under_way, load.under_way) == (1, 2)
    meeting = asyncio.create_task(second.tracked.identify("one"))
    await asyncio.sleep(0)
    assert not meeting.done(), "it waits with the others of its client"
    assert control.unidentified.under_way == 0
    third.tracked.leave()
    await meeting
    assert load.under_way == 2
    second.tracked.leave()
    first.tracked.leave()
    assert load.under_way == 0


async def test_headers_that_nobody_has_seen_are_no_way_round_a_clients_part(control: Admission) -> None:
    callers = [Caller(control, 1) for _ in range(5)]
    stranger = Caller(control, 12345)
    with pytest.raises(Problem, match="requests of this token wait") as refused:
        await stranger.tracked.identify("one")
    assert refused.value.headers == {"Retry-After": "1"}
    stranger.tracked.leave()
    assert control.known[1].under_way == 2
    assert len(callers) == 5


async def test_a_header_that_is_good_no_more_is_unidentified_and_so_are_those_that_wait_with_it(
    control: Admission,
) -> None:
    callers = [Caller(control, 11) for _ in range(5)]
    callers[0].tracked.forget()
    callers[0].tracked.leave()
    callers[1].tracked.leave()
    load = control.known[1]
    assert (load.under_way, len(load.waiting)) == (0, 0), "all of it is left to the others of its client"
    assert [caller.begun for caller in callers] == [1, 1, 1, 1, 0]
    assert (control.unidentified.under_way, len(control.unidentified.waiting)) == (2, 1)
    assert Caller(control, 1).begun
    for caller in callers:
        caller.tracked.leave()
    assert callers[4].begun
    assert control.unidentified.under_way == 0


async def test_probes_do_not_wait_with_the_unidentified_unless_there_are_many(control: Admission) -> None:
    strangers = [Caller(control, None) for _ in range(10)]
    probes = [Caller(control, None, is_probe=True) for _ in range(3)]
    assert [probe.begun for probe in probes] == [1, 1, 0]
    probes[0].tracked.leave()
    assert Caller(control, None, is_probe=True).begun
    for caller in (*strangers, *probes):
        caller.tracked.leave()
    assert probes[2].begun
    assert (control.probes.under_way, control.unidentified.under_way) == (1, 0)


def test_all_ways_to_write_a_token_are_one_header() -> None:
    assert len({key_of(way) for way in (b"Bearer hc_x", b"bEaReR hc_x", b"bearer    hc_x", b"BEARER hc_x  ")}) == 1
    others = (b"Bearer hc_x", b"Bearer hc_X", b"Bearer hc_x y", b"Basic hc_x", b"hc_x", b"Bearer", b"")
    assert len({key_of(other) for other in others}) == len(others)


async def test_a_client_that_takes_no_answers_is_told_to_come_back(control: Admission) -> None:
    load = control.known[1]
    load.unread_answers = UNREAD_ANSWERS
    assert "read them" in Caller(control, 11).refused
    assert Caller(control, 2).begun
    load.unread_answers = 0
    assert Caller(control, 11).begun


@asynccontextmanager
async def guarded_server(database_url: str) -> AsyncIterator[tuple[Server, int]]:
    app = create_app(Settings(database_url=database_url, jobs=False, send_notices=False))
    async with app.lifespan():
        server = Server(app, is_guarded=True)
        with listen("127.0.0.1", 0) as socket:
            task = asyncio.create_task(server.serve(sockets=[socket]))
            try:
                yield server, socket.getsockname()[1]
            finally:
                server.should_exit = True
                await task


def http(port: int, **headers: str) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None)
    return httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=PATIENCE, limits=limits, trust_env=False
    )


async def test_a_client_has_some_requests_under_way_and_others_are_answered_meanwhile(
    connection: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "UNDER_WAY", 3)
    monkeypatch.setattr(admission, "WAITING", 2)
    monkeypatch.setattr(admission, "REFUSE_SECONDS", 0.0)
    one, other = await new_token(connection, "ingest"), await new_token(connection, "ingest", "read")
    async with guarded_server(database_url) as (server, port), http(port) as client:
        assert server.admission
        body(await client.post("/v1/events", json={"events": [event()]}, headers=one))

        async def never_sent() -> asyncio.StreamWriter:
            """A request whose body does not come."""
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            token = one["Authorization"]
            writer.write(
                f"POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\nContent-Length: 9\r\n\r\n".encode()
            )
            return writer

        load = server.admission.known[hash(one["Authorization"].encode())]
        writers = [await never_sent() for _ in range(3)]
        await until(lambda: load.under_way == 3)
        waiting = [await never_sent() for _ in range(2)]
        await until(lambda: len(load.waiting) == 2)
        refused = await client.post("/v1/events", json={"events": [event()]}, headers=one)
        assert "More than" in problem(refused, 429, "rate_limited")["detail"]
        assert refused.headers["retry-after"] == "1"
        body(await client.post("/v1/events", json={"events": [event()]}, headers=other))
        body(await client.get("/healthz"))
        for writer in (*writers, *waiting):
            writer.close()
        await until(lambda: load.under_way == 0 and not load.waiting)
        body(await client.post("/v1/events", json={"events": [event()]}, headers=one))
        assert server.admission.unidentified.under_way == 0


async def test_a_revoked_token_has_no_part_of_its_familys_any_more(
    connection: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "FRESH_SECONDS", 0.0)
    token = await new_token(connection, "read")
    async with guarded_server(database_url) as (server, port), http(port, **token) as client:
        assert server.admission
        body(await client.get("/v1/spaces"))
        assert key_of(token["Authorization"].encode()) in server.admission.known
        await connection.execute("select api.revoke_token($1)", await token_id(connection, token))
        problem(await client.get("/v1/spaces"), 401, "unauthorized")
        assert key_of(token["Authorization"].encode()) not in server.admission.known


async def test_probes_are_answered_while_the_unidentified_wait(database_url: str) -> None:
    async with guarded_server(database_url) as (server, port), http(port) as client:
        assert server.admission
        strangers = server.admission.unidentified
        strangers.under_way = admission.UNDER_WAY
        for path in ("/healthz", "/readyz"):
            body(await client.get(path))
            assert (await client.head(path)).status_code == 200
        waiting = asyncio.create_task(client.get("/v1/spaces"))
        await until(lambda: len(strangers.waiting) == 1)
        strangers.under_way = 0
        server.admission.admit_next(strangers)
        problem(await waiting, 401, "unauthorized")


async def test_streams_take_no_place_of_those_that_are_under_way(
    connection: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "UNDER_WAY", 1)
    token = await new_token(connection, "read")
    async with (
        guarded_server(database_url) as (_, port),
        http(port, **token) as client,
        client.stream("GET", "/v1/live") as first,
        client.stream("GET", "/v1/live") as second,
    ):
        assert (first.status_code, second.status_code) == (200, 200)
        body(await client.get("/v1/spaces"))


LARGE = 4 * 1024 * 1024
ASK = b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: one\r\n\r\n"


class Talker:
    """An app whose answers are long. `begun`: how many there were."""

    def __init__(self) -> None:
        self.begun = 0
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self, _scope: Any, _receive: Any, send: Any) -> None:
        self.begun += 1
        await self.go.wait()
        headers = [(b"content-length", b"%d" % LARGE)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"x" * LARGE})


@asynccontextmanager
async def talking() -> AsyncIterator[tuple[Talker, Admission, int]]:
    """With a client whose header is `one`."""
    app = Talker()
    server = Server(app, is_guarded=True)
    assert server.admission
    server.admission.remember(hash(b"one"), "one")
    with listen("127.0.0.1", 0) as socket:
        task = asyncio.create_task(server.serve(sockets=[socket]))
        try:
            yield app, server.admission, socket.getsockname()[1]
        finally:
            server.should_exit = True
            await task


async def test_of_requests_ahead_the_next_is_not_begun_before_the_last_answer_was_taken() -> None:
    async with talking() as (app, control, port):
        load = control.known[hash(b"one")]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**12)
        try:
            writer.write(ASK * 16)
            await until(lambda: bool(load.unread_answers))
            for _ in range(20):
                await asyncio.sleep(0)
            assert app.begun < 16
            assert (load.unread_answers, load.under_way) == (1, 0)
            assert 0 < load.unread_bytes <= LARGE
            for _ in range(16):
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
                await reader.readexactly(LARGE)
            await until(lambda: (load.unread_answers, load.unread_bytes, load.under_way) == (0, 0, 0))
            assert app.begun == 16
        finally:
            writer.close()


async def test_a_client_that_reads_nothing_is_refused_and_of_far_too_many_answers_connections_are_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admission, "UNREAD_ANSWERS", 1)
    monkeypatch.setattr(admission, "REFUSE_SECONDS", 0.0)
    async with talking() as (app, control, port):
        load = control.known[hash(b"one")]
        app.go.clear()
        opened = [await asyncio.open_connection("127.0.0.1", port, limit=2**12) for _ in range(5)]
        try:
            for _, writer in opened:
                writer.write(ASK * 3)
            await until(lambda: load.under_way == 5)
            app.go.set()
            # all were begun before any of them waited to be read
            await until(lambda: load.under_way == 0 and load.unread_answers > 0)
            assert load.unread_answers <= 2
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            opened.append((reader, writer))
            writer.write(ASK)
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
            assert head.startswith(b"HTTP/1.1 429")
            assert b"retry-after: 1" in head
        finally:
            for _, writer in opened:
                writer.close()
        await until(lambda: (load.unread_answers, load.unread_bytes, load.under_way) == (0, 0, 0))


async def is_answered(stream: tuple[asyncio.StreamReader, asyncio.StreamWriter], headers: dict[str, str]) -> bool:
    """Whether a GET on a connection of its own is answered; not where the connection was closed."""
    reader, writer = stream
    token = headers.get("Authorization", "none")
    try:
        writer.write(f"GET /v1/spaces HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n\r\n".encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
        length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length" in line)
        await reader.readexactly(length)
    except (OSError, asyncio.IncompleteReadError):
        return False
    return True


async def test_where_all_connections_are_taken_a_new_one_takes_the_place_of_one_of_the_client_that_has_most(
    connection: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 8)
    one, other = await new_token(connection, "read"), await new_token(connection, "read")
    async with guarded_server(database_url) as (server, port):
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(8)]
        small, *crowd = opened
        assert await is_answered(small, other)
        for stream in crowd:
            assert await is_answered(stream, one)
        fresh = []
        for _ in range(3):  # each has just come, and none takes the place of the one before
            fresh.append(await asyncio.open_connection("127.0.0.1", port))
            await until(lambda: len(server.server_state.connections) <= 8)
        assert [await is_answered(stream, other) for stream in fresh] == [True] * 3
        assert await is_answered(small, other)
        assert [await is_answered(stream, one) for stream in crowd] == [False] * 3 + [True] * 4
        for _, writer in (*opened, *fresh):
            writer.close()
        await until(lambda: not server.server_state.connections)


async def test_nothing_is_made_of_the_body_of_a_request_that_waits_or_is_refused(
    connection: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "UNDER_WAY", 1)
    monkeypatch.setattr(admission, "WAITING", 1)
    monkeypatch.setattr(admission, "REFUSE_SECONDS", 60.0)
    one = await new_token(connection, "ingest")
    async with guarded_server(database_url) as (server, port), http(port, **one) as client:
        assert server.admission
        body(await client.post("/v1/events", json={"events": [event()]}))
        load = server.admission.known[hash(one["Authorization"].encode())]
        content = b'{"events": [' + b" " * 9_000 + b"]}"
        head = (
            f"POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: {one['Authorization']}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        ).encode()
        streams = []
        for sent in (head, head + content, head + content):
            streams.append(await asyncio.open_connection("127.0.0.1", port))
            streams[-1][1].write(sent)
            await until(lambda: load.under_way + len(load.waiting) + load.refused == len(streams))
        await until(lambda: load.unparsed == 2 * len(content))
        streams[0][1].write(content)
        for reader, _ in streams[:2]:
            assert (await asyncio.wait_for(reader.readline(), PATIENCE)).startswith(b"HTTP/1.1 200")
        await until(lambda: load.unparsed == len(content))
        for _, writer in streams:
            writer.transport.abort()


async def test_heads_whose_end_does_not_come_count_as_what_is_not_parsed(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "MAX_UNPARSED", 50_000)
    async with guarded_server(database_url) as (server, port):
        streams = []
        for _ in range(4):
            streams.append(await asyncio.open_connection("127.0.0.1", port))
            for _ in range(2):
                streams[-1][1].write(b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 8_000)
                await asyncio.sleep(0.05)
        await until(lambda: len(server.server_state.connections) == 3)
        for _, writer in streams:
            writer.close()
        await until(lambda: not server.server_state.connections)


async def test_few_connections_of_a_client_are_parsed_before_their_turn(
    control: Admission, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "PARSED_A_ROUND", 3)
    one, two = control.known[1], control.known[2]
    assert [control.may_parse(one) for _ in range(5)] == [True] * 3 + [False] * 2
    assert control.may_parse(two)
    await asyncio.sleep(0)
    assert control.may_parse(one)


async def test_a_client_keeps_no_connection_that_is_lost(
    connection: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "FRESH_SECONDS", 0.0)  # each request waits for the database to know its token
    one = await new_token(connection, "read", "ingest")
    async with guarded_server(database_url) as (server, port), http(port, **one) as client:
        assert server.admission
        body(await client.get("/v1/spaces"))
        load = server.admission.known[hash(one["Authorization"].encode())]
        for number in range(60):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            method, ends = (b"GET", b"\r\n\r\n") if number % 2 else (b"POST", b"\r\nContent-Length: 2\r\n\r\n{}")
            token = one["Authorization"].encode()
            writer.write(method + b" /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: " + token + ends)
            await asyncio.sleep(0.001 * (number % 5))
            writer.transport.abort()
        await until(lambda: load.under_way == 0 and len(server.server_state.connections) <= 1)
        assert len(load.connections) <= 1
