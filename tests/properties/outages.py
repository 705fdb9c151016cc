"""When a sensor was offline, slowly and in plain Python: what core.outage is held against.

Written from the definition alone (docs/explanation/sensors.md): every question looks at all signs of life and at all
time in which somebody listened and silence counted.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple


class Period(NamedTuple):
    start: datetime
    end: datetime


class Armed(NamedTuple):
    """When silence of one sensor counted: [start, end); `end` None: it still does."""

    start: datetime
    end: datetime | None


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


def outage_between(
    heard: datetime, back: datetime | None, armed: Armed, listening: Sequence[Period], threshold: timedelta
) -> list[Outage]:
    """The outage between two signs, if there is one: silence counts from when the sensor was armed."""
    start = silence_reaches(threshold, max(heard, armed.start), listening)
    end = min((end for end in (back, armed.end) if end is not None), default=None)
    return [Outage(start, end)] if start is not None and (end is None or start < end) else []


def find_outages(
    signs: Iterable[datetime], armed: Sequence[Armed], listening: Sequence[Period], threshold: timedelta
) -> list[Outage]:
    """Of one sensor, in order. Offline is who was silent for the threshold, from then on until its next sign."""
    return [
        outage
        for heard, back in pairwise([*sorted(set(signs)), None])
        if heard is not None
        for period in armed
        for outage in outage_between(heard, back, period, listening, threshold)
    ]


class Stretch(NamedTuple):
    """A silence that was found to be an outage, and what held then."""

    heard: datetime
    armed: datetime
    threshold: timedelta
    outage: Outage


class Believed:
    """Outages of one sensor, as they become known one after the other: for thresholds that change.

    A silence is judged when its end becomes known, or once it has lasted for the threshold of that time. From then on
    it is what it is: later signs divide an outage by its own threshold.
    """

    def __init__(self) -> None:
        self.last: datetime | None = None
        self.stretches: list[Stretch] = []

    @property
    def outages(self) -> list[Outage]:
        return sorted(stretch.outage for stretch in self.stretches)

    def hear(self, sign: datetime, armed: datetime | None, listening: Sequence[Period], threshold: timedelta) -> None:
        if not self._divide(sign, listening) and self.last is not None and sign > self.last:
            self._judge(self.last, sign, armed, listening, threshold)
        self.last = sign if self.last is None else max(self.last, sign)

    def look(self, armed: datetime | None, listening: Sequence[Period], threshold: timedelta) -> None:
        """Whether it is offline by now."""
        if self.last is not None and all(stretch.outage.end for stretch in self.stretches):
            self._judge(self.last, None, armed, listening, threshold)

    def disarm(self, at: datetime, armed: datetime, listening: Sequence[Period], threshold: timedelta) -> None:
        if self.last is not None and not self._divide(at, listening):
            self._judge(self.last, at, armed, listening, threshold)

    def _divide(self, sign: datetime, listening: Sequence[Period]) -> bool:
        for stretch in self.stretches:
            heard, armed, threshold, (_, end) = stretch
            if max(heard, armed) < sign and (end is None or sign < end):
                self.stretches.remove(stretch)
                self._judge(heard, sign, armed, listening, threshold)
                self._judge(sign, end, armed, listening, threshold)
                return True
        return False

    def _judge(
        self,
        heard: datetime,
        back: datetime | None,
        armed: datetime | None,
        listening: Sequence[Period],
        threshold: timedelta,
    ) -> None:
        if armed is not None:
            for outage in outage_between(heard, back, Armed(armed, None), listening, threshold):
                self.stretches.append(Stretch(heard, armed, threshold, outage))
