"""GET /healthz and /readyz, and a service whose database comes and goes."""

import asyncio
import itertools
import time
from contextlib import AbstractAsyncContextManager
from typing import Any

import asyncpg
import httpx
import pytest

from headcount.database.pool import Database
from headcount.http import auth
from headcount.settings import Settings
from headcount.wire.problems import Problem, SchemaMismatch
from tests.commands.support import until
from tests.http import body, event, problem
from tests.http.guarded import bearer, guarded, new_token
from tests.http.streams import served
from tests.http.wire import Wire, until_ready

pytestmark = pytest.mark.slow


async def test_it_is_healthy_and_ready(client: httpx.AsyncClient) -> None:
    assert body(await client.get("/healthz")) == {"status": "ok"}
    assert body(await client.get("/readyz")) == {"status": "ok"}


def service_at(url: str, **settings: Any) -> AbstractAsyncContextManager[httpx.AsyncClient]:
    return served(Settings(database_url=url, auth="off", jobs=False, **settings))


async def test_it_starts_without_a_database_and_heals_when_it_comes_goes_and_comes_back(
    database_url: str, connection: asyncpg.Connection
) -> None:
    wire = Wire(database_url)
    await wire.mend()
    await wire.cut()
    async with service_at(wire.url, acquire_seconds=2.0) as client:
        for _ in range(2):
            for path in ("/readyz", "/v1/spaces"):
                response = await client.get(path)
                problem(response, 503, "unavailable")
                assert response.headers["retry-after"] == "1"
            assert body(await client.get("/healthz"))
            await wire.mend()
            body(await client.get("/v1/spaces"))
            await until_ready(client, 200)
            await wire.cut()
            await until_ready(client, 503)
        await wire.mend()
        body(await client.get("/v1/spaces"))
        await wire.cut()


async def test_it_refuses_to_start_on_a_database_that_was_not_migrated(fresh_database_url: str) -> None:
    with pytest.raises(SchemaMismatch, match="headcount migrate"):
        async with service_at(fresh_database_url):
            pass


async def test_it_is_not_ready_once_the_schema_is_another(own_database_url: str) -> None:
    async with service_at(own_database_url) as client:
        body(await client.get("/readyz"))
        owner = await asyncpg.connect(own_database_url)
        await owner.execute("update meta.repeatable set sha256 = 'another' where name = 'repeatable'")
        await owner.close()
        found = problem(await until_ready(client, 503), 503, "unavailable")
        assert "headcount migrate" in found["detail"]


async def test_it_turns_requests_away_at_once_when_too_many_wait(database_url: str) -> None:
    database = Database(Settings(database_url=database_url, auth="off", pool_size=1, max_waiting=1))
    async with database.lifespan(None):
        assert database.pool
        async with database.pool.acquire():
            waiting = asyncio.create_task(database.fetch("select 1"))
            await until(lambda: database.waiting == 1)
            with pytest.raises(Problem) as raised:
                await database.fetch("select 1")
            assert raised.value.kind.code == "unavailable"
        assert len(await waiting) == 1


async def test_however_many_ask_whether_it_is_ready_the_database_is_asked_once_a_second(
    connection: asyncpg.Connection, database_url: str
) -> None:
    async with service_at(database_url, pool_size=1, max_waiting=1, send_notices=False) as client:
        asked = asyncio.gather(*(client.get("/readyz") for _ in range(300)))
        assert (await client.get("/v1/spaces")).status_code == 200
        assert {response.status_code for response in await asked} == {200}
    database = Database(Settings(database_url=database_url, auth="off", pool_size=1))
    async with database.lifespan(None):
        heard = database.answered_at
        for _ in range(300):
            database.check_readiness()
        assert database.answered_at == heard
        assert database.get_size() == 0, "no connection of the pool was used"


async def test_a_database_that_hangs_is_told_within_seconds_and_probes_answer_all_the_while(
    connection: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "FRESH_SECONDS", 0.0)
    reader, writer = await new_token(connection), await new_token(connection, "ingest")
    wire = Wire(database_url)
    await wire.mend()
    async with guarded(wire.url) as client:
        for path in ("/v1/spaces", "/metrics"):
            assert (await client.get(path, headers=reader)).status_code == 200
        body(await client.post("/v1/events", json={"events": [event()]}, headers=writer))
        wire.freeze()
        begun = time.monotonic()
        waited = await asyncio.gather(
            client.get("/v1/spaces", headers=reader),
            client.get("/v1/counts", headers=reader),
            client.post("/v1/events", json={"events": [event(sequence=1)]}, headers=writer),
            client.get("/v1/spaces", headers=bearer("hc_" + "x" * 43)),
        )
        took = time.monotonic() - begun
        for response in waited:
            problem(response, 503, "unavailable")
            assert response.headers["retry-after"] == "1"
        problem(await until_ready(client, 503), 503, "unavailable")
        assert body(await client.get("/healthz"))
        found = await client.get("/metrics", headers=reader)
        assert found.status_code == 200
        assert "headcount_rollup_lag_seconds NaN" in found.text
        problem(await client.get("/metrics", headers=bearer("hc_" + "x" * 43)), 503, "unavailable")
        await wire.thaw()
        await until_ready(client, 200)
        body(await client.get("/v1/spaces", headers=reader))
        stored = body(await client.post("/v1/events", json={"events": [event(sequence=1)]}, headers=writer))
        assert stored["accepted"] + stored["duplicates"] == 1
    await wire.cut()
    print(f"told after {took:.1f} s")
    # A bound for the case that everything waits for a statement's time (35 s), not a measurement.
    assert took < 15


async def test_a_statement_that_takes_long_is_not_taken_for_a_database_that_hangs(
    connection: asyncpg.Connection, database_url: str
) -> None:
    database = Database(Settings(database_url=database_url, auth="off"))
    async with database.lifespan(None):
        assert len(await database.fetch("select pg_sleep(3)")) == 1


async def test_that_we_stood_still_ourselves_says_nothing_of_the_database(
    connection: asyncpg.Connection, database_url: str
) -> None:
    database = Database(Settings(database_url=database_url, auth="off", pool_size=1))
    async with database.lifespan(None):
        database.watch.drop()
        database.watch.seconds = 0.1
        look = asyncio.create_task(database._look())
        async with asyncio.timeout(20):
            for _ in itertools.count():
                if database.watch.connection:
                    break
                await asyncio.sleep(0)
        time.sleep(0.6)  # noqa: ASYNC251
        database.watch.seconds = 10.0
        await look
        assert database.fault is None
        assert not database.is_silent
