"""One client cannot shut out the rest: what each may use at once of what all share."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import asyncpg
import httpx
import pytest

from headcount.app import create_app
from headcount.database.pool import Database
from headcount.http.server import Server, listen
from headcount.settings import Settings
from headcount.wire.problems import Problem
from headcount.wire.shares import ClientQuota, Shares
from tests.factories import NOON, apply_site, record
from tests.http import body, event, problem
from tests.http.guarded import LONG_AGO, guarded, new_token, token_id
from tests.http.streams import PATIENCE, client_of

pytestmark = pytest.mark.usefixtures("connection")


async def taken(shares: Shares, client: str | None, *, is_slow: bool, most: int = 100) -> int:
    """How many turns there are at once, before one has to wait."""
    async with AsyncExitStack() as stack:
        for number in range(most):
            try:
                await stack.enter_async_context(shares.turn(client, is_slow=is_slow))
            except Problem:
                return number
    return most


async def test_a_client_has_half_of_the_connections_and_two_slow_reads() -> None:
    shares = Shares(10, 200, seconds=0.01)
    assert await taken(shares, "one", is_slow=False) == 5
    assert await taken(shares, "one", is_slow=True) == 2
    assert await taken(shares, None, is_slow=True) == 5, "slow reads of all have half"
    assert await taken(shares, None, is_slow=False) == 8, "two are left to what is done for all"
    assert shares.clients == {}


async def test_a_client_that_has_all_its_turns_is_in_nobodys_way_but_its_own() -> None:
    shares = Shares(10, 200, seconds=0.01)
    async with AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(shares.turn("one", is_slow=True))
        with pytest.raises(Problem) as raised:
            await stack.enter_async_context(shares.turn("one", is_slow=True))
        assert raised.value.kind.status == 429
        assert raised.value.headers == {"Retry-After": "1"}
        await stack.enter_async_context(shares.turn("other", is_slow=True))
        await stack.enter_async_context(shares.turn("one", is_slow=False))


async def test_a_client_fills_a_quarter_of_the_queue_only() -> None:
    shares = Shares(2, 8, seconds=PATIENCE)

    async def ask(client: str) -> None:
        async with shares.turn(client, is_slow=False):
            await asyncio.sleep(0)

    async with shares.turn("one", is_slow=False):
        waiting = [asyncio.create_task(ask("one")) for _ in range(3)]
        async with asyncio.timeout(PATIENCE):
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            with pytest.raises(Problem, match="of this token") as raised:
                task.result()
            assert raised.value.kind.status == 429
        assert len(done) == 1
        await ask("other")
    await asyncio.gather(*waiting, return_exceptions=True)
    assert [task.exception() for task in waiting].count(None) == 2


async def test_whoever_goes_away_while_it_waits_gives_back_what_it_has() -> None:
    shares = Shares(2, 8, seconds=PATIENCE)
    async with shares.turn("one", is_slow=True):
        waiting = asyncio.create_task(taken(shares, "one", is_slow=True))
        await asyncio.sleep(0)
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
    assert await taken(shares, "one", is_slow=True, most=1) == 1
    assert shares.clients == {}
    assert shares.waiting == 0


def test_a_part_is_of_each_client_and_who_has_nothing_may_have_anything() -> None:
    part = ClientQuota(10, "events")
    with part.hold("one", 100):
        with pytest.raises(Problem, match="Too many events of this token"):
            part.check("one")
        with part.hold("other", 5), part.hold("other", 5), pytest.raises(Problem), part.hold("other", 1):
            pass
        with part.hold(None, 1000), part.hold(None, 1000):
            pass
    assert part.held == {}


async def test_events_of_one_client_that_wait_leave_room_for_those_of_others(
    connection: asyncpg.Connection, database_url: str
) -> None:
    one, other = await new_token(connection, "ingest"), await new_token(connection, "ingest")
    name = await token_id(connection, one)
    app = create_app(Settings(database_url=database_url, jobs=False, max_waiting_events=10))
    async with app.lifespan(), client_of(app) as client:
        with app.services.writer.intake.hold(5, 0, name):
            refused = await client.post("/v1/events", json={"events": [event()]}, headers=one)
            assert "events of this token" in problem(refused, 429, "rate_limited")["detail"]
            assert refused.headers["retry-after"] == "1"
            body(await client.post("/v1/events", json={"events": [event()]}, headers=other))
        body(await client.post("/v1/events", json={"events": [event()]}, headers=one))


@asynccontextmanager
async def listening(database_url: str) -> AsyncIterator[str]:
    """A service over real sockets; its address."""
    app = create_app(Settings(database_url=database_url, jobs=False, send_notices=False))
    async with app.lifespan():
        server = Server(app, is_guarded=True)
        with listen("127.0.0.1", 0) as socket:
            task = asyncio.create_task(server.serve(sockets=[socket]))
            try:
                yield f"http://127.0.0.1:{socket.getsockname()[1]}"
            finally:
                server.should_exit = True
                await task


HISTORY = (
    "/v1/counts?known_at=2030-01-01T00:00:00Z&at=2026-06-01T00:00:00Z",
    "/v1/events?dpu=dpu-1&from=2026-01-01T00:00:00Z&to=2026-06-01T00:00:00Z",
    "/v1/spaces/room/counts?from=2026-01-01T00:00:00Z&to=2026-06-01T00:00:00Z&interval=1d",
)


@asynccontextmanager
async def held_up(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Whoever reads events waits as long as this lasts. Gives a session that looks on."""
    owner, onlooker = await asyncpg.connect(database_url), await asyncpg.connect(database_url)
    try:
        async with owner.transaction():
            await owner.execute("lock table core.event in access exclusive mode")
            yield onlooker
    finally:
        await owner.close()
        await onlooker.close()


