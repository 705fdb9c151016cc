"""Events to send: every one of them new, from DPUs that are registered."""

import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg

from benchmarks.client import get, post

# Enough for calls of 1,000 at one time to be about different DPUs, as they would be.
DPUS = 10_000
DOORS = 10
SITE = """
select api.put_space('hall', '{"reset_at": "00:00", "time_zone": "UTC"}');
select core.register_dpus(array(select 'dpu-' || n from generate_series(0, 9999) n));
select api.put_doorway('door-' || n, '{"sides": ["hall", null]}') from generate_series(0, 9) n;
select api.record_placement('dpu-' || n, 'door-' || n, 'hall', '2000-01-01') from generate_series(0, 9) n;
select api.record_events(
  dpus => array_agg('dpu-' || n), times => array_agg(t),
  directions => array_agg(1), sequences => array_agg(1::smallint))
from (select date_trunc('day', now(), 'UTC') as at) midnight
cross join generate_series(midnight.at - interval '1 day', midnight.at - interval '1 minute', interval '1 minute') t
cross join generate_series(0, 9) n;
call core.run_upkeep();
vacuum analyze;
"""

Columns = tuple[list[str], list[datetime], list[int], list[int]]


def make_site(url: str) -> None:
    """10,000 DPUs; ten of them above the doors of the space hall, with an event a minute all yesterday, rolled up.

    It does so for the release that goals are compared with (`today.py`), too.
    """
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in filter(str.strip, SITE.split(";\n")):
            connection.execute(statement)


class Traffic:
    """Never gives the same event twice. Each has the time at which it is made, or one before.

    dpus: of how many DPUs a call has events; of fewer than there are, the next call has those of the next ones, as if
    it came from another gateway.
    """

    def __init__(self, dpus: int = DPUS, lag: timedelta = timedelta()) -> None:
        self.dpus = dpus
        self.lag = lag
        self.number = itertools.count()
        self.latest = datetime.now(UTC)

    def events(self, count: int) -> Iterator[tuple[str, datetime, int]]:
        self.latest = max(self.latest, datetime.now(UTC))
        for number in itertools.islice(self.number, count):
            self.latest += timedelta(microseconds=1)
            dpu = number // count * self.dpus + number % self.dpus
            yield f"dpu-{dpu % DPUS}", self.latest - self.lag, 1 - number % 2 * 2

    def columns(self, count: int) -> Columns:
        """As api.record_events takes them."""
        dpus, times, directions = zip(*self.events(count), strict=True)
        return list(dpus), list(times), list(directions), [0] * count

    def request(self, count: int) -> bytes:
        """A POST /v1/events."""
        events = [
            {"dpu": dpu, "timestamp": f"{time:%Y-%m-%dT%H:%M:%S.%f}Z", "direction": direction}
            for dpu, time, direction in self.events(count)
        ]
        return post("/v1/events", json.dumps({"events": events}, separators=(",", ":")).encode())

    def count_request(self) -> bytes:
        """The count of the hall at the end of yesterday: ten doors and a day of events."""
        at = datetime.now(UTC).replace(hour=0, minute=0, second=0) - timedelta(seconds=30)
        return get(f"/v1/spaces/hall/count?at={at:%Y-%m-%dT%H:%M:%S}Z")
