"""What runs in the background for notices: sending what waits, and looking for spaces that are over capacity.

Deliveries are claimed with a lease, sent, and finished, each in a transaction of its own. So nothing is lost: who dies
in between leaves a lease that runs out, and the notice is sent again with the same id.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

from headcount.background import background
from headcount.database import calls
from headcount.database.pool import CachedLook, Database
from headcount.logs import LogThrottle
from headcount.metrics import Metrics
from headcount.notices.channels import Channels, Outcome
from headcount.wire.messages.notices import ClaimRow
from headcount.wire.problems import in_words

TICK_SECONDS = 0.5
DETECT_SECONDS = 1.0
# Between two claims while there is something to send.
PAUSE_SECONDS = 0.02
# Tries that are under way at once: in this process; and in all of one channel, of the channels of one family of limited
# tokens, and of all that are failing. So slow receivers leave places to the others.
MAX_TOGETHER = 100
A_CHANNEL = 4
A_FAMILY = MAX_TOGETHER // 4
FAILING = MAX_TOGETHER // 2
# Well over a try and the attempts to say what came of it.
LEASE_SECONDS = 30
FINISH_SECONDS = 15.0
# After the service was told to stop.
GRACE_SECONDS = 3.0

log = logging.getLogger("headcount.notices")


class Notices:
    """The sender. Does nothing by itself where HEADCOUNT_SEND_NOTICES is off."""

    def __init__(self, database: Database, metrics: Metrics) -> None:
        self.database = database
        self.metrics = metrics
        self.channels = Channels(database.settings)
        self.running: set[asyncio.Task[None]] = set()
        self.hurry = asyncio.Event()
        self.seldom = LogThrottle(60.0)
        self.state = CachedLook(database, "the deliveries", lambda: calls.get_delivery_state(database))

    @asynccontextmanager
    async def lifespan(self, _app: object) -> AsyncIterator[None]:
        self.channels.open()
        work = [self._send_all(), self._detect_all()] if self.database.settings.send_notices else []
        try:
            async with background(*work):
                yield
        finally:
            # those that are cut off come again when their leases run out
            if self.running:
                await asyncio.wait(self.running, timeout=GRACE_SECONDS)
            for task in self.running:
                task.cancel()
            await asyncio.gather(*self.running, return_exceptions=True)
            await self.channels.close()

    def wake(self) -> None:
        """There may be something to send: do not wait for the next tick."""
        self.hurry.set()

    async def try_once(self, claim: ClaimRow) -> None:
        """Sends a claimed delivery, and says what came of it. Raises what keeps it from saying so."""
        at, began = datetime.now(UTC), time.monotonic()
        outcome = await self.channels.send(claim)
        state = await self._finish(claim, at, round((time.monotonic() - began) * 1000), outcome)
        told = {"delivered": "delivered", "failed": "failed"}.get(state or "", "delayed")
        self.metrics.note_delivery(claim.channel_kind, "delivered" if outcome.is_delivered else told)
        if not outcome.is_delivered:
            log.info("Notice %s by channel %s: %s, %s", claim.notice, claim.channel, told, outcome.error)

    async def _finish(self, claim: ClaimRow, at: datetime, duration_ms: int, outcome: Outcome) -> str | None:
        """As long as the lease lasts, also while the database is away: what was sent should not be sent again."""
        deadline = time.monotonic() + FINISH_SECONDS
        while True:
            try:
                return await calls.finish_delivery(
                    self.database,
                    claim.delivery,
                    claim.claim,
                    outcome.is_delivered,
                    at,
                    duration_ms,
                    outcome.status,
                    outcome.answer,
                    outcome.error,
                )
            except Exception:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(1)

    async def _send_all(self) -> None:
        while True:
            self.hurry.clear()
            try:
                if room := MAX_TOGETHER - len(self.running):
                    bounds = LEASE_SECONDS, A_CHANNEL, A_FAMILY, FAILING
                    for claim in await calls.claim_deliveries(self.database, room, *bounds):
                        task = asyncio.create_task(self._send(claim))
                        self.running.add(task)
                        task.add_done_callback(self.running.discard)
            except Exception as error:
                self._complain("claim deliveries", error)
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self.hurry.wait()
            await asyncio.sleep(PAUSE_SECONDS)

    async def _send(self, claim: ClaimRow) -> None:
        try:
            await self.try_once(claim)
        except Exception as error:
            self._complain(f"note what came of delivery {claim.delivery}", error)
        # perhaps another one waited for it
        self.hurry.set()

    async def _detect_all(self) -> None:
        while True:
            try:
                if await calls.detect_over_capacity(self.database):
                    self.hurry.set()
            except Exception as error:
                self._complain("look for spaces over capacity", error)
            await asyncio.sleep(DETECT_SECONDS)

    def _complain(self, what: str, error: Exception) -> None:
        if self.seldom.admit(f"{what.split()[0]} {type(error).__name__}") is not None:
            log.warning("Cannot %s (%s); trying again", what, in_words(error))
