"""What a client can do to its connection: headcount.http.server over real sockets, with a small app behind it."""

import asyncio
import gc
import json
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import uvloop

from headcount.http import server, transports
from headcount.http.server import HttpConnection, Server, listen
from headcount.logs import LogThrottle
from tests.commands.support import until

PATIENCE = 20.0
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the number of bytes it got; /now without looking at the body."""
    received = 0
    is_done = scope["path"] == "/now"
    while not is_done:
        message = await receive()
        received += len(message.get("body", b""))
        is_done = not message.get("more_body")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d bytes" % received})


async def endless(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(10_000):
        await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})


@asynccontextmanager
async def served(app: Any = echo, *, is_guarded: bool = False) -> AsyncIterator[tuple[int, Server]]:
    running = Server(app, is_guarded=is_guarded)
    with listen("127.0.0.1", 0) as listening:
        task = asyncio.create_task(running.serve(sockets=[listening]))
        try:
            yield listening.getsockname()[1], running
        finally:
            running.should_exit = True
            await task


async def exchange(port: int, *parts: bytes, is_finished: bool = False) -> bytes:
    """All that the server says until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        if is_finished:
            writer.write_eof()
        return await asyncio.wait_for(reader.read(), PATIENCE)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


def test_it_takes_all_who_wait_to_connect_however_much_else_there_is_to_do() -> None:
    async def connect_many() -> int:
        async with served() as (port, running):
            clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
            for _ in range(10):  # turns of the loop, of which each would have other work
                await asyncio.sleep(0)
            taken = len(running.server_state.connections)
            for client in clients:
                client.close()
            return taken

    assert uvloop.run(connect_many()) == 100


def problem_in(answer: bytes) -> Any:
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert b"content-type: application/problem+json" in lines
    assert b"connection: close" in lines
    assert any(line.startswith(b"x-request-id: ") for line in lines)
    assert f"content-length: {len(body)}".encode() in lines
    return json.loads(body)


