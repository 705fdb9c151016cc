"""The HTTP server: uvicorn in our own event loop, with limits on what a client may leave open or unread."""

import asyncio
import contextlib
import logging
import re
import resource
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, cast

import httptools
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from headcount.http.admission import UNDER_WAY, Admission, ClientLoad, TrackedRequest, key_of
from headcount.http.asgi import RawHeader, problem_answer
from headcount.http.transports import Gathering
from headcount.logs import LogThrottle
from headcount.wire.problems import Problem
from headcount.wire.shares import too_much

# A client that stalls would hold its connection for ever: in the head of a request, in its body, in reading an answer.
HEAD_SECONDS = 30.0
# Where more than half of all connections are open, for one that was never let in.
CROWD_SECONDS = 3.0
BODY_SECONDS = 90.0
# In so long a client has to take a quarter of what waits for it.
ANSWER_SECONDS = 15.0
# What the kernel holds of an answer beside us, of each connection.
SEND_BYTES = 64 * 1024
# The kernel keeps that for so long where the client acknowledges nothing (TCP_USER_TIMEOUT).
SILENT_MILLISECONDS = 30_000
IDLE_SECONDS = 30
GRACE_SECONDS = 3
# Digits of a Content-Length.
MAX_DIGITS = 18
# All of a message that is not body: its head, the sizes of its chunks, its trailers.
MAX_HEAD = 64 * 1024
# Each line of a head costs time, and so does each part of a path: no client of ours sends half as many.
MAX_HEADER_LINES = 100
MAX_PATH = 2048
# What is parsed at once of a body: as a whole, and in chunks, each of which costs time.
BODY_SLICE = 64 * 1024
CHUNKED_SLICE = 1024
# So many bytes of chunks a chunk has to have, apart from the first 4,000 or so.
CHUNK_BYTES = 16
MAX_CHUNK_DEBT = 64 * 1024
# All that came and is not parsed yet, with the heads of which the end is missing: on all connections, and on those of
# one client. Beyond the first those who were never let in, and sent more than a small request has, are cut off, unless
# they show a token that is known; beyond the second those of the client.
MAX_UNPARSED = 32 * 1024 * 1024
SMALL_REQUEST = 1024
# So far a token is looked for before a head is parsed.
LOOKED_AT = 8 * 1024
# In a turn of the event loop, for those who were let in before and for those who were not.
PARSE_SECONDS = 0.005
# Of a body that comes after its request was answered: what is parsed, what is thrown away then, and for how long.
LEFT_BYTES = 64 * 1024
MAX_DRAINED = 16 * 1024 * 1024
DRAIN_SECONDS = 2.0
# To read what is thrown away costs time, too. In each of these pauses so many of the connections are read once.
DRAINED_AT_ONCE = 4
DRAIN_PAUSE_SECONDS = 0.01
# More are told to come back: what an idle one takes is small, but not nothing.
MAX_CONNECTIONS = 4096
# Where they are all taken: so young, one that was never let in may still be.
YOUNG_SECONDS = 1.0
# A client with more connections has many. So many of them are looked through for one that waits for a request.
LOOKED_THROUGH = 64
# Above that, where nobody can make room: they are closed at once.
SPARE_CONNECTIONS = 64
# That are open beside connections of clients: those to the database, of notices, logs.
OTHER_FILES = 256
BACKLOG = 4096
ACCEPTED_AT_ONCE = 32
ACCEPT_PAUSE_SECONDS = 0.1
TOO_LONG = f"The head of the request is longer than {MAX_HEAD} bytes."
END_OF_HEAD = b"\r\n\r\n"
# Possessive: what a client sends must not be looked at again and again.
AUTHORIZATION = re.compile(rb"\r\nauthorization:[ \t]*+([^\r\n]++)\r", re.IGNORECASE)
# What belongs to the wish for another protocol.
HOP_BY_HOP = (b"upgrade", b"http2-settings")


