"""When a sensor was offline, slowly and in plain Python: what core.outage is held against.

Written from the definition alone (docs/sensors.md): every question looks at all signs of life and at all time in which
somebody listened.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple


class Period(NamedTuple):
    start: datetime
    end: datetime


class Outage(NamedTuple):
    """Offline in [start, end); `end` None: still."""

    start: datetime
    end: datetime | None


def silence_reaches(threshold: timedelta, heard: datetime, listening: Sequence[Period]) -> datetime | None:
    """The first instant after `heard` at which somebody has listened for so long in vain; None: not yet."""
    listened = timedelta(0)
    for period in sorted(listening):
        start = max(period.start, heard)
        if start < period.end:
            if listened + (period.end - start) >= threshold:
                return start + (threshold - listened)
            listened += period.end - start
    return None


def find_outages(signs: Sequence[datetime], listening: Sequence[Period], threshold: timedelta) -> list[Outage]:
    """Of one sensor, in order. Offline is who was silent for the threshold, from then on until its next sign."""
    found = []
    for heard, back in pairwise([*sorted(set(signs)), None]):
        assert heard is not None
        start = silence_reaches(threshold, heard, listening)
        if start is not None and (back is None or start < back):
            found.append(Outage(start, back))
    return found
