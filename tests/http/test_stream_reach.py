"""GET /v1/live on behalf of tokens: how far it reaches, and for how long."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
import pytest_asyncio

from headcount.app import create_app
from headcount.database import calls
from headcount.http import auth
from headcount.http.asgi import App
from headcount.live import feed
from headcount.settings import Settings
from headcount.wire.access import Access
from headcount.wire.instants import shortest
from headcount.wire.messages.counts import ChangesRow
from tests.commands.support import until
from tests.factories import NOON, apply_site, heard, listen, record, seconds, tick
from tests.http.guarded import LONG_AGO, bearer, build_site, leaks, new_token, token_id
from tests.http.streams import PATIENCE, Stream, listening


@pytest_asyncio.fixture(loop_scope="session")
async def asking(connection: asyncpg.Connection, database_url: str) -> AsyncIterator[App]:
    """A service that asks for tokens, and the site of build_site."""
    await build_site(connection)
    app = create_app(Settings(database_url=database_url, jobs=False))
    async with app.lifespan():
        yield app


def told(stream: Stream) -> list[tuple[str, str, bool]]:
    """Every event as (name, space, whether that is gone)."""
    return [(event.name, event.data["space"], event.data.get("deleted", False)) for event in stream.events]


def no_leak(stream: Stream) -> bool:
    return not leaks(str(stream.events) + stream.text)


async def pass_through(connection: asyncpg.Connection, *dpus: str, after: int) -> None:
    assert not await record(connection, [(dpu, NOON + seconds(4000 + after), 1) for dpu in dpus])


@pytest.mark.parametrize(
    ("query", "expected"),
    [("", ["own", "own-room"]), ("under=own-room", ["own-room"]), ("space=own-room", ["own-room"])],
)
async def test_it_tells_of_the_tokens_part_and_of_nothing_else(
    asking: App, connection: asyncpg.Connection, query: str, expected: list[str]
) -> None:
    here, everywhere = await new_token(connection, "read", space="own"), await new_token(connection, "read")
    async with (
        listening(asking, query, headers=here) as stream,
        listening(asking, headers=everywhere) as whole,
    ):
        await stream.wait_for(len(expected))
        await whole.wait_for(5)
        assert [event.data["space"] for event in stream.events] == expected
        counts = {event.data["space"]: event.data | {"at": ""} for event in whole.events}
        for event in stream.events:
            assert event.data | {"at": ""} == counts[event.data["space"]], "counts are the same for everybody"
        await apply_site(
            connection,
            spaces=[
                {"id": "secret-new", "parent": "secret-b"},
                {"id": "secret-b", "name": "a secret"},
                {"id": "own", "name": "ours"},
            ],
        )
        news = {("space", "secret-new", False), ("space", "secret-b", False)}
        await whole.wait_until(lambda: news <= set(told(whole)))
        await calls.delete_space(connection, "secret-new")
        await pass_through(connection, "secret-inner", "secret-main", "own-inner", after=1)
        await whole.wait_until(lambda: ("space", "secret-new", True) in told(whole))
        room = ("count", "own-room", False)
        await stream.wait_until(lambda: told(stream).count(room) == 2)
        assert no_leak(stream)
        assert {space for _, space, _ in told(stream)} == set(expected)


async def test_it_tells_what_comes_into_the_tokens_part_and_what_goes(
    asking: App, connection: asyncpg.Connection
) -> None:
    token = await new_token(connection, "read", space="own")
    async with listening(asking, headers=token) as stream:
        await stream.wait_for(2)
        await apply_site(connection, spaces=[{"id": "own-new", "parent": "own-room"}])
        await stream.wait_for(4)
        assert told(stream)[2:] == [("space", "own-new", False), ("count", "own-new", False)]
        await apply_site(connection, spaces=[{"id": "own-room", "parent": "secret-b"}])
        await stream.wait_until(lambda: ("space", "own-new", True) in told(stream))
        assert ("space", "own-room", True) in told(stream)
        heard = len(stream.events)
        last_id = stream.events[-1].id
        await pass_through(connection, "own-inner", after=1)  # from own into what is theirs now
        await stream.wait_for(heard + 1)
        assert told(stream)[heard:] == [("count", "own", False)]
        await apply_site(connection, spaces=[{"id": "own-room", "parent": "own"}])
        back = {("count", "own-room", False), ("count", "own-new", False)}
        await stream.wait_until(lambda: back <= set(told(stream)[heard:]))
    async with listening(asking, headers=token, last_id=last_id) as stream:
        await stream.wait_until(lambda: back <= set(told(stream)))


@pytest.mark.parametrize("moved", ["own", "own-room"])
async def test_it_ends_where_the_space_leaves_the_part_of_who_made_the_token(
    asking: App, connection: asyncpg.Connection, moved: str
) -> None:
    """Also where what moves is not its own space."""
    await apply_site(connection, spaces=[{"id": "own-inmost", "parent": "own-room"}])
    above, away = ("own", "secret-b") if moved == "own-room" else ("secret-campus", None)
    token = await new_token(connection, "read", space="own-inmost" if moved == "own-room" else "own-room")
    maker = await new_token(connection, space=above)
    await connection.execute(
        "update core.token set created_by_id = (select token_id from core.token where id = $1) where id = $2",
        await token_id(connection, maker),
        await token_id(connection, token),
    )
    async with listening(asking, headers=token) as stream:
        await stream.wait_for(1)
        await apply_site(connection, spaces=[{"id": moved, "parent": away}])
        await stream.wait_for_end()
        assert no_leak(stream)
    await apply_site(connection, spaces=[{"id": moved, "parent": above}])
    async with listening(asking, headers=token) as stream:
        await stream.wait_for(1)


async def test_after_a_last_event_id_it_says_nothing_of_what_happened_elsewhere(
    asking: App, connection: asyncpg.Connection
) -> None:
    token = await new_token(connection, "read", space="own")
    async with listening(asking, headers=token) as stream:
        last_id = (await stream.wait_for(2))[-1].id
    await apply_site(connection, spaces=[{"id": "secret-new", "parent": "secret-b"}])
    await calls.delete_space(connection, "secret-new")
    await apply_site(connection, spaces=[{"id": "secret-other", "parent": "secret-b"}])
    await pass_through(connection, "secret-inner", "own-inner", after=1)
    async with listening(asking, headers=token, last_id=last_id) as stream:
        await stream.wait_until(lambda: {"own", "own-room"} <= {space for _, space, _ in told(stream)})
        assert {space for _, space, _ in told(stream)} == {"own", "own-room"}
        assert no_leak(stream)


@pytest.mark.parametrize("query", ["space=own-room", "under=own-room"])
async def test_it_ends_when_what_was_asked_for_is_beyond_the_token_now(
    asking: App, connection: asyncpg.Connection, query: str
) -> None:
    token = await new_token(connection, "read", space="own")
    async with listening(asking, query, headers=token) as stream:
        await stream.wait_for(1)
        await apply_site(connection, spaces=[{"id": "own-room", "parent": "secret-b"}])
        await stream.wait_for_end()
        assert len(stream.events) == 1
    async with listening(asking, query, headers=token) as stream:
        assert stream.status == 404


async def test_who_has_the_same_token_shares_one_look_and_others_do_not_share_their_spaces(
    asking: App, connection: asyncpg.Connection
) -> None:
    own, secret = await new_token(connection, space="own"), await new_token(connection, space="secret-b")
    everywhere = [await new_token(connection), await new_token(connection)]
    async with (
        listening(asking, headers=own) as one,
        listening(asking, headers=own) as two,
        listening(asking, headers=secret) as three,
        listening(asking, headers=everywhere[0]),
        listening(asking, headers=everywhere[1]),
    ):
        for stream in (one, two, three):
            await stream.wait_for(2)
        assert told(one) == told(two)
        assert {space for _, space, _ in told(three)} == {"secret-b", "secret-room"}
        assert len(asking.services.live.selections) == 3


@pytest.mark.parametrize("end", ["revoked_at", "expires_at"])
@pytest.mark.parametrize("space", [None, "own"])
async def test_its_streams_end_within_five_seconds_when_their_token_is_revoked_or_expires(
    asking: App, connection: asyncpg.Connection, space: str | None, end: str
) -> None:
    # from one look to the next, for a look, and what is remembered; how long it takes here says how busy the machine is
    assert 2 * feed.TOKEN_SECONDS + auth.FRESH_SECONDS < 5
    later = datetime.now(UTC) + timedelta(hours=1)
    token = await new_token(connection, "read", space=space, expires_at=later if end == "expires_at" else None)
    other = await new_token(connection, "read")
    async with listening(asking, headers=token) as stream, listening(asking, headers=other) as staying:
        await stream.wait_for(2)
        if end == "revoked_at":
            # in another process, or by hand: nobody tells this one
            await calls.revoke_token(connection, await token_id(connection, token))
        else:
            soon = "update core.token set expires_at = now() + interval '0.5 s' where expires_at is not null"
            await connection.execute(soon)
        await apply_site(connection, spaces=[{"id": "own-new", "parent": "own"}])
        await stream.wait_for_end()
        assert not [event for event in stream.events if event.data.get("deleted")], "its spaces are still there"
        heard = len(staying.events)
        await apply_site(connection, spaces=[{"id": "own-newer", "parent": "own"}])
        await staying.wait_for(heard + 1)
        assert not staying.is_over
    status = 0
    async with asyncio.timeout(PATIENCE):
        while status != 401:
            async with listening(asking, headers=token) as late:
                status = late.status
                assert status in (200, 401)
                if status == 200:
                    await late.wait_for_end()
                    assert late.events == []


async def test_whether_tokens_are_good_is_asked_once_for_all_streams_and_not_at_every_tick(
    asking: App, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await new_token(connection, "read")
    asked = []
    real = asking.services.authenticator.is_still_good

    async def spy(access: Access) -> bool:
        asked.append(access)
        return bool(await real(access))

    monkeypatch.setattr(asking.services.authenticator, "is_still_good", spy)
    begun = time.monotonic()
    async with listening(asking, headers=token), listening(asking, "under=own", headers=token):
        while len(asked) < 2:
            await asyncio.sleep(0.05)
            assert time.monotonic() - begun < PATIENCE
        assert len(asked) <= (time.monotonic() - begun) / feed.TOKEN_SECONDS


async def test_its_streams_end_when_nobody_can_tell_for_a_while_whether_their_token_is_good(
    asking: App, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    async def away(_access: object) -> bool:
        asked.append(time.monotonic())
        raise OSError("away")

    monkeypatch.setattr(feed, "TOKEN_SECONDS", 0.05)
    monkeypatch.setattr(feed, "AWAY_SECONDS", 0.5)
    monkeypatch.setattr(asking.services.authenticator, "is_still_good", away)
    async with listening(asking, headers=await new_token(connection, "read")) as stream:
        await stream.wait_for_end()
        assert time.monotonic() - asked[0] > 0.5


@pytest.mark.parametrize(("scopes", "status"), [(["read"], 200), (["admin"], 200), (["ingest"], 403), ([], 401)])
async def test_head_says_what_get_would_and_ends_although_the_client_stays(
    asking: App, connection: asyncpg.Connection, scopes: list[str], status: int
) -> None:
    token = await new_token(connection, *scopes) if scopes else bearer("hc_none")
    async with listening(asking, headers=token, method="HEAD") as stream:
        await asyncio.wait_for(stream.dropped.wait(), PATIENCE)
        assert (stream.status, stream.is_over, stream.events, stream.text) == (status, True, [], "")
        assert asking.services.live.listening == 0


async def test_of_a_sensor_it_names_the_side_that_the_token_reaches(
    asking: App, connection: asyncpg.Connection
) -> None:
    """own-front is mounted in secret-campus, own-inner in own; who asks for own-room alone may know of own too."""
    token = await new_token(connection, "read", space="own")
    async with (
        listening(asking, headers=token) as all_of_it,
        listening(asking, "space=own-room", headers=token) as room,
    ):
        await all_of_it.wait_for(2)
        await room.wait_for(1)
        await connection.execute("select core.note_change(flipped => array(select dpu_id from core.dpu))")
        await all_of_it.wait_until(lambda: len(sensors(all_of_it)) >= 2)
        await room.wait_until(lambda: bool(sensors(room)))
        assert sensors(all_of_it) == {("own-front", "own"), ("own-inner", "own"), ("moved", "own-room")}
        assert sensors(room) == {("own-inner", "own"), ("moved", "own-room")}
        assert no_leak(all_of_it)
        assert no_leak(room)


async def test_of_a_sensor_it_tells_nothing_from_before_it_came_into_the_tokens_part(
    asking: App, connection: asyncpg.Connection
) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    came = now - seconds(60)
    elsewhere = {"doorway": "secret-inner", "mounted_in": "secret-b", "from": LONG_AGO, "until": came.isoformat()}
    here = {"doorway": "own-inner", "mounted_in": "own", "from": came.isoformat()}
    await apply_site(
        connection, dpus=[{"id": "late"}], placements=[elsewhere | {"dpu": "late"}, here | {"dpu": "late"}]
    )
    own, everywhere = await new_token(connection, "read", space="own"), await new_token(connection, "read")
    async with listening(asking, headers=own) as limited, listening(asking, headers=everywhere) as unlimited:
        await limited.wait_for(2)
        await unlimited.wait_for(2)
        await heard(connection, ("late", now - seconds(1800)))
        await listen(connection, now - seconds(1800), now)
        await tick(connection, now)

        def told(stream: Stream) -> list[tuple[str, str | None, str]]:
            found = [event.data for event in stream.events if event.name == "dpu" and event.data["dpu"] == "late"]
            return [(data["state"], data["last_seen"], data["at"]) for data in found if data["state"] == "offline"]

        await limited.wait_until(lambda: bool(told(limited)))
        await unlimited.wait_until(lambda: bool(told(unlimited)))
    assert told(unlimited) == [("offline", shortest(now - seconds(1800)), shortest(now - seconds(1200)))]
    assert told(limited) == [("offline", None, shortest(came))]


def sensors(stream: Stream) -> set[tuple[str, str | None]]:
    return {(event.data["dpu"], event.data["space"]) for event in stream.events if event.name == "dpu"}


async def test_when_the_tree_changes_all_limited_tokens_are_looked_at_in_one_call(
    asking: App, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    for name in ("list_selections", "list_counts"):

        def spy(*arguments: object, name: str = name, call: object = getattr(calls, name), **more: object) -> object:
            asked.append(name)
            assert callable(call)
            return call(*arguments, **more)

        monkeypatch.setattr(calls, name, spy)
    tokens = [await new_token(connection, "read", space="own") for _ in range(8)]
    async with AsyncExitStack() as streams:
        listeners = [await streams.enter_async_context(listening(asking, headers=token)) for token in tokens]
        for stream in listeners:
            await stream.wait_for(2)
        asked.clear()
        await apply_site(connection, spaces=[{"id": "own-new", "parent": "own"}])
        for stream in listeners:
            await stream.wait_until(lambda stream=stream: ("own-new", 0) in stream.counts())  # type: ignore[misc]
        assert len(asking.services.live.selections) == 8
        assert asked.count("list_selections") == 1
        assert asked.count("list_counts") == 1


async def test_counts_of_deleted_spaces_are_forgotten(asking: App, connection: asyncpg.Connection) -> None:
    token = await new_token(connection, "read")
    async with listening(asking, headers=token) as stream:
        await stream.wait_for(5)
        await apply_site(connection, spaces=[{"id": "shed"}])
        await stream.wait_until(lambda: ("shed", 0) in stream.counts())
        assert "shed" in asking.services.live.frames
        await calls.delete_space(connection, "shed")
        await stream.wait_until(lambda: ("space", "shed", True) in told(stream))
        assert "shed" not in asking.services.live.frames


async def test_who_comes_back_delays_nobody(
    asking: App, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What changed since their ids is read beside the feed, and while that takes long the others hear all the same."""
    token = await new_token(connection, "read")
    may_go_on = asyncio.Event()
    list_changes = calls.list_changes
    async with listening(asking, headers=token) as stream:
        feed = asking.services.live
        last_id = (await stream.wait_for(5))[-1].id

        async def slow(session: calls.Session, cursor: str | None = None, *, is_resume: bool = False) -> ChangesRow:
            if cursor != feed.cursor:
                await may_go_on.wait()
            return await list_changes(session, cursor, is_resume=is_resume)

        await record(connection, [("own-inner", datetime.now(UTC), 1)])
        await stream.wait_until(lambda: ("own-room", 2) in stream.counts())
        monkeypatch.setattr(calls, "list_changes", slow)
        back = [asyncio.create_task(come_back(asking, token, last_id)) for _ in range(10)]
        await until(lambda: feed.listening == 11)
        for number in range(2, 5):
            await record(connection, [("own-inner", datetime.now(UTC), 1)])
            await stream.wait_until(lambda number=number: ("own-room", 3 - number) in stream.counts())  # type: ignore[misc]
        assert not any(task.done() for task in back)
        may_go_on.set()
        for counts in await asyncio.gather(*back):
            assert ("own-room", -1) in counts, "with what changed while they waited"


