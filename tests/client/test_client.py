"""headcount.client: what it asks, how it tries again, and what it tells when that does not help."""

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path

import asyncpg
import httpx
import pytest
import pytest_asyncio

from headcount import client as module
from headcount.client import (
    AsyncClient,
    Client,
    CountOut,
    DpuChangeOut,
    EventIn,
    ProblemError,
    SpaceChangeOut,
    Unavailable,
    frame,
    seconds_of,
)
from tests.client.flaky import answer, answering, cutting
from tests.commands.support import PATIENCE, free_port, serving
from tests.factories import apply_site
from tests.http.guarded import new_token

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
SITE = {
    "spaces": [{"id": "hall", "capacity": 10, "time_zone": "Europe/Berlin"}, {"id": "nook", "parent": "hall"}],
    "doorways": [{"id": "front", "sides": [None, "hall"]}, {"id": "arch", "sides": ["hall", "nook"]}],
    "dpus": [{"id": "dpu-1"}, {"id": "dpu-2"}],
    "placements": [
        {"dpu": "dpu-1", "doorway": "front", "mounted_in": "hall", "from": "2026-01-01T00:00:00Z"},
        {"dpu": "dpu-2", "doorway": "arch", "mounted_in": "nook", "from": "2026-01-01T00:00:00Z"},
    ],
}
COUNT = (
    '{"space":"hall","at":"2026-03-02T12:00:00Z","count":3,"raw_count":3,"since":null,"capacity":null,'
    '"utilization":null,"dpus":{"placed":1,"online":1},"counted":true,"counted_since":null,"later":"field"}'
)
BUSY = (
    '{"type":"urn:headcount:error:unavailable","title":"Busy","status":503,"detail":"Too much.","code":"unavailable"}'
)


def events(*directions: int, dpu: str = "dpu-1", at: datetime = NOON) -> list[EventIn]:
    return [
        EventIn(dpu, at - timedelta(minutes=len(directions) - number), direction)
        for number, direction in enumerate(directions)
    ]


@pytest_asyncio.fixture(loop_scope="session")
async def port(connection: asyncpg.Connection, database_url: str, tmp_path: Path) -> AsyncIterator[int]:
    """Of a service with a hall, a nook in it and a DPU above the doorway of each."""
    await apply_site(connection, **SITE)
    port = free_port()
    with serving(tmp_path, database_url, port) as process:
        yield port
        await asyncio.to_thread(process.end)


def address(port: int) -> str:
    return f"http://127.0.0.1:{port}"


async def test_it_records_events_and_reads_counts_series_and_events(port: int) -> None:
    def use() -> None:
        with Client(address(port)) as headcount:
            sent = headcount.record_events(events(2, 1, -1) + events(1, dpu="dpu-2"))
            assert (sent.received, sent.accepted, sent.duplicates, sent.rejected) == (4, 4, 0, [])
            count = headcount.count("hall", at=NOON)
            assert (count.count, count.at, count.utilization, count.dpus.placed) == (2, NOON, 0.2, 1)
            berlin = NOON.astimezone(timezone(timedelta(hours=1)))
            assert headcount.count("hall", at=berlin).count == 2
            assert headcount.count("hall", at=NOON, known_at=NOON).count == 0
            assert headcount.count("hall", max_staleness=60).space == "hall"
            assert [one.space for one in headcount.counts(under="hall", at=NOON).counts] == ["hall", "nook"]
            found = headcount.counts(["nook"], at=NOON)
            assert [(one.space, one.count) for one in found.counts] == [("nook", 1)]
            assert len(headcount.counts().counts) == 2
            series = headcount.series("hall", NOON - timedelta(hours=1), NOON, interval="15m", time_zone="UTC")
            assert [bucket.count for bucket in series.buckets] == [0, 0, 0, 2]
            assert [event.direction for event in headcount.events(dpu="dpu-1")] == [2, 1, -1]
            assert [event.sign for event in headcount.events(space="hall", from_=NOON - timedelta(minutes=2))] == [1, 1]

    await asyncio.to_thread(use)


