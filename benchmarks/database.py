"""The database that is measured: a fresh one on the server that the environment names."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import click
import psycopg

from headcount.database.migrate import migrate

VARIABLES = ("BENCH_DATABASE_URL", "TEST_DATABASE_URL")
EMBEDDED = (
    "This is the embedded database: one session in WebAssembly. Its numbers say nothing about a real server. "
    f"Set {VARIABLES[0]} to a native TimescaleDB."
)


def server_url() -> str:
    """The URL of the server to measure on. Raises click.ClickException when none is given, or the wrong one."""
    url = next((os.environ[name] for name in VARIABLES if os.environ.get(name)), None)
    if url is None:
        raise click.ClickException(
            "No database to measure on. Set BENCH_DATABASE_URL (or TEST_DATABASE_URL) to a native TimescaleDB on "
            "which databases may be created, for example\n"
            "  docker compose up --detach db\n"
            "  BENCH_DATABASE_URL=postgresql://postgres:<password>@127.0.0.1:5432/postgres make bench"
        )
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            version = str(connection.execute("select version()").fetchone())
    except psycopg.OperationalError as error:
        raise click.ClickException(f"The server of {VARIABLES[0]} does not answer: {error}") from None
    if any(sign in version.lower() for sign in ("emscripten", "emcc", "wasm")):
        raise click.ClickException(EMBEDDED)
    return url


@contextmanager
def fresh_database(server: str) -> Iterator[str]:
    """The URL of a migrated database of its own, dropped afterwards."""
    name = f"headcount_bench_{uuid4().hex[:8]}"
    url = urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"create database {name}")
        try:
            migrate(url, on_step=lambda _: None)
            yield url
        finally:
            connection.execute(f"drop database if exists {name} with (force)")
