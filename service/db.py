"""The database as the service sees it: a pool that comes back by itself, and nobody waits in it for long."""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg

from service import calls
from service.auth import Access
from service.errors import Problem, problem_of
from service.messages import RefusalState, RollupState
from service.negotiation import HttpRequest
from service.schema import SchemaMismatch, SchemaVersion, compare_schema, expected_schema
from service.settings import Settings

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = asyncpg.Connection | PoolConnectionProxy[asyncpg.Record]

ROLE = "headcount_service"
ROLLUP_STATE_SECONDS = 5.0
# Events wait while the floor plan changes; those who send them give up after 5 seconds.
PLAN_SECONDS = 15.0
PLAN_LOCK_SECONDS = 5.0
PREVIEW_SECONDS = 2.0
PLAN_IS_BUSY = (
    "The floor plan could not be changed within {seconds} seconds. Nothing was changed: try again, or in smaller parts."
)
PREVIEW_IS_BUSY = (
    "A dry run may hold the floor plan for {seconds} seconds, and this one would need longer. Nothing was changed. "
    "Try again when less is going on, or ask about fewer changes at once."
)

log = logging.getLogger("headcount.db")


def session_options(pooled: bool, statement_seconds: float) -> dict[str, Any]:
    """What asyncpg is told of our sessions; with statement_seconds 0 a statement may take as long as it likes.

    Through a pooler the next transaction may be on another session: nothing can be set for longer than that, and
    statements cannot be prepared. What it passes on is the zone and the name; the rest is what the role that logs in
    has of its own (sql/repeatable/90_grants.sql), and is looked at before anything else.
    """
    passed_on = {"timezone": "UTC", "application_name": "headcount"}
    if pooled:
        return {"server_settings": passed_on, "statement_cache_size": 0}
    own = {
        "role": ROLE,
        # Statements over many chunks are estimated high and would spend their time in compiling.
        "jit": "off",
        "statement_timeout": str(int(statement_seconds * 1000)),
    }
    return {"server_settings": passed_on | own}


SESSION = """
select
  current_user as role, session_user as login, current_setting('jit') as jit,
  extract(epoch from current_setting('statement_timeout')::interval)::double precision as statement_seconds
"""


async def check_session(connection: "Connection", statement_seconds: float) -> None:
    """Raises SchemaMismatch where a session is not what it has to be: only a pooler can make it so."""
    session = await connection.fetchrow(SESSION)
    if session is None or session["role"] != ROLE:
        login = session["login"] if session else "nobody"
        raise SchemaMismatch(
            f"The sessions are those of {login}, and not of {ROLE}. Let the service log in as {ROLE}, "
            f"or have an administrator run: alter role {login} set role = {ROLE} (docs/production.md)."
        )
    if session["jit"] != "off" or not 0 < session["statement_seconds"] <= statement_seconds:
        raise SchemaMismatch(
            f"The sessions are without limits. Have an administrator run: alter role {session['login']} "
            f"set jit = off; alter role {session['login']} set statement_timeout = '{statement_seconds:g}s' "
            "(docs/production.md)."
        )


