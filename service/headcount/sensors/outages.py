"""What runs in the background of every process of the service."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from headcount.background import background
from headcount.database import calls
from headcount.database.pool import Database
from headcount.wire.problems import in_words

# Between two looks at which sensors are silent. More than 5 seconds without any count as nobody having listened.
LOOK_SECONDS = 1.0
# Between two looks at which of them could not be looked at, since somebody always has them locked. They may take long.
BUSY_SECONDS = 3.0
# Between two lines in the log about a database that is away.
COMPLAIN_SECONDS = 60.0

log = logging.getLogger("headcount.jobs")


class Jobs:
    """Once a second, notes that somebody listens and turns silent sensors offline. Survives the database's being away.

    All processes do it; the database lets one at a time.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    @asynccontextmanager
    async def lifespan(self, _app: object) -> AsyncIterator[None]:
        # beside each other: waiting for a sensor that is locked does not make the service deaf
        work = [self.look(), self.wait()] if self.database.settings.jobs else []
        async with background(*work):
            yield

    async def look(self) -> None:
        # A database that is slow is not kept busy with this alone.
        await self.repeat(calls.detect_outages, lambda took: max(LOOK_SECONDS - took, took))

    async def wait(self) -> None:
        await self.repeat(calls.detect_busy_outages, lambda _took: BUSY_SECONDS)

    async def repeat(self, call: Callable[[Database], Awaitable[int | None]], pause: Callable[[float], float]) -> None:
        complained = -COMPLAIN_SECONDS
        while True:
            began = time.monotonic()
            try:
                await call(self.database)
            except Exception as error:
                if began >= complained + COMPLAIN_SECONDS:
                    complained = began
                    log.warning("Silent sensors cannot be looked for (%s)", in_words(error))
            await asyncio.sleep(pause(time.monotonic() - began))
