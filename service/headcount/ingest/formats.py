"""Events and the like in four formats, decoded into columns. What cannot be decoded is refused by itself and costs
nothing else.

Each format has a fast path, which takes many items at once or nothing, and a slow path, which goes item by item and
is the definition: what the fast path takes, the slow one would have taken, with the same values. The fast path is tried
on fewer and fewer items (headcount.ingest.runs), so that the slow one looks at the bad ones and their neighbours only.
A Table is what can be read from CSV, which is what `headcount import` does; a Kind is what comes over HTTP as well.
Here is all that they share, and events; headcount.ingest.polls has the others.
"""

import codecs
import csv
import json
import re
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from itertools import chain
from operator import methodcaller
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import msgspec

from headcount.database import calls
from headcount.ingest.runs import find_runs
from headcount.wire import instants
from headcount.wire.bodies import JSON, MSGPACK, array_of, decode_bytes, inflate, parse_media_type
from headcount.wire.messages.base import ID_PATTERN, PATTERNS_IN_WORDS, Id, Timestamp
from headcount.wire.messages.events import (
    EventIn,
    EventsRecordedOut,
    ReadingIn,
    Rejection,
    Verdict,
)
from headcount.wire.problems import Problem, invalid
from headcount.wire.threads import breathe, take_time

MAX_EVENTS = 10_000
# A day that has no events yet costs the database some milliseconds, and a request must not take for ever.
MAX_DAYS = 1_000
# Of an item that is refused: kept in the database, and shown.
SHOWN_CHARACTERS = 1_000
# An item that is longer is refused without a look at what is in it: the fields of one take some hundred bytes.
LONGEST_ITEM = 16_384
# Brackets and strings of such items, to find where they end; and lines of a body, blank ones included.
MAX_TOKENS = 400_000
MAX_LINES = 100_000
# Of the pieces in which JSON is read: at first, and of those in a piece that has a bad item.
PIECES_BYTES = (32_768, 4_096, 512)
# Beyond so many that have a bad item they are not cut smaller: where most are bad that would save nothing.
MAX_PIECES = 500
LONGEST_HEADER = 4_096
NDJSON = "application/x-ndjson"
CSV = "text/csv"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BOM = b"\xef\xbb\xbf"
# Spreadsheets write these. UTF-32 begins as UTF-16 does, and nobody writes it.
UTF_16_BOMS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
UTF_32_BOMS = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
DELIMITERS = (",", ";", "\t")
# Read by nobody here; a header that has one of them is told so.
OTHER_DELIMITERS = "|:^~!#$%&*+/=?@\\§¦¬"

ID = re.compile(ID_PATTERN)
IDS = re.compile(r"(?:(?!\.{1,2}\n)[A-Za-z0-9._:-]{1,64}\n)*")
INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
INTEGERS = re.compile(r"(?:[+-]?[0-9]{1,20}\n)*")
# Between two microseconds, the lower one even: msgspec rounds that up, instants.parse down. Without the 5 both round
# down. Nothing else makes a difference.
TIE = re.compile(r"(\.[0-9]{5}[02468])50*+(?![0-9])")
TIE_IN_BYTES = re.compile(TIE.pattern.encode())
# The same holds for MessagePack's timestamps with nanoseconds.
NANOSECONDS = (b"\xd7\xff", b"\xc7\x0c\xff")
JSON_END = re.compile(r"\s*\}\s*", re.ASCII)
# The same as every program writes them; other bodies are read slowly.
ARRAY_END = re.compile(rb"\][ \t\r\n]*\}[ \t\r\n]*")
READINGS = re.compile(
    rb'\{[ \t\r\n]*"id"[ \t]*:[ \t]*"([A-Za-z0-9._:-]{1,64})",[ \t\r\n]*"readings"[ \t]*:[ \t]*(?=\[)'
)
# Between two objects: those of an array, or what is in one of them, or in a text. Another object follows, so that no
# piece is empty, and no comma too many is overlooked.
CUT = re.compile(rb"\},\s*\{")
# Many brackets in a row are looked at together, but not all of them at once.
NESTING = re.compile(r'[\[{]{1,10000}+|[\]}]{1,10000}+|"')
# What is in a string, or the beginning of that: others have their turn before the rest.
IN_STRING = re.compile(r'(?:[^"\\]++|\\.?){0,10000}+', re.DOTALL)
# What makes a line of CSV more than cells with commas between them.
QUOTED = re.compile(rb'["\r\x00]')
BLANK = re.compile(r"[ \t\r\n]*")
# A number or a word, or what stands in the place of one.
SCALAR = re.compile(r"[^\s,\[\]{}\"]*")

Part = TypeVar("Part")
Row = TypeVar("Row")


class Refusal(msgspec.Struct, frozen=True):
    """An event that could not be decoded; `body` is its text, printable. `dpu`: whose it is, where that can be read.
    `digest`: SHA-256 of the whole, where the body is not all of it."""

    index: int
    detail: str
    body: str
    dpu: str | None = None
    digest: bytes | None = None


class EventBatch(msgspec.Struct, frozen=True):
    """Decoded events as columns. `indexes`: which event of the request each was; None: all of them, in order."""

    dpus: Sequence[str]
    times: Sequence[datetime]
    directions: Sequence[int]
    sequences: Sequence[int]
    indexes: Sequence[int] | None = None
    refusals: Sequence[Refusal] = ()
    # The id of the token that sent it.
    sender: str | None = None

    @property
    def columns(self) -> tuple[Sequence[Any], ...]:
        return self.dpus, self.times, self.directions, self.sequences

    @property
    def size(self) -> int:
        return len(self.dpus)

    @property
    def received(self) -> int:
        return len(self.dpus) + len(self.refusals)


class Decoded(Protocol):
    """What decoding gives: columns, of which `size` rows could be read."""

    # as many as its row has, and before all else that it is made of
    @property
    def columns(self) -> tuple[Sequence[Any], ...]: ...

    @property
    def size(self) -> int: ...

    @property
    def received(self) -> int: ...

    @property
    def indexes(self) -> Sequence[int] | None: ...

    @property
    def refusals(self) -> Sequence[Refusal]: ...


AnyBatch = TypeVar("AnyBatch", bound=Decoded)


