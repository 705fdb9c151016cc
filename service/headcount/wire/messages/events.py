"""Events in and out, and those that were refused."""

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType, field

from headcount.wire.instants import Instant
from headcount.wire.messages.base import (
    NUMBER_PATTERN,
    Cursor,
    Id,
    Int32,
    Moment,
    PageQuery,
    RefusalCode,
    Sequence,
    Staleness,
    Timestamp,
    about,
)


class EventIn(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One report of a DPU: so many people passed, in this direction."""

    dpu: Annotated[str, about("Id of the DPU. An unknown one is registered, without a placement.", "dpu-1")]
    timestamp: Annotated[Timestamp, about("When it happened, by the DPU's clock.", "2026-03-02T11:58:00.250Z")]
    direction: Annotated[
        Int32,
        about(
            "How many people: above 0 towards the DPU (into the side on which it is mounted), below 0 away from it.", 1
        ),
    ]
    sequence: Annotated[Sequence, about("Tells apart several events of one DPU at one instant.", 0)] = 0


class EventsIn(Struct, frozen=True, forbid_unknown_fields=True):
    """Events in any order, of any number of DPUs."""

    events: Annotated[list[EventIn], about("The events; up to 10,000.")]


class ReadingIn(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """An event of one device, whose direction is its count."""

    timestamp: Annotated[Timestamp, about("When it happened, by the device's clock.", "2026-03-02T11:58:00Z")]
    count: Annotated[Int32, about("How many people: above 0 towards the device, below 0 away from it.", 3)]


class ReadingsIn(Struct, frozen=True, forbid_unknown_fields=True):
    """Readings of one device."""

    id: Annotated[Id, about("Id of the device (DPU).", "1234")]
    readings: Annotated[list[ReadingIn], about("The readings; up to 10,000.")]


class Rejection(Struct, frozen=True):
    """An item of the request that was rejected, and why."""

    index: Annotated[int, about("Which item of the request, counted from 0.", 3)]
    code: Annotated[
        str,
        about(
            "Why: `invalid`, `conflict`, `in_future`, `too_old`, `clock_unset` or `unknown_dpu`. More values may come.",
            "invalid",
        ),
    ]
    detail: Annotated[str, about("Why, in words.", "`direction` is missing.")]


class EventsRecordedOut(Struct, frozen=True):
    """What became of the items: received = accepted + duplicates + rejected."""

    received: Annotated[int, about("How many items the request had.", 4)]
    accepted: Annotated[int, about("How many are stored now and were not before.", 2)]
    duplicates: Annotated[int, about("How many were stored before; they count once.", 1)]
    rejected: Annotated[list[Rejection], about("The items that were rejected, with reasons.")]


class Verdict(Struct, frozen=True):
    """What the database did not accept; `verdict`: duplicate or one of a rejection's codes."""

    index: int
    verdict: str
    detail: str


class EventOut(Struct, frozen=True):
    """A stored event."""

    dpu: Annotated[str, about("Id of the DPU.", "dpu-1")]
    timestamp: Annotated[Moment, about("When it happened, by the DPU's clock.", "2026-03-02T11:58:00.250000Z")]
    direction: Annotated[int, about("How many people: above 0 towards the DPU, below 0 away from it.", 1)]
    sequence: Annotated[int, about("Tells apart several events of one DPU at one instant.", 0)]
    received_at: Annotated[Moment, about("When the service received it.", "2026-03-02T11:58:01.010000Z")]
    sign: Annotated[
        int | UnsetType,
        about("How it counted for the space asked for: 1 in, -1 out, 0 not at all. Absent: no space was asked for.", 1),
    ] = UNSET


class RejectedEventOut(Struct, frozen=True):
    """A rejected event. `timestamp`, `direction` and `sequence` are null where it could not be decoded."""

    id: Annotated[str, about("Id of the rejected event.", "17")]
    received_at: Annotated[Moment, about("When the service received it.", "2026-03-02T12:00:01Z")]
    code: Annotated[str, about("Why it was rejected; see `code` of a rejection. More values may come.", "in_future")]
    detail: Annotated[str, about("Why, in words.")]
    dpu: Annotated[str | None, about("Id of the DPU; null: not known.")]
    source: Annotated[str | None, about("Where it came from, if not over HTTP; else null.")]
    timestamp: Annotated[Moment | None, about("When it happened, by the DPU's clock.")]
    direction: Annotated[int | None, about("How many people, and in which direction.")]
    sequence: Annotated[int | None, about("Tells apart several events of one DPU at one instant.")]
    body: Annotated[str | None, about("The first 1,000 characters of the text that could not be decoded; else null.")]
    rerun_at: Annotated[Moment | None, about("When it was stored after all; null: it was not.")]
    token: Annotated[
        str | None,
        about("Id of the token that sent it; null: sent without one, or the asking token is limited to a space."),
    ]


class RejectedQuery(PageQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which rejected events to list."""

    dpu: Annotated[Id | None, about("List only events of this DPU.", "dpu-1")] = None
    source: Annotated[Id | None, about("List only events from this source.")] = None
    code: Annotated[RefusalCode | None, about("List only events rejected for this reason.", "in_future")] = None
    from_: Annotated[Instant | None, about("List events received at or after this instant.")] = field(
        name="from", default=None
    )
    to: Annotated[Instant | None, about("List events received before this instant.")] = None
    rerun: Annotated[bool, about("True: list instead those that were run again and stored.")] = False


class RerunIn(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which rejected events to run again: the filter of GET /v1/rejected, or ids."""

    dpu: Annotated[Id | None, about("Run only events of this DPU.", "dpu-1")] = None
    source: Annotated[Id | None, about("Run only events from this source.")] = None
    code: Annotated[RefusalCode | None, about("Run only events rejected for this reason.", "in_future")] = None
    from_: Annotated[Instant | None, about("Run events received at or after this instant.")] = field(
        name="from", default=None
    )
    to: Annotated[Instant | None, about("Run events received before this instant.")] = None
    ids: Annotated[
        Annotated[list[Annotated[str, Meta(pattern=NUMBER_PATTERN)]], Meta(max_length=10_000)] | None,
        about("Run those with these ids, of those that fit the filter.", ["17", "18"]),
    ] = None
    limit: Annotated[int, Meta(ge=1, le=10_000), about("How many to run at most.")] = 10_000
    after: Annotated[Cursor | None, about("The `next` of the answer before; absent for the first.")] = None


class RerunQuery(RerunIn, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class RejectionAgain(Struct, frozen=True):
    """An event that was rejected again, and why."""

    index: Annotated[int, about("Which of those that were run, counted from 0.", 0)]
    code: Annotated[
        str, about("Why it was rejected again; see `code` of a rejection. More values may come.", "conflict")
    ]
    detail: Annotated[str, about("Why, in words.")]
    id: Annotated[str, about("Id of the rejected event.", "17")]


class RerunOut(Struct, frozen=True):
    """What became of the events: received = accepted + duplicates + rejected."""

    received: Annotated[int, about("How many were run again.", 2)]
    accepted: Annotated[int, about("How many are stored now and were not before.", 1)]
    duplicates: Annotated[int, about("How many were stored before.", 0)]
    rejected: Annotated[list[RejectionAgain], about("Those that were rejected again, with reasons.")]
    next: Annotated[str | None, about("Send this as `after` to go on; null: all are done.")]


class RerunRow(Struct, frozen=True):
    """What became of a refused event; `verdict`: null (accepted), duplicate or one of a rejection's codes."""

    id: int
    verdict: str | None
    detail: str | None


class RefusalState(Struct, frozen=True):
    """How many refused events and polls were dropped so far because they were old."""

    dropped_events: int
    dropped_polls: int


class BackfillQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the items came here."""

    backfill: Annotated[
        bool, about("True: they were kept for some time, so that they come now is no sign that their DPUs are alive.")
    ] = False


class EventsQuery(PageQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    dpu: Annotated[Id | None, about("List the events of this DPU.", "dpu-1")] = None
    space: Annotated[Id | None, about("List the events that counted for this space.", "cafe")] = None
    from_: Annotated[Instant | None, about("List events at or after this instant.")] = field(name="from", default=None)
    to: Annotated[Instant | None, about("List events before this instant.")] = None
    max_staleness: Staleness = 0


# Sensors
