"""Counts now and at instants, series, the live stream."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct, field

from headcount.wire.instants import Instant
from headcount.wire.messages.base import Format, Id, Interval, Moment, Staleness, Text, about


class DpusOut(Struct, frozen=True):
    """How complete a count is."""

    placed: Annotated[int, about("How many DPUs are placed at the outer doorways of the space.", 2)]
    online: Annotated[int, about("How many of them are online.", 2)]


class CountOut(Struct, frozen=True):
    """How many people are, or were, in a space."""

    space: Annotated[str, about("Id of the space.", "cafe")]
    at: Annotated[Moment, about("The instant of this count.", "2026-03-02T12:00:00Z")]
    count: Annotated[int, about("How many people are inside: `raw_count`, but never below 0.", 2)]
    raw_count: Annotated[
        int, about("What resets and events add up to; below 0 where exits were counted without entries.", 2)
    ]
    since: Annotated[Moment | None, about("The reset from which it counts; null: there was none.")]
    capacity: Annotated[int | None, about("How many people may be inside; null: no limit is known.", 40)]
    utilization: Annotated[float | None, about("`count` divided by `capacity`; null: no limit is known.", 0.05)]
    dpus: Annotated[DpusOut, about("How complete the count is.")]
    counted: Annotated[
        bool,
        about('True: there is something that counts for the space at that instant. False: 0 means "not known".', True),
    ]
    counted_since: Annotated[
        Moment | None,
        about("Its first event at an outer doorway or first recorded reset; null: nothing counts for it."),
    ]


class CountsOut(Struct, frozen=True):
    """Counts of several spaces from one snapshot."""

    at: Annotated[Moment, about("The instant of the counts.", "2026-03-02T12:00:00Z")]
    counts: Annotated[list[CountOut], about("The counts, by id of the space.")]


class LiveQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which spaces to listen to; without both: all."""

    space: Annotated[
        Annotated[list[Id], Meta(max_length=1000)] | None,
        about("Ids of spaces; give the parameter several times for several spaces.", ["cafe"]),
    ] = None
    under: Annotated[Id | None, about("This space and everything below.", "ground-floor")] = None


class SpaceChangeOut(Struct, frozen=True):
    """Something about the space itself changed: look it up."""

    space: Annotated[str, about("Id of the space.", "cafe")]
    deleted: Annotated[bool, about("True: it is gone from what was asked for.", False)]


class ListAgainOut(Struct, frozen=True):
    """What listeners of the live stream are told where changes may have been missed: list spaces and sensors again."""

    reason: Annotated[str, about("last_event_id (it was too old or is not known) or stalled.", "stalled")]


class DpuChangeOut(Struct, frozen=True):
    """A DPU that went offline, came back or was heard from for the first time."""

    dpu: Annotated[str, about("Id of the DPU.", "dpu-1")]
    state: Annotated[str, about("Its state now: online, offline, quiet or never_seen.", "offline")]
    last_seen: Annotated[
        Moment | None, about("When it was heard from last; null: never, or before it came into the token's space.")
    ]
    at: Annotated[Moment | None, about("Since when it is in this state.")]
    space: Annotated[
        str | None,
        about("The space in which it is mounted, or that on the other side if it is outside; null: not placed."),
    ]


# By name, what the `data` of an event of the live stream is.
LIVE_EVENTS: dict[str, type[CountOut | SpaceChangeOut | DpuChangeOut | ListAgainOut]] = {
    "count": CountOut,
    "space": SpaceChangeOut,
    "dpu": DpuChangeOut,
    "list": ListAgainOut,
}


class ChangesRow(Struct, frozen=True):
    """Spaces whose counts may have changed, those that changed themselves, those that are gone; or `is_all`.

    `dpus`: those that went offline, came back or were heard from for the first time.
    """

    cursor: str
    is_all: bool
    counts: list[str]
    spaces: list[str]
    deleted: list[str]
    dpus: list[str]


