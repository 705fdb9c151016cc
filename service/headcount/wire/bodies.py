"""Bodies in and out: JSON, MessagePack or CSV, gzip, limits; and query strings."""

import re
import zlib
from collections.abc import Collection, Sequence
from datetime import datetime
from functools import cache
from typing import Any, TypeVar

import msgspec

from headcount.wire import instants
from headcount.wire.messages.base import PATTERNS_IN_WORDS, ProblemItem
from headcount.wire.problems import Problem
from headcount.wire.shares import ClientQuota, too_much
from headcount.wire.threads import AT_ONCE_BYTES, TakesTime, is_hurried

# Of events, polls, heartbeats and whole sites; of what is about one thing of the floor plan; of what has a few fields.
MAX_BODY = 8 * 1024 * 1024
MAX_PLAN_BODY = 64 * 1024
MAX_SMALL_BODY = 4 * 1024
# Of a message of NATS that came compressed: ten thousand events with all their fields have less.
MAX_INFLATED = 2 * 1024 * 1024
# Even an empty member of a gzip stream costs time.
MAX_GZIP_MEMBERS = 10_000
MEMBERS_AT_ONCE = 16
# What is said of one mistake.
MAX_WORDS = 1_000

JSON = "application/json"
MSGPACK = "application/msgpack"
CSV = "text/csv"
HTML = "text/html"
MAX_CONTENT_TYPE = 256
MSGPACK_NAMES = (MSGPACK, "application/x-msgpack", "application/vnd.msgpack")

PLACE = re.compile(r"(?P<words>.*?)(?: - at `\$\.?(?P<where>.*)`)?", re.DOTALL)
FIELD = re.compile(r"Object (?P<fault>contains unknown|missing required) field `(?P<name>.*)`", re.DOTALL)

T = TypeVar("T")

json_encoder = msgspec.json.Encoder(enc_hook=instants.encoded)
msgpack_encoder = msgspec.msgpack.Encoder(enc_hook=instants.encoded)


def parse_media_type(content_type: str, formats: Collection[str] = (JSON, MSGPACK)) -> str:
    """In lower case and without parameters; JSON if the sender does not say.

    Raises Problem for what is none of the formats, or not UTF-8.
    """
    if len(content_type) > MAX_CONTENT_TYPE:
        raise Problem("unsupported_media_type", f"The Content-Type has more than {MAX_CONTENT_TYPE} characters.")
    name, *parameters = (part.strip() for part in content_type.lower().split(";"))
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key == "charset" and value.strip('"') not in ("utf-8", "utf8", "us-ascii"):
            raise Problem("unsupported_media_type", "Text must be UTF-8.")
    format = MSGPACK if name in MSGPACK_NAMES else name or JSON
    if format not in formats:
        raise Problem("unsupported_media_type", f"The body came as {format!a}; send {', '.join(formats)}.")
    return format


def decode_bytes(body: bytes | msgspec.Raw, kind: type[T], format: str, where: str = "") -> T:
    """400 for what is not of the format, 422 for what is, but is not a `kind`. `where`: of what it is a part."""
    shape: Any = kind
    try:
        value: T = _decoder(shape, format).decode(body)
        return value
    except msgspec.ValidationError as error:
        raise problem_of_validation(error, where) from None
    except RecursionError:
        raise Problem("malformed", "The body is nested too deeply.") from None
    except UnicodeDecodeError:
        raise Problem("malformed", "The body is not UTF-8.") from None
    except ValueError as error:
        raise Problem("malformed", f"{error}.") from None


def first_items(packed: msgspec.Raw, most: int, format: str, where: str) -> list[msgspec.Raw]:
    """The items of the array at `where`, none of them looked into; of a longer array only the first `most`.

    Take it for what can have millions of small items. Of a key that comes twice decode only what counts, the last:
    as `packed`, and not with all that is around it. Raises Problem as decode_bytes does.
    """
    return [item for item in msgspec.structs.astuple(decode_bytes(packed, _beginning(most), format, where)) if item]


def array_of(items: Sequence[msgspec.Raw], format: str) -> bytes:
    """An array of up to 65,535 items, as they came."""
    if format == MSGPACK:
        return b"\xdc%b%b" % (len(items).to_bytes(2), b"".join(items))
    return b"[%b]" % b",".join(items)


def problem_of_validation(error: msgspec.ValidationError, within: str = "") -> Problem:
    """msgspec's words, with the place apart from them. `within`: where that is which was looked at."""
    # It can hold a value as it came, of whatever length.
    text = str(error) if len(str(error)) <= MAX_WORDS else f"{str(error)[:MAX_WORDS]} …"
    match = PLACE.fullmatch(text)
    words, where = (match["words"], match["where"] or "") if match else (text, "")
    if field := FIELD.fullmatch(words):
        where = f"{where}.{field['name']}".lstrip(".")
        words = "is not a field here" if field["fault"] == "contains unknown" else "is missing"
    where = f"{within}{where}" if where.startswith("[") else f"{within}.{where}".strip(".")
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
        self.of_client = ClientQuota(max(1, limit // 4), "bytes of bodies")

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


def inflate(body: bytes, content_encoding: str) -> bytes:
    """The body of a message, which is there as a whole. Raises Problem as gunzip, and TakesTime as in_a_hurry does."""
    if is_compressed(content_encoding):
        return inflate_at_once(body, MAX_INFLATED) if is_hurried() else gunzip(body, MAX_INFLATED)
    if len(body) > MAX_BODY:
        raise too_large(MAX_BODY)
    return body


def is_compressed(content_encoding: str) -> bool:
    """Raises Problem for anything but gzip and none."""
    encoding = content_encoding.strip().lower() or "identity"
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise Problem("unsupported_media_type", "Content-Encoding can be gzip or none.")
    return encoding != "identity"


def too_large(limit: int) -> Problem:
    if limit == MAX_INFLATED:
        return Problem("too_large", f"A message can have {limit} bytes when it is inflated; send it in parts.")
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


@cache
def _beginning(most: int) -> type[msgspec.Struct]:
    """An array as a struct, with a field for each of its first items: msgspec makes no object of those after them."""
    fields = [(f"item_{number}", msgspec.Raw, msgspec.Raw()) for number in range(most)]
    return msgspec.defstruct(f"FirstOf{most}", fields, array_like=True, frozen=True)


@cache
def _decoder(kind: Any, format: str) -> msgspec.json.Decoder[Any] | msgspec.msgpack.Decoder[Any]:
    if format == MSGPACK:
        return msgspec.msgpack.Decoder(kind, dec_hook=_instant)
    return msgspec.json.Decoder(kind, dec_hook=_instant)
