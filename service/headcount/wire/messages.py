"""The wire shapes. `...In` comes from outside and refuses unknown fields, `...Query` is a query string,
`...Out` goes out.

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
INTERVAL_PATTERN = r"^(?:15m|30m|1h|1d|1w|1mo)\Z"
FORMAT_PATTERN = r"^(?:json|csv)\Z"
STATE_PATTERN = r"^(?:online|offline|quiet|never_seen|retired)\Z"
URL_PATTERN = r"^[A-Za-z][A-Za-z0-9+.-]{0,30}://[\x21-\x7e]{1,2000}\Z"
# Without =?, which begins what stands for other characters (RFC 2047): it could name somebody else.
ADDRESS_PATTERN = r"^(?:[A-Za-z0-9.!#$%&'*+/?^_`{|}~-]|=+[A-Za-z0-9.!#$%&'*+/^_`{|}~-]){1,64}=*@[A-Za-z0-9.-]{1,190}\Z"
SECRET_PATTERN = r"^whsec_[A-Za-z0-9+/]{32,86}={0,2}\Z"
NUMBER_PATTERN = r"^[0-9]{1,18}\Z"
REFUSAL_PATTERN = r"^(?:invalid|conflict|in_future|clock_unset|too_old|unknown_dpu)\Z"
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

Id = Annotated[str, Meta(pattern=ID_PATTERN)]
Text = Annotated[str, Meta(max_length=200, pattern=TEXT_PATTERN)]
MacAddress = Annotated[str, Meta(pattern=MAC_PATTERN)]
Clock = Annotated[str, Meta(pattern=CLOCK_PATTERN)]
State = Annotated[str, Meta(pattern=STATE_PATTERN)]
RefusalCode = Annotated[str, Meta(pattern=REFUSAL_PATTERN)]
OfflineAfter = Annotated[int, Meta(ge=1, le=2_678_400)]
ResetAt = Annotated[str, Meta(pattern=RESET_PATTERN)]
Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Sequence = Annotated[int, Meta(ge=0, le=2**15 - 1)]
Limit = Annotated[int, Meta(ge=1, le=1000)]
MAX_STALENESS = 300
Staleness = Annotated[int, Meta(ge=0, le=MAX_STALENESS)]
Cursor = Annotated[str, Meta(max_length=400)]
# msgspec reads it; headcount.ingest.formats makes sure that it reads as headcount.wire.instants does.
Timestamp = Annotated[datetime, Meta(tz=True)]

Item = TypeVar("Item")


class Page(Struct, Generic[Item], frozen=True):
    """One page of a list; `next` goes into `?after=`, null at the end."""

    items: list[Item]
    next: str | None = None


class NoQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """An address without query parameters."""


class PageQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    limit: Limit = 100
    after: Cursor | None = None


# The floor plan


class OpeningHours(Struct, frozen=True, forbid_unknown_fields=True):
    """Local time; day 0 is Monday; `close` at or before `open` is on the following day."""

    day: Annotated[int, Meta(ge=0, le=6)]
    open: Clock
    close: Clock


class SpaceIn(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is absent stays as it is; null clears it."""

    name: Text | UnsetType | None = UNSET
    parent: Id | UnsetType | None = UNSET
    time_zone: Text | UnsetType | None = UNSET
    capacity: Count | UnsetType | None = UNSET
    reset_at: ResetAt | UnsetType | None = UNSET
    opening_hours: Annotated[list[OpeningHours], Meta(max_length=1000)] | UnsetType | None = UNSET
    offline_after_seconds: OfflineAfter | UnsetType | None = UNSET
    retired: bool | UnsetType = UNSET


class SpaceOut(Struct, frozen=True):
    """`effective_...`: what holds for the space, itself or by its parents."""

    id: str
    name: str | None
    parent: str | None
    time_zone: str | None
    capacity: int | None
    reset_at: str | None
    opening_hours: list[OpeningHours] | None
    effective_time_zone: str
    effective_reset_at: str
    offline_after_seconds: int | None
    effective_offline_after_seconds: int
    retired_at: datetime | None


class CountChange(Struct, frozen=True):
    """How the raw count of a space would change: `from` and `to` are the first and the last instant at which it would
    be another one, `at` is the first instant of the largest change, `before` and `after` are the raw count then."""

    space: str
    from_: datetime = field(name="from")
    to: datetime
    largest_change: int
    at: datetime
    before: int
    after: int


