"""A way to the service that cuts connections, and a service that says it is busy."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter


class Cutter:
    """A TCP proxy on `port`. `cut` ends all connections; `lose` has the service's next answers lost on their way, after
    the service has taken the request."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.lose = 0
        self.connections = 0
        self.open: set[Writer] = set()

    def cut(self) -> None:
        for writer in self.open:
            writer.transport.abort()

    async def connect(self, reader: Reader, writer: Writer) -> None:
        self.connections += 1
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.target)
        self.open |= {writer, there_writer}
        try:
            await asyncio.gather(self.pump(reader, there_writer), self.pump(there_reader, writer, is_answer=True))
        finally:
            self.open -= {writer, there_writer}
            writer.close()
            there_writer.close()

    async def pump(self, reader: Reader, writer: Writer, is_answer: bool = False) -> None:
        with suppress(ConnectionError):
            while piece := await reader.read(65_536):
                if is_answer and self.lose:
                    self.lose -= 1
                    self.cut()
                    return
                writer.write(piece)
                await writer.drain()
            writer.close()


@asynccontextmanager
async def cutting(target: int) -> AsyncIterator[Cutter]:
    cutter = Cutter(target)
    server = await asyncio.start_server(cutter.connect, "127.0.0.1", 0)
    cutter.port = server.sockets[0].getsockname()[1]
    try:
        yield cutter
    finally:
        cutter.cut()
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def answering(*answers: bytes, asked: Callable[[bytes], None] = lambda _: None) -> AsyncIterator[str]:
    """The address of a server that gives these answers, one a request, the last one for ever."""
    left = list(answers)

    async def connect(reader: Reader, writer: Writer) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            asked(await reader.readuntil(b"\r\n\r\n"))
            writer.write(left.pop(0) if len(left) > 1 else left[0])
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


def answer(status: str, body: str, *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body.encode())}", "Connection: close", *headers]
    return ("\r\n".join(head) + "\r\n\r\n" + body).encode()