class Event(NamedTuple):
    dpu: str
    time: datetime
    direction: int
    sequence: int


class CsvHeader(NamedTuple):
    """How many columns a CSV file has, and in which of them each field of its table is; None: it is left out."""

    width: int
    places: tuple[int | None, ...]
    delimiter: str = ","


class Shown(NamedTuple):
    """What is kept of a refused item (`Refusal`)."""

    body: str
    digest: bytes | None


class Unreadable(ValueError):
    """Why one item cannot be taken, naming the field."""

    dpu: str | None = None


class TooMuch(Unreadable):
    """Longer than any item is, or deeper than Python goes."""


TOO_LONG = f"It is longer than {LONGEST_ITEM:,} characters."


async def record(
    session: calls.Session, batch: EventBatch, auto_register: bool = True, backfill: bool = False
) -> EventsRecordedOut:
    """Stores a batch, refusals included, and puts the database's verdicts together with ours."""
    if not batch.received:
        return EventsRecordedOut(0, 0, 0, [])
    return (await record_all(session, [batch], auto_register, backfill))[0]


async def record_all(
    session: calls.Session, batches: Sequence[EventBatch], auto_register: bool = True, backfill: bool = False
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
        refused_dpus=[refusal.dpu for refusal in refusals],
        # of the events, and once more of the refusals
        senders=[batch.sender for batch in batches] * 2,
        sender_sizes=[*(batch.size for batch in batches), *(len(batch.refusals) for batch in batches)],
        backfill=backfill,
        refused_digests=[refusal.digest for refusal in refusals],
    )
    answers = []
    begin = done = 0
    for batch in batches:
        end, first = begin + len(batch.dpus), done
        while done < len(verdicts) and verdicts[done].index < end:
            done += 1
        answers.append(recorded(batch, verdicts[first:done], begin))
        begin = end
    return answers


def count_days(times: Sequence[datetime]) -> int:
    """How many days these are of, as written: each by its own offset."""
    return len({time.toordinal() for time in times})


def has_more_days(times: Sequence[datetime], days: int) -> bool:
    """Whether these are of more days of UTC. Days as written are counted first, which costs less: each of them lies in
    three of UTC at most."""
    return len(times) > days and 3 * count_days(times) > days and len({day_of(time) for time in times}) > days


def day_of(time: datetime) -> int:
    """The number of its day of UTC."""
    return (time - EPOCH).days


def joined_answers(answers: Sequence[EventsRecordedOut]) -> EventsRecordedOut:
    """The answer to a batch, of those to its parts."""
    rejected = [rejection for answer in answers for rejection in answer.rejected]
    return EventsRecordedOut(
        sum(answer.received for answer in answers),
        sum(answer.accepted for answer in answers),
        sum(answer.duplicates for answer in answers),
        sorted(rejected, key=lambda rejection: rejection.index),
    )


def _joined(columns: Sequence[Sequence[Part]]) -> Sequence[Part]:
    return columns[0] if len(columns) == 1 else [*chain.from_iterable(columns)]


def recorded(batch: Decoded, verdicts: Sequence[Verdict], begin: int = 0) -> EventsRecordedOut:
    """The answer to a batch whose items were given to the database from `begin` on."""
    others = [verdict for verdict in verdicts if verdict.verdict != "duplicate"]
    rejected = [Rejection(refusal.index, "invalid", refusal.detail) for refusal in batch.refusals]
    for verdict in others:
        place = verdict.index - begin
        index = place if batch.indexes is None else batch.indexes[place]
        rejected.append(Rejection(index, verdict.verdict, verdict.detail))
    rejected.sort(key=lambda rejection: rejection.index)
    accepted = batch.size - len(verdicts)
    return EventsRecordedOut(batch.received, accepted, len(verdicts) - len(others), rejected)


def decode_event_message(body: bytes, content_type: str = "", content_encoding: str = "") -> EventBatch:
    """The body of POST /v1/events where it comes by another way; JSON and MessagePack may also be one event alone."""
    format = parse_media_type(content_type, EVENT_FORMATS)
    body = inflate(body, content_encoding)
    decode_one = ONE_EVENT_FORMATS.get(format)
    batch = (decode_one and decode_one(body)) or EVENT_FORMATS[format](body)
    check_days(batch.times)
    return batch


def check_days(times: Sequence[datetime]) -> None:
    """Raises Problem (413) for more days than one request can have."""
    if has_more_days(times, MAX_DAYS):
        raise Problem("too_large", f"A request can have events of {MAX_DAYS:,} days; send them in parts.")


# JSON and MessagePack


class ReadingsShape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: Id
    readings: msgspec.Raw


class JsonPart(NamedTuple):
    """An item, and what it is: a row, or why it is none. What it was made of can be large, and is not kept."""

    text: str
    row: Any = None
    fault: str | None = None
    dpu: str | None = None


class Decoders:
    """Of one kind of item. By False: with timestamps as text, so that no tie is lost before `times_of` sees it."""

    def __init__(self, item: type[msgspec.Struct]) -> None:
        kinds: dict[bool, Any] = {True: item, False: _with_text(item)}
        self.line = {is_plain: msgspec.json.Decoder(kind) for is_plain, kind in kinds.items()}
        # mypy takes a variable for no type
        lists: dict[bool, Any] = {is_plain: list[kind] for is_plain, kind in kinds.items()}  # type: ignore[valid-type]
        self.json = {is_plain: msgspec.json.Decoder(kind) for is_plain, kind in lists.items()}
        self.msgpack = {is_plain: msgspec.msgpack.Decoder(kind) for is_plain, kind in lists.items()}


def _with_text(item: type[msgspec.Struct]) -> type[msgspec.Struct]:
    fields: list[Any] = [
        (field.name, str if field.name == "timestamp" else field.type, *([] if field.required else [field.default]))
        for field in msgspec.structs.fields(item)
    ]
    return msgspec.defstruct(f"{item.__name__}WithText", fields, frozen=True, forbid_unknown_fields=True, gc=False)


class Budget:
    """What may still be spent on one body: tokens of items that are too long, pieces that cannot be read at once."""

    def __init__(self) -> None:
        self.tokens = MAX_TOKENS
        self.pieces = MAX_PIECES


