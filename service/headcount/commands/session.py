"""What the commands that talk to the database share: settings, a connection, and errors in one line."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import asyncpg
import click
import msgspec
import psycopg

from headcount.addresses import UNREADABLE, show_database
from headcount.database import calls
from headcount.database.pool import ROLE, connect, session_options
from headcount.database.schema import MigrationRefused, check_schema
from headcount.logs import configure_logs
from headcount.settings import Settings, SettingsRefused
from headcount.wire.problems import Problem, SchemaMismatch, problem_of

CONNECT_SECONDS = 10.0
# As IDLE_SECONDS of the service: a command decodes files between two statements.
IDLE_SECONDS = 60.0
# What to do instead, as the database says it to those who come over HTTP, and as a command.
AS_COMMANDS = {
    "with PUT /v1/spaces/{id}": "with `headcount apply`",
    "GET /v1/tokens;": "`headcount token list`;",
}

Result = TypeVar("Result")


def offline_settings() -> Settings:
    """The settings for commands that serve nothing, to which host and authentication do not matter."""
    loopback = {"HEADCOUNT_AUTH": "off", "HEADCOUNT_HOST": ""}
    try:
        return Settings.from_environment({**os.environ, **loopback})
    except SettingsRefused as refused:
        raise click.ClickException(str(refused)) from None


def with_database(settings: Settings, url: str) -> Settings:
    return msgspec.structs.replace(settings, database_url=url)


async def open_connection(url: str, command_seconds: float | None = None, pooled: bool = False) -> asyncpg.Connection:
    """A connection as the service's role. By default a statement may take as long as it likes."""
    return await connect(
        url, timeout=CONNECT_SECONDS, command_timeout=command_seconds, **session_options(pooled, 0, IDLE_SECONDS)
    )


@asynccontextmanager
async def connected(
    url: str, command_seconds: float | None = None, pooled: bool = False
) -> AsyncIterator[asyncpg.Connection]:
    """A connection as the service's role to a database whose schema fits. Raises SchemaMismatch if it does not."""
    connection = await open_connection(url, command_seconds, pooled)
    try:
        await check_schema(connection)
        yield connection
    finally:
        try:
            await connection.close(timeout=5)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            connection.terminate()


async def write_horizon(settings: Settings) -> None:
    """What HEADCOUNT_EVENTS_FROM says, where it says something, to the database: all processes read it there."""
    if settings.events_from is not None:
        async with connected(settings.database_url) as connection:
            await calls.set_horizon(connection, settings.events_from)


def run_async(main: Coroutine[Any, Any, Result], url: str) -> Result:
    """Runs `main`; what goes wrong with the database at `url` becomes one line and exit code 1."""
    try:
        return asyncio.run(main)
    except Exception as error:
        raise in_one_line(error, url) from error


def in_one_line(error: Exception, url: str) -> Exception:
    """The error as click prints it, or as it is where it is a mistake of ours."""
    shown = show_database(url)
    match error:
        case SchemaMismatch() | MigrationRefused() | SettingsRefused():
            return click.ClickException(str(error))
        case asyncpg.PostgresError() if f'role "{ROLE}" does not exist' in str(error):
            return click.ClickException(f"The database has no role {ROLE}: run headcount migrate.")
        case asyncpg.ConnectionDoesNotExistError() if "unrecognized configuration parameter" in str(error):
            return click.ClickException(UNREADABLE)  # the embedded database says so as it ends the session
        case asyncpg.InsufficientPrivilegeError() if ROLE in str(error):
            return click.ClickException(f"This user may not become {ROLE}: {error}. Use the one who migrated.")
        case asyncpg.InvalidPasswordError() | asyncpg.InvalidAuthorizationSpecificationError():
            return click.ClickException(f"The database at {shown} refuses this user or password: {error}.")
        case asyncpg.InvalidCatalogNameError():
            return click.ClickException(f"The database at {shown} does not exist: {error}.")
        case (
            OSError() | asyncpg.CannotConnectNowError() | asyncpg.TooManyConnectionsError() | psycopg.OperationalError()
        ):
            reason = str(error).strip().replace("\n", " ") or "no answer"
            return click.ClickException(
                f"The database at {shown} cannot be reached: {reason}. Is it running, and is DATABASE_URL right?"
            )
        case Problem():
            return click.ClickException(error.detail)
        case asyncpg.ProtocolViolationError() if "startup parameter" in str(error):
            return click.ClickException(
                f"A pooler is at {shown} ({error}). For `headcount serve` set HEADCOUNT_POOLED=true; "
                "give other commands the address of the database itself."
            )
        case asyncpg.PostgresError():
            if (getattr(error, "sqlstate", None) or "").startswith("PT"):
                problem = problem_of(error)
                where = (
                    "".join(f"{item.where}: " for item in problem.errors[:1]) if isinstance(problem, Problem) else ""
                )
                detail = problem.detail
                for address, command in AS_COMMANDS.items():
                    detail = detail.replace(address, command)
                return click.ClickException(f"{where}{detail}")
            return click.ClickException(f"The database failed: {error} (SQLSTATE {getattr(error, 'sqlstate', '?')}).")
        case asyncpg.InterfaceError():
            return click.ClickException(f"The connection to the database at {shown} was lost: {error}.")
    return error


def quiet_logs() -> None:
    """What goes wrong in the background, on stderr."""
    configure_logs(logging.WARNING)
