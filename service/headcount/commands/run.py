"""`headcount run`: everything that `make run` starts, and stops, in one process."""

import asyncio
import os
import shlex
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import psycopg

from headcount.commands.serve import address
from headcount.commands.serving import Task, check_port, run_server
from headcount.commands.session import in_one_line, open_connection, quiet_logs, with_database
from headcount.database import calls
from headcount.database.migrate import migrate
from headcount.database.schema import MigrationRefused
from headcount.demo import traffic
from headcount.embedded import EmbeddedDatabase, EmbeddedUnavailable, run_jobs
from headcount.settings import Settings, SettingsRefused
from headcount.wire.instants import shortest

PAUSE_SECONDS = 2.0


@click.command
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".data"),
    show_default=True,
    help="Where the embedded database lives.",
)
@click.option(
    "--database-port",
    type=click.IntRange(1, 65535),
    help="Let the embedded database listen on 127.0.0.1 at this port too, for BI tools. There it lets in every user of "
    "this machine.",
)
def run(data: Path, database_port: int | None) -> None:
    """Try headcount out: database, schema, demo and service at once, until Ctrl-C.

    Without DATABASE_URL an embedded TimescaleDB is started, for trying out only. An empty database gets a demo site
    with two days of traffic, and simulated people keep walking through it; DEMO=0 leaves that out. PORT (8000) is where
    the service listens.
    """
    quiet_logs()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, until the server takes over
    try:
        settings = _settings()
        check_port(settings)
        if settings.database_url and database_port is not None:
            raise click.UsageError("--database-port is for the embedded database, and DATABASE_URL names another one.")
        with _database(data, database_port, settings) as embedded:
            url = embedded.url if embedded else settings.database_url
            _migrate(url, is_embedded=embedded is not None)
            settings = with_database(settings, url)
            tasks: list[Task] = [lambda: _demo_and_urls(settings, _psql(embedded))]
            if embedded:
                tasks += [lambda: run_jobs(url), lambda: _watch(embedded)]
            run_server(settings, _announce(settings), tuple(tasks))
            click.echo("Stopping.")
    except KeyboardInterrupt:
        click.echo("Stopped.")
    except EmbeddedUnavailable as unavailable:
        raise click.ClickException(str(unavailable)) from None


def _settings() -> Settings:
    environment = dict(os.environ)
    environment.setdefault("HEADCOUNT_AUTH", "off")
    if port := environment.get("PORT"):
        if not (port.isdecimal() and port.isascii() and 1 <= int(port) <= 65535):
            raise click.ClickException(f"PORT is {port!r}; it must be a whole number from 1 to 65535.")
        environment["HEADCOUNT_PORT"] = port
    try:
        return Settings.from_environment(environment, needs_database=False)  # it starts one
    except SettingsRefused as refused:
        raise click.ClickException(str(refused)) from None


@contextmanager
def _database(data: Path, port: int | None, settings: Settings) -> Iterator[EmbeddedDatabase | None]:
    """The embedded database where DATABASE_URL names none."""
    if settings.database_url:
        yield None
        return
    click.echo(f"Starting the embedded TimescaleDB in {data} (to try things out; never for production).")
    with EmbeddedDatabase(data, port=port, on_message=lambda message: click.echo(message, err=True)) as embedded:
        yield embedded


def _migrate(url: str, *, is_embedded: bool) -> None:
    steps: list[str] = []

    def begin(step: str) -> None:
        if not steps:
            click.echo("Bringing the database to the current schema ...")
        steps.append(step)

    try:
        if is_embedded:
            _close_other_databases(url)
        report = migrate(url, on_step=begin)
    except (MigrationRefused, SettingsRefused, psycopg.Error, OSError) as error:
        raise in_one_line(error, url) from None
    if report.applied or report.repeatable:
        click.echo("The database is at the current schema now.")


def _close_other_databases(url: str) -> None:
    """The embedded server lets nobody into them anyway; but a migration warns of those that BI may connect to."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("revoke connect on database postgres, template1 from public")


def _psql(embedded: EmbeddedDatabase | None) -> str:
    """The command that opens the database, without a password."""
    if embedded:
        return f"psql {shlex.quote(embedded.url)}"
    return 'psql "$DATABASE_URL"' if os.environ.get("DATABASE_URL") else 'psql "$(cat "$DATABASE_URL_FILE")"'


def _announce(settings: Settings) -> Callable[[], None]:
    return lambda: click.echo(f"Serving on {address(settings)}")


async def _watch(embedded: EmbeddedDatabase) -> None:
    """Raises ClickException when the embedded database has crashed for good."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def wait() -> None:
        try:
            embedded.wait()
        except EmbeddedUnavailable as error:
            loop.call_soon_threadsafe(ended.set_exception, click.ClickException(str(error)))

    # Not one of the loop's threads: those are waited for before the database is stopped.
    threading.Thread(target=wait, daemon=True).start()
    await ended


async def _demo_and_urls(settings: Settings, psql: str) -> None:
    """Loads the demo into an empty database, prints what to look at, and keeps the demo's people walking."""
    wanted = os.environ.get("DEMO", "1") != "0"
    shown = False
    while True:
        try:
            connection = await open_connection(settings.database_url)
            try:
                if wanted and await traffic.is_empty(connection):
                    click.echo("Loading the demo site with two days of traffic ...")
                    click.echo(f"Loaded {await traffic.load(connection)} events.")
                if not shown:
                    await _print_urls(connection, settings, psql)
                    shown = True
                if not wanted or not await traffic.is_demo(connection):
                    return
                await traffic.walk(connection)
            finally:
                connection.terminate()
        except Exception as error:
            if not traffic.passes(error):
                raise
        await asyncio.sleep(PAUSE_SECONDS)


async def _print_urls(connection: calls.Session, settings: Settings, psql: str) -> None:
    base = address(settings)
    spaces = await calls.list_spaces(connection, max_rows=1000)
    click.echo(f"\n  Page      {base}/")
    if spaces:
        parents = {space.parent for space in spaces}
        roots = [space.id for space in spaces if space.parent is None] or [spaces[0].id]
        root = next((space for space in roots if space in parents), roots[0])
        inner = next((space.id for space in spaces if space.parent == root and space.id in parents), root)
        noon = shortest((datetime.now(UTC) - timedelta(days=1)).replace(hour=12, minute=0, second=0, microsecond=0))
        click.echo(f"  Count     {base}/v1/spaces/{root}/count")
        click.echo(f"  Below     {base}/v1/counts?under={inner}")
        click.echo(f"  Then      {base}/v1/spaces/{root}/count?at={noon}")
    click.echo(f"  Sensors   {base}/v1/dpus")
    click.echo(f"  Schema    {base}/schema")
    click.echo(f"  SQL       {psql}")
    click.echo("\nCtrl-C stops everything; the data is kept.")
