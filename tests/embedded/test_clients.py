"""Other clients than asyncpg: psycopg, libpq underneath it, and bare sockets."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from psycopg.pq import ExecStatus

from tests.commands.support import PATIENCE, free_port
from tests.embedded.conftest import MakeDatabase


@pytest.fixture
def a(url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def table(a: psycopg.Connection) -> Iterator[None]:
    """An empty table t (x int)."""
    a.execute("create table t (x int)")
    yield
    a.execute("drop table t")


def fetch_value(connection: psycopg.Connection, query: str) -> object:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def test_psycopg_copies_in_and_out(a: psycopg.Connection, table: None) -> None:
    with a.cursor().copy("copy t from stdin") as copy:
        for x in range(50_000):
            copy.write_row((x,))
    with a.cursor().copy("copy (select * from t order by x) to stdout (format csv)") as copy:
        copied = b"".join(bytes(chunk) for chunk in copy)
    assert copied == b"".join(b"%d\n" % x for x in range(50_000))


def test_psycopg_runs_a_pipeline(a: psycopg.Connection, table: None) -> None:
    with a.pipeline():
        cursors = [a.execute("select %s::int + 1", (i,)) for i in range(10)]
    assert [cursor.fetchone() for cursor in cursors] == [(i + 1,) for i in range(10)]
    with a.cursor() as cursor:
        cursor.executemany("insert into t values (%s)", [(x,) for x in range(2000)])
    assert fetch_value(a, "select sum(x) from t") == sum(range(2000))


def test_a_failure_in_a_pipeline_skips_what_follows_it(url: str, a: psycopg.Connection, table: None) -> None:
    def insert_and_fail() -> None:
        with a.pipeline():
            a.execute("insert into t values (1)")
            a.execute("select 1 / 0")
            a.execute("insert into t values (2)")

    with pytest.raises(psycopg.errors.DivisionByZero):
        insert_and_fail()
    with psycopg.connect(url) as other:
        assert fetch_value(other, "select count(*) from t") in (0, 1)
        assert fetch_value(other, "select count(*) from t where x = 2") == 0


def test_psycopg_prepares_what_it_runs_often_for_each_connection(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as one, psycopg.connect(url, autocommit=True) as two:
        for i in range(20):
            assert one.execute("select %s::int", (i,)).fetchone() == (i,)
            assert two.execute("select %s::int + 1000", (i,)).fetchone() == (i + 1000,)


def test_psycopg_reads_through_a_named_cursor(url: str) -> None:
    with psycopg.connect(url) as connection, connection.cursor(name="rows") as cursor:
        cursor.execute("select generate_series(1, 5000)")
        assert len(cursor.fetchmany(1000)) == 1000
        assert sum(1 for _ in cursor) == 4000


def test_psycopg_hears_notifications(url: str, a: psycopg.Connection) -> None:
    a.execute("listen events")
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("notify events, 'hello'")
    heard = list(a.notifies(timeout=PATIENCE, stop_after=1))
    assert [notification.payload for notification in heard] == ["hello"]


def test_psycopg_cancels(a: psycopg.Connection) -> None:
    is_over = threading.Event()

    def cancel() -> None:  # more than once: it may not have begun yet
        while not is_over.wait(0.3):
            a.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    try:
        with pytest.raises(psycopg.errors.QueryCanceled):
            a.execute("select count(*) from generate_series(1, 200000000)")
    finally:
        is_over.set()
        thread.join()
    assert fetch_value(a, "select 1") == 1


def test_it_rolls_back_when_a_client_dies_in_a_copy(url: str, a: psycopg.Connection, table: None) -> None:
    dying = psycopg.connect(url)
    assert dying.pgconn.exec_(b"copy t from stdin").status == ExecStatus.COPY_IN
    dying.pgconn.put_copy_data(b"1\n" * 100_000)
    dying.pgconn.finish()
    assert fetch_value(a, "select count(*) from t") == 0


def test_a_copy_in_the_extended_protocol_gives_the_backend_back(url: str, a: psycopg.Connection, table: None) -> None:
    """libpq then sends one Sync with the COPY, which is swallowed, and one after the data."""
    with psycopg.connect(url, autocommit=True) as copying:
        assert copying.pgconn.exec_params(b"copy t from stdin", None).status == ExecStatus.COPY_IN
        copying.pgconn.put_copy_data(b"1\n2\n")
        copying.pgconn.put_copy_end()
        result = copying.pgconn.get_result()
        assert result is not None
        assert result.status == ExecStatus.COMMAND_OK
        assert copying.pgconn.get_result() is None
        assert fetch_value(a, "select sum(x) from t") == 3
        assert fetch_value(copying, "select sum(x) from t") == 3


def test_a_client_that_reads_nothing_keeps_nobody_waiting_for_good(impatient_url: str) -> None:
    stuck = psycopg.connect(impatient_url)
    stuck.pgconn.send_query(b"select repeat('x', 1000) from generate_series(1, 200000)")
    stuck.pgconn.flush()
    time.sleep(0.2)
    begun = time.monotonic()
    with psycopg.connect(impatient_url) as other:
        assert fetch_value(other, "select 1") == 1
    assert time.monotonic() - begun < PATIENCE / 2
    stuck.close()


def test_options_on_the_command_line_are_settings(url: str) -> None:
    with psycopg.connect(url, options="-c timezone=Asia/Tokyo -c application_name=a\\ b") as connection:
        row = connection.execute("select current_setting('timezone'), current_setting('application_name')").fetchone()
    assert row == ("Asia/Tokyo", "a b")


def open_socket(url: str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(PATIENCE)
    client.connect(parse_qs(urlsplit(url).query)["host"][0] + "/.s.PGSQL.5432")
    return client


def receive(client: socket.socket, until: bytes) -> bytes:
    got = b""
    while until not in got:
        chunk = client.recv(65536)
        assert chunk, got
        got += chunk
    return got


def startup(minor_version: int = 0) -> bytes:
    body = struct.pack("!HH", 3, minor_version) + b"user\0postgres\0database\0headcount\0\0"
    return struct.pack("!I", len(body) + 4) + body


READY = b"Z\0\0\0\5I"


def test_it_takes_messages_byte_by_byte(url: str) -> None:
    query = b"Q" + struct.pack("!I", 4 + len(b"select 40 + 2\0")) + b"select 40 + 2\0"
    with open_socket(url) as client:
        for byte in startup():
            client.send(bytes([byte]))
        receive(client, READY)
        for byte in query:
            client.send(bytes([byte]))
        assert b"\0\0\0\x0242C" in receive(client, READY)


def test_it_declines_encryption_and_newer_protocols(url: str) -> None:
    with open_socket(url) as client:
        client.send(struct.pack("!II", 8, 80877103))
        assert client.recv(1) == b"N"
        client.send(struct.pack("!II", 8, 80877104))
        assert client.recv(1) == b"N"
        client.send(startup(minor_version=2))
        assert receive(client, READY).startswith(b"v" + struct.pack("!III", 12, 0, 0))


def test_it_closes_on_bytes_that_are_no_message(url: str, a: psycopg.Connection) -> None:
    with open_socket(url) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert b"08P01" in client.recv(1000)
        assert client.recv(1000) == b""
    assert fetch_value(a, "select 1") == 1


def test_a_cancel_with_a_wrong_key_does_nothing(url: str, a: psycopg.Connection) -> None:
    key = a.pgconn.backend_pid
    with open_socket(url) as client:
        client.send(struct.pack("!IIII", 16, 80877102, key, 12345))
        assert client.recv(1) == b""
    assert fetch_value(a, "select count(*) from generate_series(1, 1000000)") == 1_000_000


def test_tcp_clients_reach_it_on_the_port_asked_for(make_database: MakeDatabase) -> None:
    port = free_port()
    with (
        make_database(port=port),
        psycopg.connect(f"postgresql://postgres@127.0.0.1:{port}/headcount") as connection,
    ):
        assert fetch_value(connection, "select true from pg_extension where extname = 'timescaledb'")
