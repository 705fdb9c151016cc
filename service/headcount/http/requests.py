"""Requests: query strings, ids in addresses, bodies and their limits."""

import asyncio
import re
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException
from litestar.types import Scope

from headcount.http.services import services
from headcount.wire import instants
from headcount.wire.bodies import (
    JSON,
    MAX_BODY,
    MAX_PLAN_BODY,
    MSGPACK,
    decode_bytes,
    gunzip,
    inflate_at_once,
    is_compressed,
    parse_media_type,
    problem_of_validation,
    too_large,
)
from headcount.wire.messages.base import ID_PATTERN
from headcount.wire.problems import Problem, invalid
from headcount.wire.threads import AT_ONCE_BYTES, TakesTime, in_a_hurry, no_check

T = TypeVar("T")


MAX_PARAMETERS = 1_100


# Of an address that takes no list of spaces: each of its parameters has some hundred bytes at most.
MAX_QUERY = 4 * 1024


# Each costs time, also where there are many parameters; a list of 1,000 ids has four in each.
MAX_ESCAPES = 4_000


# Longer than any of our devices needs for 8 MiB; a client that stalls would hold its connection for ever.
BODY_SECONDS = 60.0


# A body that took longer may be of a token that was revoked meanwhile.
LOOK_AGAIN_SECONDS = 1.0


DISCARD_SECONDS = 5.0


ID = re.compile(ID_PATTERN)


HttpRequest = Request[Any, Any, Any]


AnyConnection = ASGIConnection[Any, Any, Any, Any]


def header_of(scope: Scope, name: bytes, default: str = "") -> str:
    """The first header of this name, in lower case. Litestar makes objects of all of them when it is asked for one."""
    return next((value.decode("latin-1") for each, value in scope["headers"] if each == name), default)


def media_type(request: HttpRequest, formats: Collection[str] = (JSON, MSGPACK)) -> str:
    """The body's own, as parse_media_type gives it."""
    return parse_media_type(header_of(request.scope, b"content-type"), formats)


async def decode(request: HttpRequest, kind: type[T], limit: int = MAX_PLAN_BODY) -> T:
    """The request's body, of at most so many bytes, as `kind`."""
    format = media_type(request)
    return await read_body(request, lambda body: decode_bytes(body, kind, format), limit)


def query(request: HttpRequest, kind: type[T]) -> T:
    """The query string as `kind`. Unknown parameters, and several of one where one is asked for, are refused."""
    sent: bytes = request.scope["query_string"]
    shape: Any = kind
    if not sent and (defaults := _without_query(shape)) is not None:
        found: T = defaults
        return found
    known, several = _parameters(shape)
    if len(sent) > MAX_QUERY and not several:
        raise invalid(f"The query parameters have more than {MAX_QUERY} bytes.")
    if sent.count(b"%") > MAX_ESCAPES:
        raise invalid(f"The query parameters have more than {MAX_ESCAPES} escapes (%).")
    try:
        pairs = parse_qsl(
            sent.decode("latin-1"),
            keep_blank_values=True,
            max_num_fields=MAX_PARAMETERS,
        )
    except ValueError:
        raise invalid(f"There are more than {MAX_PARAMETERS} query parameters.") from None
    single: dict[str, str] = {}
    lists: dict[str, list[str]] = {}
    for name, value in pairs:
        if name not in known:
            takes = f"takes {', '.join(known)}" if known else "takes none"
            raise invalid(f"There is no query parameter of this name here; this address {takes}.", name)
        if name in several:
            lists.setdefault(name, []).append(value)
        elif name in single:
            raise invalid("This query parameter can be given only once.", name)
        else:
            single[name] = value
    try:
        return msgspec.convert({**single, **lists}, kind, strict=False, dec_hook=_query_instant)
    except msgspec.ValidationError as error:
        raise problem_of_validation(error) from None


