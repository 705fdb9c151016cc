"""Events in four formats, decoded into columns. What cannot be decoded is refused by itself and costs no other event.

Each format has a fast path, which takes a whole batch or nothing, and a slow path, which goes event by event and
is the definition: what the fast path takes, the slow one would have taken, with the same values.
`headcount import` uses read_header and decode_lines.
"""

import csv
import json
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import msgspec

from service import calls, instants
from service.errors import Problem, invalid
from service.messages import (
    ID_PATTERN,
    PATTERNS_IN_WORDS,
    EventIn,
    EventsIn,
    EventsRecordedOut,
    Id,
    ReadingIn,
    ReadingsIn,
    Rejection,
    Timestamp,
    Verdict,
)
from service.negotiation import (
    JSON,
    MSGPACK,
    HttpRequest,
    decode_bytes,
    inflate,
    media_type,
    parse_media_type,
    read_body,
    unsupported,
)

MAX_EVENTS = 10_000
# A day that has no events yet costs the database some milliseconds, and a request must not take for ever.
MAX_DAYS = 1_000
NDJSON = "application/x-ndjson"
CSV = "text/csv"
BOM = b"\xef\xbb\xbf"

ID = re.compile(ID_PATTERN)
IDS = re.compile(r"(?:[A-Za-z0-9._:-]{1,64}\n)*")
INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
INTEGERS = re.compile(r"(?:[+-]?[0-9]{1,20}\n)*")
# More digits than microseconds: msgspec rounds them half up, instants.parse half to even.
LONG_FRACTION = re.compile(rb"\.[0-9]{7}")
# The same holds for MessagePack's timestamps with nanoseconds.
NANOSECONDS = re.compile(rb"\xd7\xff|\xc7\x0c\xff")
JSON_EVENTS = re.compile(r'\s*\{\s*"events"\s*:\s*(?=\[)', re.ASCII)
JSON_END = re.compile(r"\s*\}\s*", re.ASCII)
# A string that never ends is one token too: else each of its quotes would be looked at as a beginning.
NESTING = re.compile(r'[\[\]{}]|"(?:[^"\\]++|\\.?)*+"?', re.DOTALL)
BLANK = re.compile(r"[ \t\r\n]*")

Part = TypeVar("Part")


class Refusal(msgspec.Struct, frozen=True):
    """An event that could not be decoded; `body` is its text, printable."""

    index: int
    detail: str
    body: str


class Batch(msgspec.Struct, frozen=True):
    """Decoded events as columns. `indexes`: which event of the request each was; None: all of them, in order."""

    dpus: Sequence[str]
    times: Sequence[datetime]
    directions: Sequence[int]
    sequences: Sequence[int]
    indexes: Sequence[int] | None = None
    refusals: Sequence[Refusal] = ()

    @property
    def received(self) -> int:
        return len(self.dpus) + len(self.refusals)


class Event(NamedTuple):
    dpu: str
    time: datetime
    direction: int
    sequence: int


class CsvHeader(msgspec.Struct, frozen=True):
    """In which column is what."""

    width: int
    timestamp: int
    direction: int
    dpu: int
    sequence: int | None


class Unreadable(ValueError):
    """Why one event cannot be taken, naming the field."""


class TooDeep(Unreadable):
    """Deeper than Python goes."""


async def record(session: calls.Session, batch: Batch, auto_register: bool = True) -> EventsRecordedOut:
    """Stores a batch, refusals included, and puts the database's verdicts together with ours."""
    if not batch.received:
        return EventsRecordedOut(0, 0, 0, [])
    return (await record_all(session, [batch], auto_register))[0]


