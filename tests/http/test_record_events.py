"""POST /v1/events."""

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest

from headcount.ingest import formats
from headcount.wire.bodies import MAX_BODY
from tests.http import Json, body, event, problem, room_with_dpu, send

GOOD = event(timestamp="2026-01-05T08:00:00Z")
CSV = b"timestamp,direction,dpu_id\n2026-01-05T08:00:00Z,1,dpu-1\n"


async def post(
    client: httpx.AsyncClient, content: bytes, kind: str = "application/json", **headers: str
) -> httpx.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.post("/v1/events", content=content, headers={"content-type": kind, **names})


async def stored(connection: asyncpg.Connection) -> int:
    return int(await connection.fetchval("select count(*) from core.event"))


async def test_it_answers_with_a_verdict_for_each_event_that_it_did_not_take(client: httpx.AsyncClient) -> None:
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    answer = await send(client, GOOD, GOOD, event(timestamp=soon))
    assert answer["rejected"][0].pop("detail")
    assert answer == {
        "received": 3,
        "accepted": 1,
        "duplicates": 1,
        "rejected": [{"index": 2, "code": "in_future"}],
    }


@pytest.mark.parametrize(
    ("code", "before", "refused"),
    [
        ("invalid", [], event(direction=1.5)),
        ("conflict", [GOOD], {**GOOD, "direction": -1}),
        ("in_future", [], event(timestamp="2999-01-01T00:00:00Z")),
        ("too_old", [], event(timestamp="2009-06-30T23:59:59Z")),
    ],
)
async def test_it_refuses_one_event_and_takes_those_around_it(
    client: httpx.AsyncClient, connection: asyncpg.Connection, code: str, before: list[Json], refused: Json
) -> None:
    if before:
        await send(client, *before)
    around = [event(timestamp="2026-01-05T09:00:00Z"), event(timestamp="2026-01-05T10:00:00Z")]
    answer = await send(client, around[0], refused, around[1])
    assert (answer["received"], answer["accepted"], answer["duplicates"]) == (3, 2, 0)
    assert [(item["index"], item["code"]) for item in answer["rejected"]] == [(1, code)]
    assert await connection.fetchval("select code from core.rejected_event") == code


async def test_it_knows_no_dpu_by_itself_where_registration_is_switched_off(
    connection: asyncpg.Connection,
) -> None:
    batch = formats.decode_json(json.dumps({"events": [GOOD]}).encode())
    answer = await formats.record(connection, batch, auto_register=False)
    assert [(item.index, item.code) for item in answer.rejected] == [(0, "unknown_dpu")]


INVALID = {
    "direction is a fraction": event(direction=1.5),
    "direction is text": event(direction="1"),
    "direction is a boolean": event(direction=True),
    "direction is null": event(direction=None),
    "direction is too large": event(direction=2**31),
    "direction is huge": event(direction=10**40),
    "direction is missing": {"dpu": "dpu-1", "timestamp": "2026-01-05T08:00:00Z"},
    "sequence is negative": event(sequence=-1),
    "sequence is too large": event(sequence=32_768),
    "timestamp is naive": event(timestamp="2026-01-05T08:00:00"),
    "timestamp is a number": event(timestamp=1_700_000_000),
    "timestamp leaves the year 9999": event(timestamp="9999-12-31T23:59:59-01:00"),
    "timestamp is no time": event(timestamp="yesterday"),
    "dpu has 65 characters": event(dpu="x" * 65),
    "dpu is empty": event(dpu=""),
    "dpu is SQL": event(dpu="'; drop table core.event; --"),
    "dpu has a line break": event(dpu="dpu-1\n"),
    "dpu has NUL": event(dpu="dpu\u0000"),
    "dpu is a lone surrogate": event(dpu="\ud800"),
    "dpu is a number": event(dpu=423),
    "it has an unknown field": event(count=1),
    "it is a number": 7,
    "it is a list": [GOOD],
    "it is null": None,
}


