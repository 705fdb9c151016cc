"""Changes of the floor plan: one at a time, and then a rest, since nobody stores events while one is made.

Dry runs keep nobody from storing events, but have turns and rests as well: one client cannot make many at once.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from headcount.wire.shares import Shares

# Changes that may wait for their turn, a quarter of them of one client, and for how long.
MAX_WAITING = 100
WAIT_SECONDS = 15.0
# After a change there is a rest of so many times as long as it took: longer for a token that is limited to a space.
REST = 0.5
REST_OF_LIMITED = 4.0
LONGEST_REST_SECONDS = 15.0
# But after each one a moment passes, a quarter of what it took or so long: those whose events waited get in before the
# next.
MOMENT = 0.25
MOMENT_SECONDS = 0.3
# So much rest may be owed before anybody waits for it: what is set up by hand, or in a few parts, goes on at once.
OWED_SECONDS = 4.0


class Plans:
    """Turns at changing the floor plan, dry runs too.

    There is one for the whole process, and clients have it one after the other, so that no changes queue up in the
    database, where all who store events would wait behind them.
    """

    def __init__(self) -> None:
        self.turns = Shares(1, MAX_WAITING, WAIT_SECONDS)
        # By the loop's clock: when there was rest enough for all that was done, and when the latest moment is over.
        self.rested_at = 0.0
        self.not_before = 0.0

    @asynccontextmanager
    async def turn(self, client: str | None) -> AsyncIterator[None]:
        """Begins when there was rest enough. Raises Problem: 429 where the client's own changes are in its way, 503
        where those of all are."""
        async with self.turns.turn(client, is_slow=False):
            begins_at = max(self.not_before, self.rested_at - OWED_SECONDS)
            await asyncio.sleep(begins_at - asyncio.get_running_loop().time())
            yield

    @contextmanager
    def work(self, *, is_limited: bool) -> Iterator[None]:
        """While the floor plan is held or waited for. In a turn."""
        clock = asyncio.get_running_loop().time
        begun = clock()
        try:
            yield
        finally:
            self.note(clock() - begun, is_limited=is_limited)

    def note(self, seconds: float, *, is_limited: bool) -> None:
        """That it was held for so long until now."""
        rest = min(seconds * (REST_OF_LIMITED if is_limited else REST), LONGEST_REST_SECONDS)
        now = asyncio.get_running_loop().time()
        self.rested_at = max(self.rested_at, now) + rest
        self.not_before = now + min(MOMENT * seconds, MOMENT_SECONDS)