async def record_all(
    session: calls.Session, batches: Sequence[Batch], auto_register: bool = True
) -> list[EventsRecordedOut]:
    """The same for several in one transaction, in this order: an answer for each, as if it had come alone."""
    refusals = [refusal for batch in batches for refusal in batch.refusals]
    verdicts = await calls.record_events(
        session,
        dpus=_joined([batch.dpus for batch in batches]),
        times=_joined([batch.times for batch in batches]),
        directions=_joined([batch.directions for batch in batches]),
        sequences=_joined([batch.sequences for batch in batches]),
        auto_register=auto_register,
        refused_bodies=[refusal.body for refusal in refusals],
        refused_details=[refusal.detail for refusal in refusals],
    )
    answers = []
    begin = done = 0
    for batch in batches:
        end, first = begin + len(batch.dpus), done
        while done < len(verdicts) and verdicts[done].index < end:
            done += 1
        answers.append(_recorded(batch, verdicts[first:done], begin))
        begin = end
    return answers


def _joined(columns: Sequence[Sequence[Part]]) -> Sequence[Part]:
    return columns[0] if len(columns) == 1 else [*chain.from_iterable(columns)]


def _recorded(batch: Batch, verdicts: Sequence[Verdict], begin: int) -> EventsRecordedOut:
    """The answer to a batch whose events were given to the database from `begin` on."""
    others = [verdict for verdict in verdicts if verdict.verdict != "duplicate"]
    rejected = [Rejection(refusal.index, "invalid", refusal.detail) for refusal in batch.refusals]
    for verdict in others:
        place = verdict.index - begin
        index = place if batch.indexes is None else batch.indexes[place]
        rejected.append(Rejection(index, verdict.verdict, verdict.detail))
    rejected.sort(key=lambda rejection: rejection.index)
    accepted = len(batch.dpus) - len(verdicts)
    return EventsRecordedOut(batch.received, accepted, len(verdicts) - len(others), rejected)


async def decode_events(request: HttpRequest) -> Batch:
    """The body of POST /v1/events, whatever its format."""
    format = media_type(request)
    if format not in EVENT_FORMATS:
        raise unsupported(format, *EVENT_FORMATS)
    return _check_days(await read_body(request, EVENT_FORMATS[format]))


def decode_message(body: bytes, content_type: str = "", content_encoding: str = "") -> Batch:
    """The body of POST /v1/events where it comes by another way; JSON and MessagePack may also be one event alone."""
    format = parse_media_type(content_type)
    if format not in EVENT_FORMATS:
        raise unsupported(format, *EVENT_FORMATS)
    body = inflate(body, content_encoding)
    decode_one = ONE_EVENT_FORMATS.get(format)
    return _check_days((decode_one and decode_one(body)) or EVENT_FORMATS[format](body))


async def decode_readings(request: HttpRequest) -> Batch:
    """The body of POST /ingest."""
    format = media_type(request)
    if format not in READING_FORMATS:
        raise unsupported(format, *READING_FORMATS)
    return _check_days(await read_body(request, READING_FORMATS[format]))


def _check_days(batch: Batch) -> Batch:
    if len(batch.times) > MAX_DAYS and len({time.toordinal() for time in batch.times}) > MAX_DAYS:
        raise Problem("too_large", f"A request can have events of {MAX_DAYS:,} days; send them in parts.")
    return batch


# JSON and MessagePack


class EventsShape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    events: msgspec.Raw


class ReadingsShape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: Id
    readings: msgspec.Raw


class JsonPart(NamedTuple):
    text: str
    value: object


_json_events = msgspec.json.Decoder(EventsIn)
_json_event = msgspec.json.Decoder(EventIn)
_json_readings = msgspec.json.Decoder(ReadingsIn)
_msgpack_events = msgspec.msgpack.Decoder(EventsIn)
_msgpack_readings = msgspec.msgpack.Decoder(ReadingsIn)


def decode_json(body: bytes) -> Batch:
    body = body.removeprefix(BOM)
    if _plain_text(body) and (batch := _attempt(lambda: _of_events(_json_events.decode(body).events))):
        return batch
    # Python's own decoder takes NaN, lone surrogates and the like, which cost one event here and not all of them.
    text = body.decode("utf-8", "surrogateescape")
    if match := JSON_EVENTS.match(text):
        parts, end = _json_parts(text, match.end())
        if JSON_END.fullmatch(text, end):
            return _one_by_one(parts, _event_of_json, _show_json)
    shape = decode_bytes(body, EventsShape, JSON)
    return _one_by_one(_raw_json_parts(shape.events, "events"), _event_of_json, _show_json)