async def come_back(asking: App, token: dict[str, str], last_id: str) -> set[tuple[str, int]]:
    async with listening(asking, headers=token, last_id=last_id) as stream:
        await stream.wait_for(1)
        return set(stream.counts())


async def test_nothing_is_left_when_the_service_stops_while_somebody_comes_back(
    connection: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await build_site(connection)
    token = await new_token(connection, "read")
    app = create_app(Settings(database_url=database_url, jobs=False))
    list_changes = calls.list_changes
    async with app.lifespan():
        async with listening(app, headers=token) as stream:
            last_id = (await stream.wait_for(5))[-1].id

        async def never(session: calls.Session, cursor: str | None = None, *, is_resume: bool = False) -> ChangesRow:
            if cursor == last_id:
                await asyncio.Event().wait()
            return await list_changes(session, cursor, is_resume=is_resume)

        monkeypatch.setattr(calls, "list_changes", never)
        back = asyncio.create_task(come_back(app, token, last_id))
        while not app.services.live.resuming:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    async with asyncio.timeout(PATIENCE):
        assert await back == set(), "it is refused"
    assert app.services.live.resuming == {}
    assert app.services.live.listening == 0


async def test_one_client_has_a_quarter_of_the_streams_its_tokens_together(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build_site(connection)
    one, other = await new_token(connection, "read"), await new_token(connection, "read")
    app = create_app(Settings(database_url=database_url, jobs=False, max_listeners=8))
    async with app.lifespan(), AsyncExitStack() as streams:
        for _ in range(2):
            assert (await streams.enter_async_context(listening(app, headers=one))).status == 200
        async with listening(app, headers=one) as refused, listening(app, headers=other) as stream:
            assert (refused.status, stream.status) == (429, 200)
            assert refused.headers["retry-after"]
        await streams.aclose()
        async with listening(app, headers=one) as again:
            assert again.status == 200
        await until(lambda: not app.services.live.streams_of.held)


async def test_one_client_that_comes_back_again_and_again_is_in_the_way_of_no_other_client_and_of_no_tick(
    connection: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await build_site(connection)
    one, other = await new_token(connection, "read"), await new_token(connection, "read")
    list_changes, begun, may_go = calls.list_changes, asyncio.Semaphore(0), asyncio.Event()
    last_ids = set()

    async def held_up(session: calls.Session, cursor: str | None = None, *, is_resume: bool = False) -> ChangesRow:
        if cursor in last_ids:
            begun.release()
            await may_go.wait()
        return await list_changes(session, cursor, is_resume=is_resume)

    app = create_app(Settings(database_url=database_url, jobs=False))
    async with app.lifespan(), AsyncExitStack() as streams:
        first = await streams.enter_async_context(listening(app, headers=other))
        last_id = (await first.wait_for(5))[-1].id
        at = int(last_id.split("@")[1])
        ids = [last_id.replace(str(at), str(at - number), 1) for number in range(1, 5)]
        last_ids.update(ids)
        monkeypatch.setattr(calls, "list_changes", held_up)

        async def come_back(last: str) -> None:
            async with listening(app, headers=one, last_id=last) as stream:
                assert stream.status == 200

        asked = [asyncio.create_task(come_back(last)) for last in ids]
        await begun.acquire()
        async with listening(app, headers=other, last_id=last_id) as resumed:
            assert resumed.status == 200
        await pass_through(connection, "own-front", after=1)
        await first.wait_for(6)
        assert begun.locked(), "one of them looks, the others wait for it"
        may_go.set()
        await asyncio.gather(*asked)
