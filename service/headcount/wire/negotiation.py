"""Bodies in and out: JSON, MessagePack or CSV, gzip, limits; and query strings."""

import asyncio
import csv
import hashlib
import io
import re
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cache
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException
from litestar.response import Stream

from headcount.database.shares import Part, too_much
from headcount.wire import instants
from headcount.wire.messages import ID_PATTERN, PATTERNS_IN_WORDS, NoQuery, ProblemItem
from headcount.wire.problems import Problem, invalid
from headcount.wire.threads import AT_ONCE_BYTES, Leisure, TakesTime, in_a_hurry, no_check

# Of events, polls, heartbeats and whole sites; of what is about one thing of the floor plan; of what has a few fields.
MAX_BODY = 8 * 1024 * 1024
MAX_PLAN_BODY = 64 * 1024
MAX_SMALL_BODY = 4 * 1024
# Even an empty member of a gzip stream costs time.
MAX_GZIP_MEMBERS = 10_000
MEMBERS_AT_ONCE = 16
# What is said of one mistake.
MAX_WORDS = 1_000
MAX_PARAMETERS = 1_100
# Of an address that takes no list of spaces: each of its parameters has some hundred bytes at most.
MAX_QUERY = 4 * 1024
# Of an Accept header: what comes later is not read.
MAX_ACCEPT = 1_000
# A piece of a CSV answer.
CSV_ROWS = 500
# Longer than any of our devices needs for 8 MiB; a client that stalls would hold its connection for ever.
BODY_SECONDS = 60.0
DISCARD_SECONDS = 5.0

JSON = "application/json"
MSGPACK = "application/msgpack"
CSV = "text/csv"
HTML = "text/html"
MSGPACK_NAMES = (MSGPACK, "application/x-msgpack", "application/vnd.msgpack")

ID = re.compile(ID_PATTERN)
PLACE = re.compile(r"(?P<words>.*?)(?: - at `\$\.?(?P<where>.*)`)?", re.DOTALL)
FIELD = re.compile(r"Object (?P<fault>contains unknown|missing required) field `(?P<name>.*)`", re.DOTALL)

HttpRequest = Request[Any, Any, Any]
Connection = ASGIConnection[Any, Any, Any, Any]
T = TypeVar("T")

json_encoder = msgspec.json.Encoder(enc_hook=instants.encoded)
msgpack_encoder = msgspec.msgpack.Encoder(enc_hook=instants.encoded)


def answer(
    request: HttpRequest, body: msgspec.Struct | Sequence[msgspec.Struct], status_code: int = 200
) -> Response[bytes]:
    """The body as JSON, or as MessagePack for who prefers that."""
    if prefers_msgpack(request):
        return Response(msgpack_encoder.encode(body), status_code=status_code, media_type=MSGPACK)
    return Response(json_encoder.encode(body), status_code=status_code, media_type=JSON)


def nothing() -> Response[bytes]:
    """204: done, and there is nothing to say."""
    return Response(b"", status_code=204)


def prefers_msgpack(request: HttpRequest) -> bool:
    return prefers(request, MSGPACK_NAMES, (JSON,))


def prefers_csv(request: HttpRequest) -> bool:
    return prefers(request, (CSV,), (JSON, *MSGPACK_NAMES))


def prefers_html(request: Connection) -> bool:
    return prefers(request, (HTML,), (JSON, *MSGPACK_NAMES))


def prefers(request: Connection, names: Sequence[str], others: Sequence[str]) -> bool:
    """Whether the caller would rather have one of these media types, which it names, than one of the others."""
    accept = request.headers.get("accept", "")[:MAX_ACCEPT].lower()
    if not any(name in accept for name in names):
        return False
    weights = {}
    for item in accept.split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        weight = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        weights[name] = float(weight) if re.fullmatch(r"[01](\.\d{0,3})?", weight) else 0.0

    def weight_of(name: str) -> tuple[float, int]:
        """The second part: of two that weigh the same, the one that is named more exactly."""
        ranges = (name, f"{name.partition('/')[0]}/*", "*/*")
        return next(((weights[found], -place) for place, found in enumerate(ranges) if found in weights), (0.0, 0))

    return max(map(weight_of, names)) > max(map(weight_of, others))


def unless_known(request: HttpRequest, response: Response[bytes]) -> Response[bytes]:
    """The answer with an ETag; without its body (304) for who names that as the one it has."""
    content: bytes = response.content
    tag = response.headers.get("ETag") or f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    response.headers["ETag"] = tag
    if request.headers.get("if-none-match") == tag:
        response.content, response.status_code = b"", 304
    return response