def decode_msgpack(body: bytes) -> Batch:
    if _plain_msgpack(body) and (batch := _attempt(lambda: _of_events(_msgpack_events.decode(body).events))):
        return batch
    shape = decode_bytes(body, EventsShape, MSGPACK)
    return _one_by_one(_msgpack_parts(shape.events, "events"), _event_of_msgpack, _show_msgpack)


def decode_one_json(body: bytes) -> Batch | None:
    """One event, or why it is none; None for what is not an object, or has `events`."""
    body = body.removeprefix(BOM)
    if _plain_text(body) and (batch := _attempt(lambda: _of_events([_json_event.decode(body)]))):
        return batch
    text = body.decode("utf-8", "surrogateescape")
    if JSON_EVENTS.match(text):
        return None
    try:
        value, end = _json_value(text, _skip_blanks(text, 0))
    except Unreadable:
        return None
    if not isinstance(value, dict) or "events" in value or _skip_blanks(text, end) != len(text):
        return None
    return _one_by_one([JsonPart(text, value)], _event_of_json, _show_json)


def decode_one_msgpack(body: bytes) -> Batch | None:
    """The same for MessagePack."""
    try:
        value = msgspec.msgpack.decode(body)
    except (ValueError, TypeError, RecursionError):
        return None
    if not isinstance(value, dict) or "events" in value:
        return None
    return _one_by_one([msgspec.Raw(body)], _event_of_msgpack, _show_msgpack)


def decode_readings_json(body: bytes) -> Batch:
    body = body.removeprefix(BOM)
    if _plain_text(body) and (batch := _attempt(lambda: _of_readings(_json_readings.decode(body)))):
        return batch
    shape = decode_bytes(body, ReadingsShape, JSON)
    parts = _raw_json_parts(shape.readings, "readings")
    return _one_by_one(parts, lambda part: _reading(shape.id, part.value), _show_json)


def decode_readings_msgpack(body: bytes) -> Batch:
    if _plain_msgpack(body) and (batch := _attempt(lambda: _of_readings(_msgpack_readings.decode(body)))):
        return batch
    shape = decode_bytes(body, ReadingsShape, MSGPACK)
    parts = _msgpack_parts(shape.readings, "readings")
    return _one_by_one(parts, lambda part: _reading(shape.id, _msgpack_value(part)), _show_msgpack)


def _plain_text(body: bytes) -> bool:
    """Whether msgspec reads every timestamp as we do. An escape could hide a long fraction."""
    return b"\\" not in body and not LONG_FRACTION.search(body)


def _plain_msgpack(body: bytes) -> bool:
    return not NANOSECONDS.search(body) and not LONG_FRACTION.search(body)


def _attempt(fast_path: Callable[[], Batch | None]) -> Batch | None:
    """None where the slow path has to look: msgspec's errors are ValueErrors."""
    try:
        return fast_path()
    except (ValueError, RecursionError):
        return None


def _of_events(events: Sequence[EventIn]) -> Batch | None:
    return _of_columns(
        [event.dpu for event in events],
        [event.timestamp for event in events],
        [event.direction for event in events],
        [event.sequence for event in events],
    )


def _of_readings(body: ReadingsIn) -> Batch | None:
    readings: Sequence[ReadingIn] = body.readings
    return _of_columns(
        [body.id] * len(readings),
        [reading.timestamp for reading in readings],
        [reading.count for reading in readings],
        [0] * len(readings),
    )


def _of_columns(
    dpus: Sequence[str], times: Sequence[datetime], directions: Sequence[int], sequences: Sequence[int]
) -> Batch | None:
    """What msgspec's types leave open: ids, and years that leave the range when the offset is taken off."""
    _check_number(len(dpus))
    if not dpus:
        return Batch((), (), (), ())
    lines = "\n".join(dpus) + "\n"
    if lines.count("\n") != len(dpus) or not IDS.fullmatch(lines):
        return None
    if min(times) < instants.EARLIEST or max(times) > instants.LATEST:
        return None
    return Batch(dpus, times, directions, sequences)


