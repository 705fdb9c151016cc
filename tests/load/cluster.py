"""A database server of one's own that may be killed, where PostgreSQL's programs and TimescaleDB are installed."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from tests.commands.support import PATIENCE, free_port

SETTINGS = (
    "shared_preload_libraries = 'timescaledb'",
    "timescaledb.telemetry_level = off",
    "listen_addresses = '127.0.0.1'",
    "unix_socket_directories = ''",
    "shared_buffers = '64MB'",
    "max_connections = 50",
)


class Cluster:
    def __init__(self, programs: Path, data: Path) -> None:
        self.programs = programs
        self.data = data
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.environment: dict[str, str] = {}  # beside that of the test
        self.user = _ordinary_user()

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def make(self, *more: str) -> None:
        """Empty, with more settings."""
        if self.user:
            shutil.chown(self.data, self.user)
        arguments = ("--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-sync", f"--pgdata={self.data}")
        subprocess.run([self.programs / "initdb", *arguments], check=True, capture_output=True, user=self.user, cwd="/")
        settings = self.data / "postgresql.conf"
        settings.write_text(settings.read_text() + "\n".join(("", *SETTINGS, f"port = {self.port}", *more, "")))

    def copy(self, primary: "Cluster") -> None:
        """As a streaming replica of one that runs."""
        if self.user:
            shutil.chown(self.data, self.user)
        source = f"--dbname=postgresql://postgres@127.0.0.1:{primary.port}"
        arguments = (source, f"--pgdata={self.data}", "--write-recovery-conf", "--checkpoint=fast", "--no-sync")
        command = (self.programs / "pg_basebackup", *arguments)
        subprocess.run(command, check=True, capture_output=True, user=self.user, cwd="/")
        settings = self.data / "postgresql.conf"
        settings.write_text(settings.read_text() + f"\nport = {self.port}\n")

    def start(self) -> None:
        """Returns when it answers, recovered from its last death; at once where it lives."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            # one that finds children of its killed predecessor ends again
            if self.process is None or self.process.poll() is not None:
                self._launch()
            try:
                psycopg.connect(self.url, connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                time.sleep(0.1)
        raise TimeoutError((self.data / "log").read_text()[-2000:])

    def _launch(self) -> None:
        with (self.data / "log").open("ab") as log:
            arguments = (self.programs / "postgres", "-D", self.data)
            environment = os.environ | self.environment
            self.process = subprocess.Popen(arguments, stdout=log, stderr=log, user=self.user, cwd="/", env=environment)

    def run(self, statement: str) -> None:
        """Whatever becomes of it: the server may end meanwhile."""
        with suppress(psycopg.OperationalError), psycopg.connect(self.url, connect_timeout=5) as connection:
            connection.execute(statement)

    def kill(self) -> None:
        """kill -9, at the postmaster; its children end when they notice."""
        if self.process:
            self.process.kill()
            self.process.wait()


def _ordinary_user() -> str | None:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    pytest.skip("PostgreSQL does not run as root, and there is nobody else")


def _programs() -> Path:
    config = shutil.which("pg_config")
    if config is None:
        pytest.skip("a server that may be killed needs PostgreSQL's programs: there is no pg_config")
    said = subprocess.run([config, "--bindir", "--sharedir"], check=True, capture_output=True, text=True).stdout
    programs, share = map(Path, said.split())
    if not (programs / "initdb").exists() or not (share / "extension" / "timescaledb.control").exists():
        pytest.skip(f"a server that may be killed needs initdb in {programs} and TimescaleDB in {share}")
    return programs


@contextmanager
def private_cluster(
    primary: Cluster | None = None, fill: Callable[[Cluster], None] = Cluster.make
) -> Iterator[Cluster]:
    """An empty one, a streaming replica of another, or one whose folder is filled otherwise."""
    programs = _programs()
    with tempfile.TemporaryDirectory(prefix="headcount-cluster-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        data = Path(folder) / "data"
        data.mkdir(mode=0o700)
        cluster = Cluster(programs, data)
        if primary:
            cluster.copy(primary)
        else:
            fill(cluster)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.kill()