@dataclass(frozen=True)
class Items(Generic[Row, AnyBatch]):
    """Reads many items of one kind. `dpu`: whose all of them are."""

    decoders: Decoders
    # the fast path: decoded items at once; None where the slow one has to look
    of_items: Callable[[Sequence[Any]], AnyBatch | None]
    # one item; raises Unreadable
    of_object: Callable[[object], Row]
    make: Callable[[Sequence[Row], Sequence[int], Sequence[Refusal]], AnyBatch]
    dpu: str | None = None

    def of_body(self, body: bytes, begin: int) -> AnyBatch | None:
        """A body that ends with an array, which begins there. None where it does not fall into pieces, or is
        malformed."""
        end = body.rfind(b"]")
        if not ARRAY_END.fullmatch(body, end):
            return None
        if end - begin <= PIECES_BYTES[0] and (batch := _attempt(lambda: self._of_array(body[begin : end + 1]))):
            return batch  # what comes most has no more steps than it needs
        batches = self._of_pieces(body, begin + 1, end, PIECES_BYTES, Budget())
        return None if batches is None else joined(batches)

    def _of_pieces(
        self, body: bytes, begin: int, end: int, sizes: Sequence[int], budget: Budget
    ) -> list[AnyBatch] | None:
        """None where a piece is malformed. It may have been cut within an item: that leaves a string or a bracket open,
        so that the piece cannot be taken for something else."""
        batches: list[AnyBatch] = []
        received = 0
        while True:
            cut = CUT.search(body, begin + sizes[0], end)
            stop = cut.start() + 1 if cut else end
            found = self._of_piece(body, begin, stop, sizes, budget)
            if found is None:
                return None
            batches += found
            received += sum(batch.received for batch in found)
            check_number(received)
            if not cut:
                return batches
            begin = stop + 1

    def _of_piece(
        self, body: bytes, begin: int, end: int, sizes: Sequence[int], budget: Budget
    ) -> list[AnyBatch] | None:
        if batch := _attempt(lambda: self._of_array(_in_brackets(body, begin, end))):
            return [batch]
        take_time(end - begin)
        breathe(0)
        budget.pieces -= 1
        smaller = sizes[1:] if budget.pieces > 0 else ()
        # without a place for a cut the piece would be the same once more
        can_be_cut = smaller and CUT.search(body, begin + smaller[0], end)
        if can_be_cut and (batches := self._of_pieces(body, begin, end, smaller, budget)):
            return batches
        try:
            text = _in_brackets(body, begin, end).decode("utf-8", "surrogateescape")
            parts, stop = _json_parts(text, 0, self.of_object, budget)
        except Problem:
            return None
        return [self.of_json_parts(parts)] if stop == len(text) else None

    def _of_array(self, text: bytes) -> AnyBatch | None:
        """JSON. A million small objects are not made."""
        if text.count(b"{") > MAX_EVENTS:
            return None
        return self.of_items(self.decoders.json[_is_plain(text)].decode(text))

    def of_json_parts(self, parts: Sequence[JsonPart]) -> AnyBatch:
        return _one_by_one(parts, _row_of_json, _show_json, self.make, self.dpu)

    def of_msgpack(self, packed: msgspec.Raw, size: int) -> AnyBatch:
        """An array of MessagePack, from a body of this size. Raises Problem where it is malformed."""
        parts = decode_bytes(packed, list[msgspec.Raw], MSGPACK)
        return self._in_runs(parts, size, self._of_packed, self._of_part, _show_msgpack)

    def _of_packed(self, parts: Sequence[msgspec.Raw]) -> AnyBatch | None:
        packed = array_of(parts, MSGPACK)
        items = self.decoders.msgpack[not TIE_IN_BYTES.search(packed)].decode(packed)
        if any(mark in packed for mark in NANOSECONDS):
            for place in _ties_of(packed):
                moment = items[place].timestamp
                if moment.microsecond % 2:  # rounded up
                    items[place] = msgspec.structs.replace(items[place], timestamp=moment - instants.MICROSECOND)
        return self.of_items(items)

    def _of_part(self, part: msgspec.Raw) -> Row:
        return self.of_object(_msgpack_value(part))

    def of_lines(self, lines: Sequence[bytes], size: int) -> AnyBatch:
        """JSON, an item a line, from a body of this size."""
        return self._in_runs(lines, size, self._of_json_lines, self._of_json_line, _show_line)

    def _of_json_lines(self, lines: Sequence[bytes]) -> AnyBatch | None:
        decoder = self.decoders.line[_is_plain(b"\n".join(lines))]
        return self.of_items(list(map(decoder.decode, lines)))

    def _of_json_line(self, line: bytes) -> Row:
        return self.of_object(_json_line(line))

    def _in_runs(
        self,
        parts: Sequence[Part],
        size: int,
        read_all: Callable[[Sequence[Part]], AnyBatch | None],
        read: Callable[[Part], Row],
        show: Callable[[Part], Shown],
    ) -> AnyBatch:
        return in_runs(parts, size, read_all, lambda run: _one_by_one(run, read, show, self.make, self.dpu))


def _ties_of(packed: bytes) -> list[int]:
    """Which items have nanoseconds between two microseconds. Raises ValueError unless all of them have nanoseconds."""
    items = _timestamps.decode(packed)
    stamps, number = b"".join(item.timestamp for item in items), len(items)
    if len(stamps) != 10 * number or stamps[::10] + stamps[1::10] != b"\xd7" * number + b"\xff" * number:
        raise ValueError("timestamps of several kinds")
    values = struct.unpack(f">{'2xQ' * number}", stamps)
    return [place for place, value in enumerate(values) if (value >> 34) % 1_000 == 500]


def _in_brackets(body: bytes, begin: int, end: int) -> bytes:
    return b"".join((b"[", memoryview(body)[begin:end], b"]"))


def in_runs(
    parts: Sequence[Part],
    size: int,
    read_all: Callable[[Sequence[Part]], AnyBatch | None],
    read_each: Callable[[Sequence[Part]], AnyBatch],
) -> AnyBatch:
    """The fast path for as many parts at once as can be, the slow one for the others. `size`: of all, in bytes."""

    def attempt(begin: int, end: int) -> AnyBatch | None:
        batch = _attempt(lambda: read_all(parts[begin:end]))
        if batch is None:
            take_time(size)
        return batch

    runs = find_runs(len(parts), attempt)
    return joined([batch or read_each(parts[begin:end]) for begin, end, batch in runs] or [read_each(())])


