"""Heartbeats that come through NATS."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import msgspec
import pytest

from headcount.ingest.heartbeats import decode_heartbeat_message
from headcount.wire.problems import Problem
from tests.nats.load import consuming
from tests.nats.server import connect, nats_server
from tests.nats.test_consumer import until

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
MSGPACK = "application/msgpack"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'{"dpu": "a"}', ""),
        (b'{"heartbeats": [{"dpu": "a"}]}', ""),
        (msgspec.msgpack.encode({"dpu": "a"}), MSGPACK),
        (msgspec.msgpack.encode({"heartbeats": [{"dpu": "a"}]}), MSGPACK),
    ],
)
def test_one_without_a_time_is_of_when_the_stream_got_it(body: bytes, content_type: str) -> None:
    [found] = decode_heartbeat_message(body, content_type, "", NOON).heartbeats
    assert (found.dpu, found.timestamp) == ("a", NOON)


def test_one_with_a_time_keeps_it_and_a_bad_one_costs_no_other() -> None:
    body = {"heartbeats": [{"dpu": "a", "timestamp": "2026-03-04T11:00:00Z"}, {"dpu": "?"}]}
    batch = decode_heartbeat_message(json.dumps(body).encode(), "", "", NOON)
    assert [found.timestamp for found in batch.heartbeats] == [NOON - timedelta(hours=1)]
    assert [refused.index for refused in batch.refused] == [1]


@pytest.mark.parametrize("body", [b"", b"hello", b"[]", b'{"dpu": "?"}', b'{"dpu": "a", "mac_address": "b"}', b"{}"])
def test_what_is_none_is_a_problem_as_a_whole(body: bytes) -> None:
    with pytest.raises(Problem):
        decode_heartbeat_message(body, "", "", NOON)


def heartbeats(names: Sequence[str]) -> bytes:
    return json.dumps({"heartbeats": [{"dpu": name} for name in names]}).encode()


async def test_they_are_stored_and_what_is_none_is_a_dead_letter(
    connection: asyncpg.Connection, database_url: str, tmp_path: Path
) -> None:
    begun = datetime.now(UTC)
    with nats_server(tmp_path) as server, consuming(tmp_path, [server.url], database_url, "--what", "heartbeats"):
        client = await connect(server.url)
        jetstream = client.jetstream()
        for body in (b'{"dpu": "a"}', heartbeats(["a", "b"]), b"hello"):
            await jetstream.publish("headcount.heartbeats.a", body)

        async def is_empty() -> bool:
            return not (await jetstream.stream_info("headcount-heartbeats")).state.messages

        await until(is_empty)
        dead = (await jetstream.stream_info("headcount-dead")).state.messages
        await client.close()
    rows = await connection.fetch("select d.id, s.last_seen_at from core.dpu d join core.dpu_state s using (dpu_id)")
    assert {row["id"] for row in rows} == {"a", "b"}
    assert all(row["last_seen_at"] >= begun - timedelta(seconds=5) for row in rows)
    assert dead == 1
