"""service/headcount/ingest/formats.py by itself: four formats, a fast and a slow path, and one verdict."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from types import ModuleType
from typing import Any, Literal

import httpx
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headcount.ingest import formats, heartbeats, runs
from headcount.ingest.formats import EventBatch
from headcount.wire import instants
from headcount.wire.bodies import JSON, MSGPACK
from headcount.wire.problems import Problem
from tests.http import problem

Columns = tuple[list[str], list[datetime], list[int], list[int]]

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def columns(batch: EventBatch) -> Columns:
    return list(batch.dpus), list(batch.times), list(batch.directions), list(batch.sequences)


def verdict(batch: EventBatch) -> tuple[Columns, list[int], list[int]]:
    """What was taken, which events those were, and which were refused."""
    taken = list(range(len(batch.dpus))) if batch.indexes is None else list(batch.indexes)
    return columns(batch), taken, [refusal.index for refusal in batch.refusals]


def as_json(events: list[Any]) -> bytes:
    return json.dumps({"events": events}, ensure_ascii=False).encode("utf-8", "surrogatepass")


def as_slow_json(events: list[Any]) -> bytes:
    """An escape makes the fast path stand back."""
    return as_json(events).replace(b'"events"', rb'"\u0065vents"', 1)


def as_ndjson(events: list[Any]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def as_csv(events: list[dict[str, Any]], quoting: Literal[0, 1] = csv.QUOTE_MINIMAL) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, quoting=quoting)
    writer.writerow(["timestamp", "direction", "dpu_id", "sequence"])
    writer.writerows(
        [event["timestamp"], event["direction"], event["dpu"], event.get("sequence", 0)] for event in events
    )
    return text.getvalue().encode()


def is_verdict(decode: Callable[[bytes], EventBatch], body: bytes) -> bool:
    """Whether it comes to a verdict: a batch whose refusals can be stored, or a problem of the caller's."""
    try:
        return all(refusal.body.isprintable() for refusal in decode(body).refusals)
    except Problem as problem:
        return problem.kind.status in (400, 413, 422)


TIMESTAMPS = st.one_of(
    st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat),
    st.datetimes(timezones=st.integers(-1439, 1439).map(lambda m: timezone(timedelta(minutes=m)))).map(
        datetime.isoformat
    ),
    st.text("0123456789", max_size=9).map(lambda digits: f"2026-01-01T00:00:00.{digits}Z"),
    st.from_regex(r"\A[0-3]\d{3}-[01]\d-[0-3]\d[Tt ][0-2]\d:[0-5]\d:[0-6]\d(\.\d{1,8})?([Zz]|[+-][0-2]\d:?[0-6]\d)\Z"),
    st.sampled_from(["", "2026-01-01T00:00:00", "2016-12-31T23:59:60Z", "9999-12-31T23:59:59-00:01"]),
)
EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            "dpu": st.one_of(st.from_regex(r"\A[A-Za-z0-9._:-]{1,66}\Z"), st.text("ab\u00e9é 1,;'", max_size=3)),
            "timestamp": TIMESTAMPS,
            "direction": st.one_of(st.integers(-2, 2), st.integers(-(2**33), 2**33)),
        },
        optional={"sequence": st.integers(-1, 2**15)},
    ),
    max_size=4,
)


@given(EVENTS)
@example([{"dpu": "a", "timestamp": "2026-01-01T00:00:00.1234565Z", "direction": 1}])
@example([{"dpu": "a", "timestamp": "0001-01-01T00:00:00+00:01", "direction": 1}])
@example([{"dpu": "a\n", "timestamp": "2026-01-01T00:00:00Z", "direction": 1}])
def test_its_fast_paths_and_slow_paths_agree_in_all_formats(events: list[dict[str, Any]]) -> None:
    expected = verdict(formats.decode_json(as_slow_json(events)))
    assert verdict(formats.decode_json(as_json(events))) == expected
    assert verdict(formats.decode_msgpack(msgspec.msgpack.encode({"events": events}))) == expected
    assert verdict(formats.decode_ndjson(as_ndjson(events))) == expected
    if not any("\n" in event["dpu"] or event["dpu"] != event["dpu"].strip() for event in events):
        assert verdict(formats.decode_csv(as_csv(events))) == expected
        assert verdict(formats.decode_csv(as_csv(events, csv.QUOTE_ALL))) == expected


