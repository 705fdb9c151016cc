"""Very many spaces: what is asked of all of them takes as long as they are many, and no longer."""

import threading
import time

import asyncpg
import pytest

from headcount.database import calls
from headcount.wire import threads

pytestmark = [pytest.mark.measured, pytest.mark.slow]

FEW, TIMES = 2_000, 8
NOW = "select * from api.list_counts()"
EARLIER = "select * from api.list_counts(at => now() - interval '1 hour')"


async def add_spaces(connection: asyncpg.Connection, first: int, last: int) -> None:
    """As polls make them."""
    await connection.execute(
        "select core.register_spaces(array(select 'space-' || n from generate_series($1::integer, $2) n))", first, last
    )
    await connection.execute("analyze core.space, core.live_space")


async def spend(connection: asyncpg.Connection, query: str, most: float = 0.0) -> float:
    """Seconds of CPU, or nearly: the fastest of several. Of more while it is not below `most`: others are at work."""
    taken: list[float] = []
    while len(taken) < 3 or (len(taken) < 20 and min(taken) >= most > 0):
        begun = time.perf_counter()
        await connection.fetch(query)
        taken.append(time.perf_counter() - begun)
    return min(taken)


@pytest.mark.parametrize("query", [NOW, EARLIER])
async def test_counts_of_all_spaces_take_as_long_as_there_are_spaces(
    connection: asyncpg.Connection, query: str
) -> None:
    await connection.execute("set jit = off")  # as the service has it
    await add_spaces(connection, 1, FEW)
    few = await spend(connection, query)
    await add_spaces(connection, FEW + 1, TIMES * FEW)
    most = 3 * TIMES * few
    many = await spend(connection, query, most)
    assert len(await connection.fetch(query)) == TIMES * FEW
    assert many < most  # each beside each would be 64 times as much


async def test_counts_of_many_spaces_are_converted_beside_the_event_loop(
    connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def noting(number: int) -> None:
        if not number:
            seen.append(threading.current_thread())
        threads.breathe(number)

    monkeypatch.setattr("headcount.database.declaring.breathe", noting)
    await add_spaces(connection, 1, 1_001)
    assert len(await calls.list_counts(connection)) == 1_001
    assert len(seen) == 1
    assert threading.main_thread() not in seen
    assert len(await calls.list_counts(connection, ["space-1"])) == 1
    assert len(seen) == 1
