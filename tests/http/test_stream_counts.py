"""GET /v1/live."""

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import asyncpg
import httpx
import pytest

from headcount.app import create_app
from headcount.database import calls
from headcount.http.asgi import App
from headcount.live import feed, listener, selections
from headcount.settings import Settings
from headcount.wire.access import EVERYTHING
from tests.commands.support import free_port, running, serving, until
from tests.factories import hear, listen, reset_unseen
from tests.factories import heard as received
from tests.http import body, event, problem, put, room_with_dpu, send
from tests.http.streams import PATIENCE, Stream, behind, listening


def now(later: timedelta = timedelta()) -> str:
    return (datetime.now(UTC) + later).isoformat()


def is_told(stream: Stream, last: object) -> bool:
    return bool(stream.events[-1].data == last)


async def idle(app: App) -> None:
    """Until nobody listens and the feed has ended."""
    task = app.services.live.task
    if task:
        await asyncio.wait_for(asyncio.shield(task), PATIENCE)


async def test_it_gives_every_count_on_connect_just_as_the_counts_are(app: App, client: httpx.AsyncClient) -> None:
    await room_with_dpu(client)
    await put(client, "spaces/hall")
    await send(client, event(direction=4))
    async with listening(app, "space=room&space=hall&space=room") as stream:
        found = await stream.wait_for(2)
        assert [(one.name, one.data["space"]) for one in found] == [("count", "hall"), ("count", "room")]
        expected = body(await client.get("/v1/spaces/room/count"))
        assert found[1].data | {"at": ""} == expected | {"at": ""}
        assert stream.status == 200
        assert stream.headers["content-type"] == "text/event-stream"
        assert stream.headers["x-request-id"]
        assert [one.id for one in found].count("0") == 1, "only the last of several that belong together says so"
        assert found[-1].id not in ("", "0")


async def test_it_lets_in_who_comes_just_while_the_feed_ends(app: App, client: httpx.AsyncClient) -> None:
    await put(client, "spaces/hall")
    joined = app.services.live
    for steps in range(12):
        last = await joined.listen(selections.EVERYTHING, EVERYTHING)
        await asyncio.sleep(2 * feed.JOIN_SECONDS)  # until the feed waits for its next tick
        joined.leave(last)
        for _ in range(steps):
            await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE):
            joined.leave(await joined.listen(selections.EVERYTHING, EVERYTHING))
        await idle(app)


@pytest.mark.parametrize(
    ("query", "expected"),
    [("", ["house", "room", "shed"]), ("under=house", ["house", "room"]), ("space=shed", ["shed"])],
)
async def test_it_listens_to_the_spaces_named_or_below_one_or_to_all(
    app: App, client: httpx.AsyncClient, query: str, expected: list[str]
) -> None:
    await put(client, "spaces/house")
    await put(client, "spaces/room", parent="house")
    await put(client, "spaces/shed")
    async with listening(app, query) as stream:
        assert [one.data["space"] for one in await stream.wait_for(len(expected))] == expected


async def test_it_tells_a_change_within_a_second_and_only_what_changed(app: App, client: httpx.AsyncClient) -> None:
    await room_with_dpu(client)
    await put(client, "spaces/hall")
    await send(client, event(timestamp="2026-01-05T07:00:00Z", direction=0))
    async with listening(app) as stream:
        await stream.wait_for(2)
        taken = []
        for number in range(5):
            began = time.monotonic()
            await send(client, event(timestamp=f"2026-01-05T08:00:0{number}Z"))
            await stream.wait_for(3 + number)
            taken.append(time.monotonic() - began)
        assert stream.counts() == [("hall", 0), ("room", 0), *(("room", number + 1) for number in range(5))]
        assert min(taken) < 1.0, "each began right after a tick, and waited for the next one"
        await send(client, event(timestamp="2026-01-05T08:00:00Z"))  # a duplicate
        await send(client, event(dpu="unplaced"))
        await send(client, event(timestamp="2026-01-05T08:00:09Z"))
        await stream.wait_for(9)
        assert [one.data["dpu"] for one in stream.events if one.name == "dpu"] == ["unplaced"], "it is new"
        assert stream.counts()[-1] == ("room", 6)
        assert len({one.id for one in stream.events if one.name == "count"}) == 8, "the id moves on"


