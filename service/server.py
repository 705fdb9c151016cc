"""The HTTP server: uvicorn in our own event loop, with limits on what a client may leave open or unread."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.edge import problem_answer

# A client that stalls would hold its connection for ever: in the head of a request, in its body, in reading an answer.
HEAD_SECONDS = 30.0
BODY_SECONDS = 90.0
ANSWER_SECONDS = 60.0
IDLE_SECONDS = 30
GRACE_SECONDS = 3
# All of a message that is not body: its head, the sizes of its chunks, its trailers.
MAX_HEAD = 64 * 1024
# More are told to come back: what an idle one takes is small, but not nothing.
MAX_CONNECTIONS = 8192
BACKLOG = 2048


class Connection(HttpToolsProtocol):
    """One connection. uvicorn itself limits only how long it is idle between two requests."""

    deadline: asyncio.TimerHandle | None = None
    unread: asyncio.TimerHandle | None = None
    overhead = 0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._limit(HEAD_SECONDS)

    def data_received(self, data: bytes) -> None:
        if self.deadline is None and (self.cycle is None or self.cycle.response_complete):
            self._limit(HEAD_SECONDS)
        self.overhead += len(data)
        super().data_received(data)
        if self.overhead > MAX_HEAD and not self.transport.is_closing():
            self._refuse("malformed", f"The head of the request is longer than {MAX_HEAD} bytes.")

    def on_headers_complete(self) -> None:
        self._limit(BODY_SECONDS)
        self.app = too_many if len(self.connections) > MAX_CONNECTIONS else self.config.loaded_app
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        # Twice: the sizes of small chunks take as much as what is in them.
        self.overhead = max(0, self.overhead - 2 * len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        self.overhead = 0
        self._unlimit()
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unlimit()
        self.resume_writing()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        self.unread = self.loop.call_later(ANSWER_SECONDS, self.transport.abort)
        super().pause_writing()

    def resume_writing(self) -> None:
        if self.unread:
            self.unread.cancel()
        super().resume_writing()

    def shutdown(self) -> None:
        """A client that stalls must not keep the service from stopping."""
        self.loop.call_later(GRACE_SECONDS, self.transport.abort)
        super().shutdown()

    def send_400_response(self, msg: str) -> None:
        self._refuse("malformed", msg)

    def _limit(self, seconds: float) -> None:
        self._unlimit()
        self.deadline = self.loop.call_later(seconds, lambda: self.transport.close())

    def _unlimit(self) -> None:
        if self.deadline:
            self.deadline.cancel()
            self.deadline = None

    def _refuse(self, code: str, detail: str) -> None:
        """Ends the connection; with an answer, unless one has begun."""
        if self.cycle is None or self.cycle.response_complete:
            status, headers, body = problem_answer(code, detail)
            lines = [b"HTTP/1.1 %d" % status, *(b"%b: %b" % header for header in headers), b"connection: close"]
            self.transport.write(b"\r\n".join((*lines, b"", body)))
        self.transport.close()


async def too_many(_scope: object, _receive: object, send: Callable[..., Any]) -> None:
    """Answers that there are too many connections (503)."""
    status, headers, body = problem_answer("unavailable", "Too many connections are open. Try again.")
    headers = [*headers, (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Server(uvicorn.Server):
    """One that leaves signals to us. `serve(sockets=[...])` runs until `should_exit`, and answers what is open."""

    def __init__(self, app: Callable[..., Any]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=Connection,
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="error",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=IDLE_SECONDS,
                timeout_graceful_shutdown=GRACE_SECONDS + 1,
                backlog=BACKLOG,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(host: str, port: int) -> socket.socket:
    """A socket that clients can connect to from now on. Raises OSError."""
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[:1]:
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            bound.listen(BACKLOG)
        except OSError:
            bound.close()
            raise
        return bound
    raise OSError(f"{host} has no address")