def joined(batches: Sequence[AnyBatch]) -> AnyBatch:
    """One batch of several, in this order."""
    if len(batches) == 1:
        return batches[0]
    kind: Callable[..., AnyBatch] = type(batches[0])
    columns: list[list[Any]] = [[] for _ in batches[0].columns]
    for batch in batches:
        for column, part in zip(columns, batch.columns, strict=True):
            column += part
    if all(batch.indexes is None for batch in batches):
        return kind(*columns)
    indexes: list[int] = []
    refusals: list[Refusal] = []
    begin = 0
    for batch in batches:
        if batch.indexes is None:
            indexes += range(begin, begin + batch.size)
        else:
            indexes += (begin + index for index in batch.indexes)
        refusals += (
            Refusal(begin + each.index, each.detail, each.body, each.dpu, each.digest) for each in batch.refusals
        )
        begin += batch.received
    return kind(*columns, indexes, refusals)


READING = Decoders(ReadingIn)


def decode_readings_json(body: bytes) -> EventBatch:
    body = body.removeprefix(BOM)
    match = READINGS.match(body)
    if match and ID.match(device := match[1].decode()) and (batch := _readings_of(device).of_body(body, match.end())):
        if batch.indexes is not None:
            decode_bytes(body, ReadingsShape, JSON)  # a reading that only Python can read spoils all of them
        return batch
    take_time(len(body))
    shape = decode_bytes(body, ReadingsShape, JSON)
    items = _readings_of(shape.id)
    return items.of_json_parts(_raw_json_parts(shape.readings, "readings", items.of_object))


def decode_readings_msgpack(body: bytes) -> EventBatch:
    shape = decode_bytes(body, ReadingsShape, MSGPACK)
    return _readings_of(shape.id).of_msgpack(msgpack_array(shape.readings, "readings"), len(body))


def _readings_of(device: str) -> Items[Event, EventBatch]:
    return Items(
        READING,
        lambda readings: _of_columns(
            [device] * len(readings),
            times_of([reading.timestamp for reading in readings]),
            [reading.count for reading in readings],
            [0] * len(readings),
        ),
        lambda value: _reading(device, value),
        _batch_of_events,
        device,
    )


def _is_plain(text: bytes) -> bool:
    """Whether msgspec reads every timestamp as we do. An escape could hide a tie."""
    return b"\\" not in text and not TIE_IN_BYTES.search(text)


def times_of(column: Sequence[Any]) -> list[datetime]:
    """Timestamps that are decoded, or text. Raises ValueError for text that msgspec does not read."""
    if not column or isinstance(column[0], datetime):
        return list(column)
    lines = "\n".join(column)
    if TIE.search(lines):
        if lines.count("\n") != len(column) - 1:
            raise ValueError("a timestamp has several lines")
        column = TIE.sub(r"\1", lines).split("\n")
    return msgspec.convert(column, list[Timestamp])


def _attempt(fast_path: Callable[[], AnyBatch | None]) -> AnyBatch | None:
    """None where the slow path has to look: msgspec's errors are ValueErrors."""
    try:
        return fast_path()
    except (ValueError, RecursionError):
        return None


def _of_columns(
    dpus: Sequence[str], times: Sequence[datetime], directions: Sequence[int], sequences: Sequence[int]
) -> EventBatch | None:
    """What msgspec's types leave open: ids, and years that leave the range when the offset is taken off."""
    return EventBatch(dpus, times, directions, sequences) if are_ids(dpus) and are_instants(times) else None


def are_ids(column: Sequence[str]) -> bool:
    lines = "\n".join([*column, ""])
    return lines.count("\n") == len(column) and IDS.fullmatch(lines) is not None


def are_instants(times: Sequence[datetime]) -> bool:
    return not times or (min(times) >= instants.EARLIEST and max(times) <= instants.LATEST)


def check_number(items: int) -> None:
    if items > MAX_EVENTS:
        raise Problem("too_large", f"A request can have {MAX_EVENTS:,} events; send them in parts.")


def _one_by_one(
    parts: Iterable[Part],
    read: Callable[[Part], Row],
    show: Callable[[Part], Shown],
    make: Callable[[Sequence[Row], Sequence[int], Sequence[Refusal]], AnyBatch],
    dpu: str | None = None,
) -> AnyBatch:
    """The slow path: each part is a row or a refusal. `dpu`: whose all of them are."""
    rows: list[Row] = []
    indexes: list[int] = []
    refusals: list[Refusal] = []
    for index, part in enumerate(parts):
        breathe(index)
        try:
            rows.append(read(part))
            indexes.append(index)
        except Unreadable as error:
            body, digest = show(part)
            refusals.append(Refusal(index, str(error), body, dpu or error.dpu, digest))
    return make(rows, indexes, refusals)


def _batch_of_events(events: Sequence[Event], indexes: Sequence[int], refusals: Sequence[Refusal]) -> EventBatch:
    dpus, times, directions, sequences = zip(*events, strict=True) if events else ((), (), (), ())
    return EventBatch(dpus, times, directions, sequences, indexes, refusals)


def _integer(digits: str) -> float:
    """Longer than any number we take: only that it is none of them matters."""
    return int(digits) if len(digits) < 100 else float("inf")


_lenient = json.JSONDecoder(strict=False, parse_int=_integer)


def _json_value(text: str, start: int) -> tuple[object, int]:
    try:
        return _lenient.raw_decode(text, start)
    except RecursionError:
        raise TooMuch("It is nested too deeply.") from None
    except ValueError as error:
        raise Unreadable(f"JSON is malformed: {error}.") from None


