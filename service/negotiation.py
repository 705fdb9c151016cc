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

from service import instants
from service.errors import Problem, ProblemItem, invalid
from service.messages import ID_PATTERN, PATTERNS_IN_WORDS, NoQuery

MAX_BODY = 8 * 1024 * 1024
# Even an empty member of a gzip stream costs time.
MAX_GZIP_MEMBERS = 10_000
MAX_PARAMETERS = 1_100
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


async def decode(request: HttpRequest, kind: type[T]) -> T:
    """The request's body as `kind`."""
    format = media_type(request)
    return await read_body(request, lambda body: decode_bytes(body, kind, format))


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


def query(request: HttpRequest, kind: type[T]) -> T:
    """The query string as `kind`. Unknown parameters, and several of one where one is asked for, are refused."""
    try:
        pairs = parse_qsl(
            request.scope["query_string"].decode("latin-1"),
            keep_blank_values=True,
            max_num_fields=MAX_PARAMETERS,
        )
    except ValueError:
        raise invalid(f"There are more than {MAX_PARAMETERS} query parameters.") from None
    shape: Any = kind
    known, several = _parameters(shape)
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
    match = PLACE.fullmatch(str(error))
    words, where = (match["words"], match["where"] or "") if match else (str(error), "")
    if field := FIELD.fullmatch(words):
        where = f"{where}.{field['name']}".lstrip(".")
        words = "is not a field here" if field["fault"] == "contains unknown" else "is missing"
    for pattern, meaning in PATTERNS_IN_WORDS.items():
        if repr(pattern) in words:
            words = meaning
    detail = f"`{where}`: {words}." if where else f"{words}."
    return Problem("invalid", detail, [ProblemItem(where, "invalid", words)] if where else ())


class Bodies:
    """How many bytes of bodies are held that are still being read or decoded, over all requests, and the limit."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0

    def hold(self, size: int) -> None:
        """Raises Problem (503) if that is too much together; nothing is held then."""
        if self.held + size > self.limit:
            raise Problem("unavailable", "Too many bodies are being received. Nothing was stored; try again.")
        self.held += size


async def read_body(request: HttpRequest, read: Callable[[bytes], T]) -> T:
    """What `read` makes of the whole body, inflated if it is gzip. Never holds more than the limit and one piece.

    How much all requests hold together is bounded as well: 503 beyond that, and before anything is held for a body
    that says how long it is.
    """
    gunzip = decompressor(request.headers.get("content-encoding", ""))
    bodies: Bodies = request.app.state.bodies
    text = request.headers.get("content-length", "0")
    length = int(text[:20]) if text.isdecimal() else 0
    if length > MAX_BODY:
        raise too_large()
    try:
        bodies.hold(length)
        bodies.held -= length
    except Problem:
        await discard_body(request)
        raise
    body = bytearray()
    received = held = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for piece in request.stream():
                received += len(piece)
                if received > MAX_BODY:
                    raise too_large()
                body += gunzip.feed(piece, MAX_BODY + 1 - len(body)) if gunzip else piece
                if len(body) > MAX_BODY:
                    raise too_large()
                bodies.hold(len(body) - held)
                held = len(body)
        if gunzip:
            gunzip.finish()
        return read(bytes(body))
    except TimeoutError:
        raise Problem("malformed", f"The body did not arrive within {BODY_SECONDS:.0f} seconds.") from None
    except HTTPException:
        raise Problem("malformed", "The connection ended before the body did.") from None
    finally:
        bodies.held -= held


def inflate(body: bytes, content_encoding: str) -> bytes:
    """A body that is there as a whole. Raises Problem as read_body does."""
    gunzip = decompressor(content_encoding)
    if gunzip:
        body = gunzip.feed(body, MAX_BODY + 1)
    if len(body) > MAX_BODY:
        raise too_large()
    if gunzip:
        gunzip.finish()
    return body


def decompressor(content_encoding: str) -> "Gunzip | None":
    """None for what is not compressed. Raises Problem for anything but gzip."""
    encoding = content_encoding.strip().lower() or "identity"
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise Problem("unsupported_media_type", "Content-Encoding can be gzip or none.")
    return None if encoding == "identity" else Gunzip()


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


def too_large() -> Problem:
    return Problem("too_large", f"A body can have {MAX_BODY} bytes, compressed or not; send it in parts.")


class Gunzip:
    """Inflates a gzip stream of one or more members, piece by piece, and never more than asked for."""

    def __init__(self) -> None:
        self.member = zlib.decompressobj(wbits=31)
        self.members = 1

    def feed(self, piece: bytes, room: int) -> bytes:
        """At most `room` (> 0) bytes; after that many the stream is of no more use."""
        out = bytearray()
        # In small steps: each new member copies what is left of its step.
        for start in range(0, len(piece), 16_384):
            rest = piece[start : start + 16_384]
            while rest and len(out) < room:
                if self.member.eof:
                    self.member = zlib.decompressobj(wbits=31)
                    self.members += 1
                    if self.members > MAX_GZIP_MEMBERS:
                        raise Problem("too_large", f"A gzip stream can have {MAX_GZIP_MEMBERS} members.")
                try:
                    out += self.member.decompress(rest, room - len(out))
                except zlib.error:
                    raise Problem("malformed", "The body is not gzip, or is damaged.") from None
                rest = self.member.unused_data if self.member.eof else self.member.unconsumed_tail
        return bytes(out)

    def finish(self) -> None:
        if not self.member.eof:
            raise Problem("malformed", "The gzip stream ends too early.")


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