@pytest.mark.parametrize("fault", INVALID)
@pytest.mark.parametrize("kind", ["application/json", "application/msgpack", "application/x-ndjson"])
async def test_it_refuses_an_invalid_event_and_names_the_field(
    client: httpx.AsyncClient, connection: asyncpg.Connection, fault: str, kind: str
) -> None:
    bad: Any = INVALID[fault]
    if kind == "application/msgpack":
        if fault in ("direction is huge", "dpu is a lone surrogate"):
            pytest.skip("MessagePack cannot say it")
        content = msgspec.msgpack.encode({"events": [GOOD, bad]})
    elif kind == "application/json":
        content = json.dumps({"events": [GOOD, bad]}).encode()
    else:
        content = json.dumps(GOOD).encode() + b"\n" + json.dumps(bad).encode()
    answer = body(await post(client, content, kind))
    assert (answer["received"], answer["accepted"]) == (2, 1)
    assert [(item["index"], item["code"]) for item in answer["rejected"]] == [(1, "invalid")]
    field = fault.split()[0]
    assert field == "it" or f"`{field}`" in answer["rejected"][0]["detail"]
    kept = await connection.fetchrow("select code, detail, body from core.rejected_event")
    assert kept is not None
    assert (kept["code"], kept["detail"]) == ("invalid", answer["rejected"][0]["detail"])
    assert kept["body"].isprintable()
    assert json.loads(kept["body"]) == json.loads(json.dumps(bad)) or fault == "dpu has NUL"


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000])
async def test_it_takes_the_good_events_beside_a_number_that_json_has_not(client: httpx.AsyncClient, word: str) -> None:
    bad = json.dumps(event()).replace('"direction": 1', f'"direction": {word}')
    answer = body(await post(client, f'{{"events": [{json.dumps(GOOD)}, {bad}]}}'.encode()))
    assert (answer["accepted"], [item["index"] for item in answer["rejected"]]) == (1, [1])


async def test_it_takes_the_good_events_beside_one_that_is_nested_deeply(client: httpx.AsyncClient) -> None:
    good, bad = json.dumps(GOOD).encode(), b'{"dpu":' + b'["]\\"",{"a":' * 50_000 + b"1" + b"}]" * 50_000 + b"}"
    for content, kind in (
        (b'{"events":[' + bad + b"," + good + b"]}", "application/json"),
        (bad + b"\n" + good, "application/x-ndjson"),
    ):
        answer = body(await post(client, content, kind))
        assert answer["accepted"] + answer["duplicates"] == 1
        assert [item["index"] for item in answer["rejected"]] == [0]


async def test_it_takes_the_good_events_beside_bytes_that_are_not_utf_8(client: httpx.AsyncClient) -> None:
    good, bad = json.dumps(GOOD).encode(), json.dumps(event(dpu="@")).encode().replace(b"@", b"\xff")
    for content, kind in (
        (b'{"events":[' + good + b"," + bad + b"]}", "application/json"),
        (good + b"\n" + bad + b"\n", "application/x-ndjson"),
        (CSV + b"2026-01-05T08:00:00Z,1,\xff\n", "text/csv"),
    ):
        answer = body(await post(client, content, kind))
        assert answer["accepted"] + answer["duplicates"] == 1
        assert [item["index"] for item in answer["rejected"]] == [1]


@pytest.mark.parametrize("direction", [0, 7, -7, 2**31 - 1, -(2**31)])
async def test_it_takes_any_32_bit_direction(client: httpx.AsyncClient, direction: int) -> None:
    assert (await send(client, event(direction=direction)))["accepted"] == 1


async def test_it_rounds_digits_beyond_microseconds_half_to_even(client: httpx.AsyncClient) -> None:
    await send(client, event(timestamp="2026-01-05T08:00:00.1234565Z"), event(timestamp="2026-01-05T08:00:00.1234575Z"))
    items = body(await client.get("/v1/events?dpu=dpu-1"))["items"]
    assert [item["timestamp"] for item in items] == ["2026-01-05T08:00:00.123456Z", "2026-01-05T08:00:00.123458Z"]


FORMATS = {
    "application/json": json.dumps({"events": [GOOD]}).encode(),
    "application/json; charset=utf-8": json.dumps({"events": [GOOD]}).encode(),
    "application/msgpack": msgspec.msgpack.encode({"events": [GOOD]}),
    "application/x-ndjson": b"\n" + json.dumps(GOOD).encode() + b"\r\n\n",
    "text/csv": CSV,
    "text/csv; header=present": b"\xef\xbb\xbf" + CSV.replace(b"\n", b"\r\n").rstrip(),
}


@pytest.mark.parametrize("kind", FORMATS)
async def test_it_takes_every_format_plain_and_as_gzip(
    client: httpx.AsyncClient, connection: asyncpg.Connection, kind: str
) -> None:
    plain = FORMATS[kind]
    packed = gzip.compress(plain[:9]) + gzip.compress(plain[9:]) + gzip.compress(b"")  # several members
    taken = {"received": 1, "accepted": 1, "duplicates": 0, "rejected": []}
    assert body(await post(client, plain, kind)) == taken
    assert body(await post(client, packed, kind, content_encoding="gzip")) == {**taken, "accepted": 0, "duplicates": 1}
    assert await stored(connection) == 1


async def test_it_takes_a_body_without_content_type_for_json(client: httpx.AsyncClient) -> None:
    request = client.build_request("POST", "/v1/events", content=FORMATS["application/json"])
    request.headers.pop("content-type", None)
    assert body(await client.send(request))["accepted"] == 1