# What looks like the end of an item, or of a text, and is none.
ODD: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(["},{", "\\", '"},{"', "},\n{", [{}, {}], {"a": {}, "b": [{}, {"c": {}}]}, None, 7, {}]),
    st.text('{}[],"\\ a', max_size=4),
)
ODD_EVENTS = st.lists(
    st.one_of(
        st.fixed_dictionaries(
            {"dpu": st.just("a"), "timestamp": TIMESTAMPS, "direction": st.just(1)}, optional={"sequence": ODD}
        ),
        st.fixed_dictionaries(
            {"dpu": st.one_of(st.just("a"), ODD), "timestamp": st.just("2026-01-01T00:00:00Z"), "direction": st.just(1)}
        ),
        ODD,
    ),
    max_size=20,
)


@given(ODD_EVENTS)
@example([{"dpu": "a", "timestamp": "2026-01-01T00:00:00.1234565Z", "direction": 1}] * 3 + [{"x": [{}, {}]}] * 3)
@example([[{}, {}]] * 9)
@example([{"dpu": "a", "timestamp": "2026-01-01T00:00:00.1234565Z\n2026-01-01T00:00:00Z", "direction": 1}])
def test_it_refuses_the_same_items_however_a_body_falls_into_pieces(events: list[Any]) -> None:
    expected = formats.decode_json(as_slow_json(events))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs.find_runs, "__defaults__", ((4, 2, 1),))
        for sizes in ((64, 16, 1), (200, 50), (1,)):
            patch.setattr(formats, "PIECES_BYTES", sizes)
            batch = formats.decode_json(as_json(events))
            assert verdict(batch) == verdict(expected)
            assert list(batch.refusals) == list(expected.refusals)
        packed = formats.decode_msgpack(msgspec.msgpack.encode({"events": events}))
        lines = formats.decode_ndjson(as_ndjson(events))
    assert verdict(packed) == verdict(lines) == verdict(expected)


GOOD = {"dpu": "a", "timestamp": "2026-01-01T00:00:00.123Z", "direction": 1}
# Half of them would be rounded otherwise by msgspec.
SEVEN_DIGITS = [{**GOOD, "timestamp": f"2026-01-01T00:00:00.12345{number % 10}5Z"} for number in range(3_000)]


def one_odd(**fields: object) -> list[dict[str, Any]]:
    events = [GOOD] * 3_000
    return [*events[:1_700], {**GOOD, **fields}, *events[1_700:]]


def as_readings(events: list[Any]) -> bytes:
    readings = [{"timestamp": event["timestamp"], "count": event["direction"]} for event in events]
    return json.dumps({"id": "a", "readings": readings}).encode()


def as_msgpack(events: list[Any]) -> bytes:
    return msgspec.msgpack.encode({"events": events})


def note_calls(monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str) -> list[object]:
    """What the function is called with from now on."""
    calls: list[object] = []
    called = getattr(module, name)

    def note(*given: object) -> object:
        calls.append(given)
        return called(*given)

    monkeypatch.setattr(module, name, note)
    return calls


ONE_BY_ONE = {
    "bad": one_odd(direction=1.5),
    "bad instant": one_odd(timestamp="9999-12-31T23:59:59-01:00"),
    "bad id": one_odd(dpu="a b"),
    "backslash": one_odd(dpu="a\\b"),
    "no number": one_odd(direction=float("nan")),
    "seven digits": SEVEN_DIGITS,
    "nested": one_odd(more={"a": 1}),
}
# Readings have no ids, CSV no fields beside its columns, and NaN spoils all the readings of a body.
SAYABLE: dict[Callable[[list[Any]], bytes], Sequence[str]] = {
    as_readings: ("bad", "bad instant", "seven digits"),
    as_csv: tuple(ONE_BY_ONE)[:-1],
}
DECODERS: dict[Callable[[list[Any]], bytes], Callable[[bytes], EventBatch]] = {
    as_json: formats.decode_json,
    as_msgpack: formats.decode_msgpack,
    as_ndjson: formats.decode_ndjson,
    as_csv: formats.decode_csv,
    as_readings: formats.decode_readings_json,
}


@pytest.mark.parametrize(
    ("encode", "what"), [(encode, what) for encode in DECODERS for what in SAYABLE.get(encode, ONE_BY_ONE)]
)
def test_it_looks_one_by_one_only_at_items_near_a_bad_one(
    monkeypatch: pytest.MonkeyPatch, encode: Callable[[list[Any]], bytes], what: str
) -> None:
    events = ONE_BY_ONE[what]
    looked_at = note_calls(monkeypatch, formats, "instant_of")
    batch = DECODERS[encode](encode(events))
    assert batch.received == len(events)
    assert [refusal.index for refusal in batch.refusals] == ([] if what == "seven digits" else [1_700])
    assert len(looked_at) < 50
    if what == "seven digits":
        assert list(batch.times) == [instants.parse(event["timestamp"]) for event in events]


