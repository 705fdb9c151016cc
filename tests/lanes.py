"""Where the suite gets its databases from: TEST_DATABASE_URL, a container, or the embedded database.

A lane makes databases and drops them again:
- server: TEST_DATABASE_URL names a server on which databases may be created (real concurrency);
- container: the image that compose.yaml pins, if a Docker engine answers;
- embedded: neither is there (one session; docs/explanation/embedded-database.md).
"""

import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

import psycopg

from headcount.database.migrate import migrate
from headcount.database.schema import SQL_DIR
from headcount.embedded import EmbeddedDatabase, copy_template, make_template
from headcount.embedded.package import cache_folder

ROOT = Path(__file__).parent.parent


class Lane(Protocol):
    is_embedded: bool

    @contextmanager
    def database(self, *, migrated: bool, is_long_lived: bool = False) -> Iterator[str]:
        """The URL of a new database, dropped at the end."""
        ...


class ServerLane:
    is_embedded = False

    def __init__(self, url: str) -> None:
        self.url = url

    @contextmanager
    def database(self, *, migrated: bool, is_long_lived: bool = False) -> Iterator[str]:
        name = f"headcount_test_{secrets.token_hex(4)}"
        url = urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f'create database "{name}"'.encode())
        try:
            if migrated:
                migrate(url)
                with psycopg.connect(url, autocommit=True) as connection:
                    # a job that ran by itself would make tests depend on the time they take
                    connection.execute("select _timescaledb_functions.stop_background_workers()")
            yield url
        finally:
            with psycopg.connect(self.url, autocommit=True) as connection:
                connection.execute(f'drop database "{name}" with (force)'.encode())


class EmbeddedLane:
    is_embedded = True

    @contextmanager
    def database(self, *, migrated: bool, is_long_lived: bool = False) -> Iterator[str]:
        with tempfile.TemporaryDirectory(prefix="headcount-") as folder:
            copy_template(self._template(migrated), Path(folder) / "database")
            directory = Path(folder) / "database"
            with EmbeddedDatabase(directory, durable=False, optimized=is_long_lived) as embedded:
                yield embedded.url

    def _template(self, migrated: bool) -> Path:
        if not migrated:
            return make_template(cache_folder(), [], lambda _: None)
        sources = [
            *sorted(SQL_DIR.rglob("*.sql")),
            ROOT / "service/headcount/database/migrate.py",
            ROOT / "service/headcount/database/schema.py",
        ]
        return make_template(cache_folder(), [path.read_bytes() for path in sources], lambda url: void(migrate(url)))


def void(_: object) -> None:
    """For callbacks whose result nobody wants."""


@contextmanager
def choose_lane() -> Iterator[Lane]:
    if url := os.environ.get("TEST_DATABASE_URL"):
        yield ServerLane(url)
    elif has_docker_engine():
        from testcontainers.community.postgres import PostgresContainer

        image = re.search(r"image: *(\S*timescale\S*)", (ROOT / "compose.yaml").read_text())
        assert image, "compose.yaml pins no timescale image"
        with PostgresContainer(image[1], username="postgres", dbname="postgres", driver=None) as server:
            yield ServerLane(server.get_connection_url())
    else:
        yield EmbeddedLane()


def has_docker_engine() -> bool:
    """Whether an engine answers, at DOCKER_HOST or where one usually listens."""
    if not os.environ.get("DOCKER_HOST") and not Path("/var/run/docker.sock").exists():
        return False
    from testcontainers.core.docker_client import DockerClient

    try:
        return bool(DockerClient().client.ping())
    except Exception:  # it has no base class for all the ways in which there is no engine
        return False
