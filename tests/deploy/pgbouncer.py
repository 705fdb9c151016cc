"""A PgBouncer of one's own, on a loopback port, in transaction mode."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.commands.support import PATIENCE, free_port
from tests.load.cluster import Cluster

CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={server}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = transaction
default_pool_size = {sessions}
max_client_conn = 200
server_round_robin = 1
{more}
"""


@contextmanager
def pgbouncer(cluster: Cluster, *users: str, sessions: int = 3, more: str = "") -> Iterator[str]:
    """The address of the cluster through it, without a user."""
    with tempfile.TemporaryDirectory(prefix="headcount-pgbouncer-") as folder:
        Path(folder).chmod(0o755)
        with _running(cluster, Path(folder), users, sessions, more) as address:
            yield address


@contextmanager
def _running(cluster: Cluster, folder: Path, users: tuple[str, ...], sessions: int, more: str) -> Iterator[str]:
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        pytest.skip("PgBouncer is not installed")
    port = free_port()
    names, configuration = folder / "users.txt", folder / "pgbouncer.ini"
    names.write_text("".join(f'"{user}" ""\n' for user in users))
    configuration.write_text(
        CONFIGURATION.format(server=cluster.port, port=port, users=names, sessions=sessions, more=more)
    )
    log = folder / "pgbouncer.log"
    with log.open("wb") as output:
        process = subprocess.Popen((program, configuration), stdout=output, stderr=output, user=cluster.user, cwd="/")
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                psycopg.connect(f"postgresql://{users[0]}@127.0.0.1:{port}/postgres", connect_timeout=5).close()
                break
            except psycopg.OperationalError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
        yield f"127.0.0.1:{port}/postgres"
    finally:
        process.terminate()
        process.wait(PATIENCE)
