"""Polls of sites, reports and timelines."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal

from msgspec import Struct, field

from headcount.wire.instants import Instant
from headcount.wire.messages.base import Format, Id, Interval, Moment, Timestamp, about


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

    start: Annotated[Moment, about("Start of the bucket.", "2026-03-02T00:00:00Z")]
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

    start: Annotated[Moment, about("Start of the period.", "2026-03-02T08:00:00Z")]
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
    from_: Annotated[Moment, about("Start of the range.", "2026-02-23T12:00:00Z")] = field(name="from")
    to: Annotated[Moment, about("End of the range.", "2026-03-02T12:00:00Z")]
    days: Annotated[list[UptimeOut], about("Whole local days, each with the seconds of its part in the range.")]
    open: Annotated[list[PeriodOut], about("When it was open.")]
    up: Annotated[list[PeriodOut], about("When it was up.")]
    down: Annotated[list[PeriodOut], about("When it was down.")]
    poll_count: Annotated[int, about("How many polls the range has.", 168)]
    polls: Annotated[list[TimelinePollOut], about("The newest polls, up to 10,000, in time order.")]
    polled: Annotated[bool, about("False: the space was never polled, so `down` says nothing about it.", True)]


class TimelineQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    from_: Annotated[Instant | None, about("Start of the range; absent: 168 hours before `to`.")] = field(
        name="from", default=None
    )
    to: Annotated[Instant | None, about("End of the range; absent: the latest poll.")] = None


class SpaceUptimeQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    from_: Annotated[Instant | None, about("Start of the range; absent: 168 hours before `to`.")] = field(
        name="from", default=None
    )
    to: Annotated[Instant | None, about("End of the range; absent: the latest poll. Later polls do not count.")] = None
    interval: Annotated[
        Interval | None, about("Size of the buckets; absent: one bucket for the whole range.", "1d")
    ] = None
    format: Annotated[Format | None, about("Form of the answer; absent: as `Accept` says.", "json")] = None


# Counts
