"""Reads from a streaming replica that are never older than the caller allows.

A replica is always late, by milliseconds or by minutes, and does not know by how much. So the primary is asked where it
is, after the request has come: a replica that has replayed up to there has everything that was committed before. One
small question to the primary serves all requests that wait for it, and the work is done elsewhere. What a request may
see that is older (`max_staleness`) needs no question: where the primary was is noted once a second.

Whatever the replica does not answer, the primary does.
"""

import asyncio
import logging
import math
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TypeVar

import asyncpg
import msgspec

from headcount.background import background
from headcount.database import calls
from headcount.database.batching import Batcher
from headcount.database.pool import Client, Database
from headcount.metrics import Metrics
from headcount.settings import SettingsRefused
from headcount.wire.messages.base import MAX_STALENESS
from headcount.wire.messages.service import WalPosition
from headcount.wire.problems import problem_of

LOOK_SECONDS = 1.0
# A replica that was not seen to be nearer than this is not asked at all until it is.
CLOSE_SECONDS = 3.0
# How long a request waits for it to come as far as it has to.
WAIT_SECONDS = 0.2
# One that says nothing for so long is away.
ANSWER_SECONDS = 1.0
COMPLAIN_SECONDS = 60.0

log = logging.getLogger("headcount.replica")

Found = TypeVar("Found")


class Mark(msgspec.Struct, frozen=True):
    """Where the primary was, asked at an instant (by our clock; `seconds` is the same, monotonic)."""

    at: datetime
    seconds: float
    primary: WalPosition

    def is_reached_by(self, found: WalPosition) -> bool:
        """Whether a replica has everything that was committed before, and its now is not earlier than the primary's."""
        if found.wal_bytes is None or self.primary.wal_bytes is None or found.system_id != self.primary.system_id:
            return False
        return found.wal_bytes >= self.primary.wal_bytes and found.at >= self.primary.at


class NotThere(Exception):
    """The replica cannot answer now; the text says why."""


def what_kind(error: Exception) -> str:
    """What went wrong. Not in the words of others: they quote parts of an address that they cannot read."""
    if isinstance(error, NotThere):
        return str(error)
    state = getattr(error, "sqlstate", None)
    name = type(error).__name__
    if state:
        return f"{name}, SQLSTATE {state}"
    if isinstance(error, OSError) and error.errno:
        return f"{name}, {os.strerror(error.errno)}"
    if isinstance(error, ValueError | SettingsRefused):
        return f"{name}: HEADCOUNT_READ_URL may be no address; in a password, percent-encode `#`, `/`, `?` and `@`"
    return name


