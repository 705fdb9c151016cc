"""The wire shapes. `...In` comes from outside and refuses unknown fields, `...Query` is a query string,
`...Out` goes out.

Every field of theirs says with `about` what it means: GET /schema is made of that.
Instants are RFC 3339 with an offset on the way in, UTC with `Z` on the way out.
"""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType, field

from headcount.wire.instants import Instant

# Not . and ..: browsers, curl and proxies take them for steps within an address.
ID_PATTERN = (
    r"^(?:[A-Za-z0-9_:-][A-Za-z0-9._:-]{0,63}|\.[A-Za-z0-9_:-][A-Za-z0-9._:-]{0,62}|\.\.[A-Za-z0-9._:-]{1,62})\Z"
)
TEXT_PATTERN = r"^[^\x00]*\Z"
MAC_PATTERN = r"^(?:[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}|[0-9A-Fa-f]{2}(?:-[0-9A-Fa-f]{2}){5}|[0-9A-Fa-f]{12})\Z"
CLOCK_PATTERN = r"^(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9])?\Z"
RESET_PATTERN = r"^(?:never|(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9])?)\Z"
INTERVALS = ("15m", "30m", "1h", "1d", "1w", "1mo")
INTERVAL_PATTERN = rf"^(?:{'|'.join(INTERVALS)})\Z"
FORMATS = ("json", "csv")
FORMAT_PATTERN = rf"^(?:{'|'.join(FORMATS)})\Z"
STATES = ("online", "offline", "quiet", "never_seen", "retired")
STATE_PATTERN = rf"^(?:{'|'.join(STATES)})\Z"
URL_PATTERN = r"^[A-Za-z][A-Za-z0-9+.-]{0,30}://[\x21-\x7e]{1,2000}\Z"
# Without =?, which begins what stands for other characters (RFC 2047): it could name somebody else.
ADDRESS_PATTERN = r"^(?:[A-Za-z0-9.!#$%&'*+/?^_`{|}~-]|=+[A-Za-z0-9.!#$%&'*+/^_`{|}~-]){1,64}=*@[A-Za-z0-9.-]{1,190}\Z"
SECRET_PATTERN = r"^whsec_[A-Za-z0-9+/]{32,86}={0,2}\Z"
NUMBER_PATTERN = r"^[0-9]{1,18}\Z"
REFUSALS = ("invalid", "conflict", "in_future", "clock_unset", "too_old", "unknown_dpu")
REFUSAL_PATTERN = rf"^(?:{'|'.join(REFUSALS)})\Z"
PATTERNS_IN_WORDS = {
    ID_PATTERN: "must be an id: 1 to 64 of A-Z a-z 0-9 . _ : -, but not `.` or `..`",
    TEXT_PATTERN: "must not hold the character NUL",
    MAC_PATTERN: "must be a MAC address such as 02:00:00:00:00:00",
    CLOCK_PATTERN: "must be a local time, HH:MM or HH:MM:SS",
    RESET_PATTERN: "must be a local time, HH:MM or HH:MM:SS, or `never`",
    INTERVAL_PATTERN: "must be 15m, 30m, 1h, 1d, 1w or 1mo",
    FORMAT_PATTERN: "must be json or csv",
    STATE_PATTERN: "must be online, offline, quiet, never_seen or retired",
    URL_PATTERN: "must be an address such as https://example.org/hook, of ASCII characters",
    ADDRESS_PATTERN: "must be an e-mail address such as somebody@example.org, without =?",
    NUMBER_PATTERN: "must be an id of this list, such as 17",
    REFUSAL_PATTERN: "must be invalid, conflict, in_future, clock_unset, too_old or unknown_dpu",
    SECRET_PATTERN: "must be whsec_ and 24 to 64 random bytes in base64",
}


def about(description: str, *examples: object) -> Meta:
    """What a field means, for GET /schema; checks nothing."""
    return Meta(description=description, examples=list(examples) or None)


def words(*choices: str) -> Meta:
    """Which words a text can be, for GET /schema; checks nothing. Not for answers: clients that are made from it would
    refuse a word that comes later."""
    return Meta(extra_json_schema={"enum": list(choices)})