class DryRunOut(Struct, frozen=True, kw_only=True):
    """With `?dry_run=true`: nothing was changed, and these counts would be others."""

    dry_run: bool | UnsetType = UNSET
    counts: list[CountChange] | UnsetType = UNSET


class SpaceSavedOut(SpaceOut, frozen=True, kw_only=True):
    """With the fields of DryRunOut."""

    dry_run: bool | UnsetType = UNSET
    counts: list[CountChange] | UnsetType = UNSET


class DryRunQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    dry_run: bool = False


class ThingsQuery(PageQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """With `retired`: those that are no longer in use, and no others."""

    retired: bool = False


class SpacesQuery(ThingsQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    parent: Id | None = None


class DoorwayIn(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A side is a space, or null for the outside."""

    name: Text | UnsetType | None = UNSET
    sides: tuple[Id | None, Id | None] | UnsetType = UNSET
    retired: bool | UnsetType = UNSET


class DoorwayOut(Struct, frozen=True):
    id: str
    name: str | None
    sides: tuple[str | None, str | None]
    retired_at: datetime | None


class DpuIn(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is absent stays as it is; null clears it. `offline_after_seconds` null: as its space says."""

    name: Text | UnsetType | None = UNSET
    mac_address: MacAddress | UnsetType | None = UNSET
    offline_after_seconds: OfflineAfter | UnsetType | None = UNSET
    retired: bool | UnsetType = UNSET


class PlacementOut(Struct, frozen=True):
    """`mounted_in`: the side it is mounted on, null for the outside; `until`: null while it lasts."""

    doorway: str | None
    mounted_in: str | None
    from_: datetime = field(name="from")
    until: datetime | None
    recorded_at: datetime


class DpuOut(Struct, frozen=True):
    """`placement`: where it is now; `cumulative_count`: the sum of all its directions.

    `state`: online, offline, quiet or never_seen. `effective_offline_after_seconds`: by itself, or by its space.
    `rejected_last_day`: events of it that were refused in the last 24 hours. `clock`: ok, ahead, unset, behind or
    stuck (all its latest events carry one instant). `first_heard`: when the first message of it came that was not
    backfilled or imported; null: none did, and its silence means nothing yet.
    """

    id: str
    name: str | None
    mac_address: str | None
    state: str
    last_seen: datetime | None
    placement: PlacementOut | None
    cumulative_count: int
    latest_timestamp: datetime | None
    rejected_last_day: int
    clock: str
    retired_at: datetime | None
    offline_after_seconds: int | None
    effective_offline_after_seconds: int
    first_heard: datetime | None


class DpusQuery(ThingsQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    space: Id | None = None
    state: State | None = None
    placed: bool | None = None


class PlacementIn(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """From `from` (default: now) until `until` (default: further notice); `doorway` null takes the DPU down."""

    doorway: Id | None
    mounted_in: Id | None = None
    from_: Instant | None = field(name="from", default=None)
    until: Instant | None = None


class SiteSpaceIn(SpaceIn, frozen=True, forbid_unknown_fields=True, kw_only=True):
    id: Id


class SiteDoorwayIn(DoorwayIn, frozen=True, forbid_unknown_fields=True, kw_only=True):
    id: Id


class SiteDpuIn(DpuIn, frozen=True, forbid_unknown_fields=True, kw_only=True):
    id: Id


class PlacementSavedOut(PlacementOut, frozen=True, kw_only=True):
    """With the fields of DryRunOut."""

    dry_run: bool | UnsetType = UNSET
    counts: list[CountChange] | UnsetType = UNSET


class PlacementUndoQuery(DryRunQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    from_: Instant = field(name="from")


class SitePlacementIn(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    dpu: Id
    doorway: Id | None
    mounted_in: Id | None = None
    from_: Instant = field(name="from")
    until: Instant | None = None


class SiteIn(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole floor plan, all or nothing."""

    spaces: list[SiteSpaceIn] = []
    doorways: list[SiteDoorwayIn] = []
    dpus: list[SiteDpuIn] = []
    placements: list[SitePlacementIn] = []


class SiteChange(Struct, frozen=True):
    """kind: space, doorway, dpu or placement; change: created, updated or unchanged."""

    kind: str
    id: str
    change: str


class SiteOut(DryRunOut, frozen=True, kw_only=True):
    changes: list[SiteChange]


class Preview(Struct, frozen=True):
    """What a change would answer, and the facts that counts follow from where they would differ; both as JSON."""

    result: str | None
    facts: str


class ResetIn(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """At this instant (default: now) the space held exactly this many people."""

    count: Count
    at: Instant | None = None


class ResetOut(Struct, frozen=True):
    space: str
    at: datetime
    count: int
    recorded_at: datetime


class ResetSavedOut(ResetOut, frozen=True, kw_only=True):
    """With the fields of DryRunOut."""

    dry_run: bool | UnsetType = UNSET
    counts: list[CountChange] | UnsetType = UNSET


class ResetUndoQuery(DryRunQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    at: Instant


class ResetRow(Struct, frozen=True):
    """`recorded_at` is null for the scheduled ones, which are not stored."""

    at: datetime
    count: int
    scheduled: bool
    recorded_at: datetime | None


class ResetsQuery(PageQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    from_: Instant | None = field(name="from", default=None)
    to: Instant | None = None
    scheduled: bool = False


# Tokens

Scope = Literal["ingest", "read", "admin"]
Rate = Annotated[int, Meta(ge=1, le=2**31 - 1)]


class TokenIn(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`space`: reaches this one and all below it only. A rate that is absent is the one that the service sets."""

    scopes: Annotated[list[Scope], Meta(min_length=1, max_length=10)]
    name: Text | None = None
    space: Id | None = None
    expires_at: Instant | None = None
    events_per_second: Rate | None = None
    requests_per_second: Rate | None = None


class TokenOut(Struct, frozen=True, kw_only=True):
    """`id` is not secret. `last_used_at`: to the minute. `created_by`: the token on whose behalf it was made."""

    id: str
    name: str | None
    scopes: list[str]
    space: str | None
    events_per_second: int | None
    requests_per_second: int | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    created_by: str | None


class TokenMadeOut(TokenOut, frozen=True, kw_only=True):
    """`token` is what to send as `Authorization: Bearer ...`; nobody can tell it a second time."""

    token: str


class RevokeQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`descendants`: also the tokens that were made on behalf of this one, and on theirs."""

    descendants: bool = True


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
    """What is absent stays as it is; null clears it. A new one needs `kind`, and `url` or (e-mail) `to`.

    `secret` signs webhooks; without one, or with null, the service makes one. `under`: only about this space and
    those below it.
    """

    kind: ChannelKind | UnsetType = UNSET
    url: Url | UnsetType | None = UNSET
    to: Address | Annotated[list[Address], Meta(min_length=1, max_length=50)] | UnsetType | None = UNSET
    secret: Secret | UnsetType | None = UNSET
    events: Annotated[list[ChannelEvent], Meta(min_length=1, max_length=10)] | UnsetType = UNSET
    under: Id | UnsetType | None = UNSET
    only_in_opening_hours: bool | UnsetType | None = UNSET
    muted_until: Instant | UnsetType | None = UNSET


class ChannelOut(Struct, frozen=True, kw_only=True):
    """`url`: of an Apprise channel the scheme alone. `failing_since`: null while the last try went well."""

    id: str
    kind: str
    url: str | None
    to: list[str] | None
    events: list[str]
    under: str | None
    only_in_opening_hours: bool
    muted_until: datetime | None
    created_at: datetime
    failing_since: datetime | None


class ChannelPutOut(ChannelOut, frozen=True, kw_only=True):
    """`secret`: only if the service has just made it; nobody can tell it a second time."""

    secret: str | UnsetType = UNSET


class ClaimRow(Struct, frozen=True):
    """A delivery to be sent, with what is secret of its channel; `details` is JSON."""

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

    def __repr__(self) -> str:
        return f"<delivery {self.delivery}>"


class TryOut(Struct, frozen=True):
    """`status`: of HTTP. `answer` and `error`: the first 500 characters."""

    at: datetime
    duration_ms: int
    delivered: bool
    status: int | None
    answer: str | None
    error: str | None


class DeliveryOut(Struct, frozen=True, kw_only=True):
    """A notice on its way by one channel. `notice`: what receivers see as `webhook-id`; `data`: and as `data`.

    `state`: pending, delivered, failed, suppressed or cancelled; `reason` of the last two: muted, closed, not_told,
    corrected, channel_deleted.
    """

    id: str
    channel: str
    notice: str
    kind: str
    space: str | None
    occurred_at: datetime
    data: dict[str, Any]
    state: str
    reason: str | None
    created_at: datetime
    settled_at: datetime | None
    next_try_at: datetime | None
    tries: list[TryOut]


class DeliveriesQuery(PageQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    channel: Id | None = None
    state: Literal["pending", "delivered", "failed", "suppressed", "cancelled"] | None = None


class DeliveryState(Struct, frozen=True):
    """Deliveries that wait, and for how long the oldest of them has."""

    pending: int
    oldest_seconds: float


# Events


class EventIn(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One report of a DPU. `dpu` is an id; headcount.ingest.formats checks the ids of a whole batch at once."""

    dpu: str
    timestamp: Timestamp
    direction: Int32
    sequence: Sequence = 0


class EventsIn(Struct, frozen=True, forbid_unknown_fields=True):
    events: list[EventIn]


class ReadingIn(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """An event of one device whose direction is `count`."""

    timestamp: Timestamp
    count: Int32


class ReadingsIn(Struct, frozen=True, forbid_unknown_fields=True):
    id: Id
    readings: list[ReadingIn]


class Rejection(Struct, frozen=True):
    """`index`: which event of the request, from 0.

    `code`: invalid, conflict, in_future, too_old, clock_unset or unknown_dpu.
    """

    index: int
    code: str
    detail: str


class EventsRecordedOut(Struct, frozen=True):
    """received = accepted + duplicates + rejected."""

    received: int
    accepted: int
    duplicates: int
    rejected: list[Rejection]


class Verdict(Struct, frozen=True):
    """What the database did not accept; `verdict`: duplicate or one of a rejection's codes."""

    index: int
    verdict: str
    detail: str


class EventOut(Struct, frozen=True):
    """`sign`: how it counted for the space asked for (1, -1 or 0); absent without one."""

    dpu: str
    timestamp: datetime
    direction: int
    sequence: int
    received_at: datetime
    sign: int | UnsetType = UNSET


class RejectedEventOut(Struct, frozen=True):
    """A refused event: `detail` says why. `timestamp`, `direction` and `sequence`: null where it could not be decoded.

    `body`: its text where it could not be decoded, the first 1,000 characters. `rerun_at`: when it went in after all.
    `token`: the id of the token that sent it; null: it came without one, or a limited token asks.
    """

    id: str
    received_at: datetime
    code: str
    detail: str
    dpu: str | None
    source: str | None
    timestamp: datetime | None
    direction: int | None
    sequence: int | None
    body: str | None
    rerun_at: datetime | None
    token: str | None


class RejectedQuery(PageQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Those received in [from, to). `rerun`: instead those that were run again and went in."""

    dpu: Id | None = None
    source: Id | None = None
    code: RefusalCode | None = None
    from_: Instant | None = field(name="from", default=None)
    to: Instant | None = None
    rerun: bool = False


class RerunIn(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which refused events to run again: as for GET /v1/rejected, or those of them with these ids."""

    dpu: Id | None = None
    source: Id | None = None
    code: RefusalCode | None = None
    from_: Instant | None = field(name="from", default=None)
    to: Instant | None = None
    ids: Annotated[list[Annotated[str, Meta(pattern=NUMBER_PATTERN)]], Meta(max_length=10_000)] | None = None
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 10_000
    after: Cursor | None = None


class RerunQuery(RerunIn, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class RejectionAgain(Struct, frozen=True):
    """`index`: which of those that were run, from 0; `id`: which refused event that is."""

    index: int
    code: str
    detail: str
    id: str


class RerunOut(Struct, frozen=True):
    """received = accepted + duplicates + rejected. `next`: where to go on, if there are more than `limit`."""

    received: int
    accepted: int
    duplicates: int
    rejected: list[RejectionAgain]
    next: str | None


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
    """`backfill`: what was kept for some time. That it is received now is no sign of life."""

    backfill: bool = False


class EventsQuery(PageQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    dpu: Id | None = None
    space: Id | None = None
    from_: Instant | None = field(name="from", default=None)
    to: Instant | None = None
    max_staleness: Staleness = 0


# Sensors


class HeartbeatIn(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A sign of life of the DPU with this id, or with this MAC address; `timestamp`: now, if absent."""

    dpu: Id | None = None
    mac_address: MacAddress | None = None
    timestamp: Instant | None = None


class HeartbeatsIn(Struct, frozen=True, forbid_unknown_fields=True):
    heartbeats: Annotated[list[HeartbeatIn], Meta(max_length=10_000)]


class HeartbeatQuery(HeartbeatIn, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class HeartbeatRow(Struct, frozen=True):
    """What became of a heartbeat; `verdict`: null (accepted), duplicate or one of a rejection's codes."""

    verdict: str | None
    detail: str | None
    dpu: str | None
    last_seen: datetime | None


class HeartbeatOut(Struct, frozen=True):
    """`last_seen`: when the DPU was heard from last."""

    dpu: str
    last_seen: datetime


class SensorOut(Struct, frozen=True, gc=False):
    """`last_seen`: when it was heard from last; `since`: from when on it is in this state, null for never_seen.

    `state`: online, offline, quiet (silent, but that means nothing) or never_seen.
    `space`: the one that it is mounted in, or, mounted outside, the other side's; null: it hangs nowhere.
    """

    id: str
    mac_address: str | None
    last_heartbeat: datetime | None
    state: str
    space: str | None
    name: str | None
    last_seen: datetime | None
    since: datetime | None
    rejected_last_day: int
    clock: str


class SensorsQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """With `limit` or `after` a page of so many (100), else all."""

    space: Id | None = None
    state: State | None = None
    limit: Limit | None = None
    after: Cursor | None = None

    @property
    def is_paged(self) -> bool:
        return self.limit is not None or self.after is not None


class IncidentOut(Struct, frozen=True):
    """`kind`: dpu_offline, or site_offline (most of a site at once); `ended_at`: null while it lasts.

    `corrected`: there was no such outage; `absorbed_by`: the incident of the site that took its place.
    """

    id: str
    kind: str
    dpus: list[str]
    space: str | None
    started_at: datetime
    ended_at: datetime | None
    corrected: bool
    absorbed_by: str | None


class IncidentsQuery(PageQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    open: bool | None = None


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
    """Offline in [from, until), as far as that lies in the range asked for."""

    from_: datetime = field(name="from")
    until: datetime


class AvailabilityOut(Struct, frozen=True):
    """Of [from, to), from the DPU's first sign of life up to now. `availability`: online / (online + offline)."""

    dpu: str
    from_: datetime = field(name="from")
    to: datetime
    online_seconds: float
    offline_seconds: float
    availability: float | None
    outages: list[OutageOut]


class AvailabilityQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    from_: Instant | None = field(name="from", default=None)
    to: Instant | None = None


# Polls


class PollIn(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """At this instant the space was active or inactive."""

    space: str
    timestamp: Timestamp
    status: Literal["active", "inactive"]


class PollsIn(Struct, frozen=True, forbid_unknown_fields=True):
    polls: list[PollIn]


# Uptime


class ReportIn(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`now`: the end of its windows, by default the latest poll; `under`: of this space and all below it only."""

    now: Instant | None = None
    under: Id | None = None
    format: Annotated[str, Meta(pattern=FORMAT_PATTERN)] = "csv"


class ReportStartedOut(Struct, frozen=True):
    report_id: str


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
    """`status`: Running, Complete or Failed (`detail` says why). `now` is null until somebody computes it.

    `csv_url` and `rows` are null until it is complete.
    """

    id: str
    status: str
    progress: float
    now: datetime | None
    under: str | None
    created_at: datetime
    finished_at: datetime | None
    rows: int | None
    csv_url: str | None
    detail: str | None


class ReportStatusOut(Struct, frozen=True, omit_defaults=True):
    """`status`: Running (with `progress`), Complete (with `csv_url` and `rows`) or Failed (with `detail`)."""

    status: str
    progress: float | None = None
    csv_url: str | None = None
    rows: int | None = None
    detail: str | None = None


class ReportQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    report_id: Id


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
    """Business time in [start, end), in seconds: active, and the rest."""

    start: datetime
    end: datetime
    uptime_seconds: float
    downtime_seconds: float


class SpaceUptimeOut(Struct, frozen=True):
    """`polled`: whether it was ever polled; if not, all its business time is downtime, which says nothing about it."""

    space: str
    time_zone: str
    buckets: list[UptimeOut]
    polled: bool


class ReportSiteOut(Struct, frozen=True):
    """A row of a report. `polled`: whether the site was ever polled; if not, its downtime says nothing about it.

    Minutes of the last hour, hours of the last day and week; two decimals.
    """

    space: str
    name: str | None
    polled: bool
    uptime_last_hour_minutes: float
    uptime_last_day_hours: float
    uptime_last_week_hours: float
    downtime_last_hour_minutes: float
    downtime_last_day_hours: float
    downtime_last_week_hours: float


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
    """[start, end)."""

    start: datetime
    end: datetime


class TimelinePollOut(Struct, frozen=True):
    """Polls outside opening hours do not count."""

    timestamp: datetime
    status: Literal["active", "inactive"]
    in_opening_hours: bool


class TimelineOut(Struct, frozen=True, kw_only=True):
    """Of [from, to): `up` and `down` make up `open`.

    `days` are whole local ones, with the seconds of what lies in the range. `polls` are the newest 10,000 of
    `poll_count`. `polled`: whether it was ever polled; if not, `down` says nothing about it.
    """

    space: str
    time_zone: str
    from_: datetime = field(name="from")
    to: datetime
    days: list[UptimeOut]
    open: list[PeriodOut]
    up: list[PeriodOut]
    down: list[PeriodOut]
    poll_count: int
    polls: list[TimelinePollOut]
    polled: bool


class TimelineQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    from_: Instant | None = field(name="from", default=None)
    to: Instant | None = None


class SpaceUptimeQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    from_: Instant | None = field(name="from", default=None)
    to: Instant | None = None
    interval: Annotated[str, Meta(pattern=INTERVAL_PATTERN)] | None = None
    format: Annotated[str, Meta(pattern=FORMAT_PATTERN)] | None = None


# Counts


class DpusOut(Struct, frozen=True):
    """How complete a count is: DPUs at the outer doorways, and how many of them were online."""

    placed: int
    online: int


class CountOut(Struct, frozen=True):
    """`count` is `raw_count`, but never below 0. `since`: the reset it counts from; `utilization`: of the capacity.

    `counted`: whether anything counts for the space yet; `counted_since`: its first event at an outer doorway, or
    explicit reset; null where nothing counts for it.
    """

    space: str
    at: datetime
    count: int
    raw_count: int
    since: datetime | None
    capacity: int | None
    utilization: float | None
    dpus: DpusOut
    counted: bool
    counted_since: datetime | None


class CountsOut(Struct, frozen=True):
    """One snapshot for all of them."""

    at: datetime
    counts: list[CountOut]


class LiveQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    space: Annotated[list[Id], Meta(max_length=1000)] | None = None
    under: Id | None = None


class SpaceChangeOut(Struct, frozen=True):
    """Something about the space itself changed: look it up; `deleted`: it is gone from what was asked for."""

    space: str
    deleted: bool


class ListAgainOut(Struct, frozen=True):
    """What listeners of the live stream are told where changes may have been missed: list spaces and sensors again.

    `reason`: `last_event_id`, it was too old or is not known; `stalled`, the service did not follow for a while.
    """

    reason: Literal["last_event_id", "stalled"]


class DpuChangeOut(Struct, frozen=True):
    """A DPU that went offline, came back or was heard from for the first time.

    `at`: from when on it is in this state; `space`: the one that it is mounted in, or else the other side's.
    """

    dpu: str
    state: str
    last_seen: datetime | None
    at: datetime | None
    space: str | None


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


class TurnedRow(Struct, frozen=True):
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
    """`max_staleness`: how many seconds old the answer may be; X-Data-As-Of tells up to when it has everything."""

    at: Instant | None = None
    known_at: Instant | None = None
    max_staleness: Staleness = 0


class CountsQuery(CountQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    space: Annotated[list[Id], Meta(max_length=1000)] | None = None
    under: Id | None = None


class BucketOut(Struct, frozen=True):
    """What happened in [start, end): `count` at its end; `min`, `max` and `average` of the raw count over it."""

    start: datetime
    end: datetime
    count: int
    raw_count: int
    min: int
    max: int
    average: float
    entries: int
    exits: int
    utilization: float | None


class SpaceCountsOut(Struct, frozen=True):
    """How the count went. `resolution`: `event` where `min` and `max` are exact, `15m` where over quarter-hours."""

    space: str
    time_zone: str
    resolution: str
    buckets: list[BucketOut]


class SpaceCountsQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    from_: Instant | None = field(name="from", default=None)
    to: Instant | None = None
    interval: Annotated[str, Meta(pattern=INTERVAL_PATTERN)] = "1h"
    time_zone: Text | None = None
    format: Annotated[str, Meta(pattern=FORMAT_PATTERN)] | None = None
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
    """`data`: count by timestamp, in time order."""

    data: dict[str, int]
    latest_timestamp: str | None
    cumulative_count: int


class LatestTimestampOut(Struct, frozen=True):
    latest_timestamp: str | None


class CumulativeCountOut(Struct, frozen=True):
    cumulative_count: int


class DeviceQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    from_: Instant | None = field(name="from", default=None)
    to: Instant | None = None
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 10_000


# The service itself


class HealthOut(Struct, frozen=True):
    status: str = "ok"


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