@pytest.mark.parametrize(
    "sent",
    [b"", b"\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nX-", GET + b"GET / HT", GET + b"\r\n"],
    ids=["nothing", "empty lines", "half a head", "half a second head", "an answer, then an empty line"],
)
async def test_it_closes_a_connection_that_stalls_before_a_request(
    monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    async def stall_from_now_on(scope: Any, receive: Any, send: Any) -> None:
        monkeypatch.setattr(server, "HEAD_SECONDS", 0.3)
        await echo(scope, receive, send)

    if not sent.startswith(GET):
        monkeypatch.setattr(server, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(server, "IDLE_SECONDS", 1)
    async with served(stall_from_now_on) as (port, _):
        answer = await exchange(port, sent)
    assert answer.startswith(b"HTTP/1.1 200 OK") is sent.startswith(GET)


@pytest.mark.parametrize("path", [b"/", b"/now"])
async def test_it_closes_a_connection_that_stalls_in_a_body(monkeypatch: pytest.MonkeyPatch, path: bytes) -> None:
    monkeypatch.setattr(server, "BODY_SECONDS", 0.3)
    async with served() as (port, _):
        answer = await exchange(port, b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n123" % path)
    assert answer.startswith(b"HTTP/1.1 200") is (path == b"/now")


async def test_it_closes_a_connection_whose_client_reads_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "ANSWER_SECONDS", 0.3)
    async with served(endless) as (port, running):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(GET)
        await until(lambda: bool(running.server_state.connections))
        await until(lambda: not running.server_state.connections)
        writer.close()
        del reader


async def test_a_slow_reader_gets_all_of_a_long_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "ANSWER_SECONDS", 5)

    async def long(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
        for last in (*[False] * 99, True):
            await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": not last})

    async with served(long) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(GET)
        received = 0
        while piece := await asyncio.wait_for(reader.read(200_000), PATIENCE):
            received += len(piece)
            await asyncio.sleep(0.001)
        writer.close()
    assert received > 10_000_000


@pytest.mark.parametrize(
    "parts",
    [
        [b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: ", *[b"x" * 10_000] * 10],
        [b"GET /", *[b"x" * 10_000] * 10],
    ],
    ids=["one long header", "a long address"],
)
async def test_it_takes_no_head_without_end(parts: list[bytes]) -> None:
    async with served() as (port, _):
        problem = problem_in(await exchange(port, *parts))
    assert problem["code"] == "malformed"
    assert "65536" in problem["detail"]


@pytest.mark.parametrize(
    "parts",
    [
        [b"0\r\n", *[b"X-Trailer: y\r\n" * 1_000] * 10],
        [b"1;", *[b"x" * 10_000] * 10],
    ],
    ids=["trailers", "an extension of a chunk"],
)
async def test_it_takes_no_body_whose_wrapping_has_no_end(parts: list[bytes]) -> None:
    async with served() as (port, _):
        answer = await exchange(port, POST, b"Transfer-Encoding: chunked\r\n\r\n", *parts)
    assert b"HTTP/1.1 200" not in answer


async def test_it_takes_a_body_in_many_small_chunks() -> None:
    async with served() as (port, _):
        chunks = b"10\r\n0123456789abcdef\r\n" * 20_000
        answer = await exchange(
            port, POST, b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n", chunks, b"0\r\n\r\n"
        )
    assert answer.endswith(b"320000 bytes\r\n0\r\n\r\n")


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x02\x00\x01", b"HELO there\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"])
async def test_what_is_no_http_is_told_so(sent: bytes) -> None:
    async with served() as (port, _):
        assert problem_in(await exchange(port, sent))["code"] == "malformed"


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\n" + b"a:b\r\n" * 101 + b"\r\n",
        b"GET / HTTP/1.1\r\n" + b"a:b\r\n" * 5_000,
        b"GET /" + b"x/" * 1_024 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /" + b"%41" * 700 + b"?a=b HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["lines", "lines without an end", "a path of many parts", "an escaped path"],
)
async def test_a_head_of_many_lines_or_a_long_path_is_refused(head: bytes) -> None:
    async with served() as (port, _):
        answer = await exchange(port, head)
        assert answer.startswith(b"HTTP/1.1 431")
        assert problem_in(answer)["code"] == "head_too_large"
        good = b"GET /%b?%b HTTP/1.1\r\nConnection: close\r\n%b\r\n"
        assert b"200 OK" in await exchange(port, good % (b"x" * 2_000, b"y" * 40_000, b"a:b\r\n" * 99))


async def test_what_was_sent_ahead_is_parsed_when_it_is_its_turn() -> None:
    """However much that is: nothing but bytes is held of it, and of those no more than one read."""
    may_end = asyncio.Event()
    asked = 0

    async def wait(_scope: Any, _receive: Any, send: Any) -> None:
        nonlocal asked
        asked += 1
        await may_end.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    number = 3_000
    async with served(wait) as (port, running):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET * number)
        await until(lambda: asked == 1)
        await asyncio.sleep(0.1)
        [one] = running.server_state.connections
        assert isinstance(one, HttpConnection)
        assert (asked, len(one.pipeline), one.flow.read_paused) == (1, 0, True)
        assert one.parsing.unparsed == len(one.unparsed) <= len(GET) * number
        may_end.set()
        for _ in range(number):
            assert b"200 OK" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
        assert (asked, one.parsing.unparsed, one.flow.read_paused) == (number, 0, False)
        writer.close()


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([b"Content-Length: 60000\r\n", b"\r\n" + b"x" * 59_900, b"x" * 100], id="head"),
        pytest.param([b"Content-Length: 60000\r\n\r", b"\n" + b"x" * 59_900, b"x" * 100], id="a byte of the head"),
        pytest.param([b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", b"\r\n"], id="chunks"),
        pytest.param([b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r", b"\n"], id="a byte of the chunks"),
        pytest.param([b"Transfer-Encoding: chunked\r\n\r\n0\r\na: b\r", b"\n\r\n"], id="trailers"),
    ],
)
async def test_what_was_sent_ahead_waits_also_where_the_end_before_it_comes_in_two_pieces(pieces: list[bytes]) -> None:
    may_end = asyncio.Event()

    async def wait(_scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await may_end.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    *before, last = pieces
    async with served(wait) as (port, running):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST)
        await until(lambda: len(running.server_state.connections) == 1)
        for piece in before:
            await asyncio.sleep(0.05)
            writer.write(piece)
        await asyncio.sleep(0.05)
        writer.write(last + GET * 500)
        [one] = running.server_state.connections
        assert isinstance(one, HttpConnection)
        await until(lambda: one.cycle is not None and len(one.unparsed) == 500 * len(GET))
        assert len(one.pipeline) == 0
        may_end.set()
        for _ in range(501):
            assert b"200 OK" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
        writer.close()


async def test_those_who_send_take_turns_a_slice_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose body comes in many chunks, and who sends many requests, keeps nobody waiting."""
    sizes: dict[HttpConnection, list[int]] = {}
    order: list[HttpConnection] = []
    parse_some = HttpConnection.parse_some

    def note(connection: HttpConnection) -> bool:
        before = len(connection.unparsed)
        found = parse_some(connection)
        order.append(connection)
        sizes.setdefault(connection, []).append(before - len(connection.unparsed))
        return found

    monkeypatch.setattr(HttpConnection, "parse_some", note)
    chunked = POST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"10\r\n0123456789abcdef\r\n" * 5_000
    async with served() as (port, _):
        answers = await asyncio.gather(*(exchange(port, chunked + chunks, b"0\r\n\r\n") for _ in range(2)))
    assert all(answer.endswith(b"80000 bytes\r\n0\r\n\r\n") for answer in answers)
    assert len(sizes) == 2
    for found in sizes.values():
        assert max(found) <= server.CHUNKED_SLICE
        assert len(found) > 50
    first, second = ([place for place, one in enumerate(order) if one is each] for each in sizes)
    assert first[0] < second[-1], "one after the other"
    assert second[0] < first[-1], "one after the other"


async def test_a_body_in_chunks_of_a_few_bytes_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    async with served() as (port, _):
        head = POST + b"Transfer-Encoding: chunked\r\n\r\n"
        assert await exchange(port, head, *[b"6\r\nabcdef\r\n" * 1_000] * 20) == b""
        few = await exchange(
            port, POST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n" * 1_000, b"0\r\n\r\n"
        )
    assert few.endswith(b"1000 bytes\r\n0\r\n\r\n")
    assert caplog.text == ""


@pytest.mark.parametrize("wrapping", ["length", "chunks"])
async def test_what_follows_an_answer_is_not_parsed_for_long(monkeypatch: pytest.MonkeyPatch, wrapping: str) -> None:
    """The client sees the answer; the rest of its body, which nobody waits for, is thrown away as it comes."""
    monkeypatch.setattr(server, "DRAIN_SECONDS", 600.0)
    head = {"length": b"Content-Length: 8000000", "chunks": b"Transfer-Encoding: chunked"}[wrapping]
    piece = {"length": b"x" * 16_384, "chunks": b"4000\r\n" + b"x" * 16_384 + b"\r\n"}[wrapping]
    parsed = 0
    on_body = HttpConnection.on_body

    def note(connection: HttpConnection, body: bytes) -> None:
        nonlocal parsed
        parsed += len(body)
        on_body(connection, body)

    monkeypatch.setattr(HttpConnection, "on_body", note)
    async with served() as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST.replace(b"/", b"/now", 1) + head + b"\r\n\r\n")
        assert b"200 OK" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
        for _ in range(200):
            writer.write(piece)
            await writer.drain()
        writer.write_eof()
        assert (await asyncio.wait_for(reader.read(), PATIENCE)).endswith(b"0\r\n\r\n")
        writer.close()
    assert 0 < parsed <= server.LEFT_BYTES + server.BODY_SLICE


async def test_who_goes_on_after_an_answer_is_cut_off_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "DRAIN_SECONDS", 0.3)
    async with served() as (port, running):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST.replace(b"/", b"/now", 1) + b"Content-Length: 8000000\r\n\r\n")
        assert b"200 OK" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
        writer.write(b"x" * 2 * server.LEFT_BYTES)
        await until(lambda: not running.server_state.connections)
        writer.close()


async def test_of_those_who_go_on_after_their_answers_a_few_are_read_on_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "DRAIN_SECONDS", 600.0)
    monkeypatch.setattr(server, "DRAIN_PAUSE_SECONDS", 3_600.0)
    number = server.DRAINED_AT_ONCE + 2
    async with served() as (port, running):
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(number)]
        for reader, writer in opened:
            writer.write(POST.replace(b"/", b"/now", 1) + b"Content-Length: 8000000\r\n\r\n")
            assert b"200 OK" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
            writer.write(b"x" * 1_000_000)
        connections = [one for one in running.server_state.connections if isinstance(one, HttpConnection)]
        await until(lambda: all(one.is_draining and one.flow.read_paused for one in connections))
        parsing = connections[0].parsing
        assert len(parsing.draining) == number
        parsing._read_on(asyncio.get_running_loop())
        assert sum(one.flow.read_paused for one in connections) == 2
        # each of them has sent more, which is thrown away at once, and waits again
        await until(lambda: all(one.flow.read_paused for one in connections))
        for _, writer in opened:
            writer.close()


async def test_who_takes_an_answer_slowly_after_its_end_cannot_send_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_DRAINED", 1_000_000)

    async def answer(_scope: Any, _receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"1000000"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"x" * 1_000_000})

    async with served(answer) as (port, _):
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(GET)

        async def send() -> None:
            for _ in range(2_000):
                writer.write(b"x" * 16_384)
                await writer.drain()

        with pytest.raises(ConnectionError):
            await asyncio.wait_for(send(), PATIENCE)
        writer.close()


@pytest.mark.parametrize(("left", "is_cut_off"), [(100, True), (88, True), (87, False), (1, False)])
def test_after_the_end_of_an_answer_an_eighth_of_the_rest_has_to_be_taken_in_time(left: int, is_cut_off: bool) -> None:
    raw, loop = Mock(spec=asyncio.Transport), Mock(spec=asyncio.AbstractEventLoop)
    raw.is_closing.return_value = False
    raw.get_extra_info.return_value = None
    raw.get_write_buffer_size.return_value = left
    transports.Gathering(raw, loop, lambda: None)._look(100)
    assert raw.abort.called is is_cut_off
    assert loop.call_later.called is not is_cut_off


async def test_of_a_small_body_that_comes_after_its_answer_the_connection_stays() -> None:
    async with served() as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(3):
            writer.write(POST.replace(b"/", b"/now", 1) + b"Content-Length: 1000\r\n\r\n")
            assert b"200 OK" in await asyncio.wait_for(reader.readuntil(b"\r\n0\r\n\r\n"), PATIENCE)
            writer.write(b"x" * 1_000)
        writer.close()


@pytest.mark.parametrize("sent", [b" ", b"\t", b"\r\nauthorization:", b"\nauthorization: x", b"x"])
def test_a_token_is_looked_for_without_going_back(sent: bytes) -> None:
    """Going back, this would take minutes."""
    assert server.AUTHORIZATION.search(b"GET / HTTP/1.1\r\nauthorization:" + sent * 300_000) is None
    found = server.AUTHORIZATION.search(b"GET / HTTP/1.1\r\nAUTHORIZATION:  Bearer one \r\n\r\n")
    assert found is not None
    assert found[1] == b"Bearer one "


async def test_strangers_who_send_much_that_waits_are_cut_off_and_others_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "MAX_UNPARSED", 100_000)
    may_end = asyncio.Event()

    async def hold(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/hold":
            await may_end.wait()
        await let_in(scope, receive, send)

    async with served(hold) as (port, running):
        known = await Client.connect(port)
        assert await known.ask(b"/known")
        ahead = b"GET / HTTP/1.1\r\nX-Long: " + b"x" * 20_000 + b"\r\n\r\n"
        many = [await Client.connect(port, GET.replace(b"/", b"/hold", 1) + ahead * 4) for _ in range(20)]
        await until(lambda: len(running.server_state.connections) < 10)
        [parsing] = {one.parsing for one in running.server_state.connections if isinstance(one, HttpConnection)}
        assert parsing.unparsed <= 100_000
        assert await known.ask(b"/known")
        small = await Client.connect(port)
        assert await small.ask(b"/")
        may_end.set()
        for client in (known, small, *many):
            client.writer.close()
        await until(lambda: not running.server_state.connections)
        assert parsing.unparsed == 0


async def open_body(port: int) -> asyncio.StreamWriter:
    """A connection that was let in, in the middle of its next request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GET.replace(b"/", b"/known", 1))
    await asyncio.wait_for(reader.readuntil(b"\r\n0\r\n\r\n"), PATIENCE)
    writer.write(POST + b"Content-Length: 10\r\n\r\n123")
    return writer


async def let_in(scope: Any, receive: Any, send: Any) -> None:
    """As echo; /known for a token that is good."""
    if scope["path"] == "/known":
        scope["auth"] = object()
    await echo(scope, receive, send)


class Client:
    """One connection; says whether it is still open."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, port: int, sent: bytes = b"") -> "Client":
        client = cls(*await asyncio.open_connection("127.0.0.1", port))
        client.writer.write(sent)
        return client

    async def ask(self, path: bytes) -> bool:
        """Whether it was answered."""
        try:
            self.writer.write(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path)
            answer = await asyncio.wait_for(self.reader.readuntil(b"\r\n0\r\n\r\n"), PATIENCE)
            return answer.startswith(b"HTTP/1.1 200")
        except (OSError, asyncio.IncompleteReadError):
            return False


async def hold_and_let_in(scope: Any, receive: Any, send: Any) -> None:
    """As let_in; /hold answers nothing until its client is gone."""
    while scope["path"] == "/hold":
        if (await receive())["type"] == "http.disconnect":
            return
    await let_in(scope, receive, send)


async def test_too_many_connections_are_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 2)
    async with served(let_in) as (port, running):
        busy = [await open_body(port) for _ in range(2)]
        await until(lambda: len(running.server_state.tasks) == 2)
        answer = await exchange(port, GET)
        for writer in busy:
            writer.close()
            await writer.wait_closed()
        await until(lambda: not running.server_state.connections)
        again = await exchange(port, GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert problem_in(answer)["code"] == "unavailable"
    assert b"retry-after: 1" in answer
    assert again.startswith(b"HTTP/1.1 200")


async def test_a_stranger_whose_request_is_under_way_makes_room_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else whoever always has some under way on all connections would keep everybody out."""
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 3)
    async with served(hold_and_let_in) as (port, running):
        known = await Client.connect(port)
        assert await known.ask(b"/known")
        many = [await Client.connect(port, GET.replace(b"/", b"/hold", 1)) for _ in range(10)]
        await until(lambda: len(running.server_state.connections) == 3)
        new = await Client.connect(port)
        assert await new.ask(b"/")
        assert await known.ask(b"/known")
        for client in (known, new, *many):
            client.writer.close()
        await until(lambda: not running.server_state.connections)


async def test_half_heads_make_room_for_who_comes_and_never_take_the_place_of_who_was_let_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 4)
    async with served(let_in) as (port, running):
        clients = [await Client.connect(port) for _ in range(2)]
        assert [await client.ask(b"/known") for client in clients] == [True, True]
        for _ in range(20):
            clients.append(await Client.connect(port, b"GET / HTTP/1.1\r\nX-"))
            await until(lambda: len(running.server_state.connections) <= 4)
        new = await Client.connect(port)
        assert await new.ask(b"/")
        assert [await client.ask(b"/known") for client in clients[:2]] == [True, True]
        assert len(running.server_state.connections) == 4
        for client in (*clients, new):
            client.writer.close()
        await until(lambda: not running.server_state.connections)