def _json_parts(text: str, start: int, read: Callable[[object], object], budget: Budget) -> tuple[list[JsonPart], int]:
    """The elements of the array that begins at `start`, each with its own text, and where the array ends.

    `read` makes a row of one, or raises Unreadable.
    """
    parts: list[JsonPart] = []
    position = _skip_blanks(text, start + 1)
    if text.startswith("]", position):
        return parts, position + 1
    while True:
        breathe(len(parts))
        try:
            value, end = _json_item(text, position)
        except TooMuch as error:
            end = _end_of_item(text, position, budget)
            value = error
            if end - position < LONGEST_ITEM and error.args[0] == TOO_LONG:
                raise Problem("malformed", _what_is_wrong(text, position)) from None
        except Unreadable as error:
            raise Problem("malformed", str(error)) from None
        parts.append(_json_part(text[position:end], value, read))
        check_number(len(parts))
        position = _skip_blanks(text, end)
        if text.startswith("]", position):
            return parts, position + 1
        if not text.startswith(",", position):
            raise Problem("malformed", f"JSON is malformed: expected `,` or `]` at character {position}.")
        position = _skip_blanks(text, position + 1)


def _json_part(text: str, value: object, read: Callable[[object], object]) -> JsonPart:
    try:
        return JsonPart(text, read(value))
    except Unreadable as error:
        return JsonPart(text, None, str(error), error.dpu)


def _row_of_json(part: JsonPart) -> Any:
    if part.fault is not None:
        unreadable = Unreadable(part.fault)
        unreadable.dpu = part.dpu
        raise unreadable
    return part.row


def _json_item(text: str, start: int) -> tuple[object, int]:
    """As _json_value. Raises TooMuch where it is longer than any should be, or seems to be since it is malformed."""
    if len(text) - start <= LONGEST_ITEM:
        return _json_value(text, start)
    try:
        value, length = _json_value(text[start : start + LONGEST_ITEM], 0)
    except TooMuch:
        raise
    except Unreadable:
        raise TooMuch(TOO_LONG) from None
    if length == LONGEST_ITEM and text[start] not in '[{"':  # what is cut off may belong to it
        raise TooMuch(TOO_LONG)
    return value, start + length


def _what_is_wrong(text: str, start: int) -> str:
    """With the item that begins there, and is no longer than items are."""
    try:
        _json_value(text, start)
    except Unreadable as error:
        return str(error)
    return "JSON is malformed."


def _end_of_item(text: str, start: int, budget: Budget) -> int:
    """Where the item that begins at `start` ends, however long and deep it is."""
    if text[start] not in '[{"':
        match = SCALAR.match(text, start)
        return match.end() if match else start
    depth = rounds = 0
    while token := NESTING.search(text, start):
        number, start = token.end() - token.start(), token.end()
        if token[0] == '"':
            start = _end_of_string(text, start)
        elif token[0][0] in "[{":
            depth += number
        else:
            start -= max(number - depth, 0)  # those behind it close what it is in
            depth -= min(number, depth)
        budget.tokens -= number
        rounds += 1
        breathe(rounds)
        if depth == 0:
            return start
        if budget.tokens <= 0:
            raise Problem("malformed", "JSON is malformed: too much of it is in items that cannot be read.")
    raise Problem("malformed", "JSON is malformed: it ends too early.")


def _end_of_string(text: str, start: int) -> int:
    """Behind the quote that ends it, or the end of the text."""
    while (piece := IN_STRING.match(text, start)) and piece.end() > start:
        start = piece.end()
    return min(start + 1, len(text))


def _skip_blanks(text: str, start: int) -> int:
    match = BLANK.match(text, start)
    return match.end() if match else start


def _raw_json_parts(raw: msgspec.Raw, name: str, read: Callable[[object], object]) -> list[JsonPart]:
    text = bytes(raw).decode("utf-8", "surrogateescape")
    if not text.startswith("["):
        raise invalid(f"`{name}` must be an array.", name)
    return _json_parts(text, 0, read, Budget())[0]


def _show_json(part: JsonPart) -> Shown:
    return told_apart(part.text)


def msgpack_array(raw: msgspec.Raw, name: str) -> msgspec.Raw:
    """The array under this name: of several that one which counts, and not with all that is around it. It says itself
    how many items it has. Raises Problem for more than there can be, before a million small objects are made."""
    head = bytes(raw)[:5]
    if 0x90 <= head[0] <= 0x9F:
        number = head[0] & 0x0F
    elif head[0] in (0xDC, 0xDD):
        number = int.from_bytes(head[1 : 3 if head[0] == 0xDC else 5])
    else:
        raise invalid(f"`{name}` must be an array.", name)
    check_number(number)
    return raw


class _Named(msgspec.Struct, frozen=True):
    dpu: str | None = None


class _Timestamped(msgspec.Struct, frozen=True):
    timestamp: msgspec.Raw = msgspec.Raw()


_timestamp = msgspec.msgpack.Decoder(_Timestamped)
_timestamps = msgspec.msgpack.Decoder(list[_Timestamped])


def _msgpack_value(part: msgspec.Raw) -> object:
    encoded = bytes(part)
    if len(encoded) > LONGEST_ITEM:
        raise TooMuch(TOO_LONG)
    try:
        value = msgspec.msgpack.decode(encoded)
        if isinstance(value, dict) and isinstance(value.get("timestamp"), datetime):
            raw = _timestamp.decode(encoded).timestamp
            value["timestamp"] = instants.from_msgpack(bytes(raw))
    except (ValueError, TypeError, RecursionError) as error:
        unreadable = Unreadable(f"It cannot be read: {shown(str(error))}.")
        unreadable.dpu = _dpu_of_msgpack(encoded)
        raise unreadable from None
    return value


def _dpu_of_msgpack(encoded: bytes) -> str | None:
    """Whose an item is of which another field cannot be read."""
    try:
        return _dpu_of({"dpu": msgspec.msgpack.decode(encoded, type=_Named).dpu})
    except (ValueError, TypeError, RecursionError):
        return None


def _show_msgpack(part: msgspec.Raw) -> Shown:
    """As JSON where it can be, else the bytes."""
    encoded = bytes(part)
    try:
        if len(encoded) > 4 * SHOWN_CHARACTERS:
            raise TooMuch(TOO_LONG)
        return told_apart(msgspec.json.encode(msgspec.msgpack.decode(encoded)).decode())
    except (ValueError, TypeError, RecursionError):
        return told_apart(encoded.decode("utf-8", "surrogateescape"))


# Lines: NDJSON and CSV


