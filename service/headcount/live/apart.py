"""Counts that take long are read beside the ticks, so that only those who follow them wait for them.

A tick gives up a group of counts that takes long, and leaves its spaces to a lane here that asks for each by itself.
A space that takes long by itself is remembered as costly for a while. A second lane asks for those, from then on at
once. Each lane asks for one space at a time, and clients take turns.

While a count is awaited here, the ticks leave it alone: of two reads the later one is always the newer one. A stream
that has the space keeps the event id from before the change until it has told the count. Who comes back with that id
misses nothing.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, KeysView
from typing import NamedTuple

from headcount.database import calls
from headcount.database.batching import Costly
from headcount.database.current_counts import COSTLY_FOR_SECONDS, GROUP_SECONDS, LONG_SECONDS
from headcount.database.pool import Database
from headcount.live.events import BEGINNING
from headcount.wire.messages.counts import CountOut
from headcount.wire.problems import in_words

# After a count could not be read.
PAUSE_SECONDS = 1.0

log = logging.getLogger("headcount.live")


class Position(NamedTuple):
    """Where the feed stands: in which tick, at which cursor."""

    tick: int
    cursor: str


# Of a count that nobody was ever told.
NOWHERE = Position(-1, BEGINNING)


class Awaited:
    """A count. `since`: where the feed stood before the changes that it is to tell."""

    def __init__(self, space: str, since: Position) -> None:
        self.space = space
        self.since = since
        self.is_costly = False
        # Where the feed stood when it was asked for, and whether it changed after that.
        self.asked_at: Position | None = None
        self.is_outdated = False
        # Whether streams have begun without it, so that it is told even where it is the same as before.
        self.is_owed = False
        self.found: list[CountOut] = []


class Lane:
    """Counts that wait. Of each client in the order of arrival; the client whose turn is next first."""

    def __init__(self) -> None:
        self.waiting: set[Awaited] = set()
        # Also with some that do not wait any more.
        self.queues: dict[str | None, dict[Awaited, None]] = {}
        self.has_some = asyncio.Event()

    def put(self, awaited: Awaited, clients: Iterable[str | None]) -> None:
        self.waiting.add(awaited)
        for client in clients:
            self.queues.setdefault(client, {})[awaited] = None
        self.has_some.set()

    async def take(self) -> Awaited:
        while True:
            while self.queues:
                if awaited := self._take_turn(next(iter(self.queues))):
                    return awaited
            self.has_some.clear()
            await self.has_some.wait()

    def _take_turn(self, client: str | None) -> Awaited | None:
        queue = self.queues.pop(client)
        found = None
        while queue and found is None:
            del queue[awaited := next(iter(queue))]
            found = awaited if awaited in self.waiting else None
        if queue:
            self.queues[client] = queue  # behind the others
        if found:
            self.waiting.remove(found)
        return found


class Apart:
    """The counts that are read beside the ticks. `clients_of`: whose turns a space can take. `get_position`: where the
    feed stands."""

    def __init__(
        self,
        database: Database,
        clients_of: Callable[[str], Iterable[str | None]],
        get_position: Callable[[], Position],
    ) -> None:
        self.database = database
        self.clients_of = clients_of
        self.get_position = get_position
        self.costly = Costly(COSTLY_FOR_SECONDS)  # spaces
        self.awaited: dict[str, Awaited] = {}
        self.fresh: list[Awaited] = []  # to be put into a lane
        self.read: list[Awaited] = []  # since the latest tick
        self.unknown_lane = Lane()
        self.costly_lane = Lane()

    def __contains__(self, space: str) -> bool:
        return space in self.awaited

    def takes(self, space: str) -> bool:
        """Whether a tick has to leave this one alone."""
        return space in self.awaited or self.costly.has_one_of((space,))

    def is_costly(self, space: str) -> bool:
        """Whether it is awaited, and for long."""
        return space in self.awaited and self.awaited[space].is_costly

    def await_counts(self, spaces: Iterable[str], since: Position) -> None:
        """Of spaces that may have changed since then. `start` has to follow."""
        for space in spaces:
            awaited = self.awaited.get(space)
            if awaited is None:
                self.awaited[space] = Awaited(space, since)
                self.fresh.append(self.awaited[space])
            elif awaited.asked_at is not None:
                awaited.is_outdated = True

    def start(self) -> None:
        """Has what is new wait in its lane, as soon as it is known who follows it."""
        fresh, self.fresh = self.fresh, []
        for awaited in fresh:
            if self._is_wanted(awaited):
                self._put(awaited)

    def drop(self, space: str) -> None:
        """It is deleted, or nobody follows it any more."""
        if (awaited := self.awaited.pop(space, None)) is not None:
            for lane in (self.unknown_lane, self.costly_lane):
                lane.waiting.discard(awaited)

    def owe(self, spaces: KeysView[str], clients: Collection[str | None]) -> None:
        """Streams of these clients begin without those that are awaited."""
        if not self.awaited:
            return
        for space in self.awaited.keys() & spaces:
            awaited = self.awaited[space]
            awaited.is_owed = True
            for lane in (self.unknown_lane, self.costly_lane):
                if awaited in lane.waiting:
                    lane.put(awaited, clients)

    def get_since(self, spaces: KeysView[str]) -> Position | None:
        """Where the feed stood before the first change of these that is not told yet."""
        if not self.awaited:
            return None
        return min((self.awaited[space].since for space in self.awaited.keys() & spaces), default=None)

    def collect(self) -> tuple[list[CountOut], set[str]]:
        """What was read since the latest tick, and which of it streams have begun without. What changed again stays.
        `start` has to follow."""
        read, self.read = self.read, []
        counts: list[CountOut] = []
        owed: set[str] = set()
        for awaited in read:
            if not self._is_wanted(awaited):
                continue
            counts += awaited.found
            if awaited.is_owed:
                owed.update(count.space for count in awaited.found)
            if awaited.is_outdated and awaited.asked_at is not None:
                awaited.since, awaited.asked_at, awaited.is_owed = awaited.asked_at, None, False
                self.fresh.append(awaited)
            else:
                del self.awaited[awaited.space]
        return counts, owed

    async def count_group(self, spaces: list[str]) -> list[CountOut] | None:
        """The counts of these, without those that were deleted since; None where that takes long."""
        found, _ = await self._count(spaces, GROUP_SECONDS)
        return found

    async def ask_unknown(self) -> None:
        """For ever, one after the other: those that may be costly or not."""
        while True:
            await self._ask(await self.unknown_lane.take(), LONG_SECONDS)

    async def ask_costly(self) -> None:
        """For ever, one after the other: those that are, as slow reads."""
        while True:
            await self._ask(await self.costly_lane.take(), None)

    def _is_wanted(self, awaited: Awaited) -> bool:
        return self.awaited.get(awaited.space) is awaited

    def _put(self, awaited: Awaited) -> None:
        awaited.is_costly = awaited.is_costly or self.costly.has_one_of((awaited.space,))
        lane = self.costly_lane if awaited.is_costly else self.unknown_lane
        lane.put(awaited, set(self.clients_of(awaited.space)) or (None,))

    async def _ask(self, awaited: Awaited, seconds: float | None) -> None:
        awaited.asked_at, awaited.is_outdated = self.get_position(), False
        found: list[CountOut] | None = None
        try:
            if seconds is None:
                async with self.database.shares.turn(None, is_slow=True):
                    found, took = await self._count([awaited.space], None)
            else:
                found, took = await self._count([awaited.space], seconds)
        except Exception as error:
            log.warning("The count of %s cannot be read (%s)", awaited.space, in_words(error))
            pause = PAUSE_SECONDS
        else:
            pause = took if seconds is None else 0.0  # the database is not kept busy with these alone
            if found is None or took > LONG_SECONDS:
                self.costly.note((awaited.space,))
        if found is not None:
            awaited.found = found
            self.read.append(awaited)
        elif self._is_wanted(awaited):
            awaited.asked_at = None
            self._put(awaited)
        await asyncio.sleep(pause)

    async def _count(self, spaces: list[str], seconds: float | None) -> tuple[list[CountOut] | None, float]:
        """Their counts, without those of spaces that were deleted since, or None where that takes longer; and how long
        it took."""
        async with self.database.connection() as connection:
            began = time.monotonic()
            timeout = asyncio.timeout(seconds)
            found: list[CountOut] | None = None
            try:
                async with timeout:
                    found = await calls.list_counts(connection, spaces, known_only=True)
            except TimeoutError:
                if not timeout.expired():
                    raise
            return found, time.monotonic() - began