async def read_body(
    request: HttpRequest,
    read: Callable[[bytes], T],
    limit: int = MAX_BODY,
    check: Callable[[], None] = no_check,
) -> T:
    """What `read` makes of the whole body, inflated if it is gzip. Never holds more than the limit and one piece.

    How much all requests hold together is bounded as well, and how much those of one client: 503 or 429 beyond that,
    and before anything is held for a body that says how long it is. A body is inflated when it is there as a whole.
    What takes long is done by a thread (wire.threads). `check` is called when the body is there, before anything is
    made of it: what it raises is raised.
    """
    is_gzip = is_compressed(header_of(request.scope, b"content-encoding"))
    bodies = services(request).bodies
    client = client_of(request)
    text = header_of(request.scope, b"content-length", "0")
    length = int(text[:20]) if text.isdecimal() else 0
    if length > limit:
        raise too_large(limit)
    try:
        bodies.check(client, length, length)
    except Problem:
        await discard_body(request)
        raise
    whole: bytes | None = request.scope["state"].get("whole_body")
    body = bytearray()
    held = 0
    began = time.monotonic()
    try:
        if whole is None or not 0 < len(whole) == length <= AT_ONCE_BYTES:
            async with asyncio.timeout(BODY_SECONDS):
                async for piece in request.stream():
                    if len(body) + len(piece) > limit:
                        raise too_large(limit)
                    if len(piece) == length <= AT_ONCE_BYTES and not body:
                        body += piece  # all of it, which nobody has to wait with
                        continue
                    bodies.check(client, len(body) + len(piece), len(piece))
                    body += piece
                    bodies.hold(client, len(piece))
                    held += len(piece)
            whole = bytes(body)
            # in the meantime its token may have been revoked
            if time.monotonic() - began > LOOK_AGAIN_SECONDS and (access := request.scope.get("auth")) is not None:
                await services(request).authenticator.check_again(access)
        check()
        if len(whole) <= AT_ONCE_BYTES:
            try:
                if not is_gzip:
                    return in_a_hurry(read, whole)
                inflated = inflate_at_once(whole, limit)
                bodies.check(client, len(inflated), len(inflated))
                return in_a_hurry(read, inflated)
            except TakesTime:
                pass
        if not held:
            bodies.hold(client, len(whole))
            held = len(whole)
        return await services(request).worker_threads.run(
            client, lambda: read(gunzip(whole, limit) if is_gzip else whole), check
        )
    except TimeoutError:
        raise Problem("malformed", f"The body did not arrive within {BODY_SECONDS:.0f} seconds.") from None
    except HTTPException:
        raise Problem("malformed", "The connection ended before the body did.") from None
    finally:
        if held:
            bodies.hold(client, -held)


def check_rate(request: HttpRequest) -> None:
    """Others of its token may have used up its rate since it was let in. Raises Problem (429)."""
    services(request).authenticator.limiter.admit(request.auth.shares, is_ingest=True)


def client_of(request: HttpRequest) -> str | None:
    """Whose share a request has; None where nobody can be told apart."""
    client: str | None = getattr(request.scope.get("auth"), "client", None)
    return client


async def discard_body(request: HttpRequest) -> None:
    """Takes the body off the line and holds nothing of it.

    A connection on which something is left is reset, and its client might never see why it was refused.
    """
    received = 0
    with suppress(TimeoutError, HTTPException):
        async with asyncio.timeout(DISCARD_SECONDS):
            async for piece in request.stream():
                received += len(piece)
                if received > MAX_BODY:
                    return


def _query_instant(_wanted: type, value: object) -> object:
    return instants.within(instants.parse_query(str(value)))


@cache
def _without_query(kind: Any) -> Any:
    """What an empty query string means: one for all, since nobody can change it. None where something is required."""
    try:
        return msgspec.convert({}, kind)
    except msgspec.ValidationError:
        return None


@cache
def _parameters(kind: Any) -> tuple[tuple[str, ...], frozenset[str]]:
    """The names of a query's parameters, and which of them can be given several times."""
    properties = msgspec.json.schema(kind, schema_hook=lambda _: {"type": "string"})["$defs"][kind.__name__][
        "properties"
    ]
    several = {
        name
        for name, schema in properties.items()
        if any(o.get("type") == "array" for o in schema.get("anyOf", [schema]))
    }
    return tuple(properties), frozenset(several)
