"""GET /v1/live: spaces whose counts take long, and who has to wait for them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial

import asyncpg
import httpx
import pytest

from headcount.database import calls
from headcount.http.asgi import App
from headcount.live import apart
from headcount.live.apart import Awaited, Lane, Position
from headcount.wire.messages.counts import CountOut
from tests.commands.support import until
from tests.http import event, put, room_with_dpu, send
from tests.http.streams import PATIENCE, Stream, behind, listening

list_counts = calls.list_counts


class Costly:
    """Spaces whose counts take until they are let go, once they are read. Others take no time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *spaces: str) -> None:
        self.spaces = spaces
        self.alone: list[str] = []  # asked for by themselves, with nothing that is given up
        self.may_answer = asyncio.Event()
        self.may_fail = asyncio.Event()
        self.begun = asyncio.Semaphore(0)
        monkeypatch.setattr(calls, "list_counts", self.list_counts)

    async def list_counts(self, session: calls.Session, spaces: Sequence[str], *, known_only: bool) -> list[CountOut]:
        found = await list_counts(session, spaces, known_only=known_only)
        if not set(spaces).isdisjoint(self.spaces):
            if len(spaces) == 1:
                self.alone.append(spaces[0])
                self.begun.release()
            await self.may_answer.wait()
            if self.may_fail.is_set():
                self.may_fail.clear()
                raise OSError("no answer")
        return found


@asynccontextmanager
async def known_to_be_costly(app: App, *spaces: str) -> AsyncIterator[None]:
    costly = app.services.live.apart.costly
    costly.note(spaces)
    try:
        yield
    finally:
        costly.until.clear()


async def reset(client: httpx.AsyncClient, space: str, count: int) -> None:
    assert (await client.post(f"/v1/spaces/{space}/resets", json={"count": count})).status_code == 201


async def wait_for_count(stream: Stream, space: str, count: int) -> None:
    await stream.wait_until(lambda: (space, count) in stream.counts())


def is_told(stream: Stream, found: dict[str, object]) -> bool:
    return any(one.data == one.data | found for one in stream.events)


async def begun(costly: Costly) -> None:
    async with asyncio.timeout(PATIENCE):
        await costly.begun.acquire()


