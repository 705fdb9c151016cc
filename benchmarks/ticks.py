"""What a tick of the live stream costs the service when nothing has changed, however much is listened to."""

import statistics
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock, patch

import uvloop

from benchmarks.lanes import Bench, Lane, Length, Round
from headcount.database import calls
from headcount.live.feed import Live
from headcount.live.selections import Selection, Subscription
from headcount.settings import Settings
from headcount.wire.messages.counts import ChangesRow

SELECTIONS, SPACES, TICKS = 1_000, 1_000, 100
IDLE = Lane("idle live tick, 1,000 selections of 1,000 spaces", 1, "ms", "lower", is_limit=True)


def make_feed() -> Live:
    """With selections of the same spaces, none of which shares a selection."""
    live = Live(cast(Any, SimpleNamespace(settings=Settings())), cast(Any, None))
    spaces = [f"space-{number}" for number in range(SPACES)]
    for number in range(SELECTIONS):
        subscription = Subscription(under=f"site-{number}")
        selection = live.selections[subscription] = Selection(subscription)
        live._begin(selection, spaces)
        selection.is_ready = True
    return live


async def tick(live: Live) -> float:
    """Milliseconds of the median one."""
    taken = []
    idle = ChangesRow(cursor="1", is_all=False, counts=[], spaces=[], deleted=[], dpus=[])
    with patch.object(calls, "list_changes", AsyncMock(return_value=idle)):
        for _ in range(TICKS):
            began = time.perf_counter()
            await live._tick()
            taken.append(1e3 * (time.perf_counter() - began))
    return statistics.median(taken)


@contextmanager
def open_ticks(_: Length) -> Iterator[Round]:
    live = make_feed()

    def round_(_: Collection[str]) -> dict[str, float]:
        return {IDLE.name: uvloop.run(tick(live))}

    yield round_


BENCH = Bench((IDLE,), open_ticks)
