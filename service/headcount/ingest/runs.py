"""Which of many items can be read at once, found with few attempts."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from headcount.wire.threads import breathe

# How many items are read at once: at first, and of those among which there is a bad one.
STEPS = (512, 64, 8)

Found = TypeVar("Found")


def find_runs(
    number: int, attempt: Callable[[int, int], Found | None], steps: Sequence[int] = (), begin: int = 0
) -> Iterator[tuple[int, int, Found | None]]:
    """Where each run of items begins and ends, and what `attempt` made of it; None: it failed, and the run is one of
    the smallest. One bad item spoils one run of each size, so that a body with it costs little more than one without.
    """
    step, *smaller = steps or STEPS
    for start in range(begin, number, step):
        end = min(start + step, number)
        breathe(0)
        found = attempt(start, end)
        if found is not None or not smaller:
            yield start, end, found
        else:
            yield from find_runs(end, attempt, smaller, start)
