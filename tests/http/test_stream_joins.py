"""GET /v1/live: who joins, in which turn, at which cost to those who listen already."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from headcount.app import create_app
from headcount.database import calls
from headcount.http.asgi import App
from headcount.live import feed, joining
from headcount.live.selections import Selection
from headcount.settings import Settings
from tests.factories import NOON, apply_site, record, seconds
from tests.http.guarded import build_site, new_token, token_id
from tests.http.streams import PATIENCE, Stream, listening

ROOMS = 12
NAMED = "&".join(f"space=room-{number:02}" for number in range(ROOMS))


@pytest_asyncio.fixture(loop_scope="session")
async def asking(connection: asyncpg.Connection, database_url: str) -> AsyncIterator[App]:
    """A service that asks for tokens, the site of build_site, and a house of twelve rooms."""
    await build_site(connection)
    rooms = [{"id": f"room-{number:02}", "parent": "house"} for number in range(ROOMS)]
    await apply_site(connection, spaces=[{"id": "house"}, *rooms])
    app = create_app(Settings(database_url=database_url, jobs=False))
    async with app.lifespan():
        yield app


class Asked:
    """The calls of the feed, in order: their names, and how many spaces they name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, int]] = []
        for name in ("list_changes", "list_selections", "list_counts"):
            monkeypatch.setattr(calls, name, self._spied(name, getattr(calls, name)))

    def _spied(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        async def spy(session: calls.Session, *arguments: Any, **more: Any) -> Any:
            named = arguments[0] if name == "list_counts" and arguments else None
            self.calls.append((name, len(named) if isinstance(named, list) else 0))
            return await call(session, *arguments, **more)

        return spy

    def number(self, name: str) -> int:
        return [called for called, _ in self.calls].count(name)

    def most(self) -> int:
        return max((number for name, number in self.calls if name == "list_counts"), default=0)


def spaces(stream: Stream) -> list[str]:
    return [event.data["space"] for event in stream.events if event.name == "count"]


async def pass_through(connection: asyncpg.Connection, dpu: str, after: int) -> None:
    assert not await record(connection, [(dpu, NOON + seconds(4000 + after), 1)])


def in_small_steps(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(joining, "SPACES_OF_A_CLIENT", most)
    monkeypatch.setattr(feed, "SPACES_OF_A_CLIENT", most)
    monkeypatch.setattr(joining, "SPACES_A_STEP", 2 * most)
    monkeypatch.setattr(joining, "LEAST", 1)


async def test_who_asks_for_many_spaces_has_them_read_in_pieces_between_the_ticks(
    asking: App, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await new_token(connection, "read")
    in_small_steps(monkeypatch, 5)
    asked = Asked(monkeypatch)
    async with listening(asking, "under=house", headers=token) as stream:
        await stream.wait_for(ROOMS + 1)
        assert spaces(stream) == ["house", *(f"room-{number:02}" for number in range(ROOMS))]
        assert asked.most() == 5
        names = [name for name, _ in asked.calls]
        assert names[:7] == [
            *("list_changes", "list_selections", "list_counts"),
            *("list_changes", "list_counts"),
            *("list_changes", "list_counts"),
        ], "a tick comes before each piece"


async def test_what_happens_between_the_pieces_is_in_what_the_stream_begins_with(
    asking: App, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await new_token(connection, "read")
    in_small_steps(monkeypatch, 3)
    list_counts, pieces = calls.list_counts, 0

    async def between(session: calls.Session, *arguments: Any, **more: Any) -> Any:
        nonlocal pieces
        found = await list_counts(session, *arguments, **more)
        pieces += 1
        if pieces == 1:
            assert [count.space for count in found] == ["own", "own-room", "secret-b"]
            await pass_through(connection, "own-inner", after=1)
            await apply_site(
                connection,
                spaces=[
                    {"id": "new", "parent": "secret-b"},
                    {"id": "own", "capacity": 7},
                    {"id": "secret-room", "parent": None},
                ],
            )
        return found

    monkeypatch.setattr(calls, "list_counts", between)
    async with listening(asking, "under=secret-campus", headers=token) as stream:
        await stream.wait_for(5)
        assert pieces > 2
        found = {event.data["space"]: event.data for event in stream.events}
        assert sorted(found) == ["new", "own", "own-room", "secret-b", "secret-campus"]
        expected = {count.space: count for count in await list_counts(connection, sorted(found))}
        for space, data in found.items():
            assert (data["raw_count"], data["capacity"]) == (expected[space].raw_count, expected[space].capacity)
        heard = len(stream.events)
        await pass_through(connection, "own-inner", after=2)
        await stream.wait_for(heard + 1)
        assert spaces(stream)[heard:] == ["own-room"]


async def test_it_refuses_names_of_which_one_goes_before_all_are_counted(
    asking: App, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await new_token(connection, "read")
    in_small_steps(monkeypatch, 3)
    list_counts = calls.list_counts

    async def deleting(session: calls.Session, *arguments: Any, **more: Any) -> Any:
        found = await list_counts(session, *arguments, **more)
        await connection.execute("select api.delete_space(id) from core.space where id = 'room-11'")
        return found

    monkeypatch.setattr(calls, "list_counts", deleting)
    async with listening(asking, NAMED, headers=token) as stream:
        assert stream.status == 404


async def test_a_client_that_asks_for_much_again_and_again_is_in_the_way_of_no_other(
    asking: App, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = await new_token(connection, "read"), await new_token(connection, "read")
    in_small_steps(monkeypatch, 4)
    async with AsyncExitStack() as streams:
        first = await streams.enter_async_context(listening(asking, "space=own", headers=other))
        await first.wait_for(1)
        live = asking.services.live
        # while nothing is read, all of them come
        may_go, list_changes = asyncio.Event(), calls.list_changes

        async def waiting(session: calls.Session, cursor: str | None = None) -> Any:
            await may_go.wait()
            return await list_changes(session, cursor)

        monkeypatch.setattr(calls, "list_changes", waiting)

        order: list[str] = []

        async def come(query: str, headers: dict[str, str]) -> int:
            async with listening(asking, query, headers=headers) as stream:
                await stream.wait_for(1)
                order.append(query)
                return live.tick

        hostile = [
            asyncio.create_task(come("&".join(f"space=room-{number:02}" for number in range(start, start + 5)), one))
            for start in range(8)
        ]
        while live.listening < 1 + len(hostile):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        polite = asyncio.create_task(come("space=secret-room", other))
        while live.listening < 2 + len(hostile):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        asked, before = Asked(monkeypatch), live.tick
        may_go.set()
        await polite
        assert len(order) <= 3, "with the first of the others: not behind all"
        assert max(await asyncio.gather(*hostile)) >= before + 8, "one of these a step"
        assert asked.most() <= 8


async def test_who_asks_for_the_same_in_another_order_shares_it_and_asks_the_database_nothing(
    asking: App, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = await new_token(connection, "read"), await new_token(connection, "read")
    async with listening(asking, "space=own&space=own-room", headers=one) as first:
        await first.wait_for(2)
        asked = Asked(monkeypatch)
        async with listening(asking, "space=own-room&space=own&space=own-room", headers=other) as second:
            await second.wait_for(2)
            assert sorted(spaces(second)) == sorted(spaces(first)) == ["own", "own-room"]
            assert len(asking.services.live.selections) == 1
            assert {name for name, _ in asked.calls} == {"list_changes"}


async def test_a_tick_goes_from_what_changed_to_who_listens_and_not_through_all_selections(
    asking: App, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await new_token(connection, "read")
    looked_at: list[tuple[str, ...] | str | None] = []
    pass_on = Selection.pass_on

    def spy(selection: Selection, *arguments: Any) -> bool:
        looked_at.append(selection.subscription.spaces or selection.subscription.under)
        return pass_on(selection, *arguments)

    monkeypatch.setattr(Selection, "pass_on", spy)
    queries = ["", "under=own", "space=own-room", "space=secret-b", "under=house", NAMED]
    async with AsyncExitStack() as streams:
        heard = [await streams.enter_async_context(listening(asking, query, headers=token)) for query in queries]
        for stream in heard:
            await stream.wait_for(1)
        live = asking.services.live
        looked_at.clear()
        tick = live.tick
        while live.tick < tick + 3:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        assert looked_at == [], "nothing happened"
        await pass_through(connection, "own-inner", after=1)
        await heard[2].wait_until(lambda: len(spaces(heard[2])) == 2)
        assert sorted(map(str, looked_at)) == ["('own-room',)", "None", "own"]
        looked_at.clear()
        await apply_site(connection, spaces=[{"id": "secret-b", "capacity": 3}])
        await heard[3].wait_until(lambda: len(spaces(heard[3])) == 2)
        assert sorted(map(str, looked_at)) == ["('secret-b',)", "None", "house", "own"], (
            "also those that follow the tree"
        )


async def test_the_streams_of_a_client_have_so_many_spaces_together(
    asking: App, connection: asyncpg.Connection
) -> None:
    one, other = await new_token(connection, "read"), await new_token(connection, "read")
    live = asking.services.live
    live.spaces_of.most = ROOMS + 2
    async with listening(asking, NAMED, headers=one) as first, listening(asking, NAMED, headers=one) as again:
        assert (first.status, again.status) == (200, 200), "the same counts once"
        async with (
            listening(asking, "space=own&space=own-room", headers=one) as last,
            listening(asking, "space=secret-b", headers=one) as named,
            listening(asking, "under=house", headers=one) as below,
            listening(asking, NAMED, headers=other) as of_other,
        ):
            assert (last.status, named.status, below.status, of_other.status) == (200, 429, 429, 200)
            assert named.headers["retry-after"] == below.headers["retry-after"] == "1"
    while live.listening:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert live.spaces_of.held == {}
    async with listening(asking, headers=one) as alone:
        assert alone.status == 200, "who has none may have any number"
        assert len(await alone.wait_for(ROOMS + 6)) > live.spaces_of.most


@pytest.mark.parametrize("space", [None, "house"])
async def test_streams_whose_spaces_become_too_many_end_and_others_go_on(
    asking: App, connection: asyncpg.Connection, space: str | None
) -> None:
    one, other = await new_token(connection, "read", space=space), await new_token(connection, "read")
    live = asking.services.live
    live.spaces_of.most = ROOMS + 4
    mine, its = [await token_id(connection, token) for token in (one, other)]
    async with (
        listening(asking, "under=house", headers=one) as below,
        listening(asking, "space=room-00&space=room-01", headers=one) as named,
        listening(asking, "under=house", headers=other) as of_other,
    ):
        for stream, number in ((below, ROOMS + 1), (named, 2), (of_other, ROOMS + 1)):
            await stream.wait_for(number)
        await apply_site(connection, spaces=[{"id": "new-0", "parent": "house"}])
        for stream in (below, of_other):
            await stream.wait_until(lambda stream=stream: "new-0" in spaces(stream))  # type: ignore[misc]
        assert live.spaces_of.held == {mine: ROOMS + 4, its: ROOMS + 2}
        await apply_site(connection, spaces=[{"id": "new-1", "parent": "house"}])
        await below.wait_for_end()
        await of_other.wait_until(lambda: "new-1" in spaces(of_other))
        assert "new-1" not in spaces(below)
        await apply_site(connection, spaces=[{"id": "room-00", "parent": "house", "name": "Another"}])
        await named.wait_until(lambda: any(event.name == "space" for event in named.events))
        async with asyncio.timeout(PATIENCE):
            while live.spaces_of.held != {mine: 2, its: ROOMS + 3}:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        async with listening(asking, "under=house", headers=one) as again:
            assert again.status == 429


async def test_nothing_is_kept_of_spaces_that_nobody_follows_and_who_asks_later_is_told_anew(
    asking: App, connection: asyncpg.Connection
) -> None:
    token = await new_token(connection, "read")
    live = asking.services.live
    async with listening(asking, "under=house", headers=token) as staying:
        await staying.wait_for(ROOMS + 1)
        async with listening(asking, "under=own", headers=token) as stream:
            await stream.wait_for(2)
            assert spaces(stream) == ["own", "own-room"]
        await stream.dropped.wait()
        assert "own" not in live.frames
        assert "own" not in live.index
        await pass_through(connection, "own-inner", after=1)
        await apply_site(connection, spaces=[{"id": "own", "parent": "house"}])
        await staying.wait_until(lambda: "own-room" in spaces(staying))
        (counted,) = await calls.list_counts(connection, ["own-room"])
        assert ("own-room", counted.raw_count) in staying.counts(), "it came with what it lies in"
        await apply_site(connection, spaces=[{"id": "own", "parent": None}])
        gone = {"space": "own-room", "deleted": True}
        await staying.wait_until(lambda: gone in [event.data for event in staying.events])
        assert "own-room" not in live.frames


async def test_what_is_named_for_a_limited_token_goes_on_when_another_ends(
    asking: App, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await new_token(connection, "read", space="own")
    async with (
        listening(asking, "space=own", headers=token) as whole,
        listening(asking, "space=own-room", headers=token) as room,
        listening(asking, "space=own-room&space=own", headers=token) as both,
    ):
        for stream in (whole, room, both):
            await stream.wait_for(1)
        asked = Asked(monkeypatch)
        await apply_site(connection, spaces=[{"id": "own-room", "parent": "secret-b"}])
        await room.wait_for_end()
        await both.wait_for_end()
        assert asked.number("list_selections") == 1
        await pass_through(connection, "own-front", after=1)
        await whole.wait_for(2)
        assert not whole.is_over


@pytest.mark.parametrize("query", ["under=room-00", "space=room-00&space=own"])
async def test_who_comes_when_what_others_follow_is_gone_hears_so_and_the_others_go_on(
    asking: App, connection: asyncpg.Connection, query: str
) -> None:
    token = await new_token(connection, "read")
    async with listening(asking, query, headers=token) as stream:
        await stream.wait_for(1)
        await calls.delete_space(connection, "room-00")
        gone = {"space": "room-00", "deleted": True}
        await stream.wait_until(lambda: gone in [event.data for event in stream.events])
        async with listening(asking, query, headers=token) as late:
            assert late.status == 404
        await apply_site(connection, spaces=[{"id": "room-00", "parent": "house", "capacity": 5}])
        await stream.wait_until(lambda: stream.events[-1].data.get("capacity") == 5)
        async with listening(asking, query, headers=token) as again:
            await again.wait_until(lambda: "room-00" in spaces(again))
        assert len(asking.services.live.selections) == 1
        assert not stream.is_over