def _check_number(events: int) -> None:
    if events > MAX_EVENTS:
        raise Problem("too_large", f"A request can have {MAX_EVENTS:,} events; send them in parts.")


def _one_by_one(parts: Iterable[Part], read: Callable[[Part], Event], show: Callable[[Part], str]) -> Batch:
    """The slow path: each part is an event or a refusal."""
    events: list[Event] = []
    indexes: list[int] = []
    refusals: list[Refusal] = []
    for index, part in enumerate(parts):
        try:
            events.append(read(part))
            indexes.append(index)
        except Unreadable as error:
            refusals.append(Refusal(index, str(error), show(part)))
    dpus, times, directions, sequences = zip(*events, strict=True) if events else ((), (), (), ())
    return Batch(dpus, times, directions, sequences, indexes, refusals)


def _integer(digits: str) -> float:
    """Longer than any number we take: only that it is none of them matters."""
    return int(digits) if len(digits) < 100 else float("inf")


_lenient = json.JSONDecoder(strict=False, parse_int=_integer)


def _json_value(text: str, start: int) -> tuple[object, int]:
    try:
        return _lenient.raw_decode(text, start)
    except RecursionError:
        raise TooDeep("It is nested too deeply.") from None
    except ValueError as error:
        raise Unreadable(f"JSON is malformed: {error}.") from None


def _json_parts(text: str, start: int) -> tuple[list[JsonPart], int]:
    """The elements of the array that begins at `start`, each with its own text, and where the array ends."""
    parts: list[JsonPart] = []
    position = _skip_blanks(text, start + 1)
    if text.startswith("]", position):
        return parts, position + 1
    while True:
        try:
            value, end = _json_value(text, position)
        except TooDeep as error:
            value, end = error, _end_of_nested(text, position)
        except Unreadable as error:
            raise Problem("malformed", str(error)) from None
        parts.append(JsonPart(text[position:end], value))
        _check_number(len(parts))
        position = _skip_blanks(text, end)
        if text.startswith("]", position):
            return parts, position + 1
        if not text.startswith(",", position):
            raise Problem("malformed", f"JSON is malformed: expected `,` or `]` at character {position}.")
        position = _skip_blanks(text, position + 1)


def _end_of_nested(text: str, start: int) -> int:
    """Where the array or object that begins at `start` ends, however deep it goes."""
    depth = 0
    for token in NESTING.finditer(text, start):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        if depth == 0:
            return token.end()
    raise Problem("malformed", "JSON is malformed: it ends too early.")


def _skip_blanks(text: str, start: int) -> int:
    match = BLANK.match(text, start)
    return match.end() if match else start


def _raw_json_parts(raw: msgspec.Raw, name: str) -> list[JsonPart]:
    text = bytes(raw).decode("utf-8", "surrogateescape")
    if not text.startswith("["):
        raise invalid(f"`{name}` must be an array.", name)
    return _json_parts(text, 0)[0]


def _event_of_json(part: JsonPart) -> Event:
    return _event_of_object(part.value)


def _show_json(part: JsonPart) -> str:
    return printable(part.text)


def _msgpack_parts(raw: msgspec.Raw, name: str) -> list[msgspec.Raw]:
    head = bytes(raw)[:5]
    if 0x90 <= head[0] <= 0x9F:
        number = head[0] & 0x0F
    elif head[0] in (0xDC, 0xDD):
        number = int.from_bytes(head[1 : 3 if head[0] == 0xDC else 5])
    else:
        raise invalid(f"`{name}` must be an array.", name)
    _check_number(number)  # before a million small objects are made
    return decode_bytes(bytes(raw), list[msgspec.Raw], MSGPACK)


class _Timestamped(msgspec.Struct, frozen=True):
    timestamp: msgspec.Raw = msgspec.Raw()