async def test_news_of_others_do_not_wait_for_a_space_that_turns_out_to_take_long(
    app: App, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await room_with_dpu(client)
    await put(client, "spaces/hall")
    async with (
        known_to_be_costly(app),  # none yet
        listening(app, "space=hall") as other,
        listening(app, "space=room&space=hall") as stream,
    ):
        await other.wait_for(1)
        await stream.wait_for(2)
        costly = Costly(monkeypatch, "room")
        # the room is given up; the hall, which is read later, is not, however busy the machine is
        monkeypatch.setattr(apart, "GROUP_SECONDS", 0.05)
        monkeypatch.setattr(apart, "LONG_SECONDS", 1.0)
        await send(client, event())
        awaited: apart.Apart = app.services.live.apart
        await until(lambda: "room" in awaited)
        monkeypatch.setattr(apart, "GROUP_SECONDS", 600.0)
        for count in range(1, 4):
            await reset(client, "hall", count)
            await wait_for_count(other, "hall", count)
            await wait_for_count(stream, "hall", count)
            if count == 1:
                await until(lambda: awaited.is_costly("room"))  # it has turned out
        assert ("room", 1) not in stream.counts()
        costly.may_answer.set()
        await wait_for_count(stream, "room", 1)


async def test_what_is_known_to_take_long_is_asked_for_apart_and_told_in_order(
    app: App, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await room_with_dpu(client)
    await put(client, "spaces/hall")
    async with known_to_be_costly(app, "room"), listening(app) as stream:
        await stream.wait_for(2)
        costly = Costly(monkeypatch, "room")
        await send(client, event())
        await begun(costly)
        for minute in range(1, 4):  # what is read already does not say so
            await send(client, event(timestamp=f"2026-01-05T08:{minute:02}:00Z"))
            await reset(client, "hall", minute)
            await wait_for_count(stream, "hall", minute)
        assert costly.alone == ["room"], "one at a time"
        costly.may_answer.set()
        await wait_for_count(stream, "room", 4)
        assert [count for space, count in stream.counts() if space == "room"] == [0, 1, 4]
        assert costly.alone == ["room", "room"]
        told = [one.data["at"] for one in stream.events if one.name == "count" and one.data["space"] == "room"]
        assert told == sorted(told, key=datetime.fromisoformat)


async def test_who_comes_back_with_an_id_from_before_it_was_told_is_told_of_it(
    app: App, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await room_with_dpu(client)
    await put(client, "spaces/hall")
    async with known_to_be_costly(app, "room"), listening(app) as stream, listening(app, "space=hall") as other:
        await stream.wait_for(2)
        await other.wait_for(1)
        costly = Costly(monkeypatch, "room")
        await send(client, event())
        await begun(costly)
        await reset(client, "hall", 7)
        await wait_for_count(stream, "hall", 7)
        await wait_for_count(other, "hall", 7)
        last_id, id_of_other = stream.events[-1].id, other.events[-1].id
        assert last_id == stream.events[1].id, "it does not say that it has told all since"
        assert id_of_other != other.events[0].id
    costly.may_answer.set()
    async with listening(app, last_id=last_id) as stream:
        await wait_for_count(stream, "room", 1)
        assert ("hall", 7) in stream.counts()
    async with listening(app, last_id=id_of_other) as stream:
        await reset(client, "hall", 8)
        await wait_for_count(stream, "hall", 8)
        assert stream.counts() == [("hall", 8)]


@pytest.mark.parametrize("comes_back", [False, True])
async def test_a_stream_begins_without_what_is_awaited_and_gets_it_also_where_it_is_as_before(
    app: App, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, comes_back: bool
) -> None:
    await room_with_dpu(client)
    await put(client, "spaces/hall")
    await send(client, event(direction=0))
    async with known_to_be_costly(app, "room"), listening(app) as first:
        await first.wait_for(2)
        last_id = first.events[-1].id if comes_back else None
        costly = Costly(monkeypatch, "room")
        await send(client, event(timestamp="2026-01-05T09:00:00Z", direction=0))
        await begun(costly)
        await reset(client, "hall", 7)
        await wait_for_count(first, "hall", 7)
        async with listening(app, last_id=last_id) as stream:
            await wait_for_count(stream, "hall", 7)
            assert stream.counts() == [("hall", 7)]
            costly.may_answer.set()
            await wait_for_count(stream, "room", 0)


async def test_a_stream_begins_at_once_where_nobody_knows_the_count_of_a_costly_space_yet(
    app: App, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await room_with_dpu(client)
    await put(client, "spaces/hall")
    costly = Costly(monkeypatch, "room")
    async with known_to_be_costly(app, "room"), listening(app) as stream:
        await wait_for_count(stream, "hall", 0)
        assert [(space, one.id) for (space, _), one in zip(stream.counts(), stream.events, strict=True)] == [
            ("hall", "0")
        ], "everything is sent after this id"
        await reset(client, "hall", 1)
        await wait_for_count(stream, "hall", 1)
        costly.may_answer.set()
        await wait_for_count(stream, "room", 0)
        assert stream.events[-1].id != "0"


async def test_one_that_is_deleted_meanwhile_is_not_told_and_may_come_back(
    app: App, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for space in ("room", "hall"):
        await put(client, f"spaces/{space}")
    async with (
        known_to_be_costly(app, "room"),
        listening(app) as stream,
        listening(app, "space=room&space=hall") as named,
    ):
        for one in (stream, named):
            await one.wait_for(2)
        costly = Costly(monkeypatch, "room")
        await put(client, "spaces/room", capacity=5)
        await begun(costly)
        assert (await client.delete("/v1/spaces/room")).status_code == 204
        for one in (stream, named):
            await one.wait_until(partial(is_told, one, {"space": "room", "deleted": True}))
        costly.may_answer.set()
        await reset(client, "hall", 1)
        for one in (stream, named):
            await wait_for_count(one, "hall", 1)
        await put(client, "spaces/room", capacity=3)
        for one in (stream, named):
            await one.wait_until(partial(is_told, one, {"capacity": 3}))
            assert not is_told(one, {"capacity": 5})


async def test_it_is_told_also_where_a_read_fails_or_the_feed_falls_behind_meanwhile(
    app: App, client: httpx.AsyncClient, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "PAUSE_SECONDS", 0.0)
    for space in ("room", "hall"):
        await put(client, f"spaces/{space}")
    async with known_to_be_costly(app, "room"), listening(app) as stream:
        await stream.wait_for(2)
        costly = Costly(monkeypatch, "room")
        costly.may_fail.set()
        await reset(client, "room", 5)
        await begun(costly)
        async with behind(connection):
            await stream.wait_until(lambda: any(one.name == "list" for one in stream.events))
        costly.may_answer.set()
        await wait_for_count(stream, "room", 5)
        assert not costly.may_fail.is_set()


async def test_clients_take_turns_at_what_takes_long() -> None:
    lane = Lane()
    spaces = {name: Awaited(name, Position(0, "")) for name in ("a-1", "a-2", "a-3", "b-1", "ab")}
    for name in ("a-1", "a-2", "a-3", "ab"):
        lane.put(spaces[name], ["a"])
    for name in ("ab", "b-1"):
        lane.put(spaces[name], ["b"])
    lane.waiting.discard(spaces["a-3"])
    assert [(await lane.take()).space for _ in range(4)] == ["a-1", "ab", "a-2", "b-1"]
    taking = asyncio.create_task(lane.take())
    await asyncio.sleep(0)
    assert not taking.done()
    lane.put(spaces["a-3"], [None])
    assert (await taking) is spaces["a-3"]