async def test_where_all_were_let_in_the_one_that_was_idle_for_longest_makes_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 3)
    async with served(let_in) as (port, running):
        clients = [await Client.connect(port) for _ in range(3)]
        for place in (0, 1, 2, 0):
            assert await clients[place].ask(b"/known")
        new = await Client.connect(port)
        assert await new.ask(b"/")
        assert [await client.ask(b"/known") for client in clients] == [True, False, True]
        for client in (*clients, new):
            client.writer.close()
        await until(lambda: not running.server_state.connections)


async def test_in_a_crowd_a_head_has_less_time_but_from_who_was_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 4)
    monkeypatch.setattr(server, "CROWD_SECONDS", 0.1)
    half = b"GET /known HTTP/1.1\r\nHost: x\r\n"
    async with served(let_in) as (port, running):
        known, *others = [await Client.connect(port) for _ in range(3)]
        assert await known.ask(b"/known")
        known.writer.write(half)
        others.append(await Client.connect(port, half))
        await until(lambda: len(running.server_state.connections) <= 2)
        known.writer.write(b"\r\n")
        assert (await asyncio.wait_for(known.reader.readline(), PATIENCE)).startswith(b"HTTP/1.1 200")
        for client in (known, *others):
            client.writer.close()
        await until(lambda: not running.server_state.connections)


