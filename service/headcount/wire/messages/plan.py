"""The floor plan: spaces, doorways, DPUs, placements, resets."""

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType, field

from headcount.wire.instants import Instant
from headcount.wire.messages.base import (
    Clock,
    Count,
    Id,
    MacAddress,
    Moment,
    OfflineAfter,
    PageQuery,
    ResetAt,
    State,
    Text,
    about,
)


class OpeningHours(Struct, frozen=True, forbid_unknown_fields=True):
    """One opening, in the space's local time. A `close` at or before `open` is on the following day."""

    day: Annotated[int, Meta(ge=0, le=6), about("Day of the week on which it opens: 0 is Monday, 6 is Sunday.", 0)]
    open: Annotated[Clock, about("Local time at which it opens.", "09:00")]
    close: Annotated[Clock, about("Local time at which it closes.", "18:30")]


class SpaceIn(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A space. An absent field stays as it is; null clears it."""

    name: Annotated[Text | UnsetType | None, about("Name for people.", "Café")] = UNSET
    parent: Annotated[
        Id | UnsetType | None, about("Id of the space in which this one lies; null: it lies in none.", "ground-floor")
    ] = UNSET
    time_zone: Annotated[
        Text | UnsetType | None, about("IANA name of the time zone; null: that of the parent, or UTC.", "Europe/Berlin")
    ] = UNSET
    capacity: Annotated[
        Count | UnsetType | None, about("How many people may be inside; null: no limit is known.", 40)
    ] = UNSET
    reset_at: Annotated[
        ResetAt | UnsetType | None,
        about("Local time of the daily reset to 0, or `never`; null: that of the parent, or `never`.", "04:00"),
    ] = UNSET
    opening_hours: Annotated[
        Annotated[list[OpeningHours], Meta(max_length=1000)] | UnsetType | None,
        about("Weekly opening hours, used for uptime and notices; null: those of the parent, or always open."),
    ] = UNSET
    offline_after_seconds: Annotated[
        OfflineAfter | UnsetType | None,
        about("A DPU here is offline after so many seconds of silence; null: as the parent says, or 600.", 300),
    ] = UNSET
    retired: Annotated[bool | UnsetType, about("True takes the space out of use, false brings it back.")] = UNSET


class SpaceOut(Struct, frozen=True):
    """A space. The fields `effective_...` say what holds for it, by itself or by its parents."""

    id: Annotated[str, about("Id of the space.", "cafe")]
    name: Annotated[str | None, about("Name for people; null: none was given.", "Café")]
    parent: Annotated[
        str | None, about("Id of the space in which this one lies; null: it lies in none.", "ground-floor")
    ]
    time_zone: Annotated[
        str | None, about("IANA name of its own time zone; null: that of the parent holds.", "Europe/Berlin")
    ]
    capacity: Annotated[int | None, about("How many people may be inside; null: no limit is known.", 40)]
    reset_at: Annotated[
        str | None, about("Its own local time of the daily reset, or `never`; null: that of the parent holds.", "04:00")
    ]
    opening_hours: Annotated[
        list[OpeningHours] | None, about("Its own weekly opening hours; null: those of the parent hold.")
    ]
    effective_time_zone: Annotated[str, about("The time zone that holds.", "Europe/Berlin")]
    effective_reset_at: Annotated[str, about("The local time of the daily reset that holds, or `never`.", "04:00")]
    offline_after_seconds: Annotated[
        int | None,
        about("Its own seconds of silence after which a sensor is offline; null: those of the parent hold.", 300),
    ]
    effective_offline_after_seconds: Annotated[int, about("The seconds of silence that hold.", 300)]
    retired_at: Annotated[Moment | None, about("When it was taken out of use; null: it is in use.")]


class CountChange(Struct, frozen=True):
    """How the raw count of one space would change."""

    space: Annotated[str, about("Id of the space.", "cafe")]
    from_: Annotated[
        Moment, about("The first instant at which its raw count would differ.", "2026-03-02T11:00:00Z")
    ] = field(name="from")
    to: Annotated[Moment, about("The last instant at which it would differ.", "2026-03-02T12:00:00Z")]
    largest_change: Annotated[int, about("By how many people it would differ at most; below 0: fewer people.", -3)]
    at: Annotated[Moment, about("The first instant at which it would differ by that many.", "2026-03-02T11:30:00Z")]
    before: Annotated[int, about("The raw count at `at` as it is.", 5)]
    after: Annotated[int, about("The raw count at `at` as it would be.", 2)]


DryRun = Annotated[bool | UnsetType, about("True: nothing was changed. Absent: it was.", True)]
CountChanges = Annotated[
    list[CountChange] | UnsetType,
    about("The spaces whose counts would change, the largest change first. Absent: this was no dry run."),
]


class DryRunOut(Struct, frozen=True, kw_only=True):
    """The answer to `dry_run=true`: nothing was changed."""

    dry_run: DryRun = UNSET
    counts: CountChanges = UNSET


class SpaceSavedOut(SpaceOut, frozen=True, kw_only=True):
    """The space as it is now; with `dry_run=true` as it would be."""

    dry_run: DryRun = UNSET
    counts: CountChanges = UNSET


class DryRunQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    dry_run: Annotated[bool, about("True: change nothing, and tell which counts would change.")] = False


class ThingsQuery(PageQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which of them to list."""

    retired: Annotated[bool, about("True: list those that are no longer in use, and no others.")] = False


class SpacesQuery(ThingsQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    parent: Annotated[Id | None, about("List only the spaces directly below this one.", "ground-floor")] = None


class DoorwayIn(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A doorway. An absent field stays as it is; null clears it."""

    name: Annotated[Text | UnsetType | None, about("Name for people.", "Front door")] = UNSET
    sides: Annotated[
        tuple[Id | None, Id | None] | UnsetType,
        about(
            "The two spaces that it connects; null is the outside. Fixed once a DPU was placed there.",
            [None, "cafe"],
        ),
    ] = UNSET
    retired: Annotated[bool | UnsetType, about("True takes the doorway out of use, false brings it back.")] = UNSET


class DoorwayOut(Struct, frozen=True):
    """A doorway between two spaces, or between a space and the outside."""

    id: Annotated[str, about("Id of the doorway.", "front-door")]
    name: Annotated[str | None, about("Name for people; null: none was given.", "Front door")]
    sides: Annotated[
        tuple[str | None, str | None], about("The two spaces that it connects; null is the outside.", [None, "cafe"])
    ]
    retired_at: Annotated[Moment | None, about("When it was taken out of use; null: it is in use.")]


class DpuIn(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A DPU (the sensor above a doorway). An absent field stays as it is; null clears it."""

    name: Annotated[Text | UnsetType | None, about("Name for people.", "Above the front door")] = UNSET
    mac_address: Annotated[
        MacAddress | UnsetType | None, about("Its MAC address, by which heartbeats can name it.", "02:00:00:00:00:01")
    ] = UNSET
    offline_after_seconds: Annotated[
        OfflineAfter | UnsetType | None,
        about("It is offline after so many seconds of silence; null: as its space says.", 300),
    ] = UNSET
    retired: Annotated[bool | UnsetType, about("True takes the DPU out of use, false brings it back.")] = UNSET


class PlacementOut(Struct, frozen=True):
    """Where a DPU is or was for a time."""

    doorway: Annotated[
        str | None, about("Id of the doorway above which it is mounted; null: it was taken down.", "front-door")
    ]
    mounted_in: Annotated[
        str | None, about("The side of the doorway on which it is mounted; null: the outside.", "cafe")
    ]
    from_: Annotated[Moment, about("From this instant on.", "2026-01-01T00:00:00Z")] = field(name="from")
    until: Annotated[Moment | None, about("Before this instant; null: until further notice.")]
    recorded_at: Annotated[Moment, about("When the service was told.", "2026-01-01T09:12:44.120000Z")]


class DpuOut(Struct, frozen=True):
    """A DPU: its state, where it is, and what its events add up to."""

    id: Annotated[str, about("Id of the DPU.", "dpu-1")]
    name: Annotated[str | None, about("Name for people; null: none was given.", "Above the front door")]
    mac_address: Annotated[str | None, about("Its MAC address; null: not known.", "02:00:00:00:00:01")]
    state: Annotated[
        str,
        about(
            "online, offline, quiet (silent, but that means nothing), never_seen (no message came yet) or retired.",
            "online",
        ),
    ]
    last_seen: Annotated[
        Moment | None, about("When it was heard from last; null: never, or before it came into the token's space.")
    ]
    placement: Annotated[PlacementOut | None, about("Where it is now; null: nowhere.")]
    cumulative_count: Annotated[int, about("The sum of the directions of all its events.", 42)]
    latest_timestamp: Annotated[Moment | None, about("The latest instant of its events; null: it has none.")]
    rejected_last_day: Annotated[int, about("How many of its events were rejected in the last 24 hours.", 0)]
    clock: Annotated[
        str,
        about("Its clock: `ok`, `ahead`, `behind`, `unset` or `stuck` (at one instant). More values may come.", "ok"),
    ]
    retired_at: Annotated[Moment | None, about("When it was taken out of use; null: it is in use.")]
    offline_after_seconds: Annotated[
        int | None, about("Its own seconds of silence after which it is offline; null: those of its space hold.", 300)
    ]
    effective_offline_after_seconds: Annotated[int, about("The seconds of silence that hold.", 300)]
    first_heard: Annotated[
        Moment | None,
        about(
            "When its first live message came, neither backfilled nor imported, or when it came into the token's "
            "space, if that was later; null: none came yet."
        ),
    ]


class DpusQuery(ThingsQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    space: Annotated[Id | None, about("List only DPUs at doorways of this space.", "cafe")] = None
    state: Annotated[State | None, about("List only DPUs in this state.", "offline")] = None
    placed: Annotated[
        bool | None, about("True: list only DPUs that are at a doorway now; false: only those that are not.")
    ] = None


class PlacementIn(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a DPU is from `from` until `until`. What was recorded for that time before is trimmed or replaced."""

    doorway: Annotated[Id | None, about("Id of the doorway; null takes the DPU down.", "front-door")]
    mounted_in: Annotated[
        Id | None,
        about("The side of the doorway on which it is mounted: an id of a space, or null for the outside.", "cafe"),
    ] = None
    from_: Annotated[Instant | None, about("From this instant on; absent or null: now.", "2026-01-01T00:00:00Z")] = (
        field(name="from", default=None)
    )
    until: Annotated[Instant | None, about("Before this instant; absent or null: until further notice.")] = None


class SiteSpaceIn(SpaceIn, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A space of a floor plan. An absent field stays as it is; null clears it."""

    id: Annotated[Id, about("Id of the space.", "cafe")]


class SiteDoorwayIn(DoorwayIn, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A doorway of a floor plan. An absent field stays as it is; null clears it."""

    id: Annotated[Id, about("Id of the doorway.", "front-door")]


class SiteDpuIn(DpuIn, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A DPU of a floor plan. An absent field stays as it is; null clears it."""

    id: Annotated[Id, about("Id of the DPU.", "dpu-1")]


class PlacementSavedOut(PlacementOut, frozen=True, kw_only=True):
    """The placement as it is now; with `dry_run=true` as it would be."""

    dry_run: DryRun = UNSET
    counts: CountChanges = UNSET


class PlacementUndoQuery(DryRunQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    from_: Annotated[
        Instant, about("The `from` of the placement to take back, to the microsecond.", "2026-01-01T00:00:00Z")
    ] = field(name="from")


class SitePlacementIn(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a DPU is from `from` until `until`, in a floor plan."""

    dpu: Annotated[Id, about("Id of the DPU.", "dpu-1")]
    doorway: Annotated[Id | None, about("Id of the doorway; null takes the DPU down.", "front-door")]
    mounted_in: Annotated[
        Id | None,
        about("The side of the doorway on which it is mounted: an id of a space, or null for the outside.", "cafe"),
    ] = None
    from_: Annotated[Instant, about("From this instant on.", "2026-01-01T00:00:00Z")] = field(name="from")
    until: Annotated[Instant | None, about("Before this instant; absent or null: until further notice.")] = None


class SiteIn(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole floor plan, all or nothing. It names what it changes; everything else stays as it is."""

    spaces: Annotated[list[SiteSpaceIn], about("The spaces, in any order.")] = []
    doorways: Annotated[list[SiteDoorwayIn], about("The doorways.")] = []
    dpus: Annotated[list[SiteDpuIn], about("The DPUs.")] = []
    placements: Annotated[list[SitePlacementIn], about("Where the DPUs are.")] = []


class SiteChange(Struct, frozen=True):
    """What became of one item of the floor plan."""

    kind: Annotated[str, about("space, doorway, dpu or placement.", "space")]
    id: Annotated[str, about("Its id; of a placement, that of the DPU.", "cafe")]
    change: Annotated[str, about("created, updated or unchanged.", "created")]


class SiteOut(DryRunOut, frozen=True, kw_only=True):
    """What the floor plan changed, or with `dry_run=true` would change."""

    changes: Annotated[list[SiteChange], about("One entry for each item of the floor plan.")]


class Preview(Struct, frozen=True):
    """What a change would answer, and the facts that counts follow from where they would differ; both as JSON."""

    result: str | None
    facts: str


class ResetIn(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """At this instant the space held exactly this many people."""

    count: Annotated[Count, about("How many people were inside.", 12)]
    at: Annotated[Instant | None, about("When; absent or null: now.", "2026-03-02T12:00:00Z")] = None


class ResetOut(Struct, frozen=True):
    """A recorded reset of a space's count."""

    space: Annotated[str, about("Id of the space.", "cafe")]
    at: Annotated[Moment, about("When the space held that many people.", "2026-03-02T12:00:00Z")]
    count: Annotated[int, about("How many people were inside.", 12)]
    recorded_at: Annotated[Moment, about("When the service was told.", "2026-03-02T12:00:03.500000Z")]


class ResetSavedOut(ResetOut, frozen=True, kw_only=True):
    """The reset as recorded; with `dry_run=true` as it would be."""

    dry_run: DryRun = UNSET
    counts: CountChanges = UNSET


class ResetUndoQuery(DryRunQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    at: Annotated[Instant, about("The `at` of the reset to take back, to the microsecond.", "2026-03-02T12:00:00Z")]


class ResetRow(Struct, frozen=True):
    """A reset of a space's count: recorded, or the daily one."""

    at: Annotated[Moment, about("When the space held that many people.", "2026-03-02T12:00:00Z")]
    count: Annotated[int, about("How many people were inside; 0 for a daily reset.", 12)]
    scheduled: Annotated[bool, about("True: the daily reset. False: somebody recorded it.", False)]
    recorded_at: Annotated[
        Moment | None, about("When the service was told; null for daily resets, which are not stored.")
    ]


class ResetsQuery(PageQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    from_: Annotated[Instant | None, about("List resets at or after this instant.")] = field(name="from", default=None)
    to: Annotated[Instant | None, about("List resets before this instant.")] = None
    scheduled: Annotated[bool, about("True: list the daily resets of the range as well.")] = False


# Tokens
