"""What was taken in and waits for its commit: bounded, and let out before the service stops."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

from headcount.database.batching import STOPPED
from headcount.settings import Settings
from headcount.wire.problems import Problem
from headcount.wire.shares import ClientQuota

# The last part of the room is for clients that have few items there: others cannot fill it, however many they are.
LAST_PART = 1 / 8
FEW = 100


class Intake:
    """Room for so many items and bytes: more is refused (503), best before its body is read. One client has half of it
    at most (429), and all that have many together seven eighths (503).

    `what`: the items, as people call them.
    """

    def __init__(self, settings: Settings, what: str) -> None:
        self.settings = settings
        self.what = what
        self.items = 0
        self.bytes = 0
        self.requests = 0
        self.items_of = ClientQuota(max(1, settings.max_waiting_events // 2), what)
        self.bytes_of = ClientQuota(max(1, settings.max_waiting_bytes // 2), "bytes")
        self.is_stopping = False
        self.is_idle = asyncio.Event()
        self.is_idle.set()

    @asynccontextmanager
    async def lifespan(self, _app: object) -> AsyncIterator[None]:
        """Ends when all that was accepted is committed."""
        try:
            yield
        finally:
            await self.close()

    async def close(self) -> None:
        """Accepts nothing more; returns when everything that was accepted is committed, or the database is too slow."""
        if not self.is_stopping:
            self.is_stopping = True
            with suppress(TimeoutError):
                await asyncio.wait_for(self.is_idle.wait(), self.settings.statement_seconds)

    def admit(self, client: str | None) -> None:
        """Before a body is read. Raises Problem (503, 429) if there is no room for anything more."""
        self.check()
        self.items_of.check(client)
        self.bytes_of.check(client)

    def check(self, part: float = 1) -> None:
        """Raises Problem (503) if there is no room for anything more, in a part of it."""
        if self.is_stopping:
            raise Problem("unavailable", STOPPED)
        most, most_bytes = self.settings.max_waiting_events, self.settings.max_waiting_bytes
        if self.items >= part * most or self.bytes >= part * most_bytes:
            raise Problem("unavailable", f"Too many {self.what} wait for the database. Nothing was stored; try again.")

    @contextmanager
    def hold(self, items: int, size: int = 0, client: str | None = None) -> Iterator[None]:
        """While a request waits and is stored. Raises Problem (503, 429) if there is no room for anything more."""
        has_few = self.items_of.held.get(client or "", 0) + items <= FEW
        self.check(1 if has_few else 1 - LAST_PART)
        self.items_of.check(client, items)
        self.bytes_of.check(client, size)
        self._add(client, items, size)
        self.requests += 1
        self.is_idle.clear()
        try:
            yield
        finally:
            self._add(client, -items, -size)
            self.requests -= 1
            if not self.requests:
                self.is_idle.set()

    def _add(self, client: str | None, items: int, size: int) -> None:
        self.items += items
        self.bytes += size
        self.items_of.add(client, items)
        self.bytes_of.add(client, size)