log = logging.getLogger("headcount.server")
crowds = LogThrottle(10.0)


class Refused(Exception):
    """Raised while a request is parsed; the text says what is wrong with it."""

    def __init__(self, detail: str, code: str = "malformed") -> None:
        super().__init__(detail)
        self.code = code


SAFE = (b"GET", b"HEAD")
# They ask no database and no token, and have to be answered while many wait.
PROBES = ("/healthz", "/readyz")
VERSIONS = ("1.1", "1.0")


class Flow(FlowControl):
    """Reads nothing more while something that came is not parsed yet, or while uvicorn has enough of a body."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self.is_full = False
        self.is_behind = False

    def pause_reading(self) -> None:
        self.is_full = True
        super().pause_reading()

    def resume_reading(self) -> None:
        self.is_full = False
        if not self.is_behind:
            super().resume_reading()

    def fall_behind(self) -> None:
        self.is_behind = True
        super().pause_reading()

    def catch_up(self) -> None:
        self.is_behind = False
        if not self.is_full and not self._transport.is_closing():
            super().resume_reading()

    def linger(self) -> None:
        """Nobody waits for a body any more."""
        self.is_full = False
        self.catch_up()


class Parsing:
    """Connections on which something is to be parsed take turns, a slice each: those of clients, by client, and all
    others apart from them. However many send however much, the event loop has time for everything else."""

    def __init__(self) -> None:
        self.known: dict[ClientLoad, deque[HttpConnection]] = {}
        self.unidentified: deque[HttpConnection] = deque()
        # What comes on these is thrown away.
        self.draining: dict[HttpConnection, None] = {}
        self.unparsed = 0
        self.is_planned = False
        self.is_read_planned = False

    def add(self, connection: "HttpConnection") -> None:
        if connection.is_in_line:
            return
        connection.is_in_line = True
        line = self.unidentified if connection.load is None else self.known.setdefault(connection.load, deque())
        line.append(connection)
        self._plan(connection.loop)

    def drain(self, connection: "HttpConnection") -> None:
        """Has it read on when it is its turn."""
        self.draining[connection] = None
        if not self.is_read_planned:
            self.is_read_planned = True
            connection.loop.call_later(DRAIN_PAUSE_SECONDS, self._read_on, connection.loop)

    def _read_on(self, loop: asyncio.AbstractEventLoop) -> None:
        for connection in [*islice(self.draining, DRAINED_AT_ONCE)]:
            del self.draining[connection]
            connection.flow.catch_up()
        self.is_read_planned = bool(self.draining)
        if self.is_read_planned:
            loop.call_later(DRAIN_PAUSE_SECONDS, self._read_on, loop)

    def _plan(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self.is_planned:
            self.is_planned = True
            loop.call_soon(self._run, loop)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        self.is_planned = False
        end = time.monotonic() + PARSE_SECONDS
        while self.known and time.monotonic() < end:
            load = next(iter(self.known))
            # the next one's turn comes after it
            line = self.known.pop(load)
            connection = line.popleft()
            if line:
                self.known[load] = line
            self._parse(connection)
        end = time.monotonic() + PARSE_SECONDS
        while self.unidentified and time.monotonic() < end:
            self._parse(self.unidentified.popleft())
        if self.known or self.unidentified:
            self._plan(loop)

    def _parse(self, connection: "HttpConnection") -> None:
        connection.is_in_line = False
        try:
            if connection.parse_some():
                self.add(connection)
        except Exception:  # a mistake of ours: it must not keep the others from their turns
            if crowds.admit("parse") is not None:
                log.exception("What came on a connection could not be parsed; it was closed")
            connection.transport.abort()


class HttpConnection(HttpToolsProtocol):
    """One connection. uvicorn itself limits only how long it is idle between two requests.

    A request is parsed when the one before it is answered, and its body when it has begun; until then what was sent
    waits as it came. Where all connections are taken, a new one takes the place of another (_find_dispensable).
    """

    # Those that were never let in, and others that wait for a request, the oldest first. Of each server its own.
    unidentified: dict["HttpConnection", None]
    idle: dict["HttpConnection", None]
    parsing: Parsing
    flow: Flow
    # A token was good here.
    is_known = False
    # The client: of the last request, or of whoever is known by the head that has begun to come.
    load: ClientLoad | None = None
    # Whether the request is being answered, and does not wait to be.
    has_begun = False
    # Of a head whose end is missing.
    held = 0
    answering: RequestResponseCycle | None = None
    # Of each server its own; None where nobody can be told apart.
    admission: Admission | None = None
    # The request that is answered, or waits to be; and the one that waits until the answer before it was taken.
    tracked: TrackedRequest | None = None
    deferred: tuple[RequestResponseCycle, Callable[..., Any]] | None = None
    # What answers a GET, and whether anybody is there to take it.
    reading: asyncio.Task[Any] | None = None
    is_lost = False
    deadline: asyncio.TimerHandle | None = None
    unread: asyncio.TimerHandle | None = None
    unread_bytes = 0
    unread_of: ClientLoad | None = None
    overhead = 0
    chunk_debt = 0
    # Between the end of one message and the end of the next head.
    is_in_head = True
    # Of a body whose length is known; None: it comes in chunks.
    body_left: int | None = 0
    # The end of what was parsed of a head, or of a body in chunks: that of the message may come in two pieces.
    tail = b""
    # Of a body whose request was answered already.
    left_bytes = 0
    is_draining = False
    is_in_line = False
    # What came is being parsed: whoever does it looks for more afterwards.
    is_at_once = False
    max_connections = MAX_CONNECTIONS

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # What came and is not parsed yet.
        self.unparsed = bytearray()
        self.made_at = time.monotonic()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.transport = cast(asyncio.Transport, Gathering(transport, self.loop, self._linger))
        self.flow = Flow(transport)
        if len(self.connections) > self.max_connections:
            self._make_room()
        self._limit(self._head_seconds())
        self.unidentified[self] = None
        if len(self.connections) > self.max_connections + SPARE_CONNECTIONS:
            # Those that are told to come back have to send their heads first, and might never do it.
            _note_crowd(len(self.connections))
            transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            self._discard(len(data))
            return
        self.unparsed += data
        self._count_unparsed(len(data))
        if self.load is None:
            self._look_for_client()
        if self._is_too_much():
            self.transport.abort()
            return
        # who was let in before need not wait with what can be parsed at once
        is_first = not self.is_in_line and not self.is_draining and self._may_parse_at_once()
        if self.parse_some() if is_first else self._can_parse():
            self.parsing.add(self)
        if self.unparsed:
            self.flow.fall_behind()

    def _look_for_client(self) -> None:
        """Whether a new connection begins with a request of somebody who was let in on another one."""
        if self.admission is None or not self.admission.known or self.cycle is not None:
            return
        if found := AUTHORIZATION.search(self.unparsed, 0, LOOKED_AT):
            self._belong_to(self.admission.known.get(key_of(found[1])))

    def _belong_to(self, load: ClientLoad | None) -> None:
        if load is not self.load:
            waiting = len(self.unparsed) + self.held
            self._count_unparsed(-waiting)
            if self.load is not None:
                self.load.connections.pop(self, None)
            self.load = load
            self._count_unparsed(waiting)

    def _count_unparsed(self, size: int) -> None:
        self.parsing.unparsed += size
        if self.load is not None:
            self.load.unparsed += size

    def _may_parse_at_once(self) -> bool:
        if self.load is None or self.admission is None:
            return self.is_known
        return self.admission.may_parse(self.load)

    def _is_too_much(self) -> bool:
        if len(self.unparsed) + self.held <= SMALL_REQUEST:
            return False
        if self.load is not None and self.load.unparsed > MAX_UNPARSED:
            return True
        if self.parsing.unparsed <= MAX_UNPARSED:
            return False
        if self.load is None and not self.is_known:
            return True
        if self.tracked is None:
            return self.parsing.unparsed > 4 * MAX_UNPARSED
        return self.tracked.load.under_way >= UNDER_WAY

    def _can_parse(self) -> bool:
        """Whether there is something to parse, and no request before it waits for its answer."""
        if not self.unparsed or self.is_lost or self.transport.is_closing():
            return False
        if self.is_draining or self.cycle is None or self.cycle.response_complete:
            return True
        return not self.is_in_head and self.has_begun

    def parse_some(self) -> bool:
        """A slice; and where that was a head behind which all of a small body is there, the body as well."""
        self.is_at_once = True
        try:
            has_more = self._parse_slice()
            if has_more and not self.is_in_head and self.body_left and self.body_left <= SMALL_REQUEST:
                cycle = self.cycle
                has_more = self._parse_slice()
                if self.is_in_head and cycle is not None:
                    cycle.scope["state"]["whole_body"] = bytes(cycle.body)
            return has_more
        finally:
            self.is_at_once = False

    def _parse_slice(self) -> bool:
        """A head, or some of a body. Returns whether there is more to do at once."""
        if not self._can_parse():
            return False
        if self.is_draining:
            self._throw_away()
            return False
        size = self._slice_size()
        data = bytes(self.unparsed[:size])
        del self.unparsed[:size]
        self._count_unparsed(-len(data))
        if self.is_in_head and self.deadline is None:
            self._limit(self._head_seconds())
        if self.is_in_head or self.body_left is None:
            self.overhead += len(data)
            self.tail = (self.tail + data)[1 - len(END_OF_HEAD) :]
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, Refused):
                raise
            self._refuse(error.__context__.code, str(error.__context__))
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
        self._hold(self.overhead if self.is_in_head else 0)
        if self.overhead > MAX_HEAD and not self.transport.is_closing():
            self._refuse("malformed", TOO_LONG)
        if not self.is_in_head and self.cycle is not None and self.cycle.response_complete:
            self.left_bytes += len(data)
            if self.left_bytes > LEFT_BYTES:
                self._drain()
        if not self.unparsed:
            self.flow.catch_up()
        return self._can_parse()

    def _hold(self, size: int) -> None:
        self._count_unparsed(size - self.held)
        self.held = size

    def _slice_size(self) -> int:
        """Never beyond the end of a message: what follows is parsed when it is its turn. Chunks end as a head does."""
        if not self.is_in_head and self.body_left is not None:
            return max(1, min(self.body_left, BODY_SLICE))
        size = MAX_HEAD + 1 if self.is_in_head else CHUNKED_SLICE
        seen = (self.tail + self.unparsed[: len(END_OF_HEAD)]).find(END_OF_HEAD)
        if seen >= 0:
            return seen + len(END_OF_HEAD) - len(self.tail)
        found = self.unparsed.find(END_OF_HEAD, 0, size)
        return size if found < 0 else found + len(END_OF_HEAD)

    def _drain(self) -> None:
        """The request is answered, and its body goes on. What comes is thrown away for a while, so that the client
        sees the answer: at a connection that is reset it might not."""
        self.is_draining = True
        self._unlimit()
        self._unset_keepalive_if_required()
        self._throw_away()
        self.loop.call_later(DRAIN_SECONDS, self.transport.close)

    def _throw_away(self) -> None:
        size = len(self.unparsed)
        self._forget_unparsed()
        self._discard(size)

    def _linger(self) -> None:
        self._forget_unparsed()
        self.left_bytes = 0
        self.flow.linger()

    def _discard(self, size: int) -> None:
        self.left_bytes += size
        if self.left_bytes > MAX_DRAINED:
            self.transport.abort()
        else:
            self.flow.fall_behind()
            self.parsing.drain(self)

    def _forget_unparsed(self) -> None:
        self._count_unparsed(-len(self.unparsed))
        self.unparsed.clear()

    def _parse(self, data: bytes) -> None:
        """The parser ends with a request that asks for another protocol, and leaves its body alone. Such a request may
        be answered as any other (RFC 9110, section 7.8): it is parsed again without that."""
        while True:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                if self.parser.get_method() == b"CONNECT":
                    return
                data = self._head_without_upgrade() + data[upgrade.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
                # as uvicorn does it: an answer may end the connection while more is on its way
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def _head_without_upgrade(self) -> bytes:
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        for name, value in self.headers:
            if name == b"connection":
                tokens = [token.strip() for token in value.split(b",")]
                value = b", ".join(token for token in tokens if token.lower() not in HOP_BY_HOP)
            if name not in HOP_BY_HOP:
                lines.append(name + b": " + value)
        return b"\r\n".join((*lines, b"", b""))

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))
        if len(self.headers) > MAX_HEADER_LINES:
            raise Refused(f"The head of the request has more than {MAX_HEADER_LINES} lines.", "head_too_large")

    def on_headers_complete(self) -> None:
        if self._asks_for_another_protocol():
            return
        if self.parser.get_http_version() not in VERSIONS:
            raise Refused("This server speaks HTTP/1.1 and HTTP/1.0.")
        if len(self.url) > MAX_PATH and len(self.url.partition(b"?")[0]) > MAX_PATH:
            raise Refused(f"The path of the request is longer than {MAX_PATH} bytes.", "head_too_large")
        # also what came in one read with the end of the head
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD:
            raise Refused(TOO_LONG)
        if not _has_path(self.url):
            raise Refused("The request asks for no path of this server. This is no proxy.")
        if not self.url.startswith(b"/"):
            # RFC 9112, 3.2.2: a target with a host is what counts, whatever the field says
            host = self.url.partition(b"://")[2].partition(b"/")[0]
            self.headers[:] = [*(header for header in self.headers if header[0] != b"host"), (b"host", host)]
        if self.parser.get_http_version() == "1.0" and any(name == b"transfer-encoding" for name, _ in self.headers):
            raise Refused("HTTP/1.0 has no Transfer-Encoding. Send Content-Length, or HTTP/1.1.")
        self._limit(BODY_SECONDS)
        self._expect_body()
        answer = self._answer if self.parser.get_method() in SAFE else self.config.loaded_app
        is_too_many = len(self.connections) > self.max_connections and not self.is_known and self.load is None
        self.app = too_many if is_too_many else answer
        self.idle.pop(self, None)
        super().on_headers_complete()

    def _expect_body(self) -> None:
        self.is_in_head = False
        self.overhead = self.chunk_debt = self.left_bytes = 0
        self.body_left = 0
        self.tail = b""
        for name, value in self.headers:
            if name == b"transfer-encoding":
                self.body_left = None
                return
            if name == b"content-length":
                if len(value.strip()) > MAX_DIGITS:
                    raise Refused(f"The Content-Length has more than {MAX_DIGITS} digits.")
                self.body_left = int(value)  # the parser lets nothing through but digits, with blanks around them

    def on_body(self, body: bytes) -> None:
        if self.body_left is None:
            # Twice: the sizes of small chunks take as much as what is in them.
            self.overhead = max(0, self.overhead - 2 * len(body))
            self.chunk_debt = max(0, self.chunk_debt + CHUNK_BYTES - len(body))
            if self.chunk_debt > MAX_CHUNK_DEBT:
                raise Refused(f"The body comes in chunks of a few bytes. Send {CHUNK_BYTES} and more in each.")
        else:
            self.body_left -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._asks_for_another_protocol():
            return
        self.overhead = 0
        self.tail = b""
        self.is_in_head = True
        self._unlimit()
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Callable[..., Any]) -> None:
        self.has_begun = False
        if self.flow.write_paused:
            self.deferred = (cycle, app)  # it would make another answer that waits
            return
        self.answering = cycle
        self.has_begun = self.admission is None
        if self.admission is None:
            self._run(cycle, app).add_done_callback(self.tasks.discard)
            return
        authorization = None
        for name, value in cycle.scope["headers"]:
            if name == b"authorization":
                authorization = key_of(value)
                break
        is_probe = cycle.scope["path"] in PROBES and cycle.scope["method"] in ("GET", "HEAD")
        tracked = TrackedRequest(self.admission, self, (cycle, app), authorization, is_probe)
        cycle.scope["state"]["tracked"] = self.tracked = tracked
        self.admission.submit(tracked)

    def note_identified(self, load: ClientLoad | None) -> None:
        """A token was good here, of this client; None: nobody can be told apart."""
        if self.is_lost:  # its request goes on, and nothing leads to it any more
            return
        if not self.is_known:
            self.is_known = True
            self.unidentified.pop(self, None)
        if load is not None:
            self._belong_to(load)
            # behind all others
            load.connections.pop(self, None)
            load.connections[self] = None

    def begin(self, tracked: TrackedRequest) -> None:
        context, tracked.context = tracked.context, None
        self.has_begun = True
        task = self._run(*context)
        task.add_done_callback(tracked.leave)
        task.add_done_callback(self.tasks.discard)
        if self.unparsed and not self.is_in_head and not self.is_at_once:
            self.parsing.add(self)

    def refuse(self, tracked: TrackedRequest, detail: str) -> None:
        async def wait_and_answer(_scope: object, _receive: object, send: Callable[..., Any]) -> None:
            self.reading = asyncio.current_task()
            try:
                await tracked.admission.hold_back(tracked.load)
                await _send_problem(send, *problem_answer(too_much(detail)))
            except asyncio.CancelledError:
                if not self.is_lost:
                    raise
            finally:
                self.reading = None

        context, tracked.context = tracked.context, None
        self._run(context[0], wait_and_answer).add_done_callback(self.tasks.discard)

    def _run(self, cycle: RequestResponseCycle, app: Callable[..., Any]) -> asyncio.Task[None]:
        task = self.loop.create_task(cycle.run_asgi(app))
        self.tasks.add(task)
        return task

    def on_response_complete(self) -> None:
        if self.answering and self.answering.scope.get("auth") is not None:
            self.note_identified(None)
        if self.is_known and not self.pipeline:
            self.idle[self] = None
        if self.answering:
            self.answering.body = bytearray()  # what came of a body that nobody reads any more
        super().on_response_complete()
        if self._can_parse():
            self.parsing.add(self)

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        """For GET: nobody goes on reading for a client that is gone. What changes something is finished anyway."""
        if self.is_lost:
            return
        self.reading = asyncio.current_task()
        try:
            await self.config.loaded_app(scope, receive, send)
        except asyncio.CancelledError:
            if not self.is_lost:
                raise
        finally:
            self.reading = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        if self.reading:
            self.reading.cancel()
        self._unlimit()
        self._leave_line()
        self.parsing.draining.pop(self, None)
        self._forget_unparsed()
        self._hold(0)
        self.pipeline.clear()
        if self.answering and not self.answering.response_complete:
            # uvicorn tells the last one that was sent ahead, and not the one that is being answered
            self.answering.disconnected = True
            self.answering.message_event.set()
        self.resume_writing()
        super().connection_lost(exc)
        # They lead back here: without them nothing waits for the garbage collector.
        self.app = self.config.loaded_app
        self.headers, self.url = [], b""
        cast(Gathering, self.transport).linger = None
        self.cycle = self.scope = self.answering = self.tracked = self.load = None  # type: ignore[assignment]

    def pause_writing(self) -> None:
        self._wait_for_reader()
        super().pause_writing()

    def _wait_for_reader(self) -> None:
        size = self.transport.get_write_buffer_size()
        if self.tracked:
            self._count_unread(self.tracked.load, size)
        self.unread_bytes = size
        self.unread = self.loop.call_later(ANSWER_SECONDS, self._look_at_reader)

    def _count_unread(self, load: ClientLoad, size: int) -> None:
        """Answers that wait for this client, and closes the connection where those are far too many."""
        if self.unread_of is None:
            self.unread_of = load
            load.unread_answers += 1
            load.unread_bytes += size
        else:
            self.unread_of.unread_bytes += size - self.unread_bytes
        is_one = self.admission is None or load is not self.admission.unidentified
        if load.is_far_beyond(is_one):
            self.transport.abort()

    def _discount_unread(self) -> None:
        if self.unread_of:
            self.unread_of.unread_answers -= 1
            self.unread_of.unread_bytes -= self.unread_bytes
            self.unread_of = None

    def _look_at_reader(self) -> None:
        if 4 * self.transport.get_write_buffer_size() > 3 * self.unread_bytes:
            self.transport.abort()
        else:
            self._wait_for_reader()

    def resume_writing(self) -> None:
        if self.unread:
            self.unread.cancel()
            self.unread = None
        self._discount_unread()
        super().resume_writing()
        if self.deferred and not self.is_lost:
            cycle, app = self.deferred
            self.deferred = None
            self._start_asgi_task(cycle, app)

    def shutdown(self) -> None:
        """A client that stalls must not keep the service from stopping."""
        self.loop.call_later(GRACE_SECONDS, self.transport.abort)
        super().shutdown()

    def send_400_response(self, msg: str) -> None:
        self._refuse("malformed", msg)

    def _asks_for_another_protocol(self) -> bool:
        return bool(self.parser.should_upgrade()) and self.parser.get_method() != b"CONNECT"

    def _make_room(self) -> None:
        if found := self._find_dispensable():
            found._leave_line()
            self.connections.discard(found)
            found.transport.abort()

    def _find_dispensable(self) -> "HttpConnection | None":
        """The connection whose place a new one takes: the oldest that was never let in, where these are more than
        half; else one of the client that has most, where that is more than a quarter; else the oldest that was never
        let in, but rather one of a client that has many than one that has just come; else the oldest that waits for a
        request."""
        unidentified = next(iter(self.unidentified), None)
        if unidentified and 2 * len(self.unidentified) > self.max_connections:
            return unidentified
        largest = self.admission.find_largest() if self.admission else None
        number = len(largest.connections) if largest else 0
        is_young = unidentified is None or time.monotonic() - unidentified.made_at < YOUNG_SECONDS
        if largest and (4 * number > self.max_connections or (is_young and number > LOOKED_THROUGH)):
            some = cast("list[HttpConnection]", [*islice(largest.connections, LOOKED_THROUGH)])
            return next((connection for connection in some if connection in self.idle), some[0])
        return unidentified or next(iter(self.idle), None)

    def _leave_line(self) -> None:
        self.unidentified.pop(self, None)
        self.idle.pop(self, None)
        if self.load is not None:
            self.load.connections.pop(self, None)

    def _head_seconds(self) -> float:
        """How long a client may take for the head of a request."""
        is_crowd = 2 * len(self.connections) > self.max_connections and not self.is_known
        return min(CROWD_SECONDS, HEAD_SECONDS) if is_crowd else HEAD_SECONDS

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
            status, headers, body = problem_answer(Problem(code, detail))
            lines = [b"HTTP/1.1 %d" % status, *(b"%b: %b" % header for header in headers), b"connection: close"]
            self.transport.write(b"\r\n".join((*lines, b"", body)))
        self.transport.close()


def _has_path(target: bytes) -> bool:
    """Whether a request can be for us: CONNECT names a host and a port, and some addresses nothing but a host."""
    try:
        path = httptools.parse_url(target).path
    except httptools.HttpParserInvalidURLError:
        return False
    return path is not None and path.isascii()


async def too_many(_scope: object, _receive: object, send: Callable[..., Any]) -> None:
    """Answers that there are too many connections (503)."""
    status, headers, body = problem_answer(Problem("unavailable", "Too many connections are open. Try again."))
    await _send_problem(send, status, [*headers, (b"connection", b"close")], body)


async def _send_problem(send: Callable[..., Any], status: int, headers: list[RawHeader], body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Server(uvicorn.Server):
    """One that leaves signals to us. `serve(sockets=[...])` runs until `should_exit`, and answers what is open.

    `is_guarded`: the app asks for tokens, so that clients can be told apart.
    """

    def __init__(self, app: Callable[..., Any], *, is_guarded: bool = False) -> None:
        self.admission = Admission() if is_guarded else None
        self.max_connections = fitting_connections()
        self.is_listening = True
        self.beginning: set[asyncio.Task[None]] = set()
        super().__init__(
            uvicorn.Config(
                app,
                http=type(
                    "Connection",
                    (HttpConnection,),
                    {
                        "max_connections": self.max_connections,
                        "unidentified": {},
                        "idle": {},
                        "admission": self.admission,
                        "parsing": Parsing(),
                    },
                ),
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

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Takes all connections that wait, up to ACCEPTED_AT_ONCE. uvloop by itself takes one each time that it looks
        for what there is to do: while it has much to do, whoever is new would wait for seconds."""
        self.servers = []
        for listener in sockets or []:
            listener.setblocking(False)
            self._listen(listener)
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.is_listening = False
        for listener in sockets or []:
            asyncio.get_running_loop().remove_reader(listener)
        await super().shutdown(sockets)

    def _listen(self, listener: socket.socket) -> None:
        if self.is_listening:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                client, _address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # too many open files, most of all: those that wait go on waiting
                if crowds.admit("accept") is not None:
                    log.warning("A connection could not be taken (%s); trying again", error)
                loop.remove_reader(listener)
                loop.call_later(ACCEPT_PAUSE_SECONDS, self._listen, listener)
                return
            client.setblocking(False)
            if not is_there(client):
                client.close()
                continue
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = loop.create_task(self._begin(client))
            self.beginning.add(task)
            task.add_done_callback(self.beginning.discard)

    async def _begin(self, client: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(self._make_protocol, client)
        except OSError:  # it has gone already
            client.close()

    def _make_protocol(self) -> asyncio.Protocol:
        make: Any = self.config.http_protocol_class
        made: asyncio.Protocol = make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
        return made


def is_there(client: socket.socket) -> bool:
    """Whether a connection was not closed by the client before it was taken: nothing needs to be made for it then."""
    try:
        return client.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True  # it has said nothing yet
    except OSError:
        return False


def fitting_connections() -> int:
    """How many connections can be open, at most MAX_CONNECTIONS. Raises the limit of open files as far as it may."""
    wanted = MAX_CONNECTIONS + SPARE_CONNECTIONS + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return MAX_CONNECTIONS
    fitting = max(soft - SPARE_CONNECTIONS - OTHER_FILES, soft // 4)
    log.warning(
        "There is room for %s connections, since only %s files can be open. Raise the limit of open files "
        "(`ulimit -Hn`, LimitNOFILE of systemd) to %s for %s.",
        *(f"{number:,}" for number in (fitting, soft, wanted, MAX_CONNECTIONS)),
    )
    return fitting


def _note_crowd(number: int) -> None:
    left_out = crowds.admit("")
    if left_out is not None:
        log.warning("%s connections are open: more are closed at once", f"{number:,}")


def listen(host: str, port: int) -> socket.socket:
    """A socket that clients can connect to from now on. Raises OSError."""
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[:1]:
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # what is accepted has the same
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT_MILLISECONDS)
            bound.bind(address)
            bound.listen(BACKLOG)
        except OSError:
            bound.close()
            raise
        return bound
    raise OSError(f"{host} has no address")