def _columns(header: CsvHeader, text: bytes) -> Sequence[Sequence[str]] | None:
    lines = text.decode().split("\n") if text else []
    if text.count(header.delimiter.encode()) > 8 * header.width * len(lines):
        return None  # before many small cells are made
    try:
        rows = list(csv.reader(lines, strict=True, delimiter=header.delimiter))
    except csv.Error:
        return None
    if len(rows) != len(lines) or any(len(row) != header.width for row in rows):
        return None
    return list(zip(*rows, strict=True)) or [()] * header.width


def _plain_columns(header: CsvHeader, text: bytes, lines: Sequence[bytes]) -> Sequence[Sequence[str]] | None:
    """The same, several times as fast, where nothing is quoted: no object a line."""
    if set(map(methodcaller("count", header.delimiter.encode()), lines)) != {header.width - 1}:
        return None
    cells = text.decode().replace("\n", header.delimiter).split(header.delimiter)
    return [cells[column :: header.width] for column in range(header.width)]


def integers(column: Sequence[str], low: int, high: int) -> list[int]:
    if not INTEGERS.fullmatch("".join(f"{cell}\n" for cell in column)):
        raise ValueError
    values = list(map(int, column))
    if values and (min(values) < low or max(values) > high):
        raise ValueError
    return values


def _lines(body: bytes) -> list[bytes]:
    if body.count(b"\n") > MAX_LINES:
        raise Problem("too_large", f"A request can have {MAX_LINES:,} lines, blank ones included.")
    return [line.rstrip(b"\r") for line in body.removeprefix(BOM).split(b"\n") if line and not line.isspace()]


def in_utf_8(text: bytes) -> bytes:
    """The text, which may be UTF-16 if it begins with the mark of that. Raises Problem (422)."""
    if text.startswith(UTF_32_BOMS):
        raise invalid("The text is UTF-32. Save it as UTF-8.", "line 1")
    if not text.startswith(UTF_16_BOMS):
        return text
    try:
        return text.decode("utf-16").encode()
    except UnicodeError:
        raise invalid("The text begins as UTF-16 and is damaged. Save it as UTF-8.", "line 1") from None


def check_encoding(line: bytes) -> None:
    """Raises Problem (422) for a header whose letters have zeros between them."""
    if b"\x00" in line[:8]:
        raise invalid("The text is UTF-16 or UTF-32 without its mark. Save it as UTF-8.", "line 1")


def spell(name: str) -> str:
    """The name of a column as it is compared: `DPU ID` and `dpu_id` are the same."""
    return re.sub(r"[\s-]+", "_", name.strip().strip("\ufeff").lower())


def _cells(line: bytes, delimiter: str = ",") -> list[str]:
    if len(line) > LONGEST_ITEM:
        raise TooMuch(TOO_LONG)
    try:
        rows = list(csv.reader([line.decode()], strict=True, delimiter=delimiter))
    except UnicodeDecodeError:
        raise Unreadable("The line is not UTF-8.") from None
    except csv.Error as error:
        raise Unreadable(f"The line is not CSV: {error}.") from None
    return rows[0] if rows else []


def _json_line(line: bytes) -> object:
    if len(line) > LONGEST_ITEM:
        raise TooMuch(TOO_LONG)
    try:
        text = line.decode().strip(" \t\r")
    except UnicodeDecodeError:
        raise Unreadable("The line is not UTF-8.") from None
    value, end = _json_value(text, 0)
    if end != len(text):
        raise Unreadable("JSON is malformed: there is more than one value in the line.")
    return value


def _number(text: str) -> int | None:
    return int(text) if INTEGER.fullmatch(text) else None


def _show_line(line: bytes) -> Shown:
    return told_apart(line.decode("utf-8", "surrogateescape"))


# Tables and kinds


class Field(NamedTuple):
    """A column of CSV by any of its names."""

    names: tuple[str, ...]
    is_optional: bool = False


