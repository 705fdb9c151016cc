"""The database as the service sees it: a pool that comes back by itself, and nobody waits in it for long."""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import parse_qs, urlsplit

import asyncpg

from headcount.addresses import UNREADABLE
from headcount.background import background
from headcount.database import calls
from headcount.database.plan_turns import Plans
from headcount.database.schema import SchemaVersion, compare_schema, shipped_schema
from headcount.settings import Settings, SettingsRefused
from headcount.wire.messages.base import ProblemItem
from headcount.wire.problems import TOO_LARGE, Problem, SchemaMismatch, in_words, problem_of
from headcount.wire.shares import Shares

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = asyncpg.Connection | PoolConnectionProxy[asyncpg.Record]

ROLE = "headcount_service"
# Events wait while the floor plan changes, so that is for a moment. Dry runs keep other changes waiting, and no events.
PLAN_SECONDS = 1.5
PREVIEW_SECONDS = 2.0
# Who stores events waits behind a change that waits: so it waits for a moment only, and lets them pass between tries.
PLAN_LOCK_SECONDS = 0.5
PLAN_TRIES = 4
PLAN_PAUSE_SECONDS = 0.5
PLAN_IS_HELD = (
    "Somebody else used the floor plan each of {tries} times that it was tried, for {seconds} seconds in all. "
    "Nothing was changed: try again."
)
PLAN_IS_BUSY = (
    "The floor plan could not be changed within {seconds} seconds. Nothing was changed: "
    "try again, or in smaller parts. What has no parts has longer with `headcount apply` on the database itself."
)
PREVIEW_IS_BUSY = (
    "A dry run may take {seconds} seconds, and this one would need longer. Nothing was changed. "
    "Try again when less is going on, or ask about fewer changes at once."
)
# Whoever stands still within a transaction keeps its locks from everybody; none of ours waits for anything but us.
IDLE_SECONDS = 10.0
# So does a session whose client is out of reach, until the server notices.
KEEPALIVES = {
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
# Between two looks at what /metrics shows of it.
GLANCE_SECONDS = 5.0
# Between the beginnings of two looks at whether there is a database to speak to.
LOOK_SECONDS = 1.0
# One that answers nothing at all for so long is away. Behind a socket of this machine no network can be cut, but the
# embedded database may be there, which does one thing at a time.
SILENT_SECONDS = 1.5
SILENT_LOCAL_SECONDS = 40.0
CONNECT_SECONDS = 3.0
# A time-out that comes so much too late says more of us than of the database: it is looked at again, so often in all.
LATE_SECONDS = 0.3
LOOKS = 4
SILENT = "The database does not answer. Try again: nothing counts twice."

log = logging.getLogger("headcount.db")

Found = TypeVar("Found")


def session_options(pooled: bool, statement_seconds: float, idle_seconds: float | None = None) -> dict[str, Any]:
    """What asyncpg is told of our sessions; with statement_seconds 0 a statement may take as long as it likes.

    A session that is idle in a transaction for idle_seconds (IDLE_SECONDS) is ended.

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
        "statement_timeout": _milliseconds(statement_seconds),
        "idle_in_transaction_session_timeout": _milliseconds(IDLE_SECONDS if idle_seconds is None else idle_seconds),
        **KEEPALIVES,
    }
    return {"server_settings": passed_on | own}


async def connect(*address: Any, **options: Any) -> asyncpg.Connection:
    """asyncpg's, without its words on an address that it cannot read: they quote it, and with it a password.
    Raises SettingsRefused then."""
    try:
        return await asyncpg.connect(*address, **options)
    except asyncpg.ClientConfigurationError as error:
        raise SettingsRefused(f"DATABASE_URL cannot be used: {error}.") from None
    except (ValueError, asyncpg.UndefinedObjectError):
        # the latter names a parameter that nobody knows: what comes behind a raw & in a password is taken for one
        raise SettingsRefused(UNREADABLE) from None


def _milliseconds(seconds: float) -> str:
    return str(int(seconds * 1000))


SESSION = """
select
  current_user as role, session_user as login, current_setting('jit') as jit,
  extract(epoch from current_setting('statement_timeout')::interval)::double precision as statement_seconds
"""


IDLE_AND_TOKEN = """
select set_config('idle_in_transaction_session_timeout', $1, true), set_config('headcount.token', $2, true)
"""


async def check_session(connection: calls.Session, statement_seconds: float) -> None:
    """Raises SchemaMismatch where a session is not what it has to be: only a pooler can make it so."""
    session = await connection.fetchrow(SESSION)
    if session is None or session["role"] != ROLE:
        login = session["login"] if session else "nobody"
        raise SchemaMismatch(
            f"The sessions are those of {login}, and not of {ROLE}. Let the service log in as {ROLE}, "
            f"or have an administrator run: alter role {login} set role = {ROLE} (docs/how-to/pgbouncer.md)."
        )
    if session["jit"] != "off" or not 0 < session["statement_seconds"] <= statement_seconds:
        raise SchemaMismatch(
            f"The sessions are without limits. Have an administrator run: alter role {session['login']} "
            f"set jit = off; alter role {session['login']} set statement_timeout = '{statement_seconds:g}s' "
            "(docs/how-to/pgbouncer.md)."
        )


class SideConnection:
    """A connection beside the pool, for short questions that must not wait in its queue: one at a time."""

    def __init__(self, database: "Database", seconds: float, *, is_watch: bool = False) -> None:
        self.database = database
        self.seconds = seconds
        self.is_watch = is_watch
        self.turn = asyncio.Lock()
        self.connection: asyncpg.Connection | None = None
        # Whether we stood still ourselves when time ran out.
        self.was_late = False

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        return await self._ask(lambda connection: connection.fetch(query, *arguments))

    async def fetchrow(self, query: str, *arguments: object) -> asyncpg.Record | None:
        return await self._ask(lambda connection: connection.fetchrow(query, *arguments))

    def drop(self) -> None:
        """The next question opens another one."""
        connection, self.connection = self.connection, None
        if connection:
            connection.terminate()

    async def _ask(self, ask: Callable[[asyncpg.Connection], Awaitable[Found]]) -> Found:
        """Raises TimeoutError where nothing came for too long."""
        async with self.turn:
            with _told_of_the_role():
                return await self._ask_now(ask)

    async def _ask_now(self, ask: Callable[[asyncpg.Connection], Awaitable[Found]]) -> Found:
        if self.database.is_silent and not self.is_watch:
            raise Problem("unavailable", SILENT)
        connection = self.connection
        loop = asyncio.get_running_loop()
        begun, seconds = loop.time(), CONNECT_SECONDS
        is_late = False

        def give_up() -> None:
            # Not by cancelling: asyncpg would ask the server to, and wait for that.
            nonlocal is_late
            is_late = True
            self.drop()

        timer: asyncio.TimerHandle | None = None
        try:
            if connection is None or connection.is_closed():
                connection = self.connection = await self.database.connect()
            begun, seconds = loop.time(), self.seconds
            timer = loop.call_later(seconds, give_up)
            if not self.database.checked and not self.is_watch:
                await self.database.check(connection)
            found = await ask(connection)
            self.database.answered_at = time.monotonic()
            return found
        except asyncpg.PostgresError as error:
            if is_late:
                raise TimeoutError from error
            self.drop()
            raise
        except asyncpg.InterfaceError as error:
            self.drop()
            raise (TimeoutError() if is_late else error) from error
        except BaseException as error:
            self.drop()
            # asyncpg stumbles where its connection goes away between two of its steps
            if is_late and isinstance(error, Exception):
                raise TimeoutError from error
            raise
        finally:
            self.was_late = loop.time() - begun - seconds > LATE_SECONDS
            if timer:
                timer.cancel()


class Database:
    """Runs one statement at a time, each in a transaction of its own, on a connection from the pool.

    It starts without a database and answers 503 until there is one; the first connection checks the schema. Later
    only the watch looks at it again, once a second and for all who ask /readyz: while a release is rolled out, what is
    under way shall be finished. The watch also notices when the database says nothing at all any more: then whoever
    waits for it is told so (503), and all who come, until it speaks again.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.expected: SchemaVersion = shipped_schema()
        self.checked = False
        self.waiting = 0
        self.shares = Shares(settings.pool_size, settings.max_waiting, settings.acquire_seconds)
        self.plans = Plans()
        self.rollups = CachedLook(self, "the rollups", lambda: calls.get_rollup_state(self))
        self.refusals = CachedLook(self, "what was refused", lambda: calls.get_refusal_state(self))
        self.pool: asyncpg.Pool[asyncpg.Record] | None = None
        # What the latest look came to, None if all is well; and whether the database says nothing at all.
        self.fault: Exception | None = None
        self.is_silent = False
        self.answered_at = -math.inf
        # Those who wait for a connection, and connections with a statement under way.
        self.waits: set[asyncio.Timeout] = set()
        self.busy: set[PoolConnectionProxy[asyncpg.Record]] = set()
        seconds = SILENT_LOCAL_SECONDS if is_local(settings.database_url) else SILENT_SECONDS
        self.watch = SideConnection(self, seconds, is_watch=True)
        # For the look-up of tokens: before anything else, and not behind those who wait for the pool.
        self.door = SideConnection(self, max(seconds, 2.0))

    @asynccontextmanager
    async def lifespan(self, _app: object) -> AsyncIterator[None]:
        """Opens the pool. Raises SchemaMismatch if there is a database that this release cannot speak to, and
        whatever says that it never will; that it is not there yet is all right."""
        async with self.opened():
            await self._look()
            if self.fault and not is_absence(self.fault):
                raise self.fault
            if self.fault:
                log.warning(
                    "There is no database yet (%s): every request is answered 503 until there is one",
                    in_words(self.fault),
                )
            async with background(self._watch()):
                yield

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """With a pool, and nobody asked yet whether there is a database."""
        self.pool = await asyncpg.create_pool(
            self.settings.database_url,
            connect=connect,
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
            self.watch.drop()
            self.door.drop()
            pool, self.pool = self.pool, None
            try:
                await asyncio.wait_for(pool.close(), 10)
            except TimeoutError:
                pool.terminate()

    async def connect(self) -> asyncpg.Connection:
        """One beside the pool, for short questions."""
        return await connect(
            self.settings.database_url,
            timeout=CONNECT_SECONDS,
            command_timeout=self.settings.statement_seconds + 5,
            **session_options(self.settings.pooled, self.settings.statement_seconds),
        )

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            before = self.fault
            await self._look()
            if self.fault and before is None:
                log.warning("The database cannot be spoken to (%s)", in_words(self.fault))
            elif before and self.fault is None:
                log.warning("The database can be spoken to again")

    async def _look(self) -> None:
        """Notes whether there is a database to speak to."""
        begun = time.monotonic()
        try:
            await self._look_again_while_late()
        except Exception as error:
            self.fault = error
            if isinstance(error, TimeoutError) and self.answered_at < begun:
                await self._lose()
        else:
            self.fault, self.is_silent = None, False

    async def _look_again_while_late(self) -> None:
        looks = 1
        while True:
            try:
                return await self.check(self.watch)
            except TimeoutError:
                if looks == LOOKS or not self.watch.was_late:
                    raise
            looks += 1

    async def _lose(self) -> None:
        """Nobody waits any longer for a database that says nothing."""
        self.is_silent = True
        for wait in self.waits:
            with suppress(RuntimeError):  # it has run out just now
                wait.reschedule(0)
        for connection in list(self.busy):
            connection.terminate()
        if self.pool:
            await self.pool.expire_connections()

    def check_readiness(self) -> None:
        """What the latest look came to, a second ago at most. Raises Problem (503); asks nothing of the database."""
        if self.fault:
            problem = problem_of(self.fault)
            raise Problem("unavailable", SILENT if self.is_silent else problem.detail) from None

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        async with self.connection() as connection:
            return await connection.fetch(query, *arguments)

    async def fetchrow(self, query: str, *arguments: object) -> asyncpg.Record | None:
        async with self.connection() as connection:
            return await connection.fetchrow(query, *arguments)

    def get_waiting(self) -> int:
        """Calls that wait for a connection."""
        return self.waiting + self.shares.waiting + self.plans.turns.waiting

    def get_size(self) -> int:
        """Open connections."""
        return self.pool.get_size() if self.pool else 0

    def get_idle_size(self) -> int:
        """Open connections that nobody uses."""
        return self.pool.get_idle_size() if self.pool else 0

    @asynccontextmanager
    async def transaction(self, token: str | None) -> AsyncIterator["PoolConnectionProxy[asyncpg.Record]"]:
        """A transaction; with a token, one that reaches only what the token does (10_core/20_plan/reach.sql)."""
        async with self.connection() as connection, connection.transaction():
            if self.settings.pooled:
                # session_options could not
                await connection.execute(IDLE_AND_TOKEN, _milliseconds(IDLE_SECONDS), token or "")
            elif token:
                await connection.execute("select set_config('headcount.token', $1, true)", token)
            yield connection

    @asynccontextmanager
    async def transaction_of_its_own(self, statement_seconds: float) -> AsyncIterator[asyncpg.Connection]:
        """One snapshot on a connection beside the pool, for what takes longer than a request may: each statement up
        to so many seconds."""
        connection = await connect(
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

    async def check(self, connection: calls.Session) -> None:
        """Raises SchemaMismatch, or whatever it is that keeps us from the database."""
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
            await calls.set_registration(
                connection,
                self.settings.register_burst,
                self.settings.register_per_hour,
                self.settings.max_unplaced_dpus,
                self.settings.max_unnamed_spaces,
            )
            self.checked = True
            if self.settings.auth == "required" and not await calls.list_tokens(connection, max_rows=1):
                log.warning("There is no token yet, so nobody is let in: headcount token create --scope admin")

    @asynccontextmanager
    async def connection(self) -> AsyncIterator["PoolConnectionProxy[asyncpg.Record]"]:
        """One of the pool's, whose schema is known. Raises Problem (503) at once if too many wait already, or if none
        can be had."""
        pool = self.pool
        if pool is None:
            raise Problem("unavailable", "The service is stopping.")
        if self.is_silent:
            raise Problem("unavailable", SILENT)
        if self.waiting >= self.settings.max_waiting:
            raise Problem("unavailable", "Too many requests wait for the database. Nothing was stored; try again.")
        with _told_of_the_role():
            connection = await self._acquire(pool)
            self.busy.add(connection)
            try:
                if not self.checked:
                    await self.check(connection)
                yield connection
                self.answered_at = time.monotonic()
            finally:
                self.busy.discard(connection)
                await pool.release(connection, timeout=5)

    async def _acquire(self, pool: "asyncpg.Pool[asyncpg.Record]") -> "PoolConnectionProxy[asyncpg.Record]":
        wait = asyncio.timeout(self.settings.acquire_seconds)
        self.waiting += 1
        try:
            async with wait:
                self.waits.add(wait)
                return await pool.acquire()
        finally:
            self.waiting -= 1
            self.waits.discard(wait)


@contextmanager
def _told_of_the_role() -> Iterator[None]:
    """A session whose role does not exist is ended as it begins. Raises SchemaMismatch then."""
    try:
        yield
    except (asyncpg.InvalidParameterValueError, asyncpg.ConnectionDoesNotExistError) as error:
        if ROLE not in str(error):
            raise
        raise SchemaMismatch(f"The database has no role {ROLE}: run headcount migrate.") from None


def is_local(database_url: str) -> bool:
    """Whether the database is behind a socket of this machine."""
    try:
        return parse_qs(urlsplit(database_url).query).get("host", [""])[0].startswith("/")
    except ValueError:
        return False


def is_absence(error: Exception) -> bool:
    """Whether a database may yet be there: it cannot be reached, is starting, or is full."""
    if isinstance(error, asyncpg.PostgresError):
        return (getattr(error, "sqlstate", None) or "")[:2] in ("08", "53", "57") and "startup parameter" not in str(
            error
        )
    return isinstance(error, OSError | TimeoutError | asyncpg.InterfaceError) and not isinstance(
        error, asyncpg.ClientConfigurationError
    )


class CachedLook(Generic[Found]):
    """Something that /metrics shows of the database, looked up once in a while for all who ask."""

    def __init__(self, database: Database, what: str, look: Callable[[], Awaitable[Found]]) -> None:
        self.database = database
        self.what = what
        self.look = look
        self.found: Found | None = None
        self.looked_at = -math.inf
        self.looking: asyncio.Task[None] | None = None

    async def get(self) -> Found | None:
        """At most some seconds old; None if the database does not answer within one."""
        if time.monotonic() - self.looked_at > GLANCE_SECONDS and self.looking is None:
            self.looked_at = time.monotonic()
            self.looking = asyncio.create_task(self._look())
        if self.looking:
            # Whoever goes away or has waited long enough does not take the look away from the others.
            await asyncio.wait({self.looking}, timeout=1)
        return None if self.looking or self.database.is_silent else self.found

    async def _look(self) -> None:
        try:
            self.found = await self.look()
        except Exception as error:
            log.warning("No state of %s (%s)", self.what, in_words(error))
            self.found = None
        finally:
            self.looking = None


async def _leave_as_is(_connection: object) -> None:
    pass


class Client:
    """The database as one client sees it: within its share, and as far as its token reaches.

    `name`: whose share; None where nobody can be told apart. `limited_to`: the id of a token that is limited to a
    space, on whose behalf every statement says that it is.
    """

    def __init__(
        self, database: Database, name: str | None = None, limited_to: str | None = None, *, is_slow: bool = False
    ) -> None:
        self.database = database
        self.name = name
        self.limited_to = limited_to
        self.is_slow = is_slow
        self.settings = database.settings

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        async with self.database.shares.turn(self.name, is_slow=self.is_slow):
            if self.limited_to is None:
                return await self.database.fetch(query, *arguments)
            async with self.database.transaction(self.limited_to) as connection:
                return await connection.fetch(query, *arguments)

    async def fetchrow(self, query: str, *arguments: object) -> asyncpg.Record | None:
        async with self.database.shares.turn(self.name, is_slow=self.is_slow):
            if self.limited_to is None:
                return await self.database.fetchrow(query, *arguments)
            async with self.database.transaction(self.limited_to) as connection:
                return await connection.fetchrow(query, *arguments)


def is_whole(session: object) -> bool:
    """Whether what it asks can be asked together with others: it reaches everything, on the primary."""
    return isinstance(session, Database) or (isinstance(session, Client) and session.limited_to is None)


def name_of(session: object) -> str | None:
    """Whose share it has."""
    return session.name if isinstance(session, Client) else None


class Bounded:
    """The database for changes of the floor plan: nobody stores events while one is made, so it may not take long.

    There is one at a time in a process (headcount.database.plan_turns), and so that
    none is in the way of the reads of its client.
    """

    def __init__(self, client: Client, seconds: float, words: str) -> None:
        self.client = client
        self.database = client.database
        self.seconds = seconds
        self.words = words

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        return await self._run(lambda connection: connection.fetch(query, *arguments))

    async def fetchrow(self, query: str, *arguments: object) -> asyncpg.Record | None:
        return await self._run(lambda connection: connection.fetchrow(query, *arguments))

    async def _run(self, ask: Callable[["Connection"], Awaitable[Found]]) -> Found:
        """Raises Problem (503) where it takes longer, be it waiting or at work."""
        seconds = min(self.seconds, self.database.settings.statement_seconds)
        async with self.database.plans.turn(self.client.name):
            for number in range(PLAN_TRIES):
                if number:
                    await asyncio.sleep(PLAN_PAUSE_SECONDS)
                try:
                    return await self._try(ask, seconds)
                except asyncpg.LockNotAvailableError as error:
                    failure = error
                except asyncpg.QueryCanceledError as error:
                    words = self.words.format(seconds=f"{seconds:g}")
                    raise Problem("unavailable", words, [ProblemItem("request", TOO_LARGE, words)]) from error
        in_all = f"{PLAN_TRIES * PLAN_LOCK_SECONDS:g}"
        raise Problem("unavailable", PLAN_IS_HELD.format(tries=PLAN_TRIES, seconds=in_all)) from failure

    async def _try(self, ask: Callable[["Connection"], Awaitable[Found]], seconds: float) -> Found:
        limited_to = self.client.limited_to
        async with self.database.shares.turn(None, is_slow=False), self.database.transaction(limited_to) as connection:
            await connection.execute(
                "select set_config('statement_timeout', $1, true), set_config('lock_timeout', $2, true)",
                f"{seconds:g}s",
                f"{PLAN_LOCK_SECONDS:g}s",
            )
            with self.database.plans.work(is_limited=limited_to is not None):
                return await ask(connection)
