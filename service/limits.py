"""How much one token may ask for, in this process: token buckets over events for ingest, over requests for the rest."""

import math
import time
from collections import OrderedDict

import msgspec

from service.errors import Problem

# What may come at once after a pause, in seconds' worth of the rate.
BURST_SECONDS = 5.0
MAX_BUCKETS = 20_000


class Bucket(msgspec.Struct):
    """`level` may fall below zero: a request larger than the bucket passes when there is anything, and is paid for."""

    level: float
    at: float


class Limiter:
    """The rates are those of the settings unless the token has its own; None is no limit."""

    def __init__(self, events_per_second: int | None, requests_per_second: int | None) -> None:
        self.events_per_second = events_per_second
        self.requests_per_second = requests_per_second
        self.buckets: OrderedDict[tuple[str | None, bool], Bucket] = OrderedDict()

    def admit(self, token: str | None, events: int | None, requests: int | None, *, is_ingest: bool) -> None:
        """Before the body is read. Raises Problem (429) while nothing is left. Rates: the token's own."""
        if is_ingest:
            self._take(token, True, events or self.events_per_second, 0)
        else:
            self._take(token, False, requests or self.requests_per_second, 1)

    def charge(self, token: str | None, events: int | None, number: int) -> None:
        """Once it is known how many events a request has; one without any counts as one."""
        self._take(token, True, events or self.events_per_second, max(number, 1))

    def _take(self, token: str | None, is_ingest: bool, rate: int | None, number: int) -> None:
        if rate is None:
            return
        now = time.monotonic()
        size = max(rate * BURST_SECONDS, 1.0)
        bucket = self.buckets.get((token, is_ingest))
        if bucket is None:
            bucket = self.buckets[token, is_ingest] = Bucket(size, now)
            if len(self.buckets) > MAX_BUCKETS:
                self.buckets.popitem(last=False)
        self.buckets.move_to_end((token, is_ingest))
        bucket.level = min(size, bucket.level + (now - bucket.at) * rate)
        bucket.at = now
        if bucket.level < 1:
            what = "events" if is_ingest else "requests"
            raise Problem(
                "rate_limited",
                f"This token can send {rate:,} {what} a second. Nothing was stored; try again.",
                headers={"Retry-After": str(max(1, math.ceil((1 - bucket.level) / rate)))},
            )
        bucket.level -= number