def test_it_rounds_nanoseconds_of_msgpack_without_a_look_at_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """As senders have them that count in steps of 100 ns."""
    stamps = [
        b"\xd7\xff" + (nanoseconds << 34 | 1_764_400_000).to_bytes(8)
        for nanoseconds in [*range(0, 300_000, 100), 999_999_500]
    ]
    items = b"".join(b"\x83\xa3dpu\xa1a\xa9timestamp" + stamp + b"\xa9direction\x01" for stamp in stamps)
    expected = [instants.from_msgpack(stamp) for stamp in stamps]
    monkeypatch.setattr(formats, "instant_of", pytest.fail)
    batch = formats.decode_msgpack(b"\x81\xa6events\xdc" + len(stamps).to_bytes(2) + items)
    assert list(batch.times) == expected


@pytest.mark.parametrize("format", [JSON, MSGPACK])
def test_it_looks_one_by_one_only_at_heartbeats_near_a_bad_one(monkeypatch: pytest.MonkeyPatch, format: str) -> None:
    looked_at = note_calls(monkeypatch, heartbeats, "check")
    encode = msgspec.json.encode if format == JSON else msgspec.msgpack.encode
    for bad in ({"dpu": 1}, {}):
        items = [*[{"dpu": "a"}] * 1_700, bad, *[{"dpu": "b"}] * 1_300]
        batch = heartbeats.decode_heartbeat_batch(encode({"heartbeats": items}), format)
        assert [each.index for each in batch.refused] == [1_700]
        assert list(batch.indexes) == [*range(1_700), *range(1_701, 3_001)]
        assert [each.dpu for each in batch.heartbeats] == ["a"] * 1_700 + ["b"] * 1_300
    assert len(looked_at) < 200


def test_it_refuses_a_list_with_a_comma_or_a_bracket_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    for sizes in (formats.PIECES_BYTES, (1,)):
        monkeypatch.setattr(formats, "PIECES_BYTES", sizes)
        for inner in (b"%b,", b"%b, {", b",%b", b"%b,,%b", b"%b,{}, ", b"%b],[%b", b"1],[1"):
            one = json.dumps(GOOD).encode()
            content = b'{"events":[%b]}' % inner.replace(b"%b", one)
            with pytest.raises(Problem) as raised:
                formats.decode_json(content)
            assert raised.value.kind.code == "malformed"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("events"),
        lambda values: (
            st.lists(values, max_size=4) | st.dictionaries(st.text() | st.just("events"), values, max_size=3)
        ),
    )
)
def test_it_never_fails_on_any_json_value(value: Any) -> None:
    for body in (json.dumps(value).encode(), json.dumps({"events": [value, value]}).encode()):
        for decode in (formats.decode_json, formats.decode_ndjson, formats.decode_csv, formats.decode_readings_json):
            assert is_verdict(decode, body)


@given(st.binary(max_size=60))
@example(b"\x81\xa6events\xdd\xff\xff\xff\xff")
@example(b"\x81\xa6events\x91\xd6\xff")
@example(b"\x81\xa6events\x91\x81\xa9timestamp\xd7\xff\xff\xff\xff\xff\xff\xff\xff\xff")
def test_it_never_fails_on_any_bytes(body: bytes) -> None:
    for decode in (*formats.EVENT_FORMATS.values(), *formats.READING_FORMATS.values()):
        assert is_verdict(decode, body)


@pytest.mark.parametrize(
    "text",
    [
        b"timestamp,direction,dpu_id\n2026-01-01T00:00:00Z,1,a\n",
        b"timestamp,direction,dpu_id\r\n2026-01-01T00:00:00Z,1,a\r\n",
        b"timestamp,direction,dpu_id\n2026-01-01T00:00:00Z,1,a",
        b"\xef\xbb\xbftimestamp,direction,dpu_id\n2026-01-01T00:00:00Z,+1,a\n\n",
        b'"timestamp","direction","dpu_id"\n"2026-01-01T00:00:00Z","1","a"\n',
        b"dpu_id, sequence ,timestamp,direction\na,0,2026-01-01T00:00:00Z,1\n",
        b"dpu_id,sequence,timestamp,direction\na,,2026-01-01T00:00:00Z,01\n",
        b"dpu_id,sequence,timestamp,direction\n a ,0, 2026-01-01T01:00:00+01:00 , 1\n",
    ],
)
def test_it_reads_csv_as_programs_write_it(text: bytes) -> None:
    batch = formats.decode_csv(text)
    assert columns(batch) == (["a"], [NEW_YEAR], [1], [0])
    assert not batch.refusals


def test_it_refuses_one_line_of_csv_and_takes_those_around_it() -> None:
    bad = [
        b"a,1",
        b'a,"1',
        b"\xff,1,2026-01-01T00:00:00Z",
        b"a,1.0,2026-01-01T00:00:00Z",
        b"a,1,x,y",
        b"a," + b"9" * 5000 + b",x",
    ]
    lines = [b"dpu_id,direction,timestamp"]
    for line in bad:
        lines += [b"a,1,2026-01-01T00:00:00Z", line]
    batch = formats.decode_csv(b"\n".join(lines))
    assert len(batch.dpus) == len(bad)
    assert [refusal.index for refusal in batch.refusals] == [1, 3, 5, 7, 9, 11]
    assert batch.refusals[2].body == r"\xff,1,2026-01-01T00:00:00Z"
    assert batch.refusals[5].body == bad[5][:1000].decode() + " … (the first of 5,004 characters)"


def test_it_keeps_the_text_of_a_refused_event_as_it_came() -> None:
    body = b'{"events":[ {"dpu":"a" , "direction":1e999,"x":"\xff\\ud800\\u0000\x00"} ,7]}'
    assert [refusal.body for refusal in formats.decode_json(body).refusals] == [
        r'{"dpu":"a" , "direction":1e999,"x":"\xff\ud800\u0000\x00"}',
        "7",
    ]


def test_it_takes_a_timestamp_in_msgpack_as_text_or_as_an_extension() -> None:
    moment = NEW_YEAR + timedelta(microseconds=1)
    events = [{"dpu": "a", "timestamp": value, "direction": 1} for value in (moment, moment.isoformat())]
    batch = formats.decode_msgpack(msgspec.msgpack.encode({"events": events}))
    assert list(batch.times) == [moment, moment]


def test_it_takes_ten_thousand_events_and_not_one_more() -> None:
    one = {"dpu": "a", "timestamp": "2026-01-01T00:00:00Z", "direction": 1}
    for encode, decode in (
        (as_json, formats.decode_json),
        (as_slow_json, formats.decode_json),
        (as_ndjson, formats.decode_ndjson),
        (as_csv, formats.decode_csv),
        (lambda events: msgspec.msgpack.encode({"events": events}), formats.decode_msgpack),
    ):
        assert decode(encode([one] * 10_000)).received == 10_000
        for events in ([one] * 10_001, [one] * 10_000 + [{**one, "direction": 1.5}]):
            with pytest.raises(Problem) as raised:
                decode(encode(events))
            assert raised.value.kind.status == 413


def test_it_reads_a_nested_string_without_end_in_linear_time() -> None:
    """Every quote in it could be a beginning: looked at one by one, this would take minutes."""
    hostile = b'{"events":[' + b"[" * 100_000 + b'"' + b'\\"' * 500_000
    with pytest.raises(Problem) as caught:
        formats.decode_json(hostile)
    assert caught.value.kind.code == "malformed"


@pytest.mark.parametrize("brackets", [b"[", b"{", b"[" * 100_000 + b"]" * 100_000])
def test_it_finds_out_soon_that_a_body_is_nothing_but_brackets(
    monkeypatch: pytest.MonkeyPatch, brackets: bytes
) -> None:
    rounds: list[int] = []
    monkeypatch.setattr(formats, "breathe", rounds.append)
    with pytest.raises(Problem) as caught:
        formats.decode_json(b'{"events":[[' + brackets * (4_000_000 // len(brackets)))
    assert caught.value.kind.code == "malformed"
    assert len(rounds) < 100


def test_no_more_is_escaped_of_a_refused_item_than_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    escaped: list[int] = []
    printable = formats.printable

    def count(text: str) -> str:
        escaped.append(len(text))
        return printable(text)

    monkeypatch.setattr(formats, "printable", count)
    assert formats.shown("\x01" * 900) == "\\x01" * 250
    assert sum(escaped) == 250
    assert formats.shown("a" * 999 + "\n") == "a" * 999 + "\\"


async def test_it_refuses_a_request_of_too_many_days(client: httpx.AsyncClient) -> None:
    """Each new day is a new chunk: more than fit into the time of one statement could never be stored."""
    first = datetime(2010, 1, 1, tzinfo=UTC)
    readings = [{"timestamp": (first + timedelta(days=day)).isoformat(), "count": 1} for day in range(1_001)]
    found = problem(await client.post("/ingest", json={"id": "d", "readings": readings}), 413, "too_large")
    assert "1,000 days" in found["detail"]
