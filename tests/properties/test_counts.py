"""Every verdict, count and series of random worlds, through the HTTP API, against the oracle.

Between the steps of a world rollups are refreshed or lag behind, chunks are compressed, live rows are derived anew.
"""

import asyncio
import itertools
import os
from collections.abc import Callable, Coroutine
from typing import Any

import asyncpg
import httpx
import pytest
from hypothesis import HealthCheck, given, settings

from headcount.database import calls
from tests.conftest import EMPTY

from . import rollups
from .worlds import SUITE_WORLDS, Player, Script, scripts

WORLDS = int(os.environ.get("TEST_WORLDS", SUITE_WORLDS))


def in_other_thread(play: Callable[[Script], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """The property as a plain function, to be run beside the event loop on which each world is played."""
    loop = asyncio.get_running_loop()

    # The suite plays the same worlds each time; a soak plays new ones and prints how to have a failure again.
    @settings(
        max_examples=WORLDS,
        derandomize=WORLDS == SUITE_WORLDS,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(script=scripts())
    def run(script: Script) -> None:
        asyncio.run_coroutine_threadsafe(play(script), loop).result()

    return run


@pytest.mark.long
@pytest.mark.timeout(max(900, 5 * WORLDS))
async def test_it_counts_like_the_oracle(client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    numbers = itertools.count(1)
    await rollups.refresh(connection)  # of nothing: later ones begin here, and not long ago

    async def play(script: Script) -> None:
        player = Player(client, f"w{next(numbers)}", owner=connection)
        # worlds follow one another within a minute: their clocks that are ahead would be taken together
        await connection.execute("delete from core.dpu_clock")
        try:
            await player.play(script)
            player.expect("differences", [], await calls.list_differences(connection))
        finally:
            if player.world.events_from:  # it holds for the worlds that come, too
                await connection.execute(EMPTY)
                await rollups.refresh(connection)

    await asyncio.to_thread(in_other_thread(play))
