"""How much one token may send, and what it is told beyond that."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import asyncpg
import httpx
import msgspec
import pytest

from headcount.database import calls
from headcount.http import rate_limits
from headcount.http.auth import digest_of, make_token
from headcount.http.rate_limits import BURST_SECONDS, Limiter
from headcount.ingest import formats
from headcount.wire.access import Share
from headcount.wire.problems import Problem
from tests.http import body, event, problem
from tests.http.guarded import bearer, guarded, new_token


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(rate_limits, "time", clock)
    return clock


def passed(limiter: Limiter, token: str, *, most: int = 10_000) -> int:
    """How many requests pass until one does not."""
    number = 0
    with suppress(Problem):
        while number < most:
            limiter.admit((Share(token),), is_ingest=False)
            number += 1
    return number


def test_requests_pass_at_the_rate_and_a_burst_after_a_pause(clock: Clock) -> None:
    limiter = Limiter(None, 10)
    assert passed(limiter, "one") == 10 * BURST_SECONDS
    assert passed(limiter, "other") == 10 * BURST_SECONDS, "each token has its own"
    clock.now += 1
    assert passed(limiter, "one") == 10
    clock.now += 3600
    assert passed(limiter, "one") == 10 * BURST_SECONDS


def test_events_are_paid_for_by_number_also_those_of_one_large_batch(clock: Clock) -> None:
    limiter = Limiter(10, None)
    limiter.admit((Share("one"),), is_ingest=True)
    limiter.charge((Share("one"),), 1000)
    with pytest.raises(Problem, match="10 events a second") as refused:
        limiter.admit((Share("one"),), is_ingest=True)
    # 50 were there: 950 are owed, and one more has to be there
    assert refused.value.headers == {"Retry-After": "96"}
    clock.now += 95
    with pytest.raises(Problem):
        limiter.admit((Share("one"),), is_ingest=True)
    clock.now += 0.2
    limiter.admit((Share("one"),), is_ingest=True)
    limiter.charge((Share("one"),), 0)
    limiter.charge((Share("one"),), 0)
    with pytest.raises(Problem):
        limiter.charge((Share("one"),), 1)


def test_the_tokens_own_rate_goes_before_that_of_the_service(clock: Clock) -> None:
    limiter = Limiter(None, 1)
    for _ in range(100):
        limiter.admit((Share("fast", None, 20),), is_ingest=False)
    assert passed(Limiter(None, None), "any") == 10_000


def test_a_family_has_no_more_together_than_its_first_token(clock: Clock) -> None:
    first = Share("first", None, 10)
    limiter = Limiter(None, 1000)

    def number(*shares: Share) -> int:
        passed = 0
        with suppress(Problem):
            while passed < 10_000:
                limiter.admit(shares, is_ingest=False)
                passed += 1
        return passed

    assert [number(Share(f"child-{place}", None, 10), first) for place in range(5)] == [10 * BURST_SECONDS, 0, 0, 0, 0]
    assert number(first) == 0
    clock.now += 1
    assert number(Share("slow", None, 1), first) == BURST_SECONDS, "one that is slower itself"
    assert number(Share("grandchild"), Share("slow", None, 1), first) == 0, "and what that makes"
    assert number(Share("other"), first) == 10 - BURST_SECONDS


def test_the_rate_of_the_service_is_for_a_family_as_a_whole(clock: Clock) -> None:
    limiter = Limiter(None, 1)
    for _ in range(int(BURST_SECONDS)):
        limiter.admit((Share("child", None, 1_000_000), Share("first")), is_ingest=False)
    for child in ("child", "other"):
        with pytest.raises(Problem):
            limiter.admit((Share(child), Share("first")), is_ingest=False)


def test_it_remembers_a_bounded_number_of_tokens(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "MAX_BUCKETS", 10)
    limiter = Limiter(None, 1)
    for number in range(100):
        limiter.admit((Share(f"token-{number}"),), is_ingest=False)
    assert len(limiter.buckets) == 10


async def test_it_answers_429_at_once_and_says_when_to_come_back(
    connection: asyncpg.Connection, database_url: str, clock: Clock
) -> None:
    token, other = make_token(), await new_token(connection)
    await calls.create_token(connection, digest_of(token), ["ingest", "read"], None, None, None, 1, 1)
    async with guarded(database_url) as client:
        batch = {"events": [event(sequence=number) for number in range(100)]}
        answer = body(await client.post("/v1/events", json=batch, headers=bearer(token)))
        assert answer["accepted"] == 100
        for path in ("/v1/events", "/ingest"):
            refused = await client.post(path, content=b"not even read", headers=bearer(token))
            problem(refused, 429, "rate_limited")
            assert refused.headers["retry-after"] == "96"
        statuses = [(await client.get("/v1/spaces", headers=bearer(token))).status_code for _ in range(20)]
        assert set(statuses) == {200, 429}
        assert statuses == sorted(statuses)
        assert body(await client.post("/v1/events", json=batch, headers=other))["duplicates"] == 100


async def test_the_service_has_limits_for_tokens_that_have_none(
    connection: asyncpg.Connection, database_url: str
) -> None:
    token = await new_token(connection)
    async with guarded(database_url, events_per_second=1, requests_per_second=1) as client:
        client.headers.update(token)
        batch = {"events": [event(sequence=number) for number in range(100)]}
        body(await client.post("/v1/events", json=batch))
        problem(await client.post("/v1/events", json=batch), 429, "rate_limited")
        body(await client.get("/v1/spaces"))


async def test_without_limits_nothing_is_refused(client: httpx.AsyncClient) -> None:
    for _ in range(50):
        body(await client.get("/healthz"))


async def test_what_came_in_before_the_rate_was_used_up_is_refused_before_it_is_decoded(
    connection: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are let in, and the body of the second comes when the first has taken everything."""
    token = await new_token(connection, "ingest")
    let_in, arrived = asyncio.Event(), asyncio.Event()
    decoded = 0
    fast = formats.EVENT_FORMATS["application/json"]

    def count(body: bytes) -> formats.EventBatch:
        nonlocal decoded
        decoded += 1
        return fast(body)

    monkeypatch.setitem(formats.EVENT_FORMATS, "application/json", count)
    content = msgspec.json.encode({"events": [event(timestamp=f"2026-01-05T08:00:0{second}Z") for second in range(9)]})

    async def late() -> AsyncIterator[bytes]:
        let_in.set()  # its body is asked for
        await arrived.wait()
        yield content

    async with guarded(database_url, events_per_second=1) as client:
        second = asyncio.create_task(client.post("/v1/events", content=late(), headers=token))
        await let_in.wait()
        body(await client.post("/v1/events", content=content, headers=token))
        arrived.set()
        problem(await second, 429, "rate_limited")
        assert decoded == 1
