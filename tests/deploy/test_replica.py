"""Reads from a real streaming replica: never older than asked for, and from the primary where it cannot be."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta

import httpx
import msgspec
import psycopg
import pytest
import pytest_asyncio

from headcount.app import create_app
from headcount.database import replica
from headcount.database.migrate import migrate
from headcount.database.replica import CLOSE_SECONDS, Mark
from headcount.http.asgi import App
from headcount.http.auth import digest_of, make_token
from headcount.settings import Settings
from headcount.wire.messages.service import WalPosition
from tests.commands.support import PATIENCE, until
from tests.deploy.apps import living
from tests.load.cluster import Cluster, private_cluster

BEGAN = datetime.now(UTC) - timedelta(hours=2)
SITE = {
    "spaces": [{"id": "hall"}],
    "doorways": [{"id": "door", "sides": [None, "hall"]}],
    "dpus": [{"id": "dpu"}],
    "placements": [{"dpu": "dpu", "doorway": "door", "mounted_in": "hall", "from": "2026-01-01T00:00:00Z"}],
}
SERIES = "/v1/spaces/hall/counts?interval=1h"


@pytest.fixture(autouse=True)
def _answers_may_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine."""
    monkeypatch.setattr(replica, "ANSWER_SECONDS", PATIENCE)


@pytest.fixture(scope="module")
def primary() -> Iterator[Cluster]:
    with private_cluster() as cluster:
        migrate(cluster.url)
        yield cluster


@pytest.fixture(scope="module")
def standby(primary: Cluster) -> Iterator[Cluster]:
    with private_cluster(primary) as cluster:
        yield cluster


class Service:
    """A service with a replica, and what a test wants to know of it."""

    def __init__(self, app: App, client: httpx.AsyncClient) -> None:
        assert app.services.replica
        self.replica = app.services.replica
        self.client = client
        self.entered = 0

    async def until_close(self) -> None:
        await until(lambda: not self.replica.has_failed and self.replica.get_lag() < CLOSE_SECONDS / 2)

    async def until_looked_at(self) -> None:
        await until(lambda: len(self.replica.marks) > 1)

    async def until_read(self) -> None:
        """A request is answered by the replica; on a busy machine one more may find it too far behind."""
        before = await self.reads()
        for _ in range(int(PATIENCE)):
            await self.count_in_series()
            if (await self.reads())["replica"] > before["replica"]:
                return
            await self.until_close()
        raise TimeoutError

    async def enter(self) -> None:
        """One more person, and the answer that says so."""
        at = (BEGAN + timedelta(seconds=self.entered)).isoformat()
        told = await self.client.post("/v1/events", json={"events": [{"dpu": "dpu", "timestamp": at, "direction": 1}]})
        assert told.json()["accepted"] == 1, told.text
        self.entered += 1

    async def read(self, path: str, **headers: str) -> httpx.Response:
        told = await self.client.get(path, headers=headers)
        assert told.status_code == 200, told.text
        return told

    async def count_in_series(self, more: str = "") -> tuple[int, datetime]:
        """At the end of the series, and up to when it has everything."""
        told = await self.read(SERIES + more)
        return told.json()["buckets"][-1]["count"], datetime.fromisoformat(told.headers["X-Data-As-Of"])

    async def reads(self) -> dict[str, int]:
        text = (await self.read("/metrics")).text
        found = re.findall(r'^headcount_replica_reads_total\{by="(\w+)"\} ([\d.]+)$', text, re.MULTILINE)
        return {"replica": 0, "primary": 0} | {by: int(float(number)) for by, number in found}


def service_of(primary: str, replica: str, auth: str = "off") -> App:
    return create_app(
        Settings(database_url=primary, read_url=replica, auth=auth, jobs=False, send_notices=False, pool_size=4)
    )


@pytest.fixture(autouse=True)
def _metrics_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headcount.metrics.KEPT_SECONDS", 0.0)


