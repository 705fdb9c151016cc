"""Which of many items can be read at once, found with few attempts."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from headcount.wire.threads import breathe

# How many items are read at once: at first, and of those among which there is a bad one.
STEPS = (512, 64, 8)
# After so many failures runs are not made smaller: where most are bad that would save nothing.
MAX_FAILED = 250

Found = TypeVar("Found")


def find_runs(
    number: int, attempt: Callable[[int, int], Found | None], steps: Sequence[int] = STEPS
) -> Iterator[tuple[int, int, Found | None]]:
    """Where each run of items begins and ends, and what `attempt` made of it; None: it failed, and the run is not tried
    in smaller ones. One bad item spoils one run of each size, so a body with it costs little more than one without.
    """
    failed = 0
    waiting = [(0, number, 0)] if number else []
    while waiting:
        begin, end, level = waiting.pop()
        stop = min(begin + steps[level], end)
        if stop < end:
            waiting.append((stop, end, level))
        breathe(0)
        found = attempt(begin, stop)
        if found is None:
            failed += 1
        if found is not None or level + 1 == len(steps) or failed > MAX_FAILED:
            yield begin, stop, found
        else:
            waiting.append((begin, stop, level + 1))