def _msgpack_value(part: msgspec.Raw) -> object:
    encoded = bytes(part)
    try:
        value = msgspec.msgpack.decode(encoded)
        if isinstance(value, dict) and isinstance(value.get("timestamp"), datetime):
            raw = msgspec.msgpack.decode(encoded, type=_Timestamped).timestamp
            value["timestamp"] = instants.from_msgpack(bytes(raw))
    except (ValueError, TypeError, RecursionError) as error:
        raise Unreadable(f"The event cannot be read: {printable(str(error))}.") from None
    return value


def _event_of_msgpack(part: msgspec.Raw) -> Event:
    return _event_of_object(_msgpack_value(part))


def _show_msgpack(part: msgspec.Raw) -> str:
    """As JSON where it can be, else the bytes."""
    try:
        return printable(msgspec.json.encode(msgspec.msgpack.decode(bytes(part))).decode())
    except (ValueError, TypeError, RecursionError):
        return printable(bytes(part).decode("utf-8", "surrogateescape"))


# Lines: NDJSON and CSV


def decode_ndjson(body: bytes) -> Batch:
    lines = _lines(body)
    _check_number(len(lines))
    if _plain_text(body) and (batch := _attempt(lambda: _of_events(list(map(_json_event.decode, lines))))):
        return batch
    return _one_by_one(lines, _event_of_json_line, _show_line)


def decode_csv(body: bytes) -> Batch:
    lines = _lines(body)
    if not lines:
        raise invalid("The first line must be a header: timestamp,direction,dpu_id and optionally sequence.", "line 1")
    header = read_header(lines[0])
    _check_number(len(lines) - 1)
    return decode_lines(header, lines[1:])


def read_header(line: bytes) -> CsvHeader:
    """The header of an events file. Raises Problem (422) unless it has the columns of one, and no others."""
    try:
        names = [name.strip() for name in _cells(line.removeprefix(BOM))]
    except Unreadable:
        names = []
    required, optional = {"timestamp", "direction", "dpu_id"}, {"sequence"}
    if len(set(names)) != len(names) or not required <= set(names) <= required | optional:
        raise invalid(
            "The first line must be a header: timestamp,direction,dpu_id and optionally sequence, in any order.",
            "line 1",
        )
    place = {name: column for column, name in enumerate(names)}
    return CsvHeader(len(names), place["timestamp"], place["direction"], place["dpu_id"], place.get("sequence"))


def decode_lines(header: CsvHeader, lines: Sequence[bytes]) -> Batch:
    """Lines of an events file, without the header, blank lines and line ends. An event is one line."""
    if batch := _attempt(lambda: _of_lines(header, lines)):
        return batch
    return _one_by_one(lines, lambda line: _event_of_cells(header, _cells(line)), _show_line)


def _of_lines(header: CsvHeader, lines: Sequence[bytes]) -> Batch | None:
    text = b"\n".join(lines)
    if LONG_FRACTION.search(text):
        return None
    try:
        rows = list(csv.reader(text.decode().split("\n"), strict=True)) if lines else []
    except csv.Error:
        return None
    if len(rows) != len(lines) or any(len(row) != header.width for row in rows):
        return None
    columns = list(zip(*rows, strict=True)) or [()] * header.width
    directions = _integers(columns[header.direction], -(2**31), 2**31 - 1)
    sequences = [0] * len(rows) if header.sequence is None else _integers(columns[header.sequence], 0, 2**15 - 1)
    times = msgspec.convert(columns[header.timestamp], list[Timestamp])
    return _of_columns(columns[header.dpu], times, directions, sequences)


def _integers(column: Sequence[str], low: int, high: int) -> list[int]:
    if not INTEGERS.fullmatch("".join(f"{cell}\n" for cell in column)):
        raise ValueError
    values = list(map(int, column))
    if values and (min(values) < low or max(values) > high):
        raise ValueError
    return values


def _lines(body: bytes) -> list[bytes]:
    return [line.rstrip(b"\r") for line in body.removeprefix(BOM).split(b"\n") if line and not line.isspace()]