async def test_the_system_holds_little_of_an_answer_that_nobody_reads() -> None:
    async with served() as (port, running):
        client = await Client.connect(port)
        await until(lambda: bool(running.server_state.connections))
        (connection,) = running.server_state.connections
        kept = connection.transport.get_extra_info("socket")
        # the system counts its own part as well
        assert kept.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 2 * server.SEND_BYTES
        client.writer.close()


async def test_it_answers_requests_that_were_sent_ahead_in_their_order() -> None:
    async with served() as (port, _):
        bodies = [POST + b"Content-Length: %d\r\n\r\n%b" % (length, b"x" * length) for length in (1, 2, 3)]
        last = POST + b"Connection: close\r\nContent-Length: 4\r\n\r\nxxxx"
        answer = await exchange(port, b"".join([*bodies, last]))
    assert [int(part.rpartition(b"\r\n")[2]) for part in answer.split(b" bytes")[:-1]] == [1, 2, 3, 4]


async def test_connections_that_are_closed_leave_nothing_to_the_garbage_collector() -> None:
    """Else thousands that come and go would make it stop everything, again and again."""
    async with served(is_guarded=True) as (port, running):
        gc.collect()
        gc.disable()
        # of other tests
        known = {id(one) for one in gc.get_objects() if isinstance(one, HttpConnection)}
        try:
            for _ in range(20):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(GET)
                await reader.readuntil(b"\r\n0\r\n\r\n")
                writer.write(GET * 3)
                writer.close()
                await writer.wait_closed()
            await until(lambda: not running.server_state.connections and not running.server_state.tasks)
            assert not [one for one in gc.get_objects() if isinstance(one, HttpConnection) and id(one) not in known]
        finally:
            gc.enable()


