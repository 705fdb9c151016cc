"""POST /v1/polls."""

import gzip
import json
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest

from headcount.ingest.polls import POLLS
from tests.http import body, poll, problem
from tests.http.guarded import build_site, guarded, new_token

AT = datetime(2026, 1, 5, 8, 0, 0, 448590, tzinfo=UTC)
STORED = [("store-1", AT, True), ("store-1", AT, False)]
ITEMS = [poll(timestamp="2026-01-05T08:00:00.44859Z", status=status) for status in ("active", "inactive")]


async def stored(connection: asyncpg.Connection) -> list[tuple[Any, ...]]:
    rows = await connection.fetch(
        "select s.id, p.time, p.is_active from core.poll p join core.space s using (space_id) order by 1, 2, 3 desc"
    )
    return [tuple(row) for row in rows]


async def test_it_answers_with_a_verdict_for_each_poll_that_it_did_not_take(client: httpx.AsyncClient) -> None:
    polls = [poll(), poll(), poll(timestamp="2999-01-01T00:00:00Z"), poll(status="Active"), poll(status="inactive")]
    answer = body(await client.post("/v1/polls", json={"polls": polls}))
    assert [item.pop("detail") != "" for item in answer["rejected"]] == [True, True]
    assert answer == {
        "received": 5,
        "accepted": 2,
        "duplicates": 1,
        "rejected": [{"index": 2, "code": "in_future"}, {"index": 3, "code": "invalid"}],
    }


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("application/json", json.dumps({"polls": ITEMS}).encode()),
        ("application/msgpack", msgspec.msgpack.encode({"polls": ITEMS})),
        ("application/x-ndjson", "".join(json.dumps(item) + "\n" for item in ITEMS).encode()),
        (
            "text/csv",
            b"store_id,status,timestamp_utc\nstore-1,active,2026-01-05 08:00:00.44859 UTC\n"
            b"store-1,inactive,2026-01-05 08:00:00.44859 UTC\n",
        ),
        (
            "text/csv",
            b"timestamp,space,status\n2026-01-05T08:00:00.448590Z,store-1,active\n"
            b"2026-01-05T09:00:00.448590+01:00,store-1, inactive\n",
        ),
    ],
    ids=["JSON", "MessagePack", "NDJSON", "CSV", "CSV, the slow way"],
)
@pytest.mark.parametrize("packed", [False, True], ids=["as it is", "gzip"])
async def test_it_takes_every_format(
    client: httpx.AsyncClient, connection: asyncpg.Connection, kind: str, content: bytes, packed: bool
) -> None:
    headers = {"content-type": kind} | ({"content-encoding": "gzip"} if packed else {})
    sent = gzip.compress(content) if packed else content
    answer = body(await client.post("/v1/polls", content=sent, headers=headers))
    assert (answer["accepted"], answer["rejected"]) == (2, [])
    assert await stored(connection) == STORED


@pytest.mark.parametrize(
    "bad",
    [
        poll(status="up"),
        poll(status=True),
        poll(space="no id!"),
        poll(space=1),
        poll(timestamp="2026-01-05T08:00:00"),
        {**poll(), "dpu": "x"},
        {"space": "store-1", "timestamp": "2026-01-05T08:00:00Z"},
        "active",
    ],
)
def test_its_fast_and_slow_paths_agree_about_a_bad_poll(bad: Any) -> None:
    items = [poll(), bad, poll(timestamp="2026-01-05T09:00:00Z")]
    ndjson = b"".join(json.dumps(item).encode() + b"\n" for item in items)
    for batch in (
        POLLS.json(json.dumps({"polls": items}).encode()),
        POLLS.msgpack(msgspec.msgpack.encode({"polls": items})),
        POLLS.ndjson(ndjson),
    ):
        assert batch.indexes == [0, 2]
        assert [refusal.index for refusal in batch.refusals] == [1]