class FlippedRow(Struct, frozen=True):
    """A DPU's state; `spaces`: both sides of its doorway and all above them. `seen_by`: the limited tokens that see it,
    beside it in `seen_at` the side that they see, and in `seen_from` since when it is within their reach."""

    dpu: str
    state: str
    last_seen: datetime | None
    at: datetime | None
    mounted_in: str | None
    other_side: str | None
    spaces: list[str]
    seen_by: list[str]
    seen_at: list[str]
    seen_from: list[datetime]


class SelectionRow(Struct, frozen=True):
    """The spaces that are asked for; or, in SQL's words, why there are none. `same_as`: the number, from 1, of the row
    whose spaces they are."""

    spaces: list[str] | None
    error: str | None
    message: str | None
    place: str | None
    hint: str | None
    same_as: int | None


class CountQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which count."""

    at: Annotated[Instant | None, about("The instant; absent: now.", "2026-03-02T12:00:00Z")] = None
    known_at: Annotated[
        Instant | None,
        about("Count only what was known at this instant; absent: all that is known now.", "2026-03-02T12:30:00Z"),
    ] = None
    max_staleness: Staleness = 0

    @property
    def is_now(self) -> bool:
        """Whether the current count is asked for."""
        return self.at is None and self.known_at is None


class CountsQuery(CountQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    space: Annotated[
        Annotated[list[Id], Meta(max_length=1000)] | None,
        about("Ids of spaces; give the parameter several times for several spaces.", ["cafe"]),
    ] = None
    under: Annotated[Id | None, about("This space and everything below.", "ground-floor")] = None


class BucketOut(Struct, frozen=True):
    """What happened in [start, end)."""

    start: Annotated[Moment, about("Start of the bucket.", "2026-03-02T11:00:00Z")]
    end: Annotated[Moment, about("End of the bucket.", "2026-03-02T12:00:00Z")]
    count: Annotated[int, about("How many people were inside at its end: `raw_count`, but never below 0.", 2)]
    raw_count: Annotated[int, about("The raw count at its end.", 2)]
    min: Annotated[int, about("Lowest raw count in the bucket; see `resolution`.", 0)]
    max: Annotated[int, about("Highest raw count in the bucket; see `resolution`.", 2)]
    average: Annotated[float, about("Average of the raw count over its time.", 0.0416)]
    entries: Annotated[int, about("How many people came in.", 2)]
    exits: Annotated[int, about("How many people left.", 0)]
    utilization: Annotated[float | None, about("`count` divided by the capacity; null: no limit is known.", 0.05)]


class SpaceCountsOut(Struct, frozen=True):
    """How the count of a space went."""

    space: Annotated[str, about("Id of the space.", "cafe")]
    time_zone: Annotated[str, about("IANA name of the time zone of the buckets.", "Europe/Berlin")]
    resolution: Annotated[
        str,
        about(
            "`event`: `min` and `max` are exact; `15m`: they are taken at the ends of quarter-hours. At `15m`, where "
            "an event falls exactly on the start of a quarter-hour, they may include the value from just before it.",
            "event",
        ),
    ]
    buckets: Annotated[list[BucketOut], about("The buckets in time order.")]


class SpaceCountsQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    from_: Annotated[
        Instant | None, about("Start of the range; absent: 24 hours before `to`.", "2026-03-02T00:00:00Z")
    ] = field(name="from", default=None)
    to: Annotated[Instant | None, about("End of the range; absent: now.", "2026-03-03T00:00:00Z")] = None
    interval: Annotated[Interval, about("Size of the buckets.", "1h")] = "1h"
    time_zone: Annotated[
        Text | None,
        about("IANA name of the time zone in which buckets begin; absent: that of the space.", "Europe/Berlin"),
    ] = None
    format: Annotated[Format | None, about("Form of the answer; absent: as `Accept` says.", "json")] = None
    max_staleness: Staleness = 0


# Devices with readings: timestamps in their shortest exact form
