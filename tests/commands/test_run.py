"""headcount run, which is what `make run` calls: always on the embedded database."""

import fcntl
import re
import signal
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from headcount.demo import traffic
from tests.commands.support import PATIENCE, Process, answers, free_port, running

READY = "Ctrl-C stops everything"
LONGEST_START = 2 * PATIENCE  # it makes a database, and stores two days of the demo


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all tests of this file, which start the same database one after the other."""
    return tmp_path_factory.mktemp("run")


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def started(folder: Path, port: int) -> Iterator[Process]:
    with running(folder, "run", PORT=str(port)) as process:
        process.wait_for(READY, LONGEST_START)
        (folder / "was-ready").touch()
        yield process


def get(port: int, path: str) -> Any:
    answer = httpx.get(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    return answer.json()


def counts(port: int, at: datetime | None = None) -> dict[str, int]:
    query = f"?at={at.isoformat().replace('+00:00', 'Z')}" if at else ""
    return {count["space"]: count["raw_count"] for count in get(port, f"/v1/counts{query}")["counts"]}


def nothing_is_left(folder: Path, port: int) -> bool:
    """Whether the port is free and no process holds the database's directory."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            return False
    with (folder / ".data" / "lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@pytest.mark.parametrize(
    "now", ["2026-11-22T12:00:00Z", "2026-11-22T23:12:00Z", "2026-11-23T02:59:00Z", "2026-11-23T03:01:00Z"]
)
def test_the_demo_has_two_whole_days_at_any_hour(now: str) -> None:
    at = datetime.fromisoformat(now)
    _, since = traffic.site_at(at)
    assert timedelta(days=2) <= at - since < timedelta(days=3)
    assert since <= (at - timedelta(days=2)).replace(hour=12, minute=0)


def test_a_first_start_serves_the_demo_with_a_history_and_people_who_walk(
    folder: Path, port: int, started: Process
) -> None:
    assert answers(f"http://127.0.0.1:{port}/")
    spaces = get(port, "/v1/spaces")["items"]
    assert len(spaces) == 12
    now = datetime.now(UTC)
    for days in (1, 2):
        noon = (now - timedelta(days=days)).replace(hour=12, minute=0, second=0, microsecond=0)
        then = counts(port, noon)
        assert then["campus"] > 10, then
        assert min(then.values()) >= 0
    assert min(counts(port).values()) >= 0
    # at night nobody passes, and they are online all the same
    started.wait_until(
        lambda: all(sensor["state"] == "online" and sensor["last_heartbeat"] for sensor in get(port, "/sensors"))
    )
    moved = get(port, "/v1/dpus/dpu-spare/placements")["items"]
    assert [placement["doorway"] for placement in moved] == ["main-gate", "canteen-door"]
    for url in re.findall(r"http://\S+", started.said):
        assert answers(url), url
    assert started.end(signal.SIGINT) == 0
    assert "Traceback" not in started.said
    assert nothing_is_left(folder, port)


@pytest.fixture
def started_before(folder: Path, port: int) -> None:
    """Also where another process runs the test above, or it failed."""
    if not (folder / "was-ready").exists():
        with running(folder, "run", PORT=str(port)) as process:
            process.wait_for(READY, LONGEST_START)
            assert process.end() == 0


def test_a_second_start_keeps_the_data_and_goes_on(
    started_before: None, folder: Path, port: int, started: Process
) -> None:
    assert "Loading" not in started.said
    begun = datetime.now(UTC)
    assert min(counts(port).values()) >= 0
    noon = (begun - timedelta(days=1)).replace(hour=12, minute=0, second=0, microsecond=0)
    assert counts(port, noon)["campus"] > 10
    assert started.end(signal.SIGTERM) == 0
    assert nothing_is_left(folder, port)


def test_after_the_tutorials_it_warns_of_nothing_and_still_shows_the_demo(
    folder: Path, port: int, started: Process
) -> None:
    """They make spaces of their own and let BI tools log in."""
    (url,) = re.findall(r"psql '(.*)'", started.said)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("alter role headcount_bi login")
    made = httpx.put(f"http://127.0.0.1:{port}/v1/spaces/a-shop", json={}, timeout=PATIENCE)
    assert made.status_code == 201, made.text
    assert started.end() == 0
    database_port = free_port()
    with running(folder, "run", "--database-port", database_port, PORT=str(port)) as again:
        again.wait_for(READY, LONGEST_START)
        with psycopg.connect(host="127.0.0.1", port=database_port, user="headcount_bi", dbname="headcount") as bi:
            assert bi.execute("select true from bi.spaces where space = 'a-shop'").fetchone() == (True,)
        assert "template1" not in again.said
        assert "/v1/spaces/campus/count" in again.said
        assert again.end() == 0


def test_a_kill_leaves_no_database_behind_and_the_next_start_works(folder: Path, port: int, started: Process) -> None:
    started.kill()
    deadline = time.monotonic() + PATIENCE
    while not nothing_is_left(folder, port):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    with running(folder, "run", PORT=str(port)) as again:
        again.wait_for(READY, LONGEST_START)
        assert counts(port)
        other_port = free_port()
        with running(folder, "run", PORT=str(other_port)) as second:
            assert second.process.wait(PATIENCE) == 1
        assert ".data" in second.said
        assert len(second.said.strip().splitlines()) <= 3
        with running(folder, "run", PORT=str(port)) as third:
            assert third.process.wait(PATIENCE) == 1
        assert "in use" in third.said
        assert again.end() == 0


def test_with_a_database_url_nothing_embedded_starts_and_without_demo_it_stays_empty(
    own_database_url: str, tmp_path: Path, port: int
) -> None:
    with running(tmp_path, "run", DATABASE_URL=own_database_url, PORT=str(port), DEMO="0") as process:
        process.wait_for(READY, LONGEST_START)
        assert get(port, "/v1/spaces") == {"items": [], "next": None}
        assert answers(f"http://127.0.0.1:{port}/")
        assert process.end(signal.SIGINT) == 0
    assert 'psql "$DATABASE_URL"' in process.said
    assert own_database_url not in process.said, "it may have a password"
    assert not (tmp_path / ".data").exists()
    assert "embedded" not in process.said


def test_it_gives_a_port_to_no_database_but_its_own(own_database_url: str, tmp_path: Path) -> None:
    with running(tmp_path, "run", "--database-port", "5433", DATABASE_URL=own_database_url) as process:
        assert process.process.wait(PATIENCE) == 2
    assert "DATABASE_URL names another one" in process.said


@pytest.mark.parametrize("wrong", ["abc", "80.5", "-1", "0", "65536"])
def test_it_says_what_a_port_must_be(tmp_path: Path, wrong: str) -> None:
    with running(tmp_path, "run", PORT=wrong) as process:
        assert process.process.wait(PATIENCE) == 1
    assert process.said == f"Error: PORT is {wrong!r}; it must be a whole number from 1 to 65535.\n"


def test_it_says_so_when_the_directory_cannot_be_used(tmp_path: Path, port: int) -> None:
    (tmp_path / ".data").write_text("in the way")
    with running(tmp_path, "run", PORT=str(port)) as process:
        assert process.process.wait(PATIENCE) == 2
    assert "Traceback" not in process.said
    assert ".data" in process.said