async def test_the_async_client_answers_the_same(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_EVENTS", 2)
    monkeypatch.setattr(module, "PAGE_EVENTS", 2)
    async with AsyncClient(address(port)) as headcount:
        wrong = EventIn("no id", NOON, 1)
        sent = await headcount.record_events([*events(2, 1, -1), wrong, *events(2, at=NOON + timedelta(minutes=1))])
        assert (sent.received, sent.accepted, sent.duplicates) == (5, 4, 0)
        # of the second batch of two: its place among all of them
        assert [(one.index, one.code) for one in sent.rejected] == [(3, "invalid")]
        assert (await headcount.count("hall", at=NOON)).count == 4
        assert [one.space for one in (await headcount.counts(["hall", "nook"])).counts] == ["hall", "nook"]
        assert (await headcount.series("hall")).time_zone == "Europe/Berlin"
        found = [event.direction async for event in headcount.events(dpu="dpu-1")]
        assert sorted(found) == [-1, 1, 2, 2]
        with pytest.raises(ProblemError) as refused:
            await headcount.count("cellar")
        assert (refused.value.problem.status, refused.value.problem.code) == (404, "not_found")
        assert refused.value.request_id
        assert str(refused.value).startswith("404 not_found: There is no space 'cellar'")


async def test_a_lost_answer_is_asked_for_again_and_nothing_counts_twice(port: int) -> None:
    async with cutting(port) as cutter, AsyncClient(address(cutter.port)) as headcount:
        cutter.lose = 2
        sent = await headcount.record_events(events(5))
        assert (sent.received, sent.accepted, sent.duplicates) == (1, 0, 1)
        assert cutter.connections == 3
        assert (await headcount.count("hall", at=NOON)).count == 5
        cutter.lose = 1
        assert (await asyncio.to_thread(count_once, cutter.port)).count == 5


def count_once(port: int) -> CountOut:
    with Client(address(port)) as headcount:
        return headcount.count("hall", at=NOON)


async def test_it_waits_as_long_as_a_busy_service_says() -> None:
    later = (datetime.now(UTC) + timedelta(seconds=2)).replace(microsecond=0)
    busy = [
        answer("503 Service Unavailable", BUSY, "Retry-After: 1"),
        answer("429 Too Many Requests", BUSY, f"Retry-After: {format_datetime(later, usegmt=True)}"),
        answer("502 Bad Gateway", "<html>"),
    ]
    async with answering(*busy, answer("200 OK", COUNT)) as url, AsyncClient(url) as headcount:
        begun = time.monotonic()
        assert (await headcount.count("hall")).count == 3
        assert time.monotonic() - begun >= 1.0
        assert datetime.now(UTC) >= later


async def test_it_gives_up_after_its_patience_and_says_why() -> None:
    async with answering(answer("503 Service Unavailable", BUSY, "Retry-After: 1")) as url:
        async with AsyncClient(url, patience=0) as headcount:
            with pytest.raises(Unavailable, match=r"/v1/spaces/hall/count did not answer within 0 s: 503 unavailable"):
                await headcount.count("hall", at=NOON)
        with Client(url, patience=0) as plain, pytest.raises(Unavailable, match="Too much"):
            await asyncio.to_thread(plain.count, "hall")
    with socket.socket() as nobody:  # who has the port and does not listen
        nobody.bind(("127.0.0.1", 0))
        away = address(nobody.getsockname()[1])
        await ask_in_vain(away)


async def ask_in_vain(url: str) -> None:
    async with AsyncClient(url, patience=0.3) as headcount:
        with pytest.raises(Unavailable, match=r"within 0\.3 s") as refused:
            await headcount.count("hall")
        assert isinstance(refused.value.__cause__, httpx.ConnectError)
        with pytest.raises(Unavailable):
            async for _ in headcount.live():
                pass


async def test_what_is_no_answer_of_the_service_is_a_problem_in_its_shape() -> None:
    strange = [
        answer("200 OK", "<html>Log in</html>"),
        answer("302 Found", "", "Location: https://example.org/login"),
        answer("403 Forbidden", "blocked"),
    ]
    async with answering(*strange) as url, AsyncClient(url) as headcount:
        for words in ("not one of Headcount", "It leads to https://example.org/login", "blocked"):
            with pytest.raises(ProblemError, match=words) as refused:
                await headcount.count("hall")
            assert (refused.value.problem.code, refused.value.request_id) == ("", None)


async def test_it_refuses_what_cannot_be_meant_before_it_asks() -> None:
    with Client("http://127.0.0.1:9") as headcount:
        with pytest.raises(ValueError, match=r"at: .* has no time zone"):
            headcount.count("hall", at=NOON.replace(tzinfo=None))
        with pytest.raises(ValueError, match=r"events\[1\]\.timestamp: .* has no time zone"):
            headcount.record_events([*events(1), EventIn("dpu-1", NOON.replace(tzinfo=None), 1)])
        with pytest.raises(TypeError, match="a list of ids"):
            headcount.counts("hall")
    with Client("127.0.0.1:8000") as wrong, pytest.raises(httpx.UnsupportedProtocol):
        wrong.count("hall")


async def test_it_asks_below_the_path_of_the_address_and_with_the_token() -> None:
    asked: list[bytes] = []
    async with (
        answering(answer("200 OK", COUNT), asked=asked.append) as url,
        AsyncClient(f"{url}/counting/", token="hc_1", headers={"X-Request-Id": "mine"}) as headcount,
    ):
        await headcount.count("a:b", at=NOON)
    head = asked[0].decode()
    assert head.startswith("GET /counting/v1/spaces/a%3Ab/count?at=2026-03-02T12%3A00%3A00Z HTTP/1.1\r\n")
    assert "\r\nAuthorization: Bearer hc_1\r\n" in head
    assert "\r\nX-Request-Id: mine\r\n" in head


async def test_the_live_stream_goes_on_where_it_was_cut(port: int) -> None:
    async with cutting(port) as cutter, AsyncClient(address(cutter.port)) as headcount, asyncio.timeout(PATIENCE):
        live = headcount.live(["hall"])
        seen: list[int] = []
        async for change in live:
            if not isinstance(change, CountOut):
                continue  # the DPU is heard from for the first time
            seen.append(change.raw_count)
            if len(seen) == 1:
                await headcount.record_events(events(1, at=datetime.now(UTC)))
            elif len(seen) == 2:
                told = live.last_id
                cutter.cut()
                with Client(address(port)) as other:  # while nobody listens
                    await asyncio.to_thread(other.record_events, events(4, at=datetime.now(UTC)))
            elif change.raw_count == 5:
                break
        assert seen[:2] == [0, 1]
        # what was told before the cut is not told again
        assert seen[2:] == [5]
        assert live.last_id != told
        # a new stream, from where that one was
        async for change in headcount.live(["hall"], last_id=told):
            if isinstance(change, CountOut):
                assert change.raw_count == 5
                break


async def test_the_live_stream_tells_of_spaces_and_sensors(port: int) -> None:
    kinds: set[type] = set()
    async with AsyncClient(address(port)) as headcount, asyncio.timeout(PATIENCE):
        async for change in headcount.live(under="hall"):
            if not kinds:
                async with httpx.AsyncClient(base_url=address(port), timeout=PATIENCE) as http:
                    await http.put("/v1/spaces/nook", json={"name": "Nook"})
                await headcount.record_events(events(1, dpu="dpu-2", at=datetime.now(UTC)))
            kinds.add(type(change))
            if isinstance(change, DpuChangeOut):
                assert (change.dpu, change.state, change.space) == ("dpu-2", "online", "nook")
            if isinstance(change, SpaceChangeOut):
                assert (change.space, change.deleted) == ("nook", False)
            if kinds == {CountOut, SpaceChangeOut, DpuChangeOut}:
                break


async def test_the_live_stream_passes_over_what_it_does_not_know_and_waits_while_the_service_is_busy() -> None:
    weather = 'retry: 1000\nid: 1\nevent: weather\ndata: {"sun":true}\n\n: still here\n'
    stream = f"{weather}id: 2\nevent: count\ndata: {COUNT}\n\n"
    asked: list[bytes] = []
    busy = answer("503 Service Unavailable", BUSY, "Retry-After: 0")
    async with (
        answering(busy, answer("200 OK", stream), busy, answer("200 OK", stream), asked=asked.append) as url,
        AsyncClient(url) as headcount,
    ):
        live = headcount.live(under="hall")
        found = []
        async for change in live:
            found.append(change)
            if len(found) == 2:
                break
    assert [type(change) for change in found] == [CountOut, CountOut]
    assert live.last_id == "2"
    assert [b"last-event-id: 2" in head.lower() for head in asked] == [False, False, True, True]


async def test_the_live_stream_ends_when_its_token_is_refused(
    connection: asyncpg.Connection, database_url: str, tmp_path: Path
) -> None:
    await apply_site(connection, **SITE)
    token = (await new_token(connection, "ingest"))["Authorization"].removeprefix("Bearer ")
    port = free_port()
    with serving(tmp_path, database_url, port, HEADCOUNT_AUTH="required") as process:
        for given, code in ((None, "unauthorized"), (token, "forbidden")):
            async with AsyncClient(address(port), token=given) as headcount:
                with pytest.raises(ProblemError) as refused:
                    async for _ in headcount.live():
                        pass
                assert refused.value.problem.code == code
        async with AsyncClient(address(port), token=token) as headcount:
            assert (await headcount.record_events(events(1))).accepted == 1
        await asyncio.to_thread(process.end)


async def test_a_series_becomes_a_table_in_its_own_time_zone(port: int) -> None:
    async with AsyncClient(address(port)) as headcount:
        await headcount.record_events(events(2, 1))
        day = datetime(2026, 3, 2, tzinfo=timezone(timedelta(hours=1)))
        table = frame(await headcount.series("hall", day, day + timedelta(days=1)))
        empty = frame(await headcount.series("nook", day, day + timedelta(hours=1)))
    assert len(table) == 24
    assert str(table.index.dtype) == "datetime64[us, Europe/Berlin]"
    assert table.index.name == "start"
    assert table.index[0].isoformat() == "2026-03-02T00:00:00+01:00"
    assert list(table.columns) == list(module.BucketOut.__struct_fields__[1:])
    assert table["entries"].sum() == 3
    assert table.loc["2026-03-02 12:00", "count"] == 3
    assert table.loc["2026-03-02 12:00", "utilization"] == 0.3
    assert empty["utilization"].isna().all()


def test_a_retry_after_is_read_as_seconds_or_as_a_date() -> None:
    assert seconds_of("7") == 7.0
    assert seconds_of(" 7 ") == 7.0
    assert 3000 < seconds_of(format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)) <= 3600
    assert seconds_of("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    for text in ("", "soon", "-1", "1.5", "²"):
        assert seconds_of(text) == 0.0


def test_importing_it_imports_nothing_of_the_service() -> None:
    code = (
        "import sys, headcount.client\n"
        "wanted = 'headcount litestar asyncpg uvicorn psycopg pandas nats apprise prometheus_client'.split()\n"
        "print(*sorted(name for name in sys.modules if name.partition('.')[0] in wanted))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [
        "headcount",
        "headcount.client",
        "headcount.wire",
        "headcount.wire.instants",
        "headcount.wire.messages",
        "headcount.wire.messages.base",
        "headcount.wire.messages.counts",
        "headcount.wire.messages.events",
    ]