class CsvFormat(ABC, Generic[Row, AnyBatch]):
    """Something that can be read from CSV. `header_in_words` follows "a header: "."""

    fields: tuple[Field, ...]
    header_in_words: str

    @abstractmethod
    def of_text(self, columns: Sequence[Sequence[str] | None]) -> AnyBatch | None:
        """The fast path: all lines at once, a column for each field, as they stand there. None, or a ValueError,
        where the slow one has to look."""

    @abstractmethod
    def of_cells(self, cells: Sequence[str | None]) -> Row:
        """One line: a cell for each field, without blanks around it. Raises Unreadable."""

    @abstractmethod
    def batch(self, rows: Sequence[Row], indexes: Sequence[int], refusals: Sequence[Refusal]) -> AnyBatch:
        """The rows as columns."""

    @abstractmethod
    async def record(self, session: calls.Session, batch: AnyBatch, auto_register: bool) -> EventsRecordedOut:
        """Stores what was imported, refusals included, and says what became of it."""

    def csv(self, body: bytes) -> AnyBatch:
        lines = _lines(in_utf_8(body))
        if not lines:
            raise invalid(f"The first line must be a header: {self.header_in_words}.", "line 1")
        header = self.read_header(lines[0])
        check_number(len(lines) - 1)
        return self.decode_lines(header, lines[1:])

    def read_header(self, line: bytes) -> CsvHeader:
        """The header of a file: names in any case and order, behind commas, semicolons or tabs.

        Raises Problem (422) unless it has the columns of one, and no others.
        """
        check_encoding(line)
        delimiter, names = self._names(line)
        places = [[column for column, name in enumerate(names) if name in known] for known in self._known()]
        faults = [
            *(
                f"There is no column `{field.names[0]}`."
                for field, columns in zip(self.fields, places, strict=True)
                if not (columns or field.is_optional)
            ),
            *(f"The column `{names[columns[0]]}` is there twice." for columns in places if len(columns) > 1),
            *(
                f"The column `{printable(name[:64])}` is not known here: take it out."
                for column, name in enumerate(names)
                if not self._is_left_out(name) and not any(column in columns for columns in places)
            ),
        ]
        if faults:
            if other := self._other_delimiter(line):
                faults = [f"It has `{other}` between them."]
            raise invalid(
                f"The first line must be a header: {self.header_in_words}, in any order, with commas, semicolons or "
                f"tabs between them. {' '.join(faults[:3])}",
                "line 1",
            )
        return CsvHeader(len(names), tuple(columns[0] if columns else None for columns in places), delimiter)

    def count_known(self, line: bytes) -> int:
        """How many of its columns a header has: by that it can be told what a file with a fault was meant to be."""
        other = self._other_delimiter(line)
        return self._number_known(self._split(line, other) if other else self._names(line)[1])

    def _names(self, line: bytes) -> tuple[str, list[str]]:
        """The delimiter by which most of the columns are known, and the names of the columns."""
        if len(line) > LONGEST_HEADER:
            return DELIMITERS[0], []
        read = [(delimiter, self._split(line, delimiter)) for delimiter in DELIMITERS]
        return max(read, key=lambda found: self._number_known(found[1]))

    def _split(self, line: bytes, delimiter: str) -> list[str]:
        try:
            return [spell(name) for name in _cells(line.removeprefix(BOM), delimiter)]
        except Unreadable:
            return []

    def _number_known(self, columns: Sequence[str]) -> int:
        known = self._known()
        return sum(any(name in names for names in known) for name in columns)

    def _other_delimiter(self, line: bytes) -> str | None:
        """The character that stands between the columns, where most are known by one that is none of ours."""
        columns = self._names(line)[1]
        most, found = max(1, self._number_known(columns)), None
        for other in OTHER_DELIMITERS if len(line) <= LONGEST_HEADER else "":
            if (number := self._number_known(self._split(line, other))) > most:
                most, found = number, other
        return found

    def _known(self) -> list[set[str]]:
        return [{spell(name) for name in field.names} for field in self.fields]

    def _is_left_out(self, name: str) -> bool:
        """A column that nobody reads: one without a name stands behind a delimiter too many."""
        return not name

    def decode_lines(self, header: CsvHeader, lines: Sequence[bytes]) -> AnyBatch:
        """Lines of a file, without the header, blank lines and line ends. A row is one line."""
        return in_runs(
            lines,
            sum(map(len, lines)),
            lambda run: self._of_lines(header, run),
            lambda run: _one_by_one(run, lambda line: self._of_line(header, line), _show_line, self.batch),
        )

    def _of_lines(self, header: CsvHeader, lines: Sequence[bytes]) -> AnyBatch | None:
        text = b"\n".join(lines)
        columns = _plain_columns(header, text, lines) if lines and not QUOTED.search(text) else _columns(header, text)
        if columns is None:
            return None
        return self.of_text([None if place is None else columns[place] for place in header.places])

    def _of_line(self, header: CsvHeader, line: bytes) -> Row:
        cells = _cells(line, header.delimiter)
        if len(cells) != header.width:
            raise Unreadable(f"The line has {len(cells)} fields, the header {header.width}.")
        return self.of_cells([None if place is None else cells[place].strip() for place in header.places])


class BodyFormat(CsvFormat[Row, AnyBatch]):
    """Something that comes over HTTP as well: `{name: [item, ...]}`, or an item a line."""

    def __init__(self, name: str, item: type[msgspec.Struct]) -> None:
        self.name = name
        self.beginning = re.compile(rf'\s*\{{\s*"{name}"\s*:\s*(?=\[)', re.ASCII)
        self.beginning_in_bytes = re.compile(rb'\{[ \t\r\n]*"%b"[ \t]*:[ \t]*(?=\[)' % name.encode())
        self.shape = msgspec.defstruct(f"{name}_shape", [(name, msgspec.Raw)], frozen=True, forbid_unknown_fields=True)
        self.items = Items(Decoders(item), self.of_items, self.of_object, self.batch)

    @property
    def formats(self) -> dict[str, Callable[[bytes], AnyBatch]]:
        return {JSON: self.json, MSGPACK: self.msgpack, NDJSON: self.ndjson, CSV: self.csv}

    @abstractmethod
    def of_items(self, items: Sequence[Any]) -> AnyBatch | None:
        """The fast path: decoded items at once. None where the slow one has to look."""

    @abstractmethod
    def of_object(self, value: object) -> Row:
        """One item. Raises Unreadable."""

    def json(self, body: bytes) -> AnyBatch:
        body = body.removeprefix(BOM)
        match = self.beginning_in_bytes.match(body)
        if match and (batch := self.items.of_body(body, match.end())):
            return batch
        take_time(len(body))
        # Python's own decoder takes NaN, lone surrogates and the like, which cost one item here and not all of them.
        text = body.decode("utf-8", "surrogateescape")
        if whole := self.beginning.match(text):
            parts, stop = _json_parts(text, whole.end(), self.of_object, Budget())
            if JSON_END.fullmatch(text, stop):
                return self.items.of_json_parts(parts)
        shape = decode_bytes(body, self.shape, JSON)
        return self.items.of_json_parts(_raw_json_parts(getattr(shape, self.name), self.name, self.of_object))

    def msgpack(self, body: bytes) -> AnyBatch:
        packed = msgpack_array(getattr(decode_bytes(body, self.shape, MSGPACK), self.name), self.name)
        return self.items.of_msgpack(packed, len(body))

    def one_json(self, body: bytes) -> AnyBatch | None:
        """One item alone, or why it is none; None for what is not an object, or has many."""
        body = body.removeprefix(BOM)
        line = self.items.decoders.line[_is_plain(body)]
        if batch := _attempt(lambda: self.of_items([line.decode(body)])):
            return batch
        text = body.decode("utf-8", "surrogateescape")
        if self.beginning.match(text) or len(body) > LONGEST_ITEM:
            return None
        try:
            value, end = _json_value(text, _skip_blanks(text, 0))
        except Unreadable:
            return None
        if not isinstance(value, dict) or self.name in value or _skip_blanks(text, end) != len(text):
            return None
        return self.items.of_json_parts([_json_part(text, value, self.of_object)])

    def one_msgpack(self, body: bytes) -> AnyBatch | None:
        """The same for MessagePack."""
        if len(body) > LONGEST_ITEM:
            return None
        try:
            value = msgspec.msgpack.decode(body)
        except (ValueError, TypeError, RecursionError):
            return None
        if not isinstance(value, dict) or self.name in value:
            return None
        part = msgspec.Raw(body)
        return _one_by_one([part], lambda part: self.of_object(_msgpack_value(part)), _show_msgpack, self.batch)

    def ndjson(self, body: bytes) -> AnyBatch:
        lines = _lines(body)
        check_number(len(lines))
        return self.items.of_lines(lines, len(body))