async def test_it_goes_on_where_the_last_event_id_says(app: App, client: httpx.AsyncClient) -> None:
    await room_with_dpu(client)
    await put(client, "spaces/hall")
    await put(client, "spaces/shed")
    async with listening(app) as stream:
        last_id = (await stream.wait_for(3))[-1].id
    await idle(app)
    await send(client, event(), event(timestamp="2026-01-05T09:00:00Z"))
    await client.post("/v1/spaces/shed/resets", json={"count": 7})
    async with listening(app, last_id=last_id) as stream:
        await stream.wait_for(2)
        assert sorted(stream.counts()) == [("room", 2), ("shed", 7)]
        last_id = stream.events[-1].id
    async with listening(app, last_id=last_id) as stream:
        await send(client, event(timestamp="2026-01-05T10:00:00Z"))
        await stream.wait_for(1)
        assert stream.counts() == [("room", 3)], "what it knew already was not said again"


async def test_it_tells_of_a_daily_reset_that_upkeep_takes_in_first(
    app: App, client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await room_with_dpu(client)
    await send(client, event(direction=4))
    async with listening(app, "space=room") as stream:
        await stream.wait_for(1)
        await reset_unseen(connection, "room")
        await stream.wait_until(lambda: stream.counts() == [("room", 4), ("room", 0)])


async def test_it_tells_of_one_that_came_while_nobody_listened(
    app: App, client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await room_with_dpu(client)
    await send(client, event(direction=4))
    async with listening(app, "space=room") as stream:
        last_id = (await stream.wait_for(1))[-1].id
    await idle(app)
    await reset_unseen(connection, "room")
    async with listening(app, "space=room", last_id=last_id) as stream:
        await stream.wait_until(lambda: stream.counts() == [("room", 0)])


@pytest.mark.parametrize("last_id", ["0", "nonsense", "1:1:@1@1", "x" * 10_000])
async def test_it_gives_everything_after_an_id_that_is_too_old_or_not_its_own(
    app: App, client: httpx.AsyncClient, last_id: str
) -> None:
    await put(client, "spaces/hall")
    async with listening(app, last_id=last_id) as stream:
        await stream.wait_for(1)
        await stream.wait_until(lambda: stream.counts() == [("hall", 0)])
        assert (stream.events[0].name, stream.events[0].data) == ("list", {"reason": "last_event_id"})


async def test_it_says_to_list_again_where_spaces_and_sensors_may_have_changed_since(
    app: App, client: httpx.AsyncClient
) -> None:
    """More than two minutes ago, by the id: then nobody looks up what changed."""
    await put(client, "spaces/hall")
    await put(client, "spaces/shed")
    async with listening(app) as stream:
        last_id = (await stream.wait_for(2))[-1].id
        assert [event.name for event in stream.events] == ["count", "count"], "who begins has to list anyway"
    await put(client, "spaces/hall", name="Hall")
    snapshot, at, checked_at, history = last_id.split("@")
    long_ago = "@".join([snapshot, *(str(int(time) - 121_000_000) for time in (at, checked_at)), history])
    async with listening(app, last_id=long_ago) as stream:
        await stream.wait_for(3)
        assert [(event.name, event.data.get("reason")) for event in stream.events] == [
            ("list", "last_event_id"),
            ("count", None),
            ("count", None),
        ]
        assert [event.id == "0" for event in stream.events] == [True, True, False]
        last_id = stream.events[-1].id
    async with listening(app, last_id=last_id) as stream:
        await put(client, "spaces/shed", name="Shed")
        await stream.wait_for(1)
        assert stream.events[0].data == {"space": "shed", "deleted": False}, "and then only what changes"


async def test_it_says_so_as_well_where_the_service_did_not_follow_for_a_while(
    app: App, client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await put(client, "spaces/hall")
    async with listening(app) as stream, listening(app, "space=hall") as other:
        await stream.wait_for(1)
        await other.wait_for(1)
        async with behind(connection):
            await stream.wait_until(lambda: len(stream.events) > 1)
            await other.wait_until(lambda: len(other.events) > 1)
            assert [(event.name, event.data) for event in (stream.events[1], other.events[1])] == [
                ("list", {"reason": "stalled"})
            ] * 2
            async with listening(app, "space=hall") as late:
                assert (await late.wait_for(1))[0].name == "count"


async def test_it_tells_of_new_spaces_changed_ones_and_deleted_ones(app: App, client: httpx.AsyncClient) -> None:
    await put(client, "spaces/house")
    async with listening(app, "under=house") as stream, listening(app, "space=house") as other:
        await stream.wait_for(1)
        await other.wait_for(1)
        await put(client, "spaces/elsewhere")
        await put(client, "spaces/room", parent="house", capacity=4)
        found = (await stream.wait_for(3))[1:]
        assert [(one.name, one.data["space"]) for one in found] == [("space", "room"), ("count", "room")]
        assert found[0].data == {"space": "room", "deleted": False}
        assert found[1].data["capacity"] == 4

        await put(client, "spaces/room", name="Room")
        assert (await stream.wait_for(4))[3].data == {"space": "room", "deleted": False}

        await client.delete("/v1/spaces/room")
        assert (await stream.wait_for(5))[4].data == {"space": "room", "deleted": True}
        await client.delete("/v1/spaces/house")
        for one in (stream, other):
            await one.wait_until(partial(is_told, one, {"space": "house", "deleted": True}))
        assert len(other.events) == 2
        await put(client, "spaces/house", capacity=1)
        await other.wait_until(lambda: other.events[-1].name == "count")
        assert other.events[-1].data["capacity"] == 1, "it came back"


async def test_it_tells_of_a_space_that_is_hung_elsewhere(app: App, client: httpx.AsyncClient) -> None:
    await put(client, "spaces/house")
    await put(client, "spaces/room", parent="house")
    async with listening(app, "under=house") as stream:
        await stream.wait_for(2)
        await put(client, "spaces/room", parent=None)
        assert (await stream.wait_for(3))[2].data == {"space": "room", "deleted": True}
        await put(client, "spaces/room", parent="house")
        assert [one.data["space"] for one in (await stream.wait_for(5))[3:]] == ["room", "room"]


async def test_it_tells_of_a_changed_capacity(app: App, client: httpx.AsyncClient) -> None:
    await put(client, "spaces/hall")
    async with listening(app) as stream:
        await stream.wait_for(1)
        await put(client, "spaces/hall", capacity=9)
        found = (await stream.wait_for(3))[1:]
        assert [one.name for one in found] == ["space", "count"]
        assert found[1].data["capacity"] == 9


async def test_it_tells_when_an_event_from_ahead_of_the_clock_is_due(app: App, client: httpx.AsyncClient) -> None:
    await room_with_dpu(client)
    async with listening(app) as stream:
        await stream.wait_for(1)
        due = time.monotonic() + 2
        await send(client, event(timestamp=now(timedelta(seconds=2))))
        await stream.wait_until(lambda: stream.counts()[-1] == ("room", 1))
        # the other clock may differ by a little, and this machine be busy; but not before
        assert time.monotonic() > due - 0.5
    assert not [count for count in stream.counts()[:-1] if count[1]]


async def test_it_tells_when_a_daily_reset_is_due(
    app: App, client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await room_with_dpu(client)
    await send(client, event(timestamp=now(-timedelta(minutes=10)), direction=5))
    async with listening(app) as stream:
        await stream.wait_for(1)
        while True:
            due = (datetime.now(UTC) + timedelta(seconds=3)).replace(microsecond=0)
            await put(client, "spaces/room", reset_at=f"{due:%H:%M:%S}")
            if datetime.now(UTC) < due:  # else it would be tomorrow
                break
        await stream.wait_until(lambda: stream.counts()[-1] == ("room", 0))
        assert {count for _, count in stream.counts()[:-1]} == {5}
        assert stream.events[-1].data["since"] == f"{due:%Y-%m-%dT%H:%M:%S}Z"


async def test_it_tells_when_a_sensor_falls_silent_and_when_it_is_back(
    app: App, client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await room_with_dpu(client)
    heard = datetime.now(UTC) - timedelta(minutes=11)
    await received(connection, ("dpu-1", heard))
    async with listening(app) as stream, listening(app, "space=room") as named:
        found = await stream.wait_for(1)
        assert found[0].data["dpus"] == {"placed": 1, "online": 1}
        await listen(connection, heard, datetime.now(UTC))
        assert await connection.fetchval("select api.detect_outages()") == 1
        for one in (stream, named):
            flip, count = (await one.wait_for(3))[1:]
            assert flip.name == "dpu"
            assert flip.data == {
                "dpu": "dpu-1",
                "state": "offline",
                "last_seen": heard.isoformat().replace("+00:00", "Z"),
                "at": (heard + timedelta(minutes=10)).isoformat().replace("+00:00", "Z"),
                "space": "room",
            }
            assert count.data["dpus"] == {"placed": 1, "online": 0}
        last_id = stream.events[0].id
        await hear(connection, ("dpu-1", None))
        flip, count = (await stream.wait_for(5))[3:]
        assert (flip.name, flip.data["state"], flip.data["at"]) == ("dpu", "online", flip.data["last_seen"])
        assert count.data["dpus"] == {"placed": 1, "online": 1}
    async with listening(app, last_id=last_id) as stream:
        assert [one.name for one in await stream.wait_for(2)] == ["dpu", "count"], "what was missed is told later"


@pytest.mark.parametrize(
    ("query", "status", "code", "where"),
    [
        ("space=room", 404, "not_found", "space"),
        ("space=hall&space=room", 404, "not_found", "space"),
        ("under=room", 404, "not_found", "under"),
        ("space=hall&under=hall", 422, "invalid", "under"),
        ("space=a%20b", 422, "invalid", "space[0]"),
        ("at=2026-01-01T00:00:00Z", 422, "invalid", "at"),
    ],
)
async def test_it_refuses_what_it_cannot_listen_to_and_goes_on_for_the_others(
    app: App, client: httpx.AsyncClient, query: str, status: int, code: str, where: str
) -> None:
    await put(client, "spaces/hall")
    async with listening(app) as stream:
        await stream.wait_for(1)
        problem(await client.get(f"/v1/live?{query}"), status, code, where)
        await client.post("/v1/spaces/hall/resets", json={"count": 2})
        await stream.wait_for(2)
        assert stream.counts() == [("hall", 0), ("hall", 2)]


async def test_it_asks_the_database_nothing_while_nobody_listens_and_the_same_for_two_as_for_one(
    app: App, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    for name in ("list_changes", "list_counts"):

        def spy(*arguments: object, name: str = name, call: object = getattr(calls, name), **more: object) -> object:
            asked.append(name)
            assert callable(call)
            return call(*arguments, **more)

        monkeypatch.setattr(calls, name, spy)
    await room_with_dpu(client)
    await send(client, event())
    await idle(app)
    asked.clear()
    await asyncio.sleep(3 * feed.TICK_SECONDS)
    assert asked == []
    async with listening(app) as one, listening(app) as two:
        await one.wait_for(1)
        await two.wait_for(1)
        asked.clear()
        await send(client, event(timestamp="2026-01-05T09:00:00Z"))
        await one.wait_for(2)
        await two.wait_for(2)
        assert asked.count("list_counts") == 1
        asked.clear()
        began = time.monotonic()
        await until(lambda: len(asked) >= 3)
        assert len(asked) <= (time.monotonic() - began) / feed.TICK_SECONDS + 2
        assert set(asked) == {"list_changes"}
    await idle(app)
    asked.clear()
    await asyncio.sleep(3 * feed.TICK_SECONDS)
    assert asked == []


async def test_it_drops_who_takes_nothing_and_keeps_no_more_for_them_than_the_newest_count(
    app: App, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "WRITE_SECONDS", 600.0)
    await room_with_dpu(client)
    await send(client, event(timestamp="2026-01-05T07:00:00Z", direction=0))
    async with listening(app) as slow, listening(app) as dead, listening(app) as quick:
        for stream in (slow, dead, quick):
            await stream.wait_for(1)
        slow.may_send.clear()
        for number in range(4):
            await send(client, event(timestamp=f"2026-01-05T08:00:0{number}Z"))
            await quick.wait_for(2 + number)
        assert [count for _, count in quick.counts()] == [0, 1, 2, 3, 4]
        slow.may_send.set()
        await slow.wait_until(lambda: slow.counts()[-1] == ("room", 4))
        assert len(slow.events) <= 3, "what it held when it stalled, and the newest"
        monkeypatch.setattr(listener, "WRITE_SECONDS", 2.0)
        dead.may_send.clear()
        await send(client, event(timestamp="2026-01-05T09:00:00Z"))
        await asyncio.wait_for(dead.dropped.wait(), PATIENCE)
        await slow.wait_until(lambda: slow.counts()[-1] == ("room", 5))
        await send(client, event(timestamp="2026-01-05T10:00:00Z"))
        await slow.wait_until(lambda: slow.counts()[-1] == ("room", 6))


async def test_it_says_that_it_is_still_there(
    app: App, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert listener.KEEP_ALIVE_SECONDS < 15
    monkeypatch.setattr(listener, "KEEP_ALIVE_SECONDS", 0.05)
    async with listening(app) as stream:
        await stream.wait_until(lambda: "\n:" in stream.text)


async def test_it_takes_no_more_listeners_than_it_is_told_to(database_url: str, connection: asyncpg.Connection) -> None:
    app = create_app(Settings(database_url=database_url, auth="off", jobs=False, max_listeners=1))
    async with app.lifespan(), listening(app), listening(app) as second:
        assert second.status == 503
        assert second.headers["retry-after"]


async def test_its_streams_end_when_the_service_stops(database_url: str, connection: asyncpg.Connection) -> None:
    app = create_app(Settings(database_url=database_url, auth="off", jobs=False))
    async with app.lifespan(), listening(app) as stream:
        app.services.live.stop()
        await stream.wait_for_end()
        async with listening(app) as late:
            assert late.status == 503


async def test_its_streams_survive_a_hiccup_of_the_database_and_end_when_it_stays_away(
    app: App, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await room_with_dpu(client)
    real = calls.list_changes
    monkeypatch.setattr(feed, "AWAY_SECONDS", 600.0)

    async def away(*_: object, **__: object) -> None:
        raise ConnectionRefusedError

    async with listening(app) as stream:
        await stream.wait_for(1)
        monkeypatch.setattr(calls, "list_changes", away)
        await send(client, event())
        async with listening(app) as other:
            assert other.status == 503
        monkeypatch.setattr(calls, "list_changes", real)
        await stream.wait_for(2)
        assert stream.counts() == [("room", 0), ("room", 1)]
        monkeypatch.setattr(feed, "AWAY_SECONDS", 0.1)
        monkeypatch.setattr(calls, "list_changes", away)
        await stream.wait_for_end()


async def change(connection: asyncpg.Connection, dpu: str, at: datetime) -> None:
    await calls.record_events(connection, [dpu], [at], [1], [0])


@pytest.mark.concurrency
async def test_it_misses_nothing_that_commits_out_of_order(
    app: App, client: httpx.AsyncClient, database_url: str
) -> None:
    """Writers that hold their transactions for a while: those that begin first commit last."""
    writers = 6
    for number in range(writers):
        await put(client, f"spaces/room-{number}")
        await put(client, f"doorways/door-{number}", sides=[None, f"room-{number}"])
        await put(client, f"dpus/dpu-{number}")
        placed = await client.post(
            f"/v1/dpus/dpu-{number}/placements",
            json={"doorway": f"door-{number}", "mounted_in": f"room-{number}", "from": "2020-01-01T00:00:00Z"},
        )
        assert placed.status_code == 201
    begun = datetime(2026, 1, 5, tzinfo=UTC)
    await send(client, event("other", begun.isoformat()))  # whoever makes the chunk keeps others out

    async def write(number: int) -> None:
        connection = await asyncpg.connect(database_url)
        try:
            for turn in range(10):
                async with connection.transaction():
                    await change(connection, f"dpu-{number}", begun + timedelta(seconds=turn))
                    await asyncio.sleep(0.05 * (writers - number))
        finally:
            await connection.close()

    async with listening(app) as stream:
        await asyncio.gather(*(write(number) for number in range(writers)))
        await stream.wait_until(lambda: dict(stream.counts()) == {f"room-{number}": 10 for number in range(writers)})


async def test_it_streams_through_the_server_and_ends_when_that_is_stopped(
    connection: asyncpg.Connection, database_url: str, tmp_path: Path
) -> None:
    port = free_port()
    with serving(tmp_path, database_url, port) as process:
        base = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=base, timeout=30) as client:
            await room_with_dpu(client)
            async with client.stream("GET", "/v1/live") as answer:
                assert answer.headers["content-type"] == "text/event-stream"
                lines = answer.aiter_lines()

                async def next_count() -> int:
                    async for line in lines:
                        if line.startswith("data: ") and "raw_count" in line:
                            return int(json.loads(line.removeprefix("data: "))["raw_count"])
                    raise AssertionError("it ended")

                assert await next_count() == 0
                await send(client, event())
                assert await next_count() == 1
                stopping = asyncio.create_task(asyncio.to_thread(process.end))
                assert [line async for line in lines if line.startswith("data: ")] == []
                assert await stopping == 0, process.said
                assert "Cancel" not in process.said, "it was not cut off, as what outlasts its grace"


async def test_it_notices_through_the_server_that_a_listener_has_gone(
    connection: asyncpg.Connection, database_url: str, tmp_path: Path
) -> None:
    port = free_port()
    variables = {"DATABASE_URL": database_url, "HEADCOUNT_AUTH": "off", "HEADCOUNT_PORT": str(port)}
    with running(tmp_path, "serve", **variables, HEADCOUNT_MAX_LISTENERS="1") as process:
        process.wait_for("Serving on")
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:

            async def listen() -> int:
                async with client.stream("GET", "/v1/live") as answer:
                    return answer.status_code

            async with client.stream("GET", "/v1/live") as answer:
                assert answer.status_code == 200
                assert await listen() == 503
            for _ in range(600):
                if await listen() == 200:
                    return
                await asyncio.sleep(0.05)
            pytest.fail("it never noticed")
