"""Backups are restored by the commands of the guide, and the copies say what the originals said.

The guide is docs/how-to/back-up-and-restore.md.
"""

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psycopg
import pytest
import pytest_asyncio

from headcount.database.migrate import migrate
from tests.commands.support import PATIENCE, free_port, headcount, serving
from tests.deploy import drill
from tests.http import body
from tests.http.reporting import trigger, wait_for
from tests.load.cluster import Cluster, private_cluster
from tests.load.test_crash import Clients

pytestmark = pytest.mark.concurrency

PHYSICAL = "Files and the write-ahead log"
JSON = {"content-type": "application/json"}
# Jobs that run by themselves would change what is compared.
QUIET = "timescaledb.max_background_workers = 0"


def quiet(cluster: Cluster) -> None:
    cluster.make(QUIET)


def run(script: str, cluster: Cluster, folder: Path, *, as_its_user: bool = False) -> str:
    """Commands of the document, as an administrator types them."""
    path = os.pathsep.join((str(Path(sys.executable).parent), str(cluster.programs), os.environ["PATH"]))
    environment = {"PATH": path, "PGHOST": "127.0.0.1", "PGPORT": str(cluster.port), "PGUSER": "postgres"}
    done = subprocess.run(
        ["sh", "-eu", "-c", script],
        cwd=folder,
        env=environment | {"PGDATA": str(cluster.data), "HOME": str(folder)},
        user=cluster.user if as_its_user else None,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def url_of(cluster: Cluster, user: str = "postgres") -> str:
    return f"postgresql://{user}@127.0.0.1:{cluster.port}/headcount"


def execute(url: str, *statements: str) -> Any:
    """The first value that the last of them gives, if any."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
    return cursor.fetchone() if cursor.description else None


class Original(NamedTuple):
    cluster: Cluster
    url: str
    token: str


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def original() -> AsyncIterator[Original]:
    with private_cluster(fill=quiet) as cluster:
        # so that instants of the log, which a restore keeps, lie far ahead of those of a new server
        execute(
            cluster.url,
            "create database headcount",
            "do $$ begin for i in 1..3000 loop commit; perform pg_current_xact_id(); end loop; end $$",
        )
        url = url_of(cluster)
        migrate(url)
        execute(url, "alter role headcount_service login", "alter role headcount_bi login")
        token = await drill.fill(url)
        yield Original(cluster, url, token)


@pytest.fixture(scope="module")
def dump(original: Original, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dump")
    run(drill.blocks("A dump")[0], original.cluster, folder)
    return folder


@pytest.fixture(scope="module")
def restored(original: Original, dump: Path) -> Iterator[Cluster]:
    """Another server, with what the dump holds."""
    restore, proof = drill.blocks("A dump")[1:]
    with private_cluster(fill=quiet) as cluster:
        run(restore, cluster, dump)
        said = run(proof, cluster, dump)
        assert said.splitlines() == [
            "The database was current already.",
            "Everything that is stored equals what the events add up to.",
        ]
        yield cluster


BACKUP = f"{Path(__file__).parents[2] / 'deploy/backup.sh'}"


def test_the_backups_of_compose_are_kept_checked_and_restored(original: Original, tmp_path: Path) -> None:
    def backup(*arguments: str, cluster: Cluster = original.cluster) -> str:
        return run(f"BACKUP_FOLDER={tmp_path} BACKUP_KEEP=2 {BACKUP} {' '.join(arguments)}", cluster, tmp_path)

    with pytest.raises(AssertionError):
        backup("check")
    (tmp_path / "unfinished-headcount-1").mkdir()
    for older in ("headcount-20200101T000000Z", "headcount-20200102T000000Z"):
        (tmp_path / older).mkdir()
    backup("once")
    backup("check")
    kept = backup("list").split()
    assert len(kept) == 2
    assert kept[0] == "headcount-20200102T000000Z", "the oldest goes"
    assert sorted(path.name for path in tmp_path.iterdir()) == [*kept, "last"]
    with pytest.raises(AssertionError, match="These exist"):
        backup("restore", "headcount-1")
    with pytest.raises(AssertionError, match="holds data"):
        backup("restore", kept[1])
    with private_cluster(fill=quiet) as cluster:
        execute(cluster.url, "create database headcount", "create role headcount_service login password 'other'")
        assert "Restored" in backup("restore", kept[1], cluster=cluster)
        assert drill.digests(url_of(cluster)) == drill.digests(original.url)
        said = run(drill.blocks("A dump")[2], cluster, tmp_path)
        assert said.splitlines() == [
            "The database was current already.",
            "Everything that is stored equals what the events add up to.",
        ]


async def test_a_dump_holds_something_of_everything(original: Original) -> None:
    counts = {name: rows for name, (rows, _) in drill.digests(original.url).items()}
    for name in ("event", "late_mark", "kept_event", "rejected_event", "change", "token", "poll", "report", "channel"):
        assert counts[f"core.{name}"], name
    (chunks,) = execute(
        original.url,
        "select count(*) from timescaledb_information.chunks where hypertable_name = 'event' and is_compressed",
    )
    assert chunks > 3
    (until,) = execute(original.url, "select materialized_until from core.rollup_state")
    assert until > datetime(2020, 1, 1, tzinfo=UTC)
    assert (await headcount("verify", url=original.url)).exit_code == 0


async def test_a_restored_dump_holds_and_says_the_same(original: Original, restored: Cluster) -> None:
    assert drill.digests(url_of(restored)) == drill.digests(original.url)
    said = await drill.answers_of(original.url)
    assert await drill.answers_of(url_of(restored)) == said
    assert {status for status, _ in said.values()} == {200}


async def test_the_upkeep_of_a_restored_dump_is_done_with_its_late_marks(restored: Cluster) -> None:
    url = url_of(restored)
    (jobs,) = execute(
        url,
        "select array_agg(proc_name order by proc_name) from timescaledb_information.jobs where proc_schema = 'core'",
    )
    assert jobs == ["end_long_reads", "run_upkeep"]
    drill.upkeep(url)
    assert execute(url, "select count(*) from core.late_mark") == (0,)
    assert (await headcount("verify", url=url)).exit_code == 0


def test_roles_come_with_their_settings(restored: Cluster) -> None:
    assert execute(url_of(restored, "headcount_service"), "show statement_timeout") == ("30s",)
    assert execute(url_of(restored, "headcount_bi"), "show default_transaction_read_only") == ("on",)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        execute(url_of(restored, "headcount_service"), "select from core.event")
    assert execute(url_of(restored, "headcount_bi"), "select count(*) from bi.events") != (0,)


async def test_the_service_starts_on_a_restored_dump_and_goes_on(
    original: Original, restored: Cluster, tmp_path: Path
) -> None:
    """New spaces, DPUs, tokens, notices: what numbers them goes on where the original was."""
    port = free_port()
    with serving(tmp_path, url_of(restored, "headcount_service"), port, HEADCOUNT_AUTH="required"):
        headers = {"Authorization": f"Bearer {original.token}"}
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers) as client:
            assert (await client.get("/readyz")).status_code == 200
            before = body(await client.get("/v1/spaces/hall/count"))["raw_count"]
            assert await drill.send(client, [*drill.EVENTS[:1000], *drill.LATE, drill.event("a", seconds=5)]) == (
                1,
                1003,
            )
            assert body(await client.get("/v1/spaces/hall/count"))["raw_count"] == before + 1
            for path in ("/v1/spaces/new", "/v1/dpus/new"):
                assert (await client.put(path, json={})).status_code == 201, path
            await wait_for(client, await trigger(client))
    assert (await headcount("verify", url=url_of(restored))).exit_code == 0


CURSOR = "select cursor from api.list_changes()"


def is_followed(url: str, cursor: str) -> bool:
    """Whether a stream that got as far as this cursor would be told only what changed since."""
    with psycopg.connect(url) as connection:
        row = connection.execute("select not is_all from api.list_changes(%s)", [cursor]).fetchone()
    assert row is not None
    return bool(row[0])


def test_streams_begin_anew_after_a_restore_also_on_the_same_server(original: Original, dump: Path) -> None:
    """What they were told after the backup did not happen."""
    (cursor,) = execute(original.url, CURSOR)
    assert is_followed(original.url, cursor)
    without_roles = drill.blocks("A dump")[1].partition("\n")[2]
    run(re.sub(r"headcount(?!\.dump)", "again", without_roles), original.cluster, dump)
    assert not is_followed(original.url.replace("/headcount", "/again"), cursor)


class Archived(NamedTuple):
    """A server that was backed up while events came, and is dead."""

    folder: Path
    clients: Clients
    at: datetime
    acknowledged_then: int
    said: dict[str, Any]
    held: dict[str, tuple[int, str]]
    held_last: dict[str, tuple[int, str]]
    cursor: str


def in_folder(text: str, folder: Path) -> str:
    return text.replace("/backup/", f"{folder}/")


async def load(clients: Clients, number: int, *meanwhile: asyncio.Future[str]) -> None:
    """So many more events, all of them acknowledged, and whatever else is to be done meanwhile."""
    clients.stop.clear()
    tasks = [asyncio.create_task(clients.run(1 if number % 4 else 50)) for number in range(8)]
    await clients.get_on(number, tasks)
    for future in meanwhile:
        await future
        await clients.get_on(number, tasks)
    clients.stop.set()
    await asyncio.gather(*tasks)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def archived() -> AsyncIterator[Archived]:
    # pytest's own folders are closed to the user who the server runs as
    with tempfile.TemporaryDirectory(prefix="headcount-archive-") as folder:
        yield await archive(Path(folder))


async def archive(folder: Path) -> Archived:
    wal = folder / "wal"
    wal.mkdir()
    configuration, (take,) = drill.blocks(PHYSICAL, "ini")[0], drill.blocks(PHYSICAL)[:1]

    def archiving(cluster: Cluster) -> None:
        cluster.make(QUIET, in_folder(configuration, folder))
        if cluster.user:
            for path in (folder, wal):
                shutil.chown(path, cluster.user)

    with private_cluster(fill=archiving) as cluster:
        execute(cluster.url, "create database headcount")
        url = url_of(cluster)
        migrate(url)
        await drill.fill(url)
        port = free_port()
        clients = Clients(port)
        with serving(folder, url, port):
            backup = asyncio.to_thread(run, in_folder(take, folder), cluster, folder, as_its_user=True)
            await load(clients, 300, asyncio.ensure_future(backup))
        acknowledged_then, said, held = len(clients.acknowledged), await drill.answers_of(url), drill.digests(url)
        (at,) = execute(url, "select clock_timestamp()")
        # a mistake, and more that is lost by going back before it
        execute(
            url,
            "select api.record_reset(space => 'hall', count => 999)",
            "select api.delete_channel(channel => 'pager')",
        )
        with serving(folder, url, port):
            await load(clients, 200)
        held_last, (cursor,) = drill.digests(url), execute(url, CURSOR)
        (last,) = execute(url, "select pg_walfile_name(pg_switch_wal())")
        deadline = time.monotonic() + PATIENCE
        while not (wal / last).exists():
            assert time.monotonic() < deadline, list(wal.iterdir())
            await asyncio.sleep(0.05)
        cluster.kill()
    return Archived(folder, clients, at, acknowledged_then, said, held, held_last, cursor)


@contextmanager
def recovered(archived: Archived, at: datetime | None) -> Iterator[Cluster]:
    """A server of what was archived, up to an instant or all of it."""
    script = drill.blocks(PHYSICAL)[1]
    target = re.search(r"^recovery_target_time = '(.*)'\n", script, re.MULTILINE)
    assert target
    script = script.replace(target[0], target[0].replace(target[1], at.isoformat()) if at else "")

    def restore(cluster: Cluster) -> None:
        if cluster.user:
            shutil.chown(cluster.data, cluster.user)
        run(in_folder(script, archived.folder), cluster, archived.folder, as_its_user=True)
        with (cluster.data / "postgresql.conf").open("a") as settings:
            settings.write(f"\nport = {cluster.port}\narchive_mode = off\n")

    with private_cluster(fill=restore) as cluster:
        deadline = time.monotonic() + PATIENCE
        while execute(cluster.url, "select pg_is_in_recovery()") != (False,):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        said = run(drill.blocks("A dump")[2], cluster, archived.folder)
        assert said.splitlines() == [
            "The database was current already.",
            "Everything that is stored equals what the events add up to.",
        ]
        yield cluster


async def test_the_log_brings_back_an_instant_before_a_mistake(archived: Archived, tmp_path: Path) -> None:
    with recovered(archived, archived.at) as cluster:
        url = url_of(cluster)
        assert drill.digests(url) == archived.held
        assert await drill.answers_of(url) == archived.said
        await send_again(archived.clients, archived.acknowledged_then, url, tmp_path)
        (now,) = execute(
            url, "do $$ begin for i in 1..3000 loop commit; perform pg_current_xact_id(); end loop; end $$", CURSOR
        )
        assert int(now.split(":")[1]) > int(archived.cursor.split(":")[1]), "numbers of transactions that others had"
        assert not is_followed(url, archived.cursor)


async def test_the_log_brings_back_everything_that_was_archived(archived: Archived, tmp_path: Path) -> None:
    with recovered(archived, None) as cluster:
        url = url_of(cluster)
        assert drill.digests(url) == archived.held_last
        await send_again(archived.clients, len(archived.clients.acknowledged), url, tmp_path)


async def send_again(clients: Clients, stored: int, url: str, folder: Path) -> None:
    """All that was ever acknowledged: what is there counts no more, what is missing counts once."""
    port, numbers = free_port(), clients.acknowledged
    with serving(folder, url, port):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            accepted = duplicates = 0
            for begin in range(0, len(numbers), 5000):
                answer = body(
                    await client.post("/v1/events", content=clients.body(numbers[begin : begin + 5000]), headers=JSON)
                )
                accepted += answer["accepted"]
                duplicates += answer["duplicates"]
    assert (accepted, duplicates) == (len(numbers) - stored, stored)
    (total,) = execute(
        url,
        "select sum(s.cumulative_count) from core.dpu_state s join core.dpu d using (dpu_id) where d.id like 'dpu-%'",
    )
    assert total == len(numbers)
    assert (await headcount("verify", url=url)).exit_code == 0