def csv_answer(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Stream:
    """The rows as CSV (RFC 4180) below a line of column names, sent piece by piece as the client takes them."""

    def pieces() -> Iterator[str]:
        for start in range(0, max(len(rows), 1), CSV_ROWS):
            text = io.StringIO()
            writer = csv.writer(text)
            if not start:
                writer.writerow(columns)
            writer.writerows(
                [instants.shortest(value) if isinstance(value, datetime) else value for value in row]
                for row in rows[start : start + CSV_ROWS]
            )
            yield text.getvalue()

    return Stream(pieces(), media_type=CSV)


def media_type(request: HttpRequest, formats: Collection[str] = (JSON, MSGPACK)) -> str:
    """The body's own, as parse_media_type gives it."""
    return parse_media_type(request.headers.get("content-type", ""), formats)


def parse_media_type(content_type: str, formats: Collection[str] = (JSON, MSGPACK)) -> str:
    """In lower case and without parameters; JSON if the sender does not say.

    Raises Problem for what is none of the formats, or not UTF-8.
    """
    name, *parameters = (part.strip() for part in content_type.lower().split(";"))
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key == "charset" and value.strip('"') not in ("utf-8", "utf8", "us-ascii"):
            raise Problem("unsupported_media_type", "Text must be UTF-8.")
    format = MSGPACK if name in MSGPACK_NAMES else name or JSON
    if format not in formats:
        raise Problem("unsupported_media_type", f"The body came as {format!a}; send {', '.join(formats)}.")
    return format


async def decode(request: HttpRequest, kind: type[T], limit: int = MAX_PLAN_BODY) -> T:
    """The request's body, of at most so many bytes, as `kind`."""
    format = media_type(request)
    return await read_body(request, lambda body: decode_bytes(body, kind, format), limit)


def decode_bytes(body: bytes, kind: type[T], format: str) -> T:
    """400 for what is not of the format, 422 for what is, but is not a `kind`."""
    shape: Any = kind
    try:
        value: T = _decoder(shape, format).decode(body)
        return value
    except msgspec.ValidationError as error:
        raise problem_of_validation(error) from None
    except RecursionError:
        raise Problem("malformed", "The body is nested too deeply.") from None
    except UnicodeDecodeError:
        raise Problem("malformed", "The body is not UTF-8.") from None
    except ValueError as error:
        raise Problem("malformed", f"{error}.") from None


def count_items(packed: msgspec.Raw) -> int:
    """How many items an array of MessagePack says that it has; 0 for what is none, or is short."""
    head = bytes(packed)[:5]
    width = {0xDC: 2, 0xDD: 4}.get(head[0], 0) if head else 0
    return int.from_bytes(head[1 : 1 + width]) if width else 0


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


def no_query(request: HttpRequest) -> None:
    """For addresses that take no query parameters."""
    if request.scope["query_string"]:
        query(request, NoQuery)


def path_id(request: HttpRequest, name: str) -> str:
    """An id from the path."""
    value = str(request.path_params[name])
    if ID.match(value) is None:
        raise invalid(f"The {name} in the address {PATTERNS_IN_WORDS[ID_PATTERN]}.", name)
    return value


def problem_of_validation(error: msgspec.ValidationError) -> Problem:
    """msgspec's words, with the place apart from them."""
    # It can hold a value as it came, of whatever length.
    text = str(error) if len(str(error)) <= MAX_WORDS else f"{str(error)[:MAX_WORDS]} …"
    match = PLACE.fullmatch(text)
    words, where = (match["words"], match["where"] or "") if match else (text, "")
    if field := FIELD.fullmatch(words):
        where = f"{where}.{field['name']}".lstrip(".")
        words = "is not a field here" if field["fault"] == "contains unknown" else "is missing"
    for pattern, meaning in PATTERNS_IN_WORDS.items():
        if repr(pattern) in words:
            words = meaning
    detail = f"`{where}`: {words}." if where else f"{words}."
    return Problem("invalid", detail, [ProblemItem(where, "invalid", words)] if where else ())


class Bodies:
    """How many bytes of bodies are held that are still being read or decoded, over all requests, and the limit.

    One client has a quarter of it. The last eighth is for small bodies.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self.of_client = Part(max(1, limit // 4), "bytes of bodies")

    def check(self, client: str | None, size: int, more: int) -> None:
        """Whether a body that will have `size` bytes can have so many more of them now. Raises Problem: 503 if that is
        too much together, 429 if it is for this client."""
        limit = self.limit if size <= MAX_PLAN_BODY else self.limit - self.limit // 8
        if self.held + more > limit:
            raise Problem("unavailable", "Too many bodies are being received. Nothing was stored; try again.")
        held = self.of_client.held.get(client, 0) if client is not None else 0
        if held and held + more > self.of_client.most:
            raise too_much("Too many bodies of this token are being received.")

    def hold(self, client: str | None, more: int) -> None:
        self.held += more
        self.of_client.add(client, more)


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
    is_gzip = is_compressed(request.headers.get("content-encoding", ""))
    bodies: Bodies = request.app.state.bodies
    client = client_of(request)
    text = request.headers.get("content-length", "0")
    length = int(text[:20]) if text.isdecimal() else 0
    if length > limit:
        raise too_large(limit)
    try:
        bodies.check(client, length, length)
    except Problem:
        await discard_body(request)
        raise
    body = bytearray()
    held = 0
    try:
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
        check()
        whole = bytes(body)
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
        leisure: Leisure = request.app.state.leisure
        return await leisure.run(client, lambda: read(gunzip(whole, limit) if is_gzip else whole), check)
    except TimeoutError:
        raise Problem("malformed", f"The body did not arrive within {BODY_SECONDS:.0f} seconds.") from None
    except HTTPException:
        raise Problem("malformed", "The connection ended before the body did.") from None
    finally:
        if held:
            bodies.hold(client, -held)


def check_rate(request: HttpRequest) -> None:
    """Others of its token may have used up its rate since it was let in. Raises Problem (429)."""
    request.app.state.gate.limiter.admit(request.auth.shares, is_ingest=True)


def client_of(request: HttpRequest) -> str | None:
    """Whose share a request has; None where nobody can be told apart."""
    client: str | None = getattr(request.scope.get("auth"), "client", None)
    return client


def inflate(body: bytes, content_encoding: str) -> bytes:
    """A body that is there as a whole. Raises Problem as read_body does."""
    if is_compressed(content_encoding):
        return gunzip(body, MAX_BODY)
    if len(body) > MAX_BODY:
        raise too_large(MAX_BODY)
    return body


def is_compressed(content_encoding: str) -> bool:
    """Raises Problem for anything but gzip and none."""
    encoding = content_encoding.strip().lower() or "identity"
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise Problem("unsupported_media_type", "Content-Encoding can be gzip or none.")
    return encoding != "identity"


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


def too_large(limit: int) -> Problem:
    if limit == MAX_BODY:
        return Problem("too_large", f"A body can have {limit} bytes, compressed or not; send it in parts.")
    return Problem("too_large", f"A body can have {limit} bytes here, compressed or not.")


def inflate_at_once(body: bytes, limit: int) -> bytes:
    """As gunzip. Raises TakesTime where that would be long."""
    try:
        return gunzip(body, min(limit, AT_ONCE_BYTES), MEMBERS_AT_ONCE)
    except Problem as problem:
        if problem.kind.code == "too_large" and limit > AT_ONCE_BYTES:
            raise TakesTime from None
        raise


def gunzip(body: bytes, limit: int, max_members: int = MAX_GZIP_MEMBERS) -> bytes:
    """A gzip stream of one or more members, inflated; never more than the limit and one byte of it.

    Raises Problem: 413 for more, or for too many members; 400 for what is no gzip, or ends too early.
    """
    out = bytearray()
    member = zlib.decompressobj(wbits=31)
    members = 1
    # In small steps: each new member copies what is left of its step.
    for start in range(0, len(body), 16_384):
        rest = body[start : start + 16_384]
        while rest:
            if member.eof:
                member = zlib.decompressobj(wbits=31)
                members += 1
                if members > max_members:
                    raise Problem("too_large", f"A gzip stream can have {MAX_GZIP_MEMBERS} members.")
            try:
                out += member.decompress(rest, limit + 1 - len(out))
            except zlib.error:
                raise Problem("malformed", "The body is not gzip, or is damaged.") from None
            if len(out) > limit:
                raise too_large(limit)
            rest = member.unused_data if member.eof else member.unconsumed_tail
    if not member.eof:
        raise Problem("malformed", "The gzip stream ends too early.")
    return bytes(out)


def _instant(_wanted: type, value: object) -> object:
    """msgspec's hook for the one type it does not know: Instant."""
    if isinstance(value, str):
        return instants.within(instants.parse(value))
    if isinstance(value, datetime) and value.tzinfo:
        return instants.within(instants.of(value))
    raise ValueError("must be an RFC 3339 timestamp with an offset, such as 2026-01-31T12:00:00Z")


def _query_instant(_wanted: type, value: object) -> object:
    return instants.within(instants.parse_query(str(value)))


@cache
def _decoder(kind: Any, format: str) -> msgspec.json.Decoder[Any] | msgspec.msgpack.Decoder[Any]:
    if format == MSGPACK:
        return msgspec.msgpack.Decoder(kind, dec_hook=_instant)
    return msgspec.json.Decoder(kind, dec_hook=_instant)


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