@pytest_asyncio.fixture(loop_scope="session")
async def service(primary: Cluster, standby: Cluster) -> AsyncIterator[Service]:
    """With a hall, and a replica that is close."""
    app = service_of(primary.url, standby.url)
    async with living(app) as client:
        found = Service(app, client)
        await client.put("/v1/site", json=SITE)
        found.entered = (await found.read("/v1/spaces/hall/count")).json()["raw_count"]
        await found.until_close()
        yield found


class Paused:
    """The replica receives and does not replay."""

    def __init__(self, standby: Cluster) -> None:
        self.connection = psycopg.connect(standby.url, autocommit=True)

    def __enter__(self) -> None:
        self.connection.execute("select pg_wal_replay_pause()")
        while self.connection.execute("select pg_get_wal_replay_pause_state()").fetchone() != ("paused",):
            pass

    def __exit__(self, *_: object) -> None:
        self.connection.execute("select pg_wal_replay_resume()")
        self.connection.close()


async def test_whoever_has_written_reads_it_from_the_replica(service: Service) -> None:
    before = await service.reads()
    for _ in range(40):
        began = datetime.now(UTC)
        await service.enter()
        count, as_of = await service.count_in_series()
        assert count == service.entered
        assert as_of > began
        told = await service.read(f"/v1/spaces/hall/count?at={datetime.now(UTC).isoformat().replace('+00:00', 'Z')}")
        assert told.json()["count"] == service.entered
    # of the 80 it has answered most, unless the machine was too busy for it to be close behind
    for _ in range(int(PATIENCE)):
        if (await service.reads())["replica"] > before["replica"] + 40:
            break
        await service.count_in_series()
    else:
        pytest.fail("The replica is hardly ever read.")


