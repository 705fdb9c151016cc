"""What every answer has in common, errors and addresses that do not exist included."""

import asyncio
import base64
import hashlib
import re
import time
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from litestar import Litestar
from litestar.types import HTTPReceiveMessage, Message, Receive, Send

from headcount.http.auth import refuse_foreign_host
from headcount.http.direct import DirectHandlers
from headcount.http.errors import make_id, request_id
from headcount.http.services import Services
from headcount.logs import log_request
from headcount.wire.instants import shortest
from headcount.wire.problems import PROBLEM_JSON, Problem, encode_problem

RawHeader = tuple[bytes, bytes]

# Where the answer has none of its own. Counts are nobody else's business, and an answer is not a page.
HEADERS: tuple[RawHeader, ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    # no page of another origin gets it as an image or script; what CORS allows is not concerned
    (b"cross-origin-resource-policy", b"same-origin"),
)
NAMES = frozenset(name for name, _ in HEADERS)
# Empty parts, a slash at the end, the parts . and .., escapes of what needs none, of slashes and of backslashes.
OTHER_WAYS = re.compile(
    rb"//|/\Z|/\.\.?(?:/|\Z)|\\|%(?:2[DEF]|3[0-9]|4[1-9A-F]|5[0-9AF]|5C|6[1-9A-F]|7[0-9AE])", re.IGNORECASE
)
INLINE = re.compile(rb"<(script|style)\b([^>]*)>(.*?)</\1>", re.DOTALL | re.IGNORECASE)


# In the log, where nobody was left to be answered.
CLIENT_GONE = 499


class App(Litestar):
    """Litestar, with X-Request-Id and headers for safety on every answer, HEAD, and a line in the log."""

    services: Services
    direct: DirectHandlers

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        begun = time.perf_counter()
        method = scope["method"]
        if method == "HEAD":
            scope = {**scope, "method": "GET"}
        scope.setdefault("state", {}).update(begun=begun, is_head=method == "HEAD")
        identity = request_id(scope)
        problem = self._refusal(scope)
        status = 500

        async def send_more(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
                message["headers"] = completed(message["headers"], identity, scope["state"].get("as_of"))
                if problem is None:
                    self.services.metrics.note_answer(scope, status)
            await send(message)

        try:
            if problem is not None:
                await answer_problem(problem, send_more)
            elif method == "HEAD":
                await self._answer_head(scope, receive, send_more)
            elif (found := self.direct.find(scope)) is not None:
                scope["litestar_app"] = self
                await found[0].run(scope, receive, send_more, found[1])
            else:
                await super().__call__(scope, receive, send_more)
        except asyncio.CancelledError:
            status = CLIENT_GONE
            raise
        finally:
            auth = scope.get("auth")
            route = scope.get("path_template")
            log_request(method, route, status, time.perf_counter() - begun, identity, auth.token if auth else None)

    def _refusal(self, scope: Any) -> Problem | None:
        """Why a request is answered by no route, whatever it asks for."""
        if not is_canonical(scope.get("raw_path") or scope["path"].encode()):
            return Problem("not_found", "There is nothing at this address.")
        try:
            if self.services.authenticator.tokens is None:
                refuse_foreign_host(scope["headers"])
        except Problem as problem:
            return problem
        return None

    async def _answer_head(self, scope: Any, receive: Receive, send: Send) -> None:
        """As GET without the body: an answer that has no end is given up once it begins."""
        begun = asyncio.Event()

        async def receive_until_begun() -> Any:
            if begun.is_set():
                return HTTP_DISCONNECT
            receiving, beginning = asyncio.ensure_future(receive()), asyncio.ensure_future(begun.wait())
            try:
                await asyncio.wait((receiving, beginning), return_when=asyncio.FIRST_COMPLETED)
                return HTTP_DISCONNECT if begun.is_set() else receiving.result()
            finally:
                receiving.cancel()
                beginning.cancel()

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
            elif not begun.is_set():
                begun.set()
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        await super().__call__(scope, receive_until_begun, send_head)


def is_canonical(raw_path: bytes) -> bool:
    """Whether this is the one way to write an address: rules of a proxy that go by it cannot be passed by another."""
    return raw_path == b"/" or OTHER_WAYS.search(raw_path) is None


async def answer_problem(problem: Problem, send: Send) -> None:
    """Answers without any route."""
    body = encode_problem(problem)
    headers = [(b"content-type", PROBLEM_JSON.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": problem.kind.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


HTTP_DISCONNECT: HTTPReceiveMessage = {"type": "http.disconnect"}


def completed(headers: Iterable[RawHeader], identity: str, as_of: datetime | None = None) -> list[RawHeader]:
    """The headers of an answer and those that it lacks. `as_of`: it has everything that was committed before."""
    # Vary of its own even where there is one already: CORS sets one, and replaces what it finds.
    found = [*headers, (b"x-request-id", identity.encode()), (b"vary", b"Accept")]
    if as_of:
        found.append((b"x-data-as-of", shortest(as_of).encode()))
    names = {name for name, _ in found}  # in lower case, as ASGI has them
    if names.isdisjoint(NAMES):
        return [*found, *HEADERS]
    return found + [header for header in HEADERS if header[0] not in names]


def problem_answer(problem: Problem) -> tuple[int, list[RawHeader], bytes]:
    """Status, headers and body for what was refused before it was a request."""
    body = encode_problem(problem)
    headers = [
        (b"content-type", PROBLEM_JSON.encode()),
        (b"content-length", str(len(body)).encode()),
        *((name.lower().encode(), value.encode()) for name, value in problem.headers.items()),
    ]
    return problem.kind.status, completed(headers, make_id()), body


def page_policy(html: bytes) -> str:
    """A Content-Security-Policy that lets a page have scripts and styles of ours only, and those that it holds."""
    held: dict[bytes, list[str]] = {b"script": [], b"style": []}
    for kind, attributes, text in INLINE.findall(html):
        if b"src=" not in attributes.lower():
            held[kind.lower()].append(f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'")
    return "; ".join(
        (
            "default-src 'none'",
            " ".join(("script-src 'self'", *held[b"script"])),
            " ".join(("style-src 'self'", *held[b"style"])),
            "img-src 'self' data:",
            "font-src 'self'",
            "connect-src 'self'",
            "manifest-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )
