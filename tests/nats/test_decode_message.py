"""What a message may hold: a body of POST /v1/events, or one event alone."""

import gzip
import json
from datetime import UTC, datetime
from functools import partial

import msgspec
import pytest

from headcount.ingest.formats import decode_event_message
from headcount.wire.problems import Problem
from headcount.wire.threads import TakesTime, in_a_hurry

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
EVENT = {"dpu": "dpu-1", "timestamp": "2026-03-04T12:00:00Z", "direction": 1}
OTHER = EVENT | {"dpu": "dpu-2"}
JSON = json.dumps
MSGPACK = "application/msgpack"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (JSON({"events": [EVENT, OTHER]}).encode(), ""),
        (JSON({"events": [EVENT, OTHER]}).encode(), "application/json; charset=utf-8"),
        (f"{JSON(EVENT)}\n{JSON(OTHER)}\n".encode(), "application/x-ndjson"),
        (msgspec.msgpack.encode({"events": [EVENT, OTHER]}), MSGPACK),
        (b"timestamp,direction,dpu_id\n2026-03-04T12:00:00Z,1,dpu-1\n2026-03-04T12:00:00Z,1,dpu-2\n", "text/csv"),
    ],
    ids=["json", "json-said", "ndjson", "msgpack", "csv"],
)
def test_it_takes_what_http_takes(body: bytes, content_type: str) -> None:
    batch = decode_event_message(body, content_type)
    assert ([*batch.dpus], [*batch.times], [*batch.directions]) == (["dpu-1", "dpu-2"], [NOON, NOON], [1, 1])
    zipped = decode_event_message(gzip.compress(body), content_type, "gzip")
    assert [*zipped.dpus] == ["dpu-1", "dpu-2"]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (JSON(EVENT).encode(), ""),
        (b"\xef\xbb\xbf \n" + JSON(EVENT, indent=2).encode() + b"\n", ""),
        (JSON(EVENT | {"timestamp": "2026-03-04T12:00:00.0000000Z"}).encode(), ""),
        (msgspec.msgpack.encode(EVENT), MSGPACK),
    ],
    ids=["json", "json-indented", "json-slow", "msgpack"],
)
def test_it_takes_one_event_alone(body: bytes, content_type: str) -> None:
    batch = decode_event_message(body, content_type)
    assert ([*batch.dpus], [*batch.times], [*batch.directions], [*batch.sequences]) == (["dpu-1"], [NOON], [1], [0])
    assert not batch.refusals


@pytest.mark.parametrize("content_type", ["", MSGPACK])
def test_one_event_alone_that_is_wrong_is_refused_as_in_a_batch(content_type: str) -> None:
    encode = msgspec.msgpack.encode if content_type else msgspec.json.encode
    batch = decode_event_message(encode(EVENT | {"direction": "in"}), content_type)
    assert batch.received == 1
    [refusal] = batch.refusals
    assert "`direction` must be an integer" in refusal.detail
    assert "dpu-1" in refusal.body


OF_NO_FORMAT = {
    "nothing": (b"", "", ""),
    "text": (b"hello", "", ""),
    "a list": (b"[1]", "", ""),
    "a number": (b"1", "", ""),
    "more behind": (JSON(EVENT).encode() + b"x", "", ""),
    "events that are no list": (b'{"events": 1}', "", ""),
    "an unknown field": (b'{"events": [], "more": 1}', "", ""),
    "no MessagePack": (b"\xc1", MSGPACK, ""),
    "a number in MessagePack": (b"\x01", MSGPACK, ""),
    "an image": (JSON(EVENT).encode(), "image/png", ""),
    "another charset": (JSON(EVENT).encode(), "application/json; charset=latin-1", ""),
    "not packed": (JSON(EVENT).encode(), "", "gzip"),
    "another encoding": (JSON(EVENT).encode(), "", "br"),
    "cut off": (gzip.compress(JSON(EVENT).encode())[:-1], "", "gzip"),
    "too large unpacked": (gzip.compress(b" " * (9 * 1024 * 1024)), "", "gzip"),
    "inflated more than a message can be": (gzip.compress(JSON(EVENT).encode() + b" " * (2 * 1024 * 1024)), "", "gzip"),
    "too many events": (JSON({"events": [EVENT] * 10_001}).encode(), "", ""),
    "too deep": (b"[" * 100_000, "", ""),
}


@pytest.mark.parametrize(("body", "content_type", "encoding"), OF_NO_FORMAT.values(), ids=OF_NO_FORMAT)
def test_what_is_of_no_format_is_a_problem_as_a_whole(body: bytes, content_type: str, encoding: str) -> None:
    with pytest.raises(Problem) as refused:
        decode_event_message(body, content_type, encoding)
    assert 400 <= refused.value.kind.status < 500


def test_what_takes_time_is_told_to_who_is_in_a_hurry() -> None:
    for body, encoding in (
        (gzip.compress(JSON({"events": [EVENT] * 1_000}).encode()), "gzip"),
        (JSON({"events": [EVENT | {"direction": "in"}] * 100}).encode(), ""),
    ):
        with pytest.raises(TakesTime):
            in_a_hurry(partial(decode_event_message, content_encoding=encoding), body)
        assert decode_event_message(body, content_encoding=encoding).received >= 100
    small = gzip.compress(JSON(EVENT).encode())
    assert in_a_hurry(partial(decode_event_message, content_encoding="gzip"), small).size == 1