async def test_it_does_not_say_what_it_is_made_of() -> None:
    async with served() as (port, _):
        answer = await exchange(port, GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert b"server:" not in answer.lower()
    assert b"uvicorn" not in answer.lower()


async def test_it_stops_although_a_client_stalls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "GRACE_SECONDS", 0.3)
    async with served() as (port, running):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST + b"Content-Length: 10\r\n\r\n123")
        await until(lambda: bool(running.server_state.tasks))
    try:
        assert await reader.read() == b""
    except ConnectionResetError:
        pass
    finally:
        writer.close()


UPGRADES = [
    b"Connection: Upgrade\r\nUpgrade: foo\r\n",
    # as Java's HttpClient does it
    b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\nUpgrade: h2c\r\n",
    b"Upgrade: websocket\r\nConnection: keep-alive, upgrade\r\nSec-WebSocket-Version: 13\r\n",
]


@pytest.mark.parametrize("upgrade", UPGRADES)
@pytest.mark.parametrize(
    "body", [b"Content-Length: 5\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"]
)
@pytest.mark.parametrize("pieces", [1, 7])
async def test_who_asks_for_another_protocol_is_answered_in_this_one(upgrade: bytes, body: bytes, pieces: int) -> None:
    sent = POST + upgrade + body + POST + b"Connection: close\r\nContent-Length: 2\r\n\r\nxx"
    size = len(sent) // pieces + 1
    async with served() as (port, _):
        answer = await exchange(port, *(sent[start : start + size] for start in range(0, len(sent), size)))
    assert answer.count(b"HTTP/1.1 200") == 2
    assert answer.index(b"5 bytes") < answer.index(b"2 bytes")