async def test_a_replica_that_stands_still_is_not_believed(
    service: Service, standby: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    await service.count_in_series()
    with Paused(standby):
        for _ in range(3):
            began = datetime.now(UTC)
            await service.enter()
            count, as_of = await service.count_in_series()
            assert (count, as_of > began) == (service.entered, True)
            listed = (await service.read("/v1/events?dpu=dpu&limit=1000")).json()["items"]
            assert len(listed) == service.entered
        await until(lambda: service.replica.get_lag() > CLOSE_SECONDS)
        asked: list[object] = []
        with monkeypatch.context() as patched:
            patched.setattr(service.replica.database, "transaction", asked.append)
            assert (await service.count_in_series())[0] == service.entered
        assert asked == [], "nobody waits for it any more"
    await service.until_close()
    await service.until_read()


async def test_what_may_be_old_says_how_old_it_is(service: Service, standby: Cluster) -> None:
    with Paused(standby):
        began = datetime.now(UTC)
        await service.enter()
        for path in (f"{SERIES}&max_staleness=60", "/v1/spaces/hall/count?max_staleness=60"):
            told = await service.read(path)
            count = told.json()["buckets"][-1]["count"] if "buckets" in told.json() else told.json()["count"]
            assert count == service.entered - 1
            as_of = datetime.fromisoformat(told.headers["X-Data-As-Of"])
            assert began - timedelta(seconds=60) < as_of < began
    await service.until_close()


async def test_it_is_never_older_than_asked_for(service: Service, standby: Cluster) -> None:
    with Paused(standby):
        await service.enter()
        await until(lambda: service.replica.get_lag() > 1.5)
        count, as_of = await service.count_in_series("&max_staleness=1")
        assert count == service.entered
        assert datetime.now(UTC) - as_of < timedelta(seconds=1)
    await service.until_close()


async def test_a_count_of_now_stays_with_the_primary_unless_it_may_be_old(service: Service, standby: Cluster) -> None:
    before = await service.reads()
    with Paused(standby):
        await service.enter()
        for path in ("/v1/spaces/hall/count", "/v1/counts?space=hall", "/v1/counts"):
            told = (await service.read(path)).json()
            assert told.get("count", told.get("counts", [{}])[0].get("count")) == service.entered
    assert await service.reads() == before
    await service.until_close()


async def test_a_limited_token_reads_nothing_old(service: Service, primary: Cluster, standby: Cluster) -> None:
    token = make_token()
    with psycopg.connect(primary.url, autocommit=True) as connection:
        connection.execute("select api.create_token(%s, array['read'], space => 'hall')", [digest_of(token)])
        connection.execute("select api.put_space('yard', '{}')")
    app = service_of(primary.url, standby.url, auth="required")
    async with living(app) as client:
        limited = Service(app, client)
        await limited.until_close()
        authorization = f"Bearer {token}"
        assert (await limited.read(SERIES, Authorization=authorization)).json()["space"] == "hall"
        refused = await client.get("/v1/spaces/yard/counts", headers={"Authorization": authorization})
        assert refused.status_code == 404
        with Paused(standby):
            await service.enter()
            told = await limited.read(f"{SERIES}&max_staleness=60", Authorization=authorization)
            assert told.json()["buckets"][-1]["count"] == service.entered
    await service.until_close()


async def test_a_replica_that_is_killed_costs_nobody_an_answer(service: Service, standby: Cluster) -> None:
    stop = asyncio.Event()

    async def go_on() -> int:
        answers = 0
        while not stop.is_set():
            assert (await service.count_in_series())[0] == service.entered
            answers += 1
        return answers

    readers = [asyncio.create_task(go_on()) for _ in range(4)]
    await asyncio.sleep(0.3)
    await asyncio.to_thread(standby.kill)
    await until(lambda: not service.replica.is_there)
    await asyncio.sleep(0.3)
    await asyncio.to_thread(standby.start)
    await service.until_close()
    stop.set()
    assert all(answers > 0 for answers in await asyncio.gather(*readers))
    await service.until_read()


async def test_what_is_no_replica_is_not_read(primary: Cluster) -> None:
    with private_cluster() as stranger:
        migrate(stranger.url)
        for url in (primary.url, stranger.url):
            app = service_of(primary.url, url)
            async with living(app) as client:
                service = Service(app, client)
                await service.until_looked_at()
                await service.read("/v1/counts?at=2026-01-01T00:00:00Z")
                assert await service.reads() == {"replica": 0, "primary": 1}


async def test_a_standby_that_went_on_with_the_old_primary_is_not_read() -> None:
    """After a failover it may be further in the log than the new primary, with other events in it."""
    with private_cluster() as old:
        migrate(old.url)
        with private_cluster(old) as promoted, private_cluster(old) as left_behind:
            with psycopg.connect(promoted.url, autocommit=True) as session:
                session.execute("select pg_promote()")
            with psycopg.connect(old.url, autocommit=True) as session:
                session.execute(
                    "create table filler as select repeat('x', 1000) as text from generate_series(1, 20000)"
                )
                (position,) = session.execute("select pg_current_wal_flush_lsn()::text").fetchone() or ("",)
            with psycopg.connect(left_behind.url, autocommit=True) as session:
                reached = "select pg_last_wal_replay_lsn() >= %s::pg_lsn"
                for _ in range(500):
                    if session.execute(reached, (position,)).fetchone() == (True,):
                        break
                    await asyncio.sleep(0.02)
            app = service_of(promoted.url, left_behind.url)
            async with living(app) as client:
                service = Service(app, client)
                await service.until_looked_at()
                await service.read("/v1/counts?at=2026-01-01T00:00:00Z")
                assert await service.reads() == {"replica": 0, "primary": 1}


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
THERE = Mark(NOON, 0.0, WalPosition(False, 100, 7, NOON))


@pytest.mark.parametrize(
    ("change", "is_reached"),
    [
        ({}, True),
        ({"wal_bytes": 101, "at": NOON + timedelta(seconds=1)}, True),
        ({"wal_bytes": 99}, False),
        ({"wal_bytes": None}, False),
        ({"system_id": 8}, False),
        ({"at": NOON - timedelta(microseconds=1)}, False),
    ],
)
def test_a_mark_is_reached_by_a_copy_that_is_as_far_and_whose_clock_is_not_behind(
    change: dict[str, object], is_reached: bool
) -> None:
    found = msgspec.structs.replace(WalPosition(True, 100, 7, NOON), **change)
    assert THERE.is_reached_by(found) is is_reached