async def test_it_answers_in_msgpack_on_request(client: httpx.AsyncClient) -> None:
    response = await post(client, FORMATS["application/json"], accept="application/msgpack")
    assert response.headers["content-type"] == "application/msgpack"
    assert msgspec.msgpack.decode(response.content)["accepted"] == 1


async def test_it_takes_no_events_for_an_answer(client: httpx.AsyncClient) -> None:
    nothing = {"received": 0, "accepted": 0, "duplicates": 0, "rejected": []}
    for content, kind in (
        (b'{"events":[]}', "application/json"),
        (b"", "application/x-ndjson"),
        (b"timestamp,direction,dpu_id\n", "text/csv"),
    ):
        assert body(await post(client, content, kind)) == nothing


NESTED = b"[" * 100_000
PACKED = gzip.compress(FORMATS["application/json"])
WHOLE: dict[str, tuple[bytes | Callable[[], bytes], dict[str, str], int, str]] = {
    "nothing": (b"", {}, 400, "malformed"),
    "no JSON": (b"hello", {}, 400, "malformed"),
    "JSON cut off": (FORMATS["application/json"][:-1], {}, 400, "malformed"),
    "JSON and more": (FORMATS["application/json"] + b"x", {}, 400, "malformed"),
    "an event cut off": (b'{"events":[{"dpu":', {}, 400, "malformed"),
    "no comma": (b'{"events":[1 2]}', {}, 400, "malformed"),
    "JSON nested deeply": (NESTED, {}, 422, "invalid"),
    "an event nested deeply and cut off": (b'{"events":[{"dpu":' + NESTED + b"}]}", {}, 400, "malformed"),
    "a field nested deeply": (b'{"x":' + NESTED + b"}", {}, 422, "invalid"),
    "MessagePack nested deeply": (b"\x91" * 100_000, {"content-type": "application/msgpack"}, 422, "invalid"),
    "a MessagePack event nested deeply": (
        b"\x81\xa6events" + b"\x91" * 100_000,
        {"content-type": "application/msgpack"},
        400,
        "malformed",
    ),
    "no MessagePack": (b"\xc1", {"content-type": "application/msgpack"}, 400, "malformed"),
    "an array": (b"[]", {}, 422, "invalid"),
    "a number": (b"1", {}, 422, "invalid"),
    "no events": (b"{}", {}, 422, "invalid"),
    "events that are no array": (b'{"events":{}}', {}, 422, "invalid"),
    "MessagePack events that are no array": (
        msgspec.msgpack.encode({"events": 1}),
        {"content-type": "application/msgpack"},
        422,
        "invalid",
    ),
    "an unknown field": (b'{"events":[],"evnets":[]}', {}, 422, "invalid"),
    "CSV without header": (CSV.split(b"\n", 1)[1], {"content-type": "text/csv"}, 422, "invalid"),
    "CSV with an unknown column": (b"timestamp,direction,dpu_id,x\n", {"content-type": "text/csv"}, 422, "invalid"),
    "CSV with a column twice": (b"timestamp,direction,dpu_id,dpu_id\n", {"content-type": "text/csv"}, 422, "invalid"),
    "CSV without a column": (b"timestamp,direction\n", {"content-type": "text/csv"}, 422, "invalid"),
    "CSV of nothing": (b"", {"content-type": "text/csv"}, 422, "invalid"),
    "gzip cut off": (PACKED[:-1], {"content-encoding": "gzip"}, 400, "malformed"),
    "gzip of nothing": (b"", {"content-encoding": "gzip"}, 400, "malformed"),
    "gzip with garbage behind": (PACKED + b"garbage", {"content-encoding": "gzip"}, 400, "malformed"),
    "gzip damaged": (PACKED[:-8] + b"\0" * 8, {"content-encoding": "gzip"}, 400, "malformed"),
    "no gzip": (FORMATS["application/json"], {"content-encoding": "gzip"}, 400, "malformed"),
    "a gzip bomb": (
        lambda: gzip.compress(b" " * (200 * 1024 * 1024), 9),
        {"content-encoding": "gzip"},
        413,
        "too_large",
    ),
    "a bomb of members": (gzip.compress(b"") * 10_001, {"content-encoding": "gzip"}, 413, "too_large"),
    "8 MiB + 1": (b" " * (MAX_BODY + 1), {}, 413, "too_large"),
    "8 MiB + 1 of gzip": (b"\0" * (MAX_BODY + 1), {"content-encoding": "gzip"}, 413, "too_large"),
    "a million small things": (b'{"events":[' + b"0," * 1_000_000 + b"0]}", {}, 413, "too_large"),
    "brotli": (b"", {"content-encoding": "br"}, 415, "unsupported_media_type"),
    "XML": (b"<a/>", {"content-type": "text/xml"}, 415, "unsupported_media_type"),
    "Latin-1": (CSV, {"content-type": "text/csv; charset=latin-1"}, 415, "unsupported_media_type"),
}