@pytest.mark.parametrize("upgrade", UPGRADES)
async def test_who_asks_for_another_protocol_without_a_body_is_answered_too(upgrade: bytes) -> None:
    async with served() as (port, _):
        answer = await exchange(port, GET[:-2] + upgrade + b"\r\n" + GET[:-2] + b"Connection: close\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200") == 2


async def test_what_is_chunked_in_http_1_0_is_refused() -> None:
    async with served() as (port, _):
        sent = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        answer = await exchange(port, sent)
        assert problem_in(answer)["code"] == "malformed"
        assert answer.count(b"problem+json") == 1
        assert b"5 bytes" in await exchange(port, b"POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello")


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 70_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + (b"X-Many: %b\r\n" % (b"y" * 1_000)) * 70 + b"\r\n",
        b"GET /?" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_a_long_head_is_refused_also_where_it_comes_in_one_read(head: bytes) -> None:
    async with served() as (port, _):
        answer = await exchange(port, head)
    assert b"malformed" in answer
    assert b"65536" in answer
    assert b"HTTP/1.1 200" not in answer


async def test_connections_beyond_those_that_are_told_so_are_closed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody can make room: all are in the middle of a request."""
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 2)
    monkeypatch.setattr(server, "SPARE_CONNECTIONS", 0)
    async with served() as (port, running):
        busy = [await open_body(port) for _ in range(2)]
        await until(lambda: len(running.server_state.tasks) == 2)
        assert await exchange(port) == b""
        for writer in busy:
            writer.close()
        await until(lambda: not running.server_state.connections)
        assert b"200" in await exchange(port, GET[:-2] + b"Connection: close\r\n\r\n")


LIMITED = """
import logging, resource, sys
logging.basicConfig(level=logging.WARNING)
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
from headcount.http.server import Server
print(Server(None).max_connections, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    ("soft", "hard", "connections", "files"),
    [(256, 20_000, 4096, 4416), (1024, 4096, 3776, 4096), (1024, 1024, 704, 1024), (200, 200, 50, 200)],
)
def test_it_has_no_more_connections_than_files_can_be_open(soft: int, hard: int, connections: int, files: int) -> None:
    arguments = [sys.executable, "-c", LIMITED, str(soft), str(hard)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout.split() == [str(connections), str(files)]
    assert (f"{connections:,} connections" in done.stderr) is (connections < 4096)
    assert ("ulimit" in done.stderr) is (connections < 4096)


@pytest.mark.parametrize(
    "line",
    [
        *("CONNECT x:80 HTTP/1.1", "GET http://h?/metrics HTTP/1.1", "GET http://h HTTP/1.1"),
        *("GET http:///x HTTP/1.1", "GET / HTTP/2.0", "GET / HTTP/0.9", "GET / HTTP/1.2"),
    ],
)
async def test_a_request_for_nothing_of_ours_is_refused_without_a_word_in_the_log(
    line: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with served() as (port, _):
        answer = await exchange(port, f"{line}\r\nHost: x\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 400"), answer
        assert answer.count(b"problem+json") == 1
        assert b"200" in await exchange(port, b"GET http://h/now?x HTTP/1.0\r\nHost: h\r\n\r\n")
    assert "Traceback" not in caplog.text
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_content_length_of_thousands_of_digits_is_refused_and_stops_nobody() -> None:
    request = b"POST /known HTTP/1.1\r\nHost: x\r\nContent-Length: %b\r\n\r\n" % (b"0" * 5_000)
    async with served(let_in) as (port, _):
        client, other = await Client.connect(port), await Client.connect(port)
        assert await client.ask(b"/known")
        client.writer.write(GET + request)
        answer = await asyncio.wait_for(client.reader.read(), PATIENCE)
        assert b"HTTP/1.1 400" in answer
        assert b"18 digits" in answer
        assert await other.ask(b"/known")
        for one in (client, other):
            one.writer.close()


async def test_blanks_around_a_content_length_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    slice_size = HttpConnection._slice_size

    def note(connection: HttpConnection) -> int:
        sizes.append(slice_size(connection))
        return sizes[-1]

    monkeypatch.setattr(HttpConnection, "_slice_size", note)
    async with served() as (port, _):
        head = POST + b"Connection: close\r\nContent-Length: \t 5000 \t\r\n\r\n"
        assert (await exchange(port, head, b"x" * 5_000)).endswith(b"5000 bytes\r\n0\r\n\r\n")
    assert sum(sizes) == len(head) + 5_000
    assert len(sizes) < 10


async def test_a_mistake_while_one_connection_is_parsed_closes_that_one_only(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    parse_some = HttpConnection.parse_some

    def fail(connection: HttpConnection) -> bool:
        if b"/broken" in connection.unparsed:
            raise ZeroDivisionError
        return parse_some(connection)

    monkeypatch.setattr(HttpConnection, "parse_some", fail)
    monkeypatch.setattr(server, "crowds", LogThrottle(10.0))
    async with served(let_in) as (port, running):
        clients = [await Client.connect(port) for _ in range(6)]
        asked = [asyncio.create_task(client.ask(b"/broken" if n % 2 else b"/")) for n, client in enumerate(clients)]
        assert await asyncio.gather(*asked) == [True, False] * 3
        for client in clients:
            client.writer.close()
        await until(lambda: not running.server_state.connections)
    assert [record.message for record in caplog.records if record.exc_info] == [
        "What came on a connection could not be parsed; it was closed"
    ]


async def test_an_answer_that_nobody_takes_is_forgotten_and_keeps_its_place_until_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transports, "LINGER_SECONDS", 0.2)

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        body = b"x" * 100_000
        headers = [(b"content-length", b"100000"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async with served(answer) as (port, running):
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            client.connect(("127.0.0.1", port))
            client.sendall(GET)
            await until(lambda: any(one.transport.is_closing() for one in running.server_state.connections))
            assert len(running.server_state.connections) == 1
            await until(lambda: not running.server_state.connections)
            with pytest.raises(ConnectionResetError):
                [*iter(lambda: client.recv(65536), b"")]
        monkeypatch.setattr(transports, "LINGER_SECONDS", PATIENCE)
        taken = await exchange(port, GET)
        assert taken.endswith(b"x" * 100)
        assert len(taken) > 100_000


def test_a_connection_that_was_closed_before_it_was_taken_is_not_begun() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    assert server.is_there(ours)
    theirs.send(b"x")
    assert server.is_there(ours)
    assert ours.recv(1) == b"x"
    theirs.close()
    assert not server.is_there(ours)
    ours.close()
    assert not server.is_there(ours)


async def test_a_small_body_is_there_when_its_request_begins_and_no_other_one() -> None:
    """What is sent ahead stays with its own request; what is not all there comes as it comes."""
    begun: list[bytes | None] = []

    async def note(scope: Any, receive: Any, send: Any) -> None:
        begun.append(scope["state"].get("whole_body"))
        body = b""
        while (message := await receive())["more_body"]:
            body += message["body"]
        body += message["body"]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": body})

    async with served(note) as (port, _):
        ahead = b"".join(POST + b"Content-Length: 4\r\n\r\n" + body for body in (b"one.", b"two."))
        last = POST + b"Connection: close\r\nContent-Length: 4\r\n\r\n"
        told = await exchange(port, ahead + last + b"3333")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(last + b"4")
        await until(lambda: len(begun) == 4)
        writer.write(b"444")
        parts = await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()
    assert re.findall(rb"\r\n\r\n(....)", told) == [b"one.", b"two.", b"3333"]
    assert parts.endswith(b"\r\n\r\n4444")
    assert begun == [b"one.", b"two.", b"3333", None]