async def test_it_refuses_what_are_no_polls_as_a_whole(client: httpx.AsyncClient) -> None:
    problem(await client.post("/v1/polls", json={"events": []}), 422, "invalid")
    problem(await client.post("/v1/polls", json={"polls": [poll()] * 10_001}), 413, "too_large")
    response = await client.post("/v1/polls", content=b"a,b\n1,2\n", headers={"content-type": "text/csv"})
    problem(response, 422, "invalid", "line 1")
    assert body(await client.post("/v1/polls", json={"polls": []}))["received"] == 0


async def test_a_limited_token_reports_on_its_own_spaces_and_creates_none(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build_site(connection)
    async with guarded(database_url) as client:
        client.headers.update(await new_token(connection, "ingest", space="own"))
        polls = [poll("own"), poll("own-room"), poll("secret-b"), poll("secret-campus"), poll("quite-new")]
        answer = body(await client.post("/v1/polls", json={"polls": polls}))
        assert (answer["accepted"], [item["code"] for item in answer["rejected"]]) == (2, ["unknown_space"] * 3)
        assert len({item["detail"] for item in answer["rejected"]}) == 1
    assert not await connection.fetchval("select count(*) from core.space where id = 'quite-new'")


async def test_many_polls_are_stored_in_parts(client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    polls = [poll(timestamp=f"2026-01-05T{n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}Z") for n in range(2_500)]
    polls[1_700] = poll(timestamp="2999-01-01T00:00:00Z")
    answer = body(await client.post("/v1/polls", json={"polls": [*polls, polls[3]]}))
    assert (answer["received"], answer["accepted"], answer["duplicates"]) == (2_501, 2_499, 1)
    assert [(item["index"], item["code"]) for item in answer["rejected"]] == [(1_700, "in_future")]
    parts = await connection.fetch("select count(*) from core.poll group by xmin::text")
    assert sum(part["count"] for part in parts) == 2_499
    assert max(part["count"] for part in parts) <= 1_000


async def test_many_polls_that_cannot_be_read_are_kept_in_parts(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    """Keeping them takes as long as storing others."""
    bad = [poll(status=f"no-{n}") for n in range(2_100)]
    for polls, accepted in (([], 0), ([poll(), poll(space="store-2")], 2)):
        answer = body(await client.post("/v1/polls", json={"polls": [*bad, *polls]}))
        assert (answer["received"], answer["accepted"]) == (len(bad) + len(polls), accepted)
        assert [item["index"] for item in answer["rejected"]] == list(range(len(bad)))
        parts = await connection.fetch("select count(*) from core.rejected_poll group by xmin::text")
        assert sorted(part["count"] for part in parts) == [100, 1_000, 1_000]
        await connection.execute("delete from core.rejected_poll")


async def test_refused_polls_that_differ_only_behind_what_is_shown_are_kept_by_themselves(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    for end in ("a", "b", "a"):
        answer = await client.post("/v1/polls", json={"polls": [poll(status="x" * 2_000 + end)]})
        assert [item["code"] for item in body(answer)["rejected"]] == ["invalid"]
    assert await connection.fetchval("select count(*) from core.rejected_poll") == 2


async def test_polls_of_many_days_are_stored_in_parts(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    """Each in a transaction of its own, so that the plan is not locked for all of it; the answer is that of one."""
    days = [poll(timestamp=f"2026-01-{day:02}T08:00:00Z") for day in range(1, 26)]
    polls = [*days, poll(status="Active"), days[3], poll(timestamp="2999-01-01T00:00:00Z"), poll(space="store-2")]
    answer = body(await client.post("/v1/polls", json={"polls": polls}))
    assert [(item["index"], item["code"]) for item in answer["rejected"]] == [(25, "invalid"), (27, "in_future")]
    assert (answer["received"], answer["accepted"], answer["duplicates"]) == (29, 26, 1)
    assert len(await stored(connection)) == 26
    # by the transactions that wrote them, none with more than ten days; 2999 is one of the first
    parts = await connection.fetch("select count(distinct time::date) as days from core.poll group by xmin::text")
    assert sorted(part["days"] for part in parts) == [6, 9, 10]
    assert await connection.fetchval("select count(*) from core.rejected_poll") == 2
    again = body(await client.post("/v1/polls", json={"polls": days}))
    assert (again["accepted"], again["duplicates"]) == (0, 25)