class Database:
    """Runs one statement at a time, each in a transaction of its own, on a connection from the pool.

    It starts without a database and answers 503 until there is one; the first connection checks the schema.
    Later only /readyz looks at it again: while a release is rolled out, what is under way shall be finished.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.expected: SchemaVersion = expected_schema()
        self.checked = False
        self.waiting = 0
        self.rollup_state: RollupState | None = None
        self.looked_at = -math.inf
        self.refusal_state: RefusalState | None = None
        self.refusals_looked_at = -math.inf
        self.pool: asyncpg.Pool[asyncpg.Record] | None = None

    @asynccontextmanager
    async def lifespan(self, _app: object) -> AsyncIterator[None]:
        """Opens the pool. Raises SchemaMismatch if there is a database that this release cannot speak to."""
        async with self.opened():
            await self._look()
            yield

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """With a pool, and nobody asked yet whether there is a database."""
        self.pool = await asyncpg.create_pool(
            self.settings.database_url,
            min_size=0,
            max_size=self.settings.pool_size,
            timeout=self.settings.acquire_seconds,
            # The server ends what takes too long; the client only gives up on one that says nothing any more.
            command_timeout=self.settings.statement_seconds + 5,
            **session_options(self.settings.pooled, self.settings.statement_seconds),
            # No statement leaves anything behind, so there is nothing to reset.
            reset=_leave_as_is,
        )
        try:
            yield
        finally:
            pool, self.pool = self.pool, None
            try:
                await asyncio.wait_for(pool.close(), 10)
            except TimeoutError:
                pool.terminate()

    async def _look(self) -> None:
        """Whether there is a schema to speak to; that there is no database yet is all right."""
        try:
            await self.check_schema()
        except SchemaMismatch:
            raise
        except Exception as error:
            if problem_of(error).kind.code != "unavailable":
                raise
            log.warning("The database cannot be reached yet (%s: %s)", type(error).__name__, error)

    async def check_schema(self) -> None:
        """Raises SchemaMismatch, or whatever it is that keeps us from the database."""
        async with self._connection() as connection:
            await self._check_schema(connection)

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        async with self._connection() as connection:
            if not self.checked:
                await self._check_schema(connection)
            return await connection.fetch(query, *arguments)

    async def fetchrow(self, query: str, *arguments: object) -> asyncpg.Record | None:
        async with self._connection() as connection:
            if not self.checked:
                await self._check_schema(connection)
            return await connection.fetchrow(query, *arguments)

    def get_size(self) -> int:
        """Open connections."""
        return self.pool.get_size() if self.pool else 0

    def get_idle_size(self) -> int:
        """Open connections that nobody uses."""
        return self.pool.get_idle_size() if self.pool else 0

    async def get_rollup_state(self) -> RollupState | None:
        """At most some seconds old; None if the database does not answer."""
        if time.monotonic() - self.looked_at > ROLLUP_STATE_SECONDS:
            self.looked_at = time.monotonic()
            try:
                async with asyncio.timeout(1):
                    self.rollup_state = await calls.get_rollup_state(self)
            except Exception as error:
                log.warning("No state of the rollups (%s: %s)", type(error).__name__, error)
                self.rollup_state = None
        return self.rollup_state

    async def get_refusal_state(self) -> RefusalState | None:
        """The same."""
        if time.monotonic() - self.refusals_looked_at > ROLLUP_STATE_SECONDS:
            self.refusals_looked_at = time.monotonic()
            try:
                async with asyncio.timeout(1):
                    self.refusal_state = await calls.get_refusal_state(self)
            except Exception as error:
                log.warning("No state of what was refused (%s: %s)", type(error).__name__, error)
                self.refusal_state = None
        return self.refusal_state

    @asynccontextmanager
    async def transaction(self, token: str | None) -> AsyncIterator["PoolConnectionProxy[asyncpg.Record]"]:
        """A transaction. With a token, one that reaches only what that does (sql/repeatable/10_core/15_reach.sql)."""
        async with self._connection() as connection:
            if not self.checked:
                await self._check_schema(connection)
            async with connection.transaction():
                if token:
                    await connection.execute("select set_config('headcount.token', $1, true)", token)
                yield connection

    @asynccontextmanager
    async def transaction_of_its_own(self, statement_seconds: float) -> AsyncIterator[asyncpg.Connection]:
        """One snapshot on a connection beside the pool, for what takes longer than a request may: each statement up
        to so many seconds."""
        connection = await asyncpg.connect(
            self.settings.database_url,
            timeout=self.settings.acquire_seconds,
            command_timeout=statement_seconds + 5,
            **session_options(self.settings.pooled, statement_seconds),
        )
        try:
            async with connection.transaction(isolation="repeatable_read"):
                # Also behind a pooler; and whoever hangs must not hold its locks and its snapshot for ever.
                await connection.execute(f"set local statement_timeout = {int(statement_seconds * 1000)}")
                await connection.execute("set local idle_in_transaction_session_timeout = 60000")
                yield connection
        finally:
            try:
                await connection.close(timeout=5)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection.terminate()

    async def _check_schema(self, connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
        if not self.checked:
            await check_session(connection, self.settings.statement_seconds)
        try:
            rows = await calls.get_schema(connection)
        except (
            asyncpg.InvalidSchemaNameError,
            asyncpg.UndefinedFunctionError,
            asyncpg.InsufficientPrivilegeError,
        ):
            raise SchemaMismatch("The database holds no headcount schema: run headcount migrate.") from None
        found = [(row.number, row.sha256, row.breaking) for row in rows if row.number]
        repeatable = next((row.sha256 for row in rows if not row.number), None)
        compare_schema(found, repeatable, self.expected)
        if not self.checked:
            if self.settings.events_from is not None:
                await calls.set_horizon(connection, self.settings.events_from)
            bounds = (self.settings.register_burst, self.settings.register_per_hour, self.settings.max_unplaced_dpus)
            await calls.set_registration(connection, *bounds)
            self.checked = True
            if self.settings.auth == "required" and not await calls.list_tokens(connection, max_rows=1):
                log.warning("There is no token yet, so nobody is let in: headcount token create --scope admin")

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator["PoolConnectionProxy[asyncpg.Record]"]:
        """One of the pool's. Raises Problem (503) at once if too many wait already, or if none can be had."""
        if self.pool is None:
            raise Problem("unavailable", "The service is stopping.")
        if self.waiting >= self.settings.max_waiting:
            raise Problem("unavailable", "Too many requests wait for the database. Nothing was stored; try again.")
        try:
            self.waiting += 1
            try:
                connection = await self.pool.acquire(timeout=self.settings.acquire_seconds)
            finally:
                self.waiting -= 1
            try:
                yield connection
            finally:
                await self.pool.release(connection, timeout=5)
        except (asyncpg.InvalidParameterValueError, asyncpg.ConnectionDoesNotExistError) as error:
            # A session whose role does not exist is ended as it begins.
            if ROLE not in str(error):
                raise
            raise SchemaMismatch(f"The database has no role {ROLE}: run headcount migrate.") from None