Id = Annotated[str, Meta(pattern=ID_PATTERN)]
Text = Annotated[str, Meta(max_length=200, pattern=TEXT_PATTERN)]
MacAddress = Annotated[str, Meta(pattern=MAC_PATTERN)]
Clock = Annotated[str, Meta(pattern=CLOCK_PATTERN)]
State = Annotated[str, Meta(pattern=STATE_PATTERN), words(*STATES)]
RefusalCode = Annotated[str, Meta(pattern=REFUSAL_PATTERN), words(*REFUSALS)]
Interval = Annotated[str, Meta(pattern=INTERVAL_PATTERN), words(*INTERVALS)]
Format = Annotated[str, Meta(pattern=FORMAT_PATTERN), words(*FORMATS)]
OfflineAfter = Annotated[int, Meta(ge=1, le=2_678_400)]
ResetAt = Annotated[str, Meta(pattern=RESET_PATTERN)]
Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Sequence = Annotated[int, Meta(ge=0, le=2**15 - 1)]
Limit = Annotated[int, Meta(ge=1, le=1000)]
MAX_STALENESS = 300
Staleness = Annotated[
    int,
    Meta(ge=0, le=MAX_STALENESS),
    about("How many seconds old the answer may be. Above 0 a read replica may answer; see `X-Data-As-Of`."),
]
Cursor = Annotated[str, Meta(max_length=400)]
# msgspec reads it; headcount.ingest.formats makes sure that it reads as headcount.wire.instants does.
Timestamp = Annotated[datetime, Meta(tz=True)]
# An instant that goes out, in UTC.
Moment = Annotated[datetime, Meta(extra_json_schema={"format": "date-time"})]
ShortMoment = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]

Item = TypeVar("Item")


class Page(Struct, Generic[Item], frozen=True):
    """One page of a list."""

    items: Annotated[list[Item], about("The items of this page.")]
    next: Annotated[str | None, about("Send this as `after` to get the next page; null on the last page.")] = None


class NoQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """An address without query parameters."""


class PageQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    limit: Annotated[Limit, about("How many items a page has at most.")] = 100
    after: Annotated[Cursor | None, about("The `next` of the page before; absent for the first page.")] = None


class ProblemItem(Struct, frozen=True):
    """One thing that is wrong with the request."""

    where: Annotated[
        str,
        about("Where it is: a path into the body, such as `spaces[3].parent`, or the name of a parameter.", "space"),
    ]
    code: Annotated[str, about("What kind of mistake it is, for programs.", "not_found")]
    detail: Annotated[str, about("What is wrong, in words.", "There is no space 'room'.")]


class ProblemOut(Struct, frozen=True, omit_defaults=True):
    """The body of every error (RFC 9457)."""

    type: Annotated[str, about("`urn:headcount:error:` and the code.", "urn:headcount:error:not_found")]
    title: Annotated[str, about("The kind of error, for people; always the same for one code.", "Not found")]
    status: Annotated[int, about("The HTTP status once more.", 404)]
    detail: Annotated[
        str,
        about(
            "What is wrong with this request and what to do, for people.",
            "There is no space 'room'. Create it with PUT /v1/spaces/{id}.",
        ),
    ]
    code: Annotated[str, about("The kind of error, for programs. It never changes; more values may come.", "not_found")]
    errors: Annotated[tuple[ProblemItem, ...], about("The places that are wrong, where they are known.")] = ()


# The floor plan


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
    last_seen: Annotated[Moment | None, about("When it was heard from last; null: never.")]
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
        Moment | None, about("When its first live message came, neither backfilled nor imported; null: none came yet.")
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

Scope = Literal["ingest", "read", "admin"]
Rate = Annotated[int, Meta(ge=1, le=2**31 - 1)]