def _cells(line: bytes) -> list[str]:
    try:
        rows = list(csv.reader([line.decode()], strict=True))
    except UnicodeDecodeError:
        raise Unreadable("The line is not UTF-8.") from None
    except csv.Error as error:
        raise Unreadable(f"The line is not CSV: {error}.") from None
    return rows[0] if rows else []


def _event_of_json_line(line: bytes) -> Event:
    try:
        text = line.decode().strip(" \t\r")
    except UnicodeDecodeError:
        raise Unreadable("The line is not UTF-8.") from None
    value, end = _json_value(text, 0)
    if end != len(text):
        raise Unreadable("JSON is malformed: there is more than one value in the line.")
    return _event_of_object(value)


def _event_of_cells(header: CsvHeader, cells: list[str]) -> Event:
    if len(cells) != header.width:
        raise Unreadable(f"The line has {len(cells)} fields, the header {header.width}.")
    cells = [cell.strip() for cell in cells]
    sequence = "0" if header.sequence is None else cells[header.sequence] or "0"
    return _event(
        cells[header.dpu],
        cells[header.timestamp],
        _number(cells[header.direction]),
        _number(sequence),
        "dpu_id",
    )


def _number(text: str) -> int | None:
    return int(text) if INTEGER.fullmatch(text) else None


def _show_line(line: bytes) -> str:
    return printable(line.decode("utf-8", "surrogateescape"))


# One event


def _event_of_object(value: object) -> Event:
    fields = _fields(value, ("dpu", "timestamp", "direction"), ("sequence",))
    return _event(fields["dpu"], fields["timestamp"], fields["direction"], fields.get("sequence", 0))


def _reading(device: str, value: object) -> Event:
    fields = _fields(value, ("timestamp", "count"), ())
    return _event(device, fields["timestamp"], fields["count"], 0, direction_name="count")


def _fields(value: object, required: Sequence[str], optional: Sequence[str]) -> dict[str, Any]:
    if isinstance(value, TooDeep):
        raise value
    if not isinstance(value, dict):
        raise Unreadable("It must be an object.")
    for name in value:
        if name not in required and name not in optional:
            raise Unreadable(f"`{printable(str(name))[:64]}` is not a field here.")
    for name in required:
        if name not in value:
            raise Unreadable(f"`{name}` is missing.")
    return value


def _event(
    dpu: object,
    timestamp: object,
    direction: object,
    sequence: object,
    dpu_name: str = "dpu",
    direction_name: str = "direction",
) -> Event:
    if not isinstance(dpu, str) or not ID.match(dpu):
        raise Unreadable(f"`{dpu_name}` {PATTERNS_IN_WORDS[ID_PATTERN]}.")
    if isinstance(timestamp, datetime):
        time: datetime = timestamp
    elif isinstance(timestamp, str):
        try:
            time = instants.parse(timestamp)
        except ValueError as error:
            raise Unreadable(f"`timestamp` {error}.") from None
    else:
        raise Unreadable("`timestamp` must be text.")
    return Event(
        dpu,
        time,
        _within(direction, -(2**31), 2**31 - 1, direction_name),
        _within(sequence, 0, 2**15 - 1, "sequence"),
    )


def _within(value: object, low: int, high: int, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise Unreadable(f"`{name}` must be an integer of {low} to {high}.")
    return value


def printable(text: str) -> str:
    """The text with what cannot be seen or stored escaped; undecodable bytes (surrogateescape) as hexadecimal."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escaped(character) for character in text)


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


EVENT_FORMATS: dict[str, Callable[[bytes], Batch]] = {
    JSON: decode_json,
    MSGPACK: decode_msgpack,
    NDJSON: decode_ndjson,
    CSV: decode_csv,
}
READING_FORMATS: dict[str, Callable[[bytes], Batch]] = {
    JSON: decode_readings_json,
    MSGPACK: decode_readings_msgpack,
}
ONE_EVENT_FORMATS: dict[str, Callable[[bytes], Batch | None]] = {
    JSON: decode_one_json,
    MSGPACK: decode_one_msgpack,
}