# Events


class Events(BodyFormat[Event, EventBatch]):
    fields: tuple[Field, ...] = (
        Field(("dpu_id", "dpu")),
        Field(("timestamp",)),
        Field(("direction",)),
        Field(("sequence",), is_optional=True),
    )
    header_in_words = "timestamp,direction,dpu_id and optionally sequence"

    def of_items(self, items: Sequence[EventIn]) -> EventBatch | None:
        return _of_columns(
            [event.dpu for event in items],
            times_of([event.timestamp for event in items]),
            [event.direction for event in items],
            [event.sequence for event in items],
        )

    def of_object(self, value: object) -> Event:
        try:
            fields = fields_of(value, ("dpu", "timestamp", "direction"), ("sequence",))
        except Unreadable as error:
            error.dpu = _dpu_of(value)
            raise
        return _event(fields["dpu"], fields["timestamp"], fields["direction"], fields.get("sequence", 0))

    def of_text(self, columns: Sequence[Sequence[str] | None]) -> EventBatch | None:
        dpus, timestamps, directions, sequences = columns
        if dpus is None or timestamps is None or directions is None:
            return None
        return _of_columns(
            dpus,
            times_of(timestamps),
            integers(directions, -(2**31), 2**31 - 1),
            [0] * len(dpus) if sequences is None else integers(sequences, 0, 2**15 - 1),
        )

    def of_cells(self, cells: Sequence[str | None]) -> Event:
        dpu, timestamp, direction, sequence = cells
        return _event(dpu, timestamp, _number(direction or ""), _number(sequence or "0"), "dpu_id")

    def batch(self, rows: Sequence[Event], indexes: Sequence[int], refusals: Sequence[Refusal]) -> EventBatch:
        return _batch_of_events(rows, indexes, refusals)

    async def record(self, session: calls.Session, batch: EventBatch, auto_register: bool) -> EventsRecordedOut:
        return await record(session, batch, auto_register, backfill=True)


def _reading(device: str, value: object) -> Event:
    fields = fields_of(value, ("timestamp", "count"), (), "reading")
    return _event(device, fields["timestamp"], fields["count"], 0, direction_name="count")


def _dpu_of(value: object) -> str | None:
    """Whose an event is that lacks a field or has one too many."""
    dpu = value.get("dpu") if isinstance(value, dict) else None
    return dpu if isinstance(dpu, str) and ID.match(dpu) else None


def fields_of(value: object, required: Sequence[str], optional: Sequence[str], item: str = "event") -> dict[str, Any]:
    if isinstance(value, TooMuch):
        raise value
    if not isinstance(value, dict):
        raise Unreadable(f"Each {item} must be an object.")
    for name in value:
        if name not in required and name not in optional:
            raise Unreadable(f"`{printable(str(name)[:64])}` is not a field here.")
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
    id = id_of(dpu, dpu_name)
    try:
        return Event(
            id,
            instant_of(timestamp),
            _within(direction, -(2**31), 2**31 - 1, direction_name),
            _within(sequence, 0, 2**15 - 1, "sequence"),
        )
    except Unreadable as error:
        error.dpu = id
        raise


def id_of(value: object, name: str) -> str:
    """Raises Unreadable unless it is an id."""
    if not isinstance(value, str) or not ID.match(value):
        raise Unreadable(f"`{name}` {PATTERNS_IN_WORDS[ID_PATTERN]}.")
    return value


def instant_of(value: object, name: str = "timestamp") -> datetime:
    """Raises Unreadable unless it is an instant."""
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str):
        raise Unreadable(f"`{name}` must be text.")
    try:
        return instants.parse(value)
    except ValueError as error:
        raise Unreadable(f"`{name}` {error}.") from None


def _within(value: object, low: int, high: int, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise Unreadable(f"`{name}` must be an integer of {low} to {high}.")
    return value


def told_apart(text: str) -> Shown:
    """What is shown of a refused item, and what tells it apart from others of which the same is shown.

    What is shown as it is needs no digest: services before 0.2.0, which make none, keep it once together with others.
    """
    body = shown(text)
    return Shown(body, None if body == text else sha256(text.encode("utf-8", "surrogateescape")).digest())


def shown(text: str) -> str:
    """What is kept and shown of a refused item: its beginning, printable, and how long it was if that is not all.

    It is cut before it is escaped, which takes a second for a few megabytes.
    """
    beginning = ""
    for start in range(0, min(len(text), SHOWN_CHARACTERS), SHOWN_CHARACTERS // 4):  # escaped it is longer
        if len(beginning) < SHOWN_CHARACTERS:
            beginning += printable(text[start : min(start + SHOWN_CHARACTERS // 4, SHOWN_CHARACTERS)])
    beginning = beginning[:SHOWN_CHARACTERS]
    if len(text) <= SHOWN_CHARACTERS:
        return beginning
    return f"{beginning} … (the first of {len(text):,} characters)"


def printable(text: str) -> str:
    """The text with what cannot be seen or stored escaped; undecodable bytes (surrogateescape) as hexadecimal."""
    if text.isprintable():
        return text
    return text.translate(ESCAPES)


class Escapes(dict[int, str]):
    """How each character is shown. Remembers those that come in masses."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if character.isprintable():
            shown = character
        elif 0xDC80 <= code <= 0xDCFF:
            shown = f"\\x{code - 0xDC00:02x}"
        else:
            shown = character.encode("unicode_escape").decode()
        if code < 0x3000 or 0xDC80 <= code <= 0xDCFF:
            self[code] = shown
        return shown


ESCAPES = Escapes()


EVENTS = Events("events", EventIn)
decode_json, decode_msgpack, decode_ndjson, decode_csv = EVENTS.json, EVENTS.msgpack, EVENTS.ndjson, EVENTS.csv
EVENT_FORMATS = EVENTS.formats
ONE_EVENT_FORMATS = {JSON: EVENTS.one_json, MSGPACK: EVENTS.one_msgpack}
READING_FORMATS: dict[str, Callable[[bytes], EventBatch]] = {
    JSON: decode_readings_json,
    MSGPACK: decode_readings_msgpack,
}