class TokenIn(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A token to make. Absent or null: no limit of its own."""

    scopes: Annotated[
        list[Scope],
        Meta(min_length=1, max_length=10),
        about("What it may do: `ingest` sends, `read` reads, `admin` changes (and includes `read`).", ["read"]),
    ]
    name: Annotated[Text | None, about("Name for people.", "Dashboard in the lobby")] = None
    space: Annotated[Id | None, about("Limits it to this space and everything below.", "cafe")] = None
    expires_at: Annotated[
        Instant | None, about("When it stops working; absent or null: never.", "2027-01-01T00:00:00Z")
    ] = None
    events_per_second: Annotated[
        Rate | None, about("How many events a second it may send; absent or null: the limit of the service.", 1000)
    ] = None
    requests_per_second: Annotated[
        Rate | None, about("How many requests a second it may make; absent or null: the limit of the service.", 50)
    ] = None


class TokenOut(Struct, frozen=True, kw_only=True):
    """A token, without its secret."""

    id: Annotated[str, about("Id of the token; not secret.", "tok_1")]
    name: Annotated[str | None, about("Name for people; null: none was given.", "Dashboard in the lobby")]
    scopes: Annotated[list[str], about("What it may do: ingest, read, admin.", ["read"])]
    space: Annotated[str | None, about("The space to which it is limited; null: it is not limited.", "cafe")]
    events_per_second: Annotated[int | None, about("Its own limit; null: the limit of the service holds.", 1000)]
    requests_per_second: Annotated[int | None, about("Its own limit; null: the limit of the service holds.", 50)]
    created_at: Annotated[Moment, about("When it was made.", "2026-01-01T00:00:00Z")]
    expires_at: Annotated[Moment | None, about("When it stops working; null: never.")]
    revoked_at: Annotated[Moment | None, about("When it was revoked; null: it was not.")]
    last_used_at: Annotated[Moment | None, about("When it was used last, to the minute; null: never.")]
    created_by: Annotated[str | None, about("Id of the token that made it; null: a command did.")]


class TokenMadeOut(TokenOut, frozen=True, kw_only=True):
    """A new token with its secret, which no other answer contains."""

    token: Annotated[
        str, about("Send this as `Authorization: Bearer hc_...`. Keep it: it is shown only once.", "hc_...")
    ]


class RevokeQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to revoke."""

    descendants: Annotated[bool, about("True: also revoke the tokens that this one made, and theirs.")] = True


class TokenRow(Struct, frozen=True):
    """A good token, by the SHA-256 of what is secret; `is_limited`: to a space.

    `family`: itself and those that made it, as far as they share their limits, with the limits of each.
    """

    digest: bytes
    id: str
    scopes: list[str]
    is_limited: bool
    expires_at: datetime | None
    events_per_second: int | None
    requests_per_second: int | None
    family: list[str] = []
    family_events: list[int | None] = []
    family_requests: list[int | None] = []


# Channels and what is sent by them

ChannelKind = Literal["webhook", "email", "apprise"]
ChannelEvent = Literal["offline", "online", "over_capacity"]
Url = Annotated[str, Meta(pattern=URL_PATTERN)]
Address = Annotated[str, Meta(pattern=ADDRESS_PATTERN)]
Secret = Annotated[str, Meta(pattern=SECRET_PATTERN)]


class ChannelIn(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A channel for notices. An absent field stays as it is; null clears it."""

    kind: Annotated[ChannelKind | UnsetType, about("How notices are sent. Required for a new channel.", "webhook")] = (
        UNSET
    )
    url: Annotated[
        Url | UnsetType | None,
        about(
            "Address of the webhook, or the Apprise URL. A new channel needs it, unless it is for e-mail.",
            "https://example.org/hook",
        ),
    ] = UNSET
    to: Annotated[
        Address | Annotated[list[Address], Meta(min_length=1, max_length=50)] | UnsetType | None,
        about(
            "E-mail addresses to which notices go: one, or a list. A new channel for e-mail needs it.",
            ["facilities@example.org"],
        ),
    ] = UNSET
    secret: Annotated[
        Secret | UnsetType | None,
        about("Secret with which webhooks are signed (Standard Webhooks); absent or null: the service makes one."),
    ] = UNSET
    events: Annotated[
        Annotated[list[ChannelEvent], Meta(min_length=1, max_length=10)] | UnsetType,
        about("What to tell.", ["offline", "online"]),
    ] = UNSET
    under: Annotated[Id | UnsetType | None, about("Only tell about this space and everything below.", "cafe")] = UNSET
    only_in_opening_hours: Annotated[
        bool | UnsetType | None, about("True: tell nothing outside the opening hours of the space.")
    ] = UNSET
    muted_until: Annotated[
        Instant | UnsetType | None, about("Tell nothing until this instant.", "2026-03-02T18:00:00Z")
    ] = UNSET


class ChannelOut(Struct, frozen=True, kw_only=True):
    """A channel for notices, without its secret."""

    id: Annotated[str, about("Id of the channel.", "facilities")]
    kind: Annotated[str, about("How notices are sent: webhook, email or apprise.", "webhook")]
    url: Annotated[
        str | None,
        about(
            "Address of the webhook; of an Apprise channel only the scheme; null for e-mail.",
            "https://example.org/hook",
        ),
    ]
    to: Annotated[list[str] | None, about("E-mail addresses to which notices go; null for other kinds.")]
    events: Annotated[
        list[str],
        about("What it tells: offline, online, over_capacity.", ["offline", "online"]),
    ]
    under: Annotated[str | None, about("The space to which it is limited; null: it tells about all.")]
    only_in_opening_hours: Annotated[
        bool, about("True: it tells nothing outside the opening hours of the space.", False)
    ]
    muted_until: Annotated[Moment | None, about("It tells nothing until this instant; null: it is not muted.")]
    created_at: Annotated[Moment, about("When it was made.", "2026-01-01T00:00:00Z")]
    failing_since: Annotated[Moment | None, about("Since when tries fail; null: the last one was delivered.")]
    out_of_reach: Annotated[
        bool,
        about(
            "True: nothing is sent. The limited tokens that chose where it sends are no longer valid, or do not reach "
            "`under`.",
            False,
        ),
    ] = False


class ChannelPutOut(ChannelOut, frozen=True, kw_only=True):
    """The channel as it is now."""

    secret: Annotated[
        str | UnsetType,
        about(
            "The secret that the service made for it. Keep it: it is shown only once. Absent: the service made none."
        ),
    ] = UNSET


class ClaimRow(Struct, frozen=True):
    """A delivery to be sent, with what is secret of its channel; `details` is JSON.

    `family`: the first of the family of limited tokens that the channel belongs to, as Access.client names it.
    """

    delivery: int
    claim: str
    notice: str
    kind: str
    occurred_at: datetime
    details: str
    channel: str
    channel_kind: str
    url: str | None
    recipients: list[str] | None
    secret: str | None
    family: str | None = None

    def __repr__(self) -> str:
        return f"<delivery {self.delivery}>"


class TryOut(Struct, frozen=True):
    """One try to deliver a notice."""

    at: Annotated[Moment, about("When the try began.", "2026-03-02T12:00:00Z")]
    duration_ms: Annotated[int, about("How long it took, in milliseconds.", 120)]
    delivered: Annotated[bool, about("True: the receiver took it.", True)]
    status: Annotated[int | None, about("HTTP status of the receiver's answer; null: there was none.", 200)]
    answer: Annotated[str | None, about("The first 500 characters of the receiver's answer; null: there was none.")]
    error: Annotated[str | None, about("The first 500 characters of the error; null: there was none.")]


class DeliveryOut(Struct, frozen=True, kw_only=True):
    """A notice that one channel sends, with its tries."""

    id: Annotated[str, about("Id of the delivery.", "17")]
    channel: Annotated[str, about("Id of the channel.", "facilities")]
    notice: Annotated[str, about("Id of the notice; receivers see it as `webhook-id`.")]
    kind: Annotated[
        str,
        about(
            "`offline`, `online`, `correction`, `over_capacity`, `capacity_ok` or `test`. More values may come.",
            "offline",
        ),
    ]
    space: Annotated[str | None, about("The space that it is about; null: none.")]
    occurred_at: Annotated[Moment, about("When what it tells happened.", "2026-03-02T12:00:00Z")]
    data: Annotated[dict[str, Any], about("What receivers see as `data`.")]
    state: Annotated[str, about("pending, delivered, failed, suppressed or cancelled.", "delivered")]
    reason: Annotated[
        str | None,
        about(
            "Why it is suppressed or cancelled: `muted`, `closed`, `not_told`, `out_of_reach`, `corrected` or "
            "`channel_deleted`; else null. More values may come."
        ),
    ]
    created_at: Annotated[Moment, about("When it was put in the queue.", "2026-03-02T12:00:00Z")]
    settled_at: Annotated[Moment | None, about("When it was delivered or given up; null: it is pending.")]
    next_try_at: Annotated[Moment | None, about("When the next try is due; null: none is.")]
    tries: Annotated[list[TryOut], about("The tries so far, oldest first.")]


class DeliveriesQuery(PageQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    channel: Annotated[Id | None, about("List only deliveries of this channel.", "facilities")] = None
    state: Annotated[
        Literal["pending", "delivered", "failed", "suppressed", "cancelled"] | None,
        about("List only deliveries in this state.", "failed"),
    ] = None


class DeliveryState(Struct, frozen=True):
    """Deliveries that wait, and for how long the oldest of them has."""

    pending: int
    oldest_seconds: float


# Events


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


class HeartbeatIn(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A sign of life of one DPU, named by `dpu` or by `mac_address`."""

    dpu: Annotated[Id | None, about("Id of the DPU.", "dpu-1")] = None
    mac_address: Annotated[
        MacAddress | None, about("MAC address of the DPU. An unknown one is registered.", "02:00:00:00:00:01")
    ] = None
    timestamp: Annotated[Instant | None, about("When it was alive; absent or null: now.", "2026-03-02T12:00:00Z")] = (
        None
    )


class HeartbeatsIn(Struct, frozen=True, forbid_unknown_fields=True):
    """Signs of life of any number of DPUs."""

    heartbeats: Annotated[list[HeartbeatIn], Meta(max_length=10_000), about("The heartbeats; up to 10,000.")]


class HeartbeatQuery(HeartbeatIn, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class HeartbeatRow(Struct, frozen=True):
    """What became of a heartbeat; `verdict`: null (accepted), duplicate or one of a rejection's codes."""

    verdict: str | None
    detail: str | None
    dpu: str | None
    last_seen: datetime | None


class HeartbeatOut(Struct, frozen=True):
    """The DPU that the heartbeat was of."""

    dpu: Annotated[str, about("Id of the DPU.", "dpu-1")]
    last_seen: Annotated[Moment, about("When it was heard from last.", "2026-03-02T12:00:00Z")]


class SensorOut(Struct, frozen=True, gc=False):
    """A sensor (DPU), and whether it is heard from."""

    id: Annotated[str, about("Id of the sensor.", "dpu-1")]
    mac_address: Annotated[str | None, about("Its MAC address; null: not known.", "02:00:00:00:00:01")]
    last_heartbeat: Annotated[Moment | None, about("When its last heartbeat came; null: none did.")]
    state: Annotated[
        str,
        about(
            "online, offline, quiet (silent, but that means nothing), never_seen (no message came yet) or retired.",
            "online",
        ),
    ]
    space: Annotated[
        str | None,
        about("The space in which it is mounted, or that on the other side if it is outside; null: not placed."),
    ]
    name: Annotated[str | None, about("Name for people; null: none was given.")]
    last_seen: Annotated[Moment | None, about("When it was heard from last; null: never.")]
    since: Annotated[Moment | None, about("Since when it is in this state; null: never seen.")]
    rejected_last_day: Annotated[int, about("How many of its events were rejected in the last 24 hours.", 0)]
    clock: Annotated[str, about("Its clock: `ok`, `ahead`, `behind`, `unset` or `stuck`. More values may come.", "ok")]


class SensorsQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which sensors to list. With `limit` or `after` the answer is one page (100), else all."""

    space: Annotated[Id | None, about("List only sensors at doorways of this space.", "cafe")] = None
    state: Annotated[State | None, about("List only sensors in this state.", "offline")] = None
    limit: Annotated[Limit | None, about("How many sensors a page has at most.")] = None
    after: Annotated[Cursor | None, about("Where the next page begins; take it from the header `Link`.")] = None

    @property
    def is_paged(self) -> bool:
        return self.limit is not None or self.after is not None


class IncidentOut(Struct, frozen=True):
    """An outage of sensors of which people were told."""

    id: Annotated[str, about("Id of the incident.", "17")]
    kind: Annotated[
        str,
        about("`dpu_offline`: one DPU; `site_offline`: most of a site at once.", "dpu_offline"),
    ]
    dpus: Annotated[list[str], about("Ids of the DPUs.", ["dpu-1"])]
    space: Annotated[str | None, about("The space that it is about; null: none.")]
    started_at: Annotated[Moment, about("When it began.", "2026-03-02T12:00:00Z")]
    ended_at: Annotated[Moment | None, about("When it ended; null: it lasts.")]
    corrected: Annotated[bool, about("True: later data showed that there was no such outage.", False)]
    absorbed_by: Annotated[
        str | None, about("Id of the incident of the whole site that took its place; null: none did.")
    ]


class IncidentsQuery(PageQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    open: Annotated[bool | None, about("True: list those that last; false: those that are over.")] = None


class AvailabilityRow(Struct, frozen=True):
    """`froms` and `untils` beside each other: when it was offline."""

    from_at: datetime
    to_at: datetime
    online_seconds: float
    offline_seconds: float
    availability: float | None
    froms: list[datetime]
    untils: list[datetime]


class OutageOut(Struct, frozen=True):
    """The DPU was offline in [from, until), as far as that lies in the range asked for."""

    from_: Annotated[Moment, about("When it went offline.", "2026-03-02T11:00:00Z")] = field(name="from")
    until: Annotated[Moment, about("When it came back, or the end of the range.", "2026-03-02T11:20:00Z")]


class AvailabilityOut(Struct, frozen=True):
    """How much of [from, to) a DPU was online, counted from its first sign of life up to now."""

    dpu: Annotated[str, about("Id of the DPU.", "dpu-1")]
    from_: Annotated[Moment, about("Begin of the range.", "2026-03-01T12:00:00Z")] = field(name="from")
    to: Annotated[Moment, about("End of the range.", "2026-03-02T12:00:00Z")]
    online_seconds: Annotated[float, about("How long it was online, in seconds.", 85200.0)]
    offline_seconds: Annotated[float, about("How long it was offline, in seconds.", 1200.0)]
    availability: Annotated[
        float | None, about("online / (online + offline), 0 to 1; null: there is no time to look at.", 0.986)
    ]
    outages: Annotated[list[OutageOut], about("When it was offline, oldest first.")]


class AvailabilityQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    from_: Annotated[Instant | None, about("Begin of the range; absent: 24 hours before `to`.")] = field(
        name="from", default=None
    )
    to: Annotated[Instant | None, about("End of the range; absent: now.")] = None


# Polls


class PollIn(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """At this instant the space was active or inactive."""

    space: Annotated[str, about("Id of the space.", "store-1")]
    timestamp: Annotated[Timestamp, about("When it was polled.", "2026-01-31T12:00:00Z")]
    status: Annotated[Literal["active", "inactive"], about("What the poll found.", "active")]


class PollsIn(Struct, frozen=True, forbid_unknown_fields=True):
    """Polls in any order, of any number of spaces."""

    polls: Annotated[list[PollIn], about("The polls; up to 10,000.")]


# Uptime


class ReportIn(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which report to make."""

    now: Annotated[
        Instant | None, about("End of its hour, day and week; absent or null: the latest poll.", "2026-03-02T12:00:00Z")
    ] = None
    under: Annotated[Id | None, about("Only this space and everything below; absent or null: all.", "cafe")] = None
    format: Annotated[Format, about("What GET /get_report answers by default when the report is complete.", "csv")] = (
        "csv"
    )


class ReportStartedOut(Struct, frozen=True):
    """The report that is being made."""

    report_id: Annotated[str, about("Id of the report, for GET /get_report.", "0f9a2c54-7d0e-4c7f-9d3a-2b1f0c9e8d7a")]


class ReportRow(Struct, frozen=True, kw_only=True):
    """A report. `status`: Running, Complete or Failed; `progress`: 0 to 1."""

    id: str
    status: str
    progress: float
    now_at: datetime | None
    under: str | None
    format: str
    row_count: int | None
    detail: str | None
    created_at: datetime
    finished_at: datetime | None


class ReportOut(Struct, frozen=True, kw_only=True):
    """A report on the uptime of all sites."""

    id: Annotated[str, about("Id of the report.", "0f9a2c54-7d0e-4c7f-9d3a-2b1f0c9e8d7a")]
    status: Annotated[str, about("Running, Complete or Failed.", "Complete")]
    progress: Annotated[float, about("How much of it is done, 0 to 1.", 1.0)]
    now: Annotated[Moment | None, about("End of its hour, day and week; null: nobody has begun it.")]
    under: Annotated[str | None, about("The space to which it is limited; null: all.")]
    created_at: Annotated[Moment, about("When it was asked for.", "2026-03-02T12:00:00Z")]
    finished_at: Annotated[Moment | None, about("When it was complete or failed; null: it is running.")]
    rows: Annotated[int | None, about("How many rows it has; null until it is complete.", 240)]
    csv_url: Annotated[
        str | None,
        about(
            "Where to get its rows as CSV; null until it is complete.",
            "/v1/reports/0f9a2c54-7d0e-4c7f-9d3a-2b1f0c9e8d7a/csv",
        ),
    ]
    detail: Annotated[str | None, about("Why it failed; null: it did not.")]


class ReportStatusOut(Struct, frozen=True, omit_defaults=True):
    """How far a report is. Absent fields say nothing."""

    status: Annotated[
        str,
        about(
            "How far it is: Running (with `progress`), Complete (with `csv_url` and `rows`) or Failed (with `detail`).",
            "Running",
        ),
    ]
    progress: Annotated[float | None, about("How much of it is done, 0 to 1.", 0.4)] = None
    csv_url: Annotated[str | None, about("Where to get its rows as CSV.")] = None
    rows: Annotated[int | None, about("How many rows it has.")] = None
    detail: Annotated[str | None, about("Why it failed.")] = None


class ReportQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which report."""

    report_id: Annotated[Id, about("Id of the report.", "0f9a2c54-7d0e-4c7f-9d3a-2b1f0c9e8d7a")]


class ReportClaim(Struct, frozen=True):
    id: str
    attempt: int


class ReportStep(Struct, frozen=True):
    """`last_site`: behind which it goes on; None when it is complete."""

    last_site: str | None
    progress: float


class SiteUptimeRow(Struct, frozen=True):
    """Minutes of the last hour, hours of the last day and week; two decimals."""

    site: str
    uptime_last_hour: Decimal
    uptime_last_day: Decimal
    uptime_last_week: Decimal
    downtime_last_hour: Decimal
    downtime_last_day: Decimal
    downtime_last_week: Decimal


class UptimeOut(Struct, frozen=True):
    """Business time in [start, end): active, and the rest."""

    start: Annotated[Moment, about("Begin of the bucket.", "2026-03-02T00:00:00Z")]
    end: Annotated[Moment, about("End of the bucket.", "2026-03-03T00:00:00Z")]
    uptime_seconds: Annotated[
        float, about("How long the space was active within its opening hours, in seconds.", 32400.0)
    ]
    downtime_seconds: Annotated[float, about("How long it was not, within its opening hours, in seconds.", 3600.0)]


class SpaceUptimeOut(Struct, frozen=True):
    """How long a space was up within its opening hours."""

    space: Annotated[str, about("Id of the space.", "store-1")]
    time_zone: Annotated[str, about("IANA name of the time zone of the buckets.", "Europe/Berlin")]
    buckets: Annotated[list[UptimeOut], about("The buckets in time order.")]
    polled: Annotated[bool, about("False: the space was never polled, so its downtime says nothing about it.", True)]


class ReportSiteOut(Struct, frozen=True):
    """One site of a report: minutes of the last hour, hours of the last day and week; two decimals."""

    space: Annotated[str, about("Id of the space.", "store-1")]
    name: Annotated[str | None, about("Name for people; null: none was given.")]
    polled: Annotated[bool, about("False: the site was never polled, so its downtime says nothing about it.", True)]
    uptime_last_hour_minutes: Annotated[float, about("Minutes of uptime in the last hour.", 60.0)]
    uptime_last_day_hours: Annotated[float, about("Hours of uptime in the last day.", 23.5)]
    uptime_last_week_hours: Annotated[float, about("Hours of uptime in the last week.", 166.25)]
    downtime_last_hour_minutes: Annotated[float, about("Minutes of downtime in the last hour.", 0.0)]
    downtime_last_day_hours: Annotated[float, about("Hours of downtime in the last day.", 0.5)]
    downtime_last_week_hours: Annotated[float, about("Hours of downtime in the last week.", 1.75)]


class TimelineRow(Struct, frozen=True):
    """Arrays of one kind beside each other."""

    from_at: datetime
    to_at: datetime
    time_zone: str
    day_starts: list[datetime]
    day_ends: list[datetime]
    day_ups: list[float]
    day_downs: list[float]
    open_starts: list[datetime]
    open_ends: list[datetime]
    up_starts: list[datetime]
    up_ends: list[datetime]
    down_starts: list[datetime]
    down_ends: list[datetime]
    poll_times: list[datetime]
    poll_actives: list[bool]
    poll_opens: list[bool]
    poll_count: int
    polled: bool


class PeriodOut(Struct, frozen=True):
    """The time [start, end)."""

    start: Annotated[Moment, about("Begin of the period.", "2026-03-02T08:00:00Z")]
    end: Annotated[Moment, about("End of the period.", "2026-03-02T18:00:00Z")]


class TimelinePollOut(Struct, frozen=True):
    """One poll. Polls outside opening hours do not count."""

    timestamp: Annotated[Moment, about("When the space was polled.", "2026-03-02T12:00:00Z")]
    status: Annotated[Literal["active", "inactive"], about("What the poll found.", "active")]
    in_opening_hours: Annotated[bool, about("True: the space was open then.", True)]


class TimelineOut(Struct, frozen=True, kw_only=True):
    """When a space was open, up and down in [from, to): `up` and `down` make up `open`."""

    space: Annotated[str, about("Id of the space.", "store-1")]
    time_zone: Annotated[str, about("IANA name of the space's time zone.", "Europe/Berlin")]
    from_: Annotated[Moment, about("Begin of the range.", "2026-02-23T12:00:00Z")] = field(name="from")
    to: Annotated[Moment, about("End of the range.", "2026-03-02T12:00:00Z")]
    days: Annotated[list[UptimeOut], about("Whole local days, each with the seconds of its part in the range.")]
    open: Annotated[list[PeriodOut], about("When it was open.")]
    up: Annotated[list[PeriodOut], about("When it was up.")]
    down: Annotated[list[PeriodOut], about("When it was down.")]
    poll_count: Annotated[int, about("How many polls the range has.", 168)]
    polls: Annotated[list[TimelinePollOut], about("The newest polls, up to 10,000, in time order.")]
    polled: Annotated[bool, about("False: the space was never polled, so `down` says nothing about it.", True)]


class TimelineQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    from_: Annotated[Instant | None, about("Begin of the range; absent: 168 hours before `to`.")] = field(
        name="from", default=None
    )
    to: Annotated[Instant | None, about("End of the range; absent: the latest poll.")] = None


class SpaceUptimeQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    from_: Annotated[Instant | None, about("Begin of the range; absent: 168 hours before `to`.")] = field(
        name="from", default=None
    )
    to: Annotated[Instant | None, about("End of the range; absent: the latest poll. Later polls do not count.")] = None
    interval: Annotated[
        Interval | None, about("Size of the buckets; absent: one bucket for the whole range.", "1d")
    ] = None
    format: Annotated[Format | None, about("Form of the answer; absent: as `Accept` says.", "json")] = None


# Counts


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
    last_seen: Annotated[Moment | None, about("When it was heard from last; null: never.")]
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
    beside it in `seen_at` the side that they see."""

    dpu: str
    state: str
    last_seen: datetime | None
    at: datetime | None
    mounted_in: str | None
    other_side: str | None
    spaces: list[str]
    seen_by: list[str]
    seen_at: list[str]


class SelectionRow(Struct, frozen=True):
    """The spaces that are asked for; or, in SQL's words, why there are none."""

    spaces: list[str] | None
    error: str | None
    message: str | None
    place: str | None
    hint: str | None


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

    start: Annotated[Moment, about("Begin of the bucket.", "2026-03-02T11:00:00Z")]
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
        about("`event`: `min` and `max` are exact; `15m`: they are taken at the ends of quarter-hours.", "event"),
    ]
    buckets: Annotated[list[BucketOut], about("The buckets in time order.")]


class SpaceCountsQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    from_: Annotated[
        Instant | None, about("Begin of the range; absent: 24 hours before `to`.", "2026-03-02T00:00:00Z")
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


class DeviceRow(Struct, frozen=True):
    latest_timestamp: datetime | None
    cumulative_count: int


class ReadingsRow(Struct, frozen=True):
    """A device and its readings, `times` and `counts` beside each other."""

    latest_timestamp: datetime | None
    cumulative_count: int
    times: list[datetime]
    counts: list[int]


class DeviceOut(Struct, frozen=True):
    """Readings of a device."""

    data: Annotated[dict[str, int], about("The counts by timestamp, in time order.", {"2023-01-01T00:00:00Z": 3})]
    latest_timestamp: Annotated[
        ShortMoment | None, about("The latest instant of its readings; null: it has none.", "2023-01-01T00:00:00Z")
    ]
    cumulative_count: Annotated[int, about("The sum of all its readings.", 5)]


class LatestTimestampOut(Struct, frozen=True):
    """The latest reading of a device."""

    latest_timestamp: Annotated[
        ShortMoment | None, about("The latest instant of its readings; null: it has none.", "2023-01-01T00:00:00Z")
    ]


class CumulativeCountOut(Struct, frozen=True):
    """The sum of a device's readings."""

    cumulative_count: Annotated[int, about("The sum of all its readings.", 300)]


class DeviceQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    from_: Annotated[Instant | None, about("List readings at or after this instant.")] = field(
        name="from", default=None
    )
    to: Annotated[Instant | None, about("List readings before this instant.")] = None
    limit: Annotated[int, Meta(ge=1, le=10_000), about("How many readings to list at most: the newest.")] = 10_000


# The service itself


class HealthOut(Struct, frozen=True):
    """The service answers."""

    status: Annotated[str, about("Always `ok`; what is not ok is a problem.", "ok")] = "ok"


class SchemaRow(Struct, frozen=True):
    """A migration that ran; number 0 stands for the repeatable files."""

    number: int
    sha256: str
    breaking: bool


class WalPosition(Struct, frozen=True):
    """How far a server has come in the write-ahead log (null: a standby that has replayed nothing), and its clock."""

    is_standby: bool
    wal_bytes: int | None
    system_id: int
    at: datetime


class RollupState(Struct, frozen=True):
    """How far the rollups have come, and how many quarter-hours of DPUs before that wait to be covered again."""

    materialized_until: datetime
    lag_seconds: float
    late_marks: int


class RetentionRow(Struct, frozen=True):
    """Events are kept for `keep_days` (null: for ever); all are there from `events_from` on (null: ever)."""

    keep_days: int | None
    events_from: datetime | None


class ImportRow(Struct, frozen=True):
    """How far an import has come: lines done (the header included) and what became of them."""

    lines: int
    accepted: int
    duplicates: int
    rejected: int
    finished: bool


class Difference(Struct, frozen=True):
    """Something stored that is not what the facts add up to."""

    check: str
    item: str
    stored: str | None
    recomputed: str | None
