"""What a client can do to its connection: service/server.py over real sockets, with a small app behind it."""

import asyncio
import contextlib
import itertools
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from service import server
from service.server import Server, listen

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
async def served(app: Any = echo) -> AsyncIterator[tuple[int, Server]]:
    running = Server(app)
    with listen("127.0.0.1", 0) as socket:
        task = asyncio.create_task(running.serve(sockets=[socket]))
        try:
            yield socket.getsockname()[1], running
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


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        for _ in itertools.count():
            if condition():
                return
            await asyncio.sleep(0.02)


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
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(server, "IDLE_SECONDS", 1)
    async with served() as (port, _):
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
        [b"GET / HTTP/1.1\r\nHost: x\r\n", *[b"X-Many: y\r\n" * 1_000] * 10],
        [b"GET /", *[b"x" * 10_000] * 10],
    ],
    ids=["one long header", "many headers", "a long address"],
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


async def test_too_many_connections_are_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 2)
    async with served() as (port, _):
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        answer = await exchange(port, GET)
        for _, writer in idle:
            writer.close()
            await writer.wait_closed()
        again = await exchange(port, GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert problem_in(answer)["code"] == "unavailable"
    assert b"retry-after: 1" in answer
    assert again.startswith(b"HTTP/1.1 200")


async def test_it_answers_requests_that_were_sent_ahead_in_their_order() -> None:
    async with served() as (port, _):
        bodies = [POST + b"Content-Length: %d\r\n\r\n%b" % (length, b"x" * length) for length in (1, 2, 3)]
        last = POST + b"Connection: close\r\nContent-Length: 4\r\n\r\nxxxx"
        answer = await exchange(port, b"".join([*bodies, last]))
    assert [int(part.rpartition(b"\r\n")[2]) for part in answer.split(b" bytes")[:-1]] == [1, 2, 3, 4]


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
        assert answer.count(b"HTTP/1.1 ") == 1
        assert b"5 bytes" in await exchange(port, b"POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello")


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 70_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-Many: yyyyyyyyyyyyyyyyyyyyyyy\r\n" * 3_000 + b"\r\n",
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_a_long_head_is_refused_also_where_it_comes_in_one_read(head: bytes) -> None:
    async with served() as (port, _):
        answer = await exchange(port, head)
    assert b"malformed" in answer
    assert b"65536" in answer
    assert b"HTTP/1.1 200" not in answer


async def test_connections_beyond_those_that_are_told_so_are_closed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a head from each would keep them for as long as a head may take."""
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 2)
    monkeypatch.setattr(server, "SPARE_CONNECTIONS", 2)
    async with served() as (port, running):
        halves = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
        await until(lambda: len(running.server_state.connections) == 4)
        for reader, _ in halves[4:]:
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
        for _, writer in halves:
            writer.close()
        await until(lambda: not running.server_state.connections)
        assert b"200" in await exchange(port, GET[:-2] + b"Connection: close\r\n\r\n")


LIMITED = """
import logging, resource, sys
logging.basicConfig(level=logging.WARNING)
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
from service.server import Server
print(Server(None).max_connections, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    ("soft", "hard", "connections", "files"),
    [(256, 20_000, 8192, 8512), (1024, 4096, 3776, 4096), (1024, 1024, 704, 1024), (200, 200, 50, 200)],
)
def test_it_has_no_more_connections_than_files_can_be_open(soft: int, hard: int, connections: int, files: int) -> None:
    arguments = [sys.executable, "-c", LIMITED, str(soft), str(hard)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout.split() == [str(connections), str(files)]
    assert (f"{connections:,} connections" in done.stderr) is (connections < 8192)
    assert ("ulimit" in done.stderr) is (connections < 8192)
