"""Heartbeats, states of sensors, incidents and availability."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct, field

from headcount.wire.instants import Instant
from headcount.wire.messages.base import Cursor, Id, Limit, MacAddress, Moment, PageQuery, State, about


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
    last_heartbeat: Annotated[
        Moment | None, about("When its last heartbeat came; null: none did since it came into the token's space.")
    ]
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
    last_seen: Annotated[
        Moment | None, about("When it was heard from last; null: never, or before it came into the token's space.")
    ]
    since: Annotated[
        Moment | None,
        about("Since when it is in this state, or in the token's space, if it came later; null: never seen."),
    ]
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
    from_: Annotated[Moment, about("Start of the range.", "2026-03-01T12:00:00Z")] = field(name="from")
    to: Annotated[Moment, about("End of the range.", "2026-03-02T12:00:00Z")]
    online_seconds: Annotated[float, about("How long it was online, in seconds.", 85200.0)]
    offline_seconds: Annotated[float, about("How long it was offline, in seconds.", 1200.0)]
    availability: Annotated[
        float | None, about("online / (online + offline), 0 to 1; null: there is no time to look at.", 0.986)
    ]
    outages: Annotated[list[OutageOut], about("When it was offline, oldest first.")]


class AvailabilityQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    from_: Annotated[Instant | None, about("Start of the range; absent: 24 hours before `to`.")] = field(
        name="from", default=None
    )
    to: Annotated[Instant | None, about("End of the range; absent: now.")] = None


# Polls
