"""What goes over the stream: events, encoded once for all listeners."""

from datetime import datetime
from functools import lru_cache
from typing import Literal, NamedTuple

from headcount.wire.bodies import json_encoder
from headcount.wire.messages.counts import CountOut, DpuChangeOut, FlippedRow, ListAgainOut, SpaceChangeOut

MEDIA_TYPE = "text/event-stream"
# The id before the first batch is complete: after it, everything is sent.
BEGINNING = "0"


class Frame(NamedTuple):
    """A count as it goes out, and what of it makes it another one: everything but its instant."""

    key: tuple[object, ...]
    encoded: bytes


class LiveEvent(NamedTuple):
    """An event that is sent once and has no lasting state."""

    tick: int
    added_at: float
    encoded: bytes


def count_event(count: CountOut) -> Frame:
    key = (
        *(count.count, count.raw_count, count.since, count.capacity, count.utilization),
        *(count.dpus, count.counted, count.counted_since),
    )
    return Frame(key, b"event: count\ndata: " + json_encoder.encode(count) + b"\n\n")


@lru_cache(4_096)
def space_event(space: str, deleted: bool) -> bytes:
    return b"event: space\ndata: " + json_encoder.encode(SpaceChangeOut(space, deleted)) + b"\n\n"


def dpu_event(row: FlippedRow, space: str | None, seen_from: datetime | None = None) -> bytes:
    """`seen_from`: of before that nothing is told."""
    last_seen, at = row.last_seen, row.at
    if seen_from is not None:
        last_seen = last_seen if last_seen is not None and last_seen >= seen_from else None
        at = at and max(at, seen_from)
    change = DpuChangeOut(row.dpu, row.state, last_seen, at, space)
    return b"event: dpu\ndata: " + json_encoder.encode(change) + b"\n\n"


def list_event(reason: Literal["last_event_id", "stalled"]) -> bytes:
    return b"event: list\ndata: " + json_encoder.encode(ListAgainOut(reason)) + b"\n\n"


def batch(events: list[bytes], old: str, new: str) -> bytes:
    """A piece of stream that leads from one cursor to the next. Only its last event has the new one as its id: what is
    cut off in the middle is sent again as a whole."""
    if not events:
        return b""
    old_id, new_id = (f"id: {cursor}\n".encode() for cursor in (old, new))
    return b"".join([*(old_id + event for event in events[:-1]), new_id, events[-1]])