async def _leave_as_is(_connection: object) -> None:
    pass


class Limited:
    """The database as a token sees it that is limited to a space: every statement says on whose behalf it is."""

    def __init__(self, database: Database, token: str) -> None:
        self.database = database
        self.token = token
        self.settings = database.settings

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        async with self.database.transaction(self.token) as connection:
            return await connection.fetch(query, *arguments)

    async def fetchrow(self, query: str, *arguments: object) -> asyncpg.Record | None:
        async with self.database.transaction(self.token) as connection:
            return await connection.fetchrow(query, *arguments)


class Bounded:
    """The database for changes of the floor plan: nobody stores events while one is made, so it may not take long."""

    def __init__(self, database: Database, token: str | None, seconds: float, words: str) -> None:
        self.database = database
        self.token = token
        self.seconds = seconds
        self.words = words

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        async with self._transaction() as connection:
            return await connection.fetch(query, *arguments)

    async def fetchrow(self, query: str, *arguments: object) -> asyncpg.Record | None:
        async with self._transaction() as connection:
            return await connection.fetchrow(query, *arguments)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator["PoolConnectionProxy[asyncpg.Record]"]:
        """Raises Problem (503) where it takes longer, be it waiting or at work."""
        seconds = min(self.seconds, self.database.settings.statement_seconds)
        try:
            async with self.database.transaction(self.token) as connection:
                await connection.execute(
                    "select set_config('statement_timeout', $1, true), set_config('lock_timeout', $2, true)",
                    f"{seconds:g}s",
                    f"{min(seconds, PLAN_LOCK_SECONDS):g}s",
                )
                yield connection
        except (asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError) as error:
            raise Problem("unavailable", self.words.format(seconds=f"{seconds:g}")) from error


def access_of(request: HttpRequest) -> Access:
    """What the request's token may do. Raises where nobody has asked for one: an open address has no business here."""
    access = request.auth
    if not isinstance(access, Access):
        raise RuntimeError(f"{request.url.path} asks for no token, so it must not read or write")
    return access


def database(request: HttpRequest) -> Database | Limited:
    """The one that belongs to the request's app, as far as the request's token reaches. Raises as access_of."""
    access = access_of(request)
    whole = whole_database(request)
    return Limited(whole, access.token) if access.is_limited and access.token else whole


def plan_database(request: HttpRequest) -> Bounded:
    """As database, for a change of the floor plan."""
    access = access_of(request)
    token = access.token if access.is_limited else None
    return Bounded(whole_database(request), token, PLAN_SECONDS, PLAN_IS_BUSY)


def preview_database(request: HttpRequest) -> Bounded:
    """As database, for a dry run of such a change."""
    access = access_of(request)
    token = access.token if access.is_limited else None
    return Bounded(whole_database(request), token, PREVIEW_SECONDS, PREVIEW_IS_BUSY)


def database_of_token(request: HttpRequest) -> Database | Limited:
    """As database; its statements know the token that asks also where that is not limited."""
    access = access_of(request)
    whole = whole_database(request)
    return Limited(whole, access.token) if access.token else whole


def whole_database(request: HttpRequest) -> Database:
    """For what nobody needs a token for: whether it is there."""
    found: Database = request.app.state.database
    return found
