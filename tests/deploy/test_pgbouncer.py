"""The service behind PgBouncer in transaction mode: every transaction may be on another session."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import psycopg
import pytest

from headcount.app import create_app
from headcount.commands.session import connected, in_one_line
from headcount.database import pool
from headcount.database.migrate import migrate
from headcount.database.pool import Database, session_options
from headcount.http.asgi import App
from headcount.http.auth import digest_of, make_token
from headcount.settings import Settings
from headcount.wire.problems import SchemaMismatch, problem_of
from tests.commands.support import PATIENCE, answers, free_port, running
from tests.deploy.apps import living
from tests.deploy.pgbouncer import pgbouncer
from tests.http.reporting import wait_for
from tests.load.cluster import Cluster, private_cluster

USERS = ("headcount_service", "postgres", "app", "plain")
LOGINS = """
alter role headcount_service login;
create role app login in role headcount_service;
alter role app set role = headcount_service;
alter role app set jit = off;
alter role app set statement_timeout = '20s';
create role plain login in role headcount_service;
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with private_cluster() as cluster:
        migrate(cluster.url)
        with psycopg.connect(cluster.url, autocommit=True) as connection:
            connection.execute(LOGINS)
        yield cluster


@pytest.fixture(scope="module")
def pooler(cluster: Cluster) -> Iterator[str]:
    """Three sessions of the server for all clients, taken in turn."""
    with pgbouncer(cluster, *USERS) as address:
        yield address


def pooled(address: str, user: str = "headcount_service", auth: str = "off") -> App:
    url = f"postgresql://{user}@{address}"
    return create_app(Settings(database_url=url, pooled=True, auth=auth, jobs=False, send_notices=False))


@pytest.mark.parametrize("user", ["headcount_service", "app"])
async def test_it_writes_and_reads_over_sessions_that_change_all_the_time(pooler: str, user: str) -> None:
    async with living(pooled(pooler, user)) as client:
        site = {
            "spaces": [{"id": user}],
            "doorways": [{"id": user, "sides": [None, user]}],
            "dpus": [{"id": user}],
            "placements": [{"dpu": user, "doorway": user, "mounted_in": user, "from": "2026-01-01T00:00:00Z"}],
        }
        assert (await client.put("/v1/site", json=site)).status_code == 200
        began = datetime.now(UTC) - timedelta(hours=1)

        async def enter(n: int) -> None:
            at = (began + timedelta(seconds=n)).isoformat()
            event = {"dpu": user, "timestamp": at, "direction": 1}
            told = (await client.post("/v1/events", json={"events": [event]})).json()
            assert told["accepted"] == 1, told
            for path in (f"/v1/spaces/{user}/count?at={at[:-6]}Z", f"/v1/spaces/{user}/counts", "/v1/spaces"):
                read = await client.get(path)
                assert read.status_code == 200, read.text

        await asyncio.gather(*(enter(n) for n in range(60)))
        assert (await client.get(f"/v1/spaces/{user}/count")).json()["count"] == 60


async def test_it_computes_reports_with_the_time_they_need(pooler: str) -> None:
    async with living(pooled(pooler)) as client:
        report = (await client.post("/trigger_report")).json()["report_id"]
        assert await wait_for(client, report) is not None
    database = Database(Settings(database_url=f"postgresql://headcount_service@{pooler}", pooled=True))
    async with database.transaction_of_its_own(300) as connection:
        assert await connection.fetchval("show statement_timeout") == "5min"
        assert await connection.fetchval("select current_user") == "headcount_service"


async def test_a_limited_token_reaches_no_further_on_anybody_s_session(pooler: str, cluster: Cluster) -> None:
    token = make_token()
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        connection.execute("select api.put_space('mine', '{}'), api.put_space('yours', '{}')")
        connection.execute("select api.create_token(%s, array['read'], space => 'mine')", [digest_of(token)])
        everything = make_token()
        connection.execute("select api.create_token(%s, array['read'])", [digest_of(everything)])
    async with living(pooled(pooler, auth="required")) as client:

        async def see(token: str) -> set[str]:
            told = await client.get("/v1/spaces", headers={"Authorization": f"Bearer {token}"})
            return {space["id"] for space in told.json()["items"]}

        seen = await asyncio.gather(*(see(token if n % 2 else everything) for n in range(60)))
        assert all(spaces == {"mine"} for spaces in seen[1::2])
        assert all({"mine", "yours"} <= spaces for spaces in seen[::2])


async def test_a_transaction_that_stands_still_is_ended(pooler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.2)
    database = Database(Settings(database_url=f"postgresql://headcount_service@{pooler}", pooled=True))

    async def stand_still(token: str | None) -> None:
        async with database.transaction(token) as connection:
            await asyncio.sleep(2)
            await connection.fetchval("select 1")

    async with database.opened():
        for token in (None, "tok_1"):
            with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)) as failed:
                await stand_still(token)
            assert problem_of(failed.value).kind.code == "unavailable"
        left = await database.fetchrow("show idle_in_transaction_session_timeout")
        assert left is not None
        assert left[0] == "0"


async def test_it_refuses_sessions_of_another_role(pooler: str) -> None:
    with pytest.raises(SchemaMismatch, match="alter role postgres set role = headcount_service"):
        async with living(pooled(pooler, "postgres")):
            pass


async def test_it_refuses_sessions_without_limits(pooler: str, cluster: Cluster) -> None:
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        connection.execute("alter role plain set role = headcount_service")
    with pytest.raises(SchemaMismatch, match=r"alter role plain set jit = off.*statement_timeout = '30s'"):
        async with living(pooled(pooler, "plain")):
            pass


async def test_it_refuses_a_pooler_that_drops_what_it_is_not_told_of(cluster: Cluster) -> None:
    dropped = "ignore_startup_parameters = " + ", ".join(session_options(False, 30)["server_settings"])
    with pgbouncer(cluster, *USERS, more=dropped) as address:
        settings = Settings(database_url=f"postgresql://postgres@{address}", auth="off")
        with pytest.raises(SchemaMismatch, match="and not of headcount_service"):
            async with living(create_app(settings)):
                pass


async def test_it_says_what_to_do_where_nobody_told_it_of_the_pooler(pooler: str) -> None:
    url = f"postgresql://headcount_service@{pooler}"
    with pytest.raises(Exception, match="startup parameter") as refused:
        async with connected(url):
            pass
    assert "HEADCOUNT_POOLED=true" in str(in_one_line(refused.value, url))


async def test_headcount_serve_starts_behind_it_and_keeps_its_word(pooler: str, tmp_path: Path) -> None:
    port = free_port()
    url = f"postgresql://headcount_service@{pooler}"
    with running(
        tmp_path, "serve", DATABASE_URL=url, HEADCOUNT_POOLED="true", HEADCOUNT_AUTH="off", HEADCOUNT_PORT=str(port)
    ) as process:
        process.wait_for("Serving on")
        assert answers(f"http://127.0.0.1:{port}/readyz")
        assert answers(f"http://127.0.0.1:{port}/v1/counts")
        assert process.end() == 0, PATIENCE
