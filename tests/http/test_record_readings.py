"""POST /ingest."""

import json
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest

from tests.http import body, problem

READING = {"timestamp": "2023-01-01T00:00:00Z", "count": 3}


async def test_it_stores_readings_as_events_of_the_device(client: httpx.AsyncClient) -> None:
    sent = {"id": "1234", "readings": [READING, {**READING, "count": 4}, READING]}
    answer = body(await client.post("/ingest", json=sent))
    assert answer["rejected"][0].pop("detail")
    assert answer == {
        "received": 3,
        "accepted": 1,
        "duplicates": 1,
        "rejected": [{"index": 1, "code": "conflict"}],
    }
    items = body(await client.get("/v1/events?dpu=1234"))["items"]
    assert [(item["timestamp"], item["direction"]) for item in items] == [("2023-01-01T00:00:00Z", 3)]


@pytest.mark.parametrize(
    "bad",
    [
        {**READING, "count": 1.5},
        {**READING, "count": 2**31},
        {**READING, "timestamp": "2023-01-01T00:00:00"},
        {**READING, "x": 1},
        {"count": 1},
        7,
    ],
)
@pytest.mark.parametrize("msgpack", [False, True])
async def test_it_refuses_one_reading_and_takes_those_around_it(
    client: httpx.AsyncClient, connection: asyncpg.Connection, bad: Any, msgpack: bool
) -> None:
    sent = {"id": "1234", "readings": [bad, READING]}
    content = msgspec.msgpack.encode(sent) if msgpack else json.dumps(sent).encode()
    kind = "application/msgpack" if msgpack else "application/json"
    answer = body(await client.post("/ingest", content=content, headers={"content-type": kind}))
    assert (answer["accepted"], [item["index"] for item in answer["rejected"]]) == (1, [0])
    assert json.loads(await connection.fetchval("select body from core.rejected_event")) == bad


@pytest.mark.parametrize(
    ("sent", "where"),
    [
        ({"id": "a b", "readings": []}, "id"),
        ({"id": 1234, "readings": []}, "id"),
        ({"readings": []}, "id"),
        ({"id": "a"}, "readings"),
        ({"id": "a", "readings": {}}, "readings"),
        ({"id": "a", "readings": [], "x": 1}, "x"),
    ],
)
async def test_it_refuses_a_body_of_another_shape(client: httpx.AsyncClient, sent: Any, where: str) -> None:
    problem(await client.post("/ingest", json=sent), 422, "invalid", where)


async def test_it_takes_json_and_msgpack_only(client: httpx.AsyncClient) -> None:
    response = await client.post("/ingest", content=b"", headers={"content-type": "text/csv"})
    problem(response, 415, "unsupported_media_type")
    problem(await client.post("/ingest", content=b"{"), 400, "malformed")
