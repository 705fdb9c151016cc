"""What one client may use at once of what all share, so that no client can shut out the rest.

A client is a token, or a family of them (docs/explanation/security.md).
Without tokens (HEADCOUNT_AUTH=off) nobody can be told
apart: what holds for all together holds.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from weakref import WeakValueDictionary

from headcount.wire.problems import Problem

# Slow reads of one client at a time: historical counts as they were known, series, raw events, uptime, counts of many
# spaces, those that a dry run compares.
SLOW_OF_A_CLIENT = 2
# Connections of the pool that are left to what the service does for all: events, current counts.
KEPT = 2
COME_BACK = {"Retry-After": "1"}


def too_much(detail: str) -> Problem:
    """429: this client has to wait for itself."""
    return Problem("rate_limited", f"{detail} Nothing was stored; try again.", headers=COME_BACK)


class ClientQuota:
    """Of something that is counted, what each client has, and how much that can be at most."""

    def __init__(self, most: int, what: str) -> None:
        self.most = most
        self.what = what
        self.held: dict[str, int] = {}

    def check(self, client: str | None, number: int = 1) -> None:
        """Raises Problem (429) where it would be more than the client's part; who has nothing may have anything."""
        if client is not None and (held := self.held.get(client, 0)) and held + number > self.most:
            raise too_much(f"Too many {self.what} of this token wait or are under way.")

    def get(self, client: str | None) -> int:
        """What a client has."""
        return self.held.get(client, 0) if client is not None else 0

    @contextmanager
    def hold(self, client: str | None, number: int = 1) -> Iterator[None]:
        """Raises as check."""
        self.check(client, number)
        self.add(client, number)
        try:
            yield
        finally:
            self.add(client, -number)

    def add(self, client: str | None, number: int) -> None:
        if client is None:
            return
        held = self.held.get(client, 0) + number
        if held:
            self.held[client] = held
        else:
            self.held.pop(client, None)


class Places:
    """For what takes much memory as long as it lasts: so many places for all, and so many for each client.

    Nobody waits for one. They can be taken by any thread.
    """

    def __init__(self, most: int, most_of_a_client: int, what: str) -> None:
        self.most = most
        self.what = what
        self.held = 0
        self.of_client = ClientQuota(most_of_a_client, what)
        self.lock = threading.Lock()

    @contextmanager
    def one(self, client: str | None) -> Iterator["Place"]:
        """For one call, which may take it: what it took is free again when it has ended."""
        place = Place(self, client)
        try:
            yield place
        finally:
            place.leave()


class Place:
    def __init__(self, places: Places, client: str | None) -> None:
        self.places = places
        self.client = client
        self.is_taken = False
        self.is_over = False

    def take(self) -> None:
        """Raises Problem: 429 where the client has its part, 503 where nothing is free."""
        places = self.places
        with places.lock:
            # a thread goes on for a while when whoever asked has gone away
            if self.is_taken or self.is_over:
                return
            places.of_client.check(self.client)
            if places.held >= places.most:
                raise Problem("unavailable", f"Too many {places.what} are under way. Nothing was stored; try again.")
            places.of_client.add(self.client, 1)
            places.held += 1
            self.is_taken = True

    def leave(self) -> None:
        places = self.places
        with places.lock:
            self.is_over = True
            if self.is_taken:
                self.is_taken = False
                places.of_client.add(self.client, -1)
                places.held -= 1


class OwnTurns:
    """Of something that is done so many times at once, what each client may have of it; the others of it wait for that.

    Taken before the turns of all, so that none of these waits for a client's own.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        # Each is there for as long as its client uses it or waits for it.
        self.clients: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def of(self, client: str | None) -> asyncio.Semaphore:
        own = asyncio.Semaphore(self.most)
        return own if client is None else self.clients.setdefault(client, own)


class Turns:
    """Those of one client."""

    def __init__(self, together: int) -> None:
        self.any = asyncio.Semaphore(together)
        self.slow = asyncio.Semaphore(min(SLOW_OF_A_CLIENT, together))
        self.waiting = 0
        self.users = 0


class Shares:
    """Turns at the pool of connections.

    A client has at most half of them at a time, and two for slow reads; slow reads of all have at most half;
    two are left to what the service does for all. Of those who wait at most a quarter are one client's.
    """

    def __init__(self, connections: int, waiting: int, seconds: float) -> None:
        self.half = max(1, connections // 2)
        self.waiting_of_a_client = max(1, waiting // 4)
        self.max_waiting = waiting
        self.seconds = seconds
        self.all = asyncio.Semaphore(connections - KEPT if connections > 2 * KEPT else connections)
        self.slow = asyncio.Semaphore(self.half)
        self.waiting = 0
        self.clients: dict[str, Turns] = {}

    @asynccontextmanager
    async def turn(self, client: str | None, *, is_slow: bool) -> AsyncIterator[None]:
        """Raises Problem: 429 where the client's own requests are in its way, 503 where those of all are."""
        turns = self._turns(client)
        gates = [*([turns.slow] if is_slow else []), turns.any] if turns else []
        common = [*([self.slow] if is_slow else []), self.all]
        held: list[asyncio.Semaphore] = []
        try:
            if any(gate.locked() for gate in (*gates, *common)):
                await self._wait(turns, gates, common, held)
            else:
                for gate in (*gates, *common):
                    await gate.acquire()  # at once
                    held.append(gate)
            yield
        finally:
            for gate in held:
                gate.release()
            if turns and client is not None:
                turns.users -= 1
                if not turns.users:
                    del self.clients[client]

    def _turns(self, client: str | None) -> Turns | None:
        if client is None:
            return None
        turns = self.clients.get(client)
        if turns is None:
            turns = self.clients[client] = Turns(self.half)
        turns.users += 1
        return turns

    async def _wait(
        self,
        turns: Turns | None,
        gates: list[asyncio.Semaphore],
        common: list[asyncio.Semaphore],
        held: list[asyncio.Semaphore],
    ) -> None:
        if turns and turns.waiting >= self.waiting_of_a_client:
            raise too_much("Too many requests of this token wait for the database.")
        if turns:
            turns.waiting += 1
        try:
            async with asyncio.timeout(self.seconds):
                for gate in gates:
                    await gate.acquire()
                    held.append(gate)
                if self.waiting >= self.max_waiting:
                    raise Problem(
                        "unavailable", "Too many requests wait for the database. Nothing was stored; try again."
                    )
                self.waiting += 1
                try:
                    for gate in common:
                        await gate.acquire()
                        held.append(gate)
                finally:
                    self.waiting -= 1
        except TimeoutError:
            if len(held) < len(gates):
                raise too_much("Too many requests of this token are under way.") from None
            raise Problem("unavailable", "The database has too much to do. Nothing was stored; try again.") from None
        finally:
            if turns:
                turns.waiting -= 1