@pytest.mark.parametrize("fault", WHOLE)
async def test_it_refuses_a_body_that_is_not_of_the_format_as_a_whole(
    client: httpx.AsyncClient, connection: asyncpg.Connection, fault: str
) -> None:
    made, headers, status, code = WHOLE[fault]
    content = made() if callable(made) else made  # what takes a second to make is made for its own test only
    response = await client.post("/v1/events", content=content, headers={"content-type": "application/json", **headers})
    problem(response, status, code)
    assert await stored(connection) == 0
    assert await connection.fetchval("select count(*) from core.rejected_event") == 0


async def test_it_takes_exactly_8_mib(client: httpx.AsyncClient) -> None:
    plain = FORMATS["application/json"]
    padded = plain + b" " * (MAX_BODY - len(plain))
    assert body(await post(client, padded))["accepted"] == 1
    assert body(await post(client, gzip.compress(padded), content_encoding="gzip"))["duplicates"] == 1


async def test_it_counts_the_bytes_that_come_whatever_content_length_says(client: httpx.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 1024 * 1024

    response = await client.post("/v1/events", content=endless(), headers={"content-length": "3"})
    problem(response, 413, "too_large")


async def test_it_refuses_a_long_body_by_its_content_length_alone(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/events", content=b"{}", headers={"content-length": str(MAX_BODY + 1)})
    problem(response, 413, "too_large")


async def test_it_answers_after_the_commit(client: httpx.AsyncClient) -> None:
    await room_with_dpu(client)
    await send(client, event(direction=3))
    assert body(await client.get("/v1/spaces/room/count"))["count"] == 3


HUGE = 3 * 1024 * 1024


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        pytest.param("application/json", b'{"events":[["' + b"\x01" * HUGE + b'"]]}', id="json"),
        pytest.param("application/json", b'{"events":[{"' + b"\x01" * HUGE + b'":1}]}', id="name"),
        pytest.param("application/x-ndjson", b"\x01" * HUGE, id="ndjson"),
        pytest.param("text/csv", b"timestamp,direction,dpu_id\n" + b"\x01" * HUGE, id="csv"),
        pytest.param("application/msgpack", msgspec.msgpack.encode({"events": ["\x01" * HUGE]}), id="msgpack"),
    ],
)
async def test_it_keeps_the_beginning_of_a_refused_event_and_says_how_long_it_was(
    client: httpx.AsyncClient, connection: asyncpg.Connection, kind: str, content: bytes
) -> None:
    answer = body(await post(client, content, kind))
    assert [item["code"] for item in answer["rejected"]] == ["invalid"]
    assert len(answer["rejected"][0]["detail"]) < 300
    kept = await connection.fetchval("select body from core.rejected_event")
    assert len(kept) < 1_100
    assert re.search(r" … \(the first of [0-9,]{9,} characters\)\Z", kept)


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/v1/events", {"events": [event("d", "2026-01-05T08:00:00Z")]}),
        ("/v1/heartbeats", {"heartbeats": [{"dpu": "d", "timestamp": "2026-01-05T08:00:00Z"}]}),
        ("/ingest", {"id": "d", "readings": [{"timestamp": "2026-01-05T08:00:00Z", "count": 1}]}),
    ],
)
async def test_the_receipt_of_what_is_backfilled_is_no_sign_of_life(
    client: httpx.AsyncClient, path: str, sent: dict[str, Any]
) -> None:
    """Together with others that are not, which may be stored at the same time."""
    others = [client.post("/v1/events", json={"events": [event(f"d{n}")]}) for n in range(5)]
    others += [client.post("/v1/heartbeats", json={"heartbeats": [{"dpu": f"e{n}"}]}) for n in range(5)]
    answer, *answers = await asyncio.gather(client.post(f"{path}?backfill=true", json=sent), *others)
    assert body(answer)["accepted"] == 1
    assert all(body(other)["accepted"] == 1 for other in answers)
    sensors = {sensor["id"]: sensor for sensor in body(await client.get("/sensors"))}
    assert (sensors["d"]["last_seen"], sensors["d"]["state"]) == ("2026-01-05T08:00:00Z", "quiet")
    assert sensors["d"]["since"] == "2026-01-05T08:10:00Z"
    assert {sensor["state"] for name, sensor in sensors.items() if name != "d"} == {"online"}
    problem(await client.post(f"{path}?backfill=perhaps", json=sent), 422, "invalid", "backfill")
    problem(await client.post(f"{path}?back=true", json=sent), 422, "invalid", "back")