class Replica:
    """The database at HEADCOUNT_READ_URL, and how late it is."""

    def __init__(self, primary: Database, read_url: str, metrics: Metrics) -> None:
        self.primary = primary
        self.database = Database(msgspec.structs.replace(primary.settings, database_url=read_url, events_from=None))
        self.metrics = metrics
        self.positions: Batcher[None, Mark] = Batcher(
            self._ask, callers=1, max_weight=primary.settings.max_waiting, weigh=lambda _: 1
        )
        # One a second, the oldest first, and the newest that the replica has reached.
        self.marks: deque[Mark] = deque()
        self.reached: Mark | None = None
        # Whether it answered when it was looked at, and whether a request failed since.
        self.is_there = False
        self.has_failed = False
        self.complained = -math.inf

    @asynccontextmanager
    async def lifespan(self, _app: object) -> AsyncIterator[None]:
        """Needs no replica: until there is one, the primary answers."""
        async with self.database.opened(), background(self._watch()):
            yield

    def get_lag(self) -> float:
        """In seconds: everything committed so long ago is there. Not a number: it is away."""
        return time.monotonic() - self.reached.seconds if self.reached and self.is_there else math.nan

    @asynccontextmanager
    async def session(self, max_staleness: float, client: Client) -> AsyncIterator[tuple[calls.Session, datetime]]:
        """A session within the client's share, in a transaction on its token's behalf if that is limited, and the
        instant up to which it shows everything. Raises NotThere, or what keeps us from it."""
        if self.has_failed or not self.get_lag() <= max(max_staleness, CLOSE_SECONDS):
            raise NotThere("it is away, or too far behind")
        wanted = self._find_mark(max_staleness) or await self.positions.ask(None)
        if wanted.primary.is_standby:
            raise NotThere("DATABASE_URL is a replica itself")
        async with (
            self.database.shares.turn(client.name, is_slow=client.is_slow),
            self.database.transaction(client.limited_to) as connection,
        ):
            yield connection, (await self._catch_up(connection, wanted)).at

    def lose(self, error: Exception) -> None:
        """It is not asked again before the next look."""
        self.has_failed = True
        if time.monotonic() >= self.complained + COMPLAIN_SECONDS:
            self.complained = time.monotonic()
            log.warning("The replica is not read (%s); the primary answers", what_kind(error))

    def _find_mark(self, max_staleness: float) -> Mark | None:
        """The oldest that is new enough."""
        since = time.monotonic() - max_staleness
        return next((mark for mark in self.marks if mark.seconds >= since), None)

    async def _catch_up(self, connection: calls.Session, wanted: Mark) -> Mark:
        """The newest mark that it has reached, once that is the one wanted or a later one."""
        deadline = time.monotonic() + WAIT_SECONDS
        pause = 0.002
        while not wanted.is_reached_by(found := await self._look(connection)):
            if time.monotonic() + pause > deadline:
                raise NotThere("it is behind")
            await asyncio.sleep(pause)
            pause *= 2
        return max((mark for mark in (wanted, *self.marks) if mark.is_reached_by(found)), key=lambda mark: mark.seconds)

    async def _look(self, session: calls.Session) -> WalPosition:
        """How far the replica is. Raises NotThere if it is none of this primary's."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                found = await calls.get_wal_position(session)
        except TimeoutError:
            self.is_there = False
            raise
        if not found.is_standby or (self.marks and self.marks[-1].primary.system_id != found.system_id):
            raise NotThere("HEADCOUNT_READ_URL is no replica of DATABASE_URL")
        return found

    async def _ask(self, asked: Sequence[None]) -> list[Mark]:
        """Where the primary is, for all who asked."""
        at, seconds = datetime.now(UTC), time.monotonic()
        return [Mark(at, seconds, await calls.get_wal_position(self.primary))] * len(asked)

    async def _watch(self) -> None:
        while True:
            began = time.monotonic()
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    mark = await self.positions.ask(None)
                if not mark.primary.is_standby:
                    self.marks.append(mark)
            except Exception as error:  # it is missed elsewhere; what was noted is good for as long as it may be used
                log.debug("The primary does not say where it is (%s: %s)", type(error).__name__, error)
            while self.marks and self.marks[0].seconds < began - MAX_STALENESS - LOOK_SECONDS:
                self.marks.popleft()
            try:
                found = await self._look(self.database)
                reached = (mark for mark in reversed(self.marks) if mark.is_reached_by(found))
                self.reached = next(reached, self.reached)
                self.is_there, self.has_failed = True, False
            except Exception as error:
                self.is_there = False
                self.lose(error)
            await asyncio.sleep(max(0.0, began + LOOK_SECONDS - time.monotonic()))


class ReplicaSession:
    """The statements of one request: from the replica if that is fresh enough, else from the primary.

    `note` is told the instant up to which the answer has everything.
    """

    def __init__(
        self, replica: Replica, primary: Client, max_staleness: float, note: Callable[[datetime], None]
    ) -> None:
        self.replica = replica
        self.primary = primary
        # How far a token reaches must not be what it was a while ago.
        self.max_staleness = 0.0 if primary.limited_to else max_staleness
        self.note = note

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        return await self._run(lambda session: session.fetch(query, *arguments))

    async def fetchrow(self, query: str, *arguments: object) -> asyncpg.Record | None:
        return await self._run(lambda session: session.fetchrow(query, *arguments))

    async def _run(self, run: Callable[[calls.Session], Awaitable[Found]]) -> Found:
        try:
            async with self.replica.session(self.max_staleness, self.primary) as (session, at):
                found = await run(session)
        except asyncpg.QueryCanceledError:
            raise  # it takes too long there, and would here
        except Exception as error:
            if problem_of(error).kind.code == "rate_limited":
                raise  # and so it would be here
            # Also what is wrong with the request: only the primary's word counts.
            if not (getattr(error, "sqlstate", None) or "").startswith(("PT", "22")):
                self.replica.lose(error)
        else:
            self.replica.metrics.note_read("replica")
            self.note(at)
            return found
        self.replica.metrics.note_read("primary")
        self.note(datetime.now(UTC))
        return await run(self.primary)
