"""An HTTP/1.1 client that costs little: requests are made beforehand, answers are read only as far as needed.

    python -m benchmarks.client PORT

serves a fixed answer on PORT: what the client can do at most is measured against that.
"""

import asyncio
import statistics
import sys
import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

import uvloop

HOST = "127.0.0.1"
END_OF_HEADERS = b"\r\n\r\n"
FIXED_ANSWER = b'{"received":1,"accepted":1,"duplicates":0,"rejected":[]}'


@dataclass
class Load:
    """What came of some requests."""

    seconds: float = 0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    unexpected: bytes = b""

    @property
    def per_second(self) -> float:
        return self.statuses[200] / self.seconds

    @property
    def p50(self) -> float:
        return statistics.median(self.latencies)

    @property
    def p99(self) -> float:
        return statistics.quantiles(self.latencies, n=100)[98]


def post(path: str, body: bytes, content_type: str = "application/json") -> bytes:
    """A whole request as bytes."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


class Connection(asyncio.Protocol):
    """One connection, which reads whole answers: one request at a time."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.transport: asyncio.Transport | None = None

    def answered(self, status: int, answer: bytearray) -> None:
        raise NotImplementedError

    def fail(self, error: Exception) -> None:
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are none by name

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(END_OF_HEADERS)
        if end < 0:
            return
        head = bytes(self.buffer[:end]).lower()
        start = head.find(b"content-length:")
        if start < 0:
            self.fail(ConnectionError(f"an answer without Content-Length: {head!r}"))
            return
        length = int(head[start + 15 :].split(b"\r\n", 1)[0])
        if len(self.buffer) < end + 4 + length:
            return
        answer, self.buffer = self.buffer, bytearray()
        self.answered(int(head[9:12]), answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(exc or ConnectionError("the server closed the connection"))


class Exchange(Connection):
    """Sends the next request as soon as the answer to the last one is complete."""

    def __init__(self, requests: deque[bytes], load: Load, deadline: float) -> None:
        super().__init__()
        self.requests = requests
        self.load = load
        self.deadline = deadline
        self.sent_at = 0.0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.send()

    def send(self) -> None:
        now = time.perf_counter()
        if not self.requests or now > self.deadline:
            self.finish()
        elif self.transport is not None:
            self.sent_at = now
            self.transport.write(self.requests.popleft())

    def answered(self, status: int, answer: bytearray) -> None:
        self.load.statuses[status] += 1
        if status != 200:
            self.load.unexpected = bytes(answer)
        self.load.latencies.append(time.perf_counter() - self.sent_at)
        self.send()

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)

    def finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)
        if self.transport is not None:
            self.transport.close()


class Line(Connection):
    """A connection for whoever waits for each answer."""

    def __init__(self) -> None:
        super().__init__()
        self.answer: asyncio.Future[tuple[int, bytes]] | None = None

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body. Raises ConnectionError."""
        if self.transport is None or self.transport.is_closing():
            raise ConnectionError("the connection is closed")
        self.answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self.answer

    def answered(self, status: int, answer: bytearray) -> None:
        if self.answer is not None and not self.answer.done():  # who asked may have gone away
            self.answer.set_result((status, bytes(answer.partition(END_OF_HEADERS)[2])))

    def fail(self, error: Exception) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(error)


async def open_line(port: int) -> Line:
    _, line = await asyncio.get_running_loop().create_connection(Line, HOST, port)
    return line


async def _send_all(port: int, requests: Iterable[bytes], connections: int, seconds: float) -> Load:
    loop = asyncio.get_running_loop()
    load = Load()
    waiting = deque(requests)
    begin = time.perf_counter()
    opened = [
        await loop.create_connection(lambda: Exchange(waiting, load, begin + seconds), HOST, port)
        for _ in range(connections)
    ]
    await asyncio.wait_for(asyncio.gather(*(exchange.done for _, exchange in opened)), seconds + 60)
    load.seconds = time.perf_counter() - begin
    return load


def send_all(port: int, requests: Iterable[bytes], *, connections: int, seconds: float = 3600) -> Load:
    """Sends requests over some connections, one at a time on each, until all are sent or the time is up."""
    return uvloop.run(_send_all(port, requests, connections, seconds))


class FixedAnswer(asyncio.Protocol):
    """A server that answers everything alike, and only counts the bytes of a body."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.buffer = bytearray()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(FIXED_ANSWER)}\r\n\r\n"
        self.answer = head.encode() + FIXED_ANSWER

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(END_OF_HEADERS)
        if end < 0 or self.transport is None:
            return
        start = self.buffer.find(b"Content-Length:", 0, end)
        length = int(bytes(self.buffer[start + 15 : end]).split(b"\r\n", 1)[0]) if start >= 0 else 0
        if len(self.buffer) >= end + 4 + length:
            self.buffer.clear()
            self.transport.write(self.answer)


async def _serve_fixed(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(FixedAnswer, HOST, port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve_fixed(int(sys.argv[1])))