async def count_waiting(onlooker: asyncpg.Connection) -> int:
    """Statements of the service that wait for a lock."""
    found = await onlooker.fetchval(
        "select count(*) from pg_stat_activity where datname = current_database() and usename = current_user"
        " and application_name = 'headcount' and wait_event_type = 'Lock'"
    )
    return int(found)


async def until_waiting(onlooker: asyncpg.Connection, number: int) -> None:
    async with asyncio.timeout(PATIENCE):
        for _ in itertools.count():
            if await count_waiting(onlooker) == number:
                return
            await asyncio.sleep(0.02)


async def make_room(connection: asyncpg.Connection) -> None:
    """With a sensor that has counted, long ago."""
    await apply_site(
        connection,
        spaces=[{"id": "room"}],
        doorways=[{"id": "door", "sides": [None, "room"]}],
        dpus=[{"id": "dpu-1"}],
        placements=[{"dpu": "dpu-1", "doorway": "door", "mounted_in": "room", "from": LONG_AGO}],
    )
    assert not await record(connection, [("dpu-1", NOON, 1)])


@pytest.mark.concurrency
async def test_a_client_with_slow_reads_has_two_statements_and_others_are_answered_meanwhile(
    connection: asyncpg.Connection, database_url: str
) -> None:
    slow, other = await new_token(connection, "read"), await new_token(connection, "read")
    await make_room(connection)
    async with guarded(database_url, acquire_seconds=1.0) as client, held_up(database_url) as onlooker:
        asked = [asyncio.create_task(client.get(HISTORY[0], headers=slow)) for _ in range(12)]
        await until_waiting(onlooker, 2)
        for _ in range(10):
            body(await client.get("/v1/spaces/room/count", headers=other))
            body(await client.get("/v1/counts", headers=other))
            body(await client.get("/v1/spaces", headers=slow))
        assert await count_waiting(onlooker) == 2
        done, pending = await asyncio.wait(asked, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            problem(task.result(), 429, "rate_limited")
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


@pytest.mark.concurrency
@pytest.mark.parametrize("path", HISTORY)
@pytest.mark.parametrize("is_limited", [False, True])
async def test_a_statement_ends_when_its_client_goes_away(
    connection: asyncpg.Connection, database_url: str, path: str, is_limited: bool
) -> None:
    await make_room(connection)
    async with listening(database_url) as base, httpx.AsyncClient(base_url=base, timeout=PATIENCE) as client:
        reader = await new_token(connection, "read", space="room" if is_limited else None)
        body(await client.get("/v1/counts", headers=reader))
        async with held_up(database_url) as onlooker:
            host, _, port = base.removeprefix("http://").partition(":")
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {reader['Authorization']}\r\n\r\n".encode())
            await until_waiting(onlooker, 1)
            writer.close()
            await until_waiting(onlooker, 0)
            # its share is its own again
            body(await client.get("/v1/counts", headers=reader))


@pytest.mark.concurrency
async def test_events_are_stored_although_their_client_goes_away(
    connection: asyncpg.Connection, database_url: str
) -> None:
    writer_token = await new_token(connection, "ingest")
    content = b'{"events":[{"dpu":"d","timestamp":"2026-01-05T08:00:00Z","direction":1}]}'
    head = f"POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: {writer_token['Authorization']}\r\n"
    async with listening(database_url) as base:
        host, _, port = base.removeprefix("http://").partition(":")
        async with held_up(database_url) as onlooker:
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
            await until_waiting(onlooker, 1)
            writer.close()
            await writer.wait_closed()
        async with asyncio.timeout(PATIENCE):
            for _ in itertools.count():
                if await connection.fetchval("select count(*) from core.event"):
                    break
                await asyncio.sleep(0.02)


async def test_strangers_do_not_wait_behind_those_who_wait_for_the_pool(
    connection: asyncpg.Connection, database_url: str
) -> None:
    database = Database(Settings(database_url=database_url, pool_size=1))
    async with database.lifespan(None):
        assert database.pool
        async with database.pool.acquire():
            assert await database.door.fetch("select 1 as one")
            await database.check(database.watch)
