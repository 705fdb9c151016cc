"""Current counts that are read together."""

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime

import asyncpg
import httpx
import pytest

from headcount.database import calls, current_counts
from headcount.http.asgi import App
from headcount.wire.messages import counts
from tests.http import Json, body, problem, put, send
from tests.together.test_groups import turns

list_counts, list_counts_at = calls.list_counts, calls.list_counts_at


@pytest.fixture(autouse=True)
def _nothing_takes_long(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy this machine is."""
    monkeypatch.setattr(current_counts, "LONG_SECONDS", 60.0)
    monkeypatch.setattr(current_counts, "GROUP_SECONDS", 60.0)
    reader = app.services.reader
    for costly in (reader.costly, reader.costly_before, reader.refused):
        costly.until.clear()


class Watched:
    """calls.list_counts, with what it was asked; calls can be held up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[list[str]] = []
        self.begun = asyncio.Semaphore(0)
        self.may_begin = asyncio.Event()
        self.may_begin.set()
        monkeypatch.setattr(calls, "list_counts", self.list_counts)

    async def list_counts(
        self, session: calls.Session, spaces: Sequence[str], *, known_only: bool
    ) -> list[counts.CountOut]:
        self.asked.append(list(spaces))
        self.begun.release()
        await self.may_begin.wait()
        return await list_counts(session, spaces, known_only=known_only)


async def two_rooms(client: httpx.AsyncClient) -> None:
    for room, dpu in (("room-1", "dpu-1"), ("room-2", "dpu-2")):
        await put(client, f"spaces/{room}")
        await put(client, f"dpus/{dpu}")
        await put(client, f"doorways/door-{room}", sides=[room, None])
        place = {"doorway": f"door-{room}", "mounted_in": room, "from": "2020-01-01T00:00:00Z"}
        assert (await client.post(f"/v1/dpus/{dpu}/placements", json=place)).status_code == 201


async def enter(client: httpx.AsyncClient, dpu: str, people: int) -> None:
    event: Json = {"dpu": dpu, "timestamp": "2026-01-05T08:00:00Z", "direction": people}
    assert (await send(client, event))["accepted"] == 1


async def test_requests_that_arrive_together_are_answered_by_one_call_each_with_its_own_spaces(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await two_rooms(client)
    await enter(client, "dpu-1", 3)
    await enter(client, "dpu-2", 5)
    watched = Watched(monkeypatch)
    one, other, both = await asyncio.gather(
        client.get("/v1/spaces/room-1/count"),
        client.get("/v1/spaces/room-2/count"),
        client.get("/v1/counts?space=room-2&space=room-1&space=room-2"),
    )
    assert (body(one)["space"], body(one)["count"]) == ("room-1", 3)
    assert (body(other)["space"], body(other)["count"]) == ("room-2", 5)
    assert [(count["space"], count["count"]) for count in body(both)["counts"]] == [("room-2", 5), ("room-1", 3)]
    assert watched.asked == [["room-1", "room-2"]]


async def test_an_unknown_space_is_a_404_for_its_own_request_only(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await two_rooms(client)
    watched = Watched(monkeypatch)
    good, bad, list_with_bad, list_of_good = await asyncio.gather(
        client.get("/v1/spaces/room-1/count"),
        client.get("/v1/spaces/nowhere/count"),
        client.get("/v1/counts?space=room-1&space=nowhere"),
        client.get("/v1/counts?space=room-2"),
    )
    assert body(good)["space"] == "room-1"
    assert problem(bad, 404, "not_found", "space")["detail"].startswith("There is no space 'nowhere'")
    problem(list_with_bad, 404, "not_found", "space")
    assert [count["space"] for count in body(list_of_good)["counts"]] == ["room-2"]
    assert watched.asked == [["room-1", "nowhere", "room-2"]], "nobody's is asked for again"
    alone = await client.get("/v1/spaces/nowhere/count?known_at=2026-01-05T08:00:00Z")
    told = [{**answer.json(), "instance": "", "request_id": ""} for answer in (bad, alone)]
    assert told[0] == told[1], "it is told as by itself"


async def test_an_answer_is_never_older_than_its_request(
    client: httpx.AsyncClient, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    await two_rooms(client)
    watched = Watched(monkeypatch)
    watched.may_begin.clear()
    callers = app.services.reader.groups.callers
    early = []
    for _ in range(callers):  # each in a call of its own, until all callers are busy
        early.append(asyncio.create_task(client.get("/v1/spaces/room-1/count")))
        await watched.begun.acquire()
    await enter(client, "dpu-1", 4)
    late = asyncio.create_task(client.get("/v1/spaces/room-1/count"))
    await turns(50)
    assert len(watched.asked) == callers
    watched.may_begin.set()
    await asyncio.gather(*early)
    assert body(await late)["count"] == 4
    assert len(watched.asked) == callers + 1


@pytest.mark.concurrency
async def test_every_answer_holds_what_was_acknowledged_before_it_was_asked_for(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await two_rooms(client)
    acknowledged = 0

    async def walk_in() -> None:
        nonlocal acknowledged
        for minute in range(60):
            event: Json = {"dpu": "dpu-1", "timestamp": f"2026-01-05T08:{minute:02}:00Z", "direction": 1}
            await send(client, event)
            acknowledged += 1

    async def read(done: asyncio.Event) -> int:
        reads = 0
        while not done.is_set():
            before = acknowledged
            assert body(await client.get("/v1/spaces/room-1/count"))["count"] >= before
            reads += 1
        return reads

    done = asyncio.Event()
    readers = [asyncio.create_task(read(done)) for _ in range(8)]
    await walk_in()
    done.set()
    assert sum(await asyncio.gather(*readers)) >= 8
    assert await connection.fetchval("select count(*) from core.event") == 60


async def asked_for(watched: Watched, client: httpx.AsyncClient, *rooms: str) -> list[list[str]]:
    """The spaces of each call that it takes to answer who asks for the counts of these rooms at once."""
    watched.asked.clear()
    for answer in await asyncio.gather(*(client.get(f"/v1/spaces/{room}/count") for room in rooms)):
        body(answer)
    return sorted(watched.asked)


async def test_a_group_that_takes_long_is_given_up_and_each_asks_by_itself(
    app: App, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others do not wait for spaces that have thousands of sensors, nor for what is costly again and again."""
    await two_rooms(client)
    reader, watched = app.services.reader, Watched(monkeypatch)
    asked_together = []

    async def list_counts(session: calls.Session, spaces: Sequence[str], *, known_only: bool) -> list[counts.CountOut]:
        if len(spaces) > 1:
            asked_together.append(list(spaces))
            await asyncio.sleep(60)
        return await watched.list_counts(session, spaces, known_only=known_only)

    monkeypatch.setattr(calls, "list_counts", list_counts)
    monkeypatch.setattr(current_counts, "GROUP_SECONDS", 0.05)
    assert await asked_for(watched, client, "room-1", "room-2") == [["room-1"], ["room-2"]]
    assert asked_together == [["room-1", "room-2"]]
    assert not reader.costly.until, "each was cheap"
    monkeypatch.setattr(calls, "list_counts", watched.list_counts)
    monkeypatch.setattr(current_counts, "GROUP_SECONDS", 60.0)
    assert await asked_for(watched, client, "room-1", "room-2") == [["room-1", "room-2"]]


async def test_who_asks_for_what_took_long_asks_alone_for_a_while(
    app: App, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await two_rooms(client)
    reader, watched = app.services.reader, Watched(monkeypatch)

    monkeypatch.setattr(current_counts, "LONG_SECONDS", 0.0)
    await asked_for(watched, client, "room-1")
    assert not reader.costly.until, "in a group"
    reader.costly.note(["room-1"])
    reader.costly.until["room-1"] -= current_counts.COSTLY_FOR_SECONDS - 60
    await asked_for(watched, client, "room-1")
    monkeypatch.setattr(current_counts, "LONG_SECONDS", 60.0)
    assert reader.costly.until["room-1"] > time.monotonic() + 60, "noted again, since it took long"
    for _ in range(2):  # that it was cheap once says nothing
        assert await asked_for(watched, client, "room-1", "room-1", "room-2") == [["room-1"], ["room-1"], ["room-2"]]
    problem(await client.get("/v1/counts", params={"space": ["room-1", "attic"]}), 404, "not_found", "space")
    reader.costly.until["room-1"] -= current_counts.COSTLY_FOR_SECONDS
    assert await asked_for(watched, client, "room-1", "room-2") == [["room-1", "room-2"]]


class WatchedInstants:
    """calls.list_counts_at, with what it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[list[tuple[str, str]]] = []
        monkeypatch.setattr(calls, "list_counts_at", self.list_counts_at)

    async def list_counts_at(
        self, session: calls.Session, spaces: Sequence[str], ats: Sequence[datetime]
    ) -> list[counts.CountOut]:
        self.asked.append([(space, f"{at:%H:%M}") for space, at in zip(spaces, ats, strict=True)])
        return await list_counts_at(session, spaces, ats)


async def count_at(client: httpx.AsyncClient, space: str, time: str) -> httpx.Response:
    return await client.get(f"/v1/spaces/{space}/count?at=2026-01-05T{time}:00Z")


async def test_counts_at_different_instants_are_answered_by_one_call(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await two_rooms(client)
    await enter(client, "dpu-1", 3)
    await enter(client, "dpu-2", 5)
    watched = WatchedInstants(monkeypatch)
    asked = [("room-1", "07:59"), ("room-1", "08:00"), ("room-2", "08:01"), ("nowhere", "08:01"), ("room-1", "08:00")]
    before, one, other, bad, again = await asyncio.gather(*(count_at(client, *pair) for pair in asked))
    assert [body(answer)["count"] for answer in (before, one, other, again)] == [0, 3, 5, 3]
    assert [body(answer)["at"] for answer in (before, one)] == ["2026-01-05T07:59:00Z", "2026-01-05T08:00:00Z"]
    problem(bad, 404, "not_found", "space")
    assert watched.asked == [asked[:4]]
    alone = body(await client.get("/v1/spaces/room-1/count?at=2026-01-05T08:00:00Z&known_at=2100-01-01T00:00:00Z"))
    assert body(one) == alone


async def test_an_instant_ahead_is_refused_by_itself(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await two_rooms(client)
    watched = WatchedInstants(monkeypatch)
    good, bad = await asyncio.gather(
        count_at(client, "room-1", "08:00"), client.get("/v1/spaces/room-1/count?at=2100-01-01T00:00:00Z")
    )
    assert body(good)["count"] == 0
    problem(bad, 422, "invalid", "at")
    assert watched.asked == [[("room-1", "08:00")]]


async def test_who_asks_for_dropped_events_divides_no_more_groups(
    client: httpx.AsyncClient, app: App, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await two_rooms(client)
    await enter(client, "dpu-1", 3)
    watched = WatchedInstants(monkeypatch)
    failure = asyncpg.PostgresError.new({"C": "PT422", "M": "It needs dropped events.", "D": "at"})

    async def refuse(session: calls.Session, spaces: Sequence[str], ats: Sequence[datetime]) -> list[counts.CountOut]:
        found = await watched.list_counts_at(session, spaces, ats)
        if any(at.minute == 7 for at in ats):
            raise failure
        return found

    monkeypatch.setattr(calls, "list_counts_at", refuse)
    good, bad = await asyncio.gather(count_at(client, "room-1", "08:30"), count_at(client, "room-1", "08:07"))
    assert body(good)["count"] == 3
    problem(bad, 422, "invalid", "at")
    assert len(watched.asked) == 3, "together, then each"
    await asyncio.gather(count_at(client, "room-1", "08:30"), count_at(client, "room-1", "08:07"))
    assert len(watched.asked) == 3, "the client asks by itself"


async def test_what_takes_long_at_an_instant_is_asked_for_alone(
    client: httpx.AsyncClient, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    await two_rooms(client)

    async def never(*_: object) -> list[counts.CountOut]:
        await asyncio.sleep(60)
        return []

    monkeypatch.setattr(calls, "list_counts_at", never)
    monkeypatch.setattr(current_counts, "GROUP_SECONDS", 0.05)
    monkeypatch.setattr(current_counts, "LONG_SECONDS", 0.0)
    answers = await asyncio.gather(count_at(client, "room-1", "08:30"), count_at(client, "room-2", "08:30"))
    assert [body(answer)["count"] for answer in answers] == [0, 0]
    monkeypatch.setattr(current_counts, "GROUP_SECONDS", 60.0)
    assert body(await count_at(client, "room-1", "08:31"))["count"] == 0, "it is not asked for together again"
