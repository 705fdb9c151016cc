"""How much a token and those it makes may ask for, in this process: buckets of events for ingest, of requests else."""

import math
import time
from collections import OrderedDict
from collections.abc import Sequence

import msgspec

from headcount.wire.access import Share
from headcount.wire.problems import Problem

# What may come at once after a pause, in seconds' worth of the rate.
BURST_SECONDS = 5.0
MAX_BUCKETS = 20_000


class Bucket(msgspec.Struct):
    """`level` may fall below zero: a request larger than the bucket passes when there is anything, and is paid for."""

    level: float
    at: float


class Limiter:
    """Counts requests and events against the token that sends them and against those that made it.

    So a family has no more together than its first token. That one has the rates of the settings unless it has its
    own; the others have none but their own. None is no limit.
    """

    def __init__(self, events_per_second: int | None, requests_per_second: int | None) -> None:
        self.events_per_second = events_per_second
        self.requests_per_second = requests_per_second
        self.buckets: OrderedDict[tuple[str | None, bool], Bucket] = OrderedDict()

    def admit(self, shares: Sequence[Share], *, is_ingest: bool) -> None:
        """Before the body is read. Raises Problem (429) while nothing is left. `shares`: the first token last."""
        self._take(shares, is_ingest, 0 if is_ingest else 1)

    def charge(self, shares: Sequence[Share], number: int) -> None:
        """Once it is known how many events a request has; one without any counts as one."""
        self._take(shares, True, max(number, 1))

    def _take(self, shares: Sequence[Share], is_ingest: bool, number: int) -> None:
        default = self.events_per_second if is_ingest else self.requests_per_second
        if default is None and len(shares) == 1:
            only = shares[0].events_per_second if is_ingest else shares[0].requests_per_second
            if only is None:
                return
        buckets = []
        for share in shares:
            rate = share.events_per_second if is_ingest else share.requests_per_second
            if share is shares[-1]:
                rate = rate or default
            if rate is not None:
                buckets.append(self._filled(share.token, is_ingest, rate))
        for bucket in buckets:
            bucket.level -= number

    def _filled(self, token: str | None, is_ingest: bool, rate: int) -> Bucket:
        """A bucket as it is by now. Raises Problem (429) if nothing is left in it."""
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
        return bucket
