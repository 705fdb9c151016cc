"""One function for each function of schema `api`, of the same name: one statement, arguments by name.

They are declarations: `call` makes the statement from a function's name and parameters, and what is returned from its
annotation (rows.py). What they do, their units and their errors are told in docs/sql-api.md.
"""

from collections.abc import Sequence
from datetime import datetime

from headcount.database import rows
from headcount.database.declaring import Declared, Session, call, call_in_thread, shaped
from headcount.wire.messages import counts, devices, events, notices, plan, sensors, service, tokens, uptime

__all__ = ["Session"]

# The floor plan


@call
async def put_space(session: Session, space: str, patch: plan.SpaceIn) -> tuple[bool, plan.SpaceOut]:
    """Whether it was created, and what it is now."""
    raise Declared


@call
async def get_space(session: Session, space: str) -> plan.SpaceOut:
    raise Declared


@call
async def list_spaces(
    session: Session,
    parent: str | None = None,
    after: str | None = None,
    max_rows: int = 100,
    retired: bool = False,
    max_hours: int | None = None,
) -> list[plan.SpaceOut]:
    raise Declared


@call
async def delete_space(session: Session, space: str) -> bool:
    """Whether it was retired, and not removed."""
    raise Declared


@call
async def delete_doorway(session: Session, doorway: str) -> bool:
    """Whether it was retired, and not removed."""
    raise Declared


@call
async def delete_dpu(session: Session, dpu: str) -> bool:
    """Whether it was retired, and not removed."""
    raise Declared


@call
async def put_doorway(session: Session, doorway: str, patch: plan.DoorwayIn) -> tuple[bool, plan.DoorwayOut]:
    """Whether it was created, and what it is now."""
    raise Declared


@call
async def get_doorway(session: Session, doorway: str) -> plan.DoorwayOut:
    raise Declared


@call
async def list_doorways(
    session: Session, after: str | None = None, max_rows: int = 100, retired: bool = False
) -> list[plan.DoorwayOut]:
    raise Declared


@call
async def put_dpu(session: Session, dpu: str, patch: plan.DpuIn) -> tuple[bool, plan.DpuOut]:
    """Whether it was created, and what it is now."""
    raise Declared


@call
async def get_dpu(session: Session, dpu: str) -> plan.DpuOut:
    raise Declared


@call
async def list_dpus(
    session: Session,
    space: str | None = None,
    state: str | None = None,
    placed: bool | None = None,
    after: str | None = None,
    max_rows: int = 100,
    retired: bool = False,
) -> list[plan.DpuOut]:
    raise Declared


@call
async def list_placements(session: Session, dpu: str) -> list[plan.PlacementOut]:
    raise Declared


@call
async def record_placement(
    session: Session,
    dpu: str,
    doorway: str | None,
    mounted_in: str | None,
    from_at: datetime | None = None,
    until_at: datetime | None = None,
) -> plan.PlacementOut:
    """The placement as stored; its doorway is None where the DPU was taken down."""
    raise Declared


@call
async def apply_site(session: Session, site: plan.SiteIn) -> list[plan.SiteChange]:
    raise Declared


@call
async def record_reset(session: Session, space: str, count: int, at: datetime | None = None) -> plan.ResetOut:
    raise Declared


@call
async def undo_placement(session: Session, dpu: str, from_at: datetime) -> None:
    raise Declared


@call
async def undo_reset(session: Session, space: str, at: datetime) -> None:
    raise Declared


@call
async def preview_change(session: Session, change: str, arguments: str) -> plan.Preview:
    """What one of these functions would do; `arguments` is JSON."""
    raise Declared


@call
async def compare_counts(session: Session, facts: str) -> list[plan.CountChange]:
    raise Declared


@call
async def list_resets(
    session: Session,
    space: str,
    from_at: datetime | None = None,
    to_at: datetime | None = None,
    scheduled: bool = False,
    after: datetime | None = None,
    max_rows: int = 100,
) -> list[plan.ResetRow]:
    raise Declared


# Events


@call
async def record_events(
    session: Session,
    dpus: Sequence[str],
    times: Sequence[datetime],
    directions: Sequence[int],
    sequences: Sequence[int],
    auto_register: bool = True,
    refused_bodies: Sequence[str] = (),
    refused_details: Sequence[str] = (),
    refused_dpus: Sequence[str | None] = (),
    keep_refused: bool = True,
    senders: Sequence[str | None] = (),
    sender_sizes: Sequence[int] = (),
    backfill: bool = False,
    refused_digests: Sequence[bytes | None] = (),
) -> list[events.Verdict]:
    """Only of the events that were not accepted."""
    raise Declared


@call
async def list_rejected(
    session: Session,
    dpu: str | None = None,
    source: str | None = None,
    code: str | None = None,
    from_at: datetime | None = None,
    to_at: datetime | None = None,
    before_at: datetime | None = None,
    before_id: int | None = None,
    rerun: bool = False,
    max_rows: int = 100,
) -> list[events.RejectedEventOut]:
    raise Declared


@call
async def rerun_rejected(
    session: Session,
    dpu: str | None = None,
    source: str | None = None,
    code: str | None = None,
    from_at: datetime | None = None,
    to_at: datetime | None = None,
    ids: Sequence[int] | None = None,
    after_id: int | None = None,
    auto_register: bool = True,
    max_rows: int = 10_000,
    max_days: int | None = None,
) -> list[events.RerunRow]:
    """What became of each, in the order in which they were refused."""
    raise Declared


@call
async def get_refusal_state(session: Session) -> events.RefusalState:
    raise Declared


@call
async def note_ahead(session: Session, dpus: Sequence[str], times: Sequence[datetime]) -> None:
    raise Declared


@call
async def list_events(
    session: Session,
    dpu: str | None = None,
    space: str | None = None,
    from_at: datetime | None = None,
    to_at: datetime | None = None,
    after_time: datetime | None = None,
    after_dpu: str | None = None,
    after_sequence: int | None = None,
    max_rows: int = 100,
) -> list[events.EventOut]:
    raise Declared


# Sensors


@call
async def record_heartbeats(
    session: Session,
    dpus: Sequence[str | None],
    mac_addresses: Sequence[str | None],
    times: Sequence[datetime | None],
    auto_register: bool = True,
    senders: Sequence[str | None] = (),
    sender_sizes: Sequence[int] = (),
    backfill: bool = False,
) -> list[sensors.HeartbeatRow]:
    """What became of each, in their order."""
    raise Declared


@call
async def detect_outages(session: Session) -> int | None:
    """How many DPUs went offline; None: another process is at it."""
    raise Declared


@call
async def detect_busy_outages(session: Session) -> int | None:
    """As detect_outages, once the row of a sensor is free that was always locked; None: there is no such sensor."""
    raise Declared


@call_in_thread
async def list_sensors(
    session: Session,
    space: str | None = None,
    state: str | None = None,
    after_offline: bool | None = None,
    after_id: str | None = None,
    max_rows: int | None = None,
) -> list[sensors.SensorOut]:
    raise Declared


@call
async def list_flipped_dpus(
    session: Session, dpus: Sequence[str], tokens: Sequence[str] = ()
) -> list[counts.FlippedRow]:
    raise Declared


@call
async def list_incidents(
    session: Session, open: bool | None = None, after: int | None = None, max_rows: int = 100
) -> list[sensors.IncidentOut]:
    raise Declared


@shaped(rows.availability)
async def get_availability(
    session: Session, dpu: str, from_at: datetime | None = None, to_at: datetime | None = None
) -> sensors.AvailabilityOut:
    raise Declared


@call
async def set_registration(
    session: Session, burst: int, per_hour: int, max_unplaced: int, max_unnamed_spaces: int = 50_000
) -> None:
    raise Declared


# Polls, and what an import says of sites


@call
async def record_polls(
    session: Session,
    spaces: Sequence[str],
    times: Sequence[datetime],
    are_active: Sequence[bool],
    auto_register: bool = True,
    assumed_zone: str | None = None,
    refused_bodies: Sequence[str] = (),
    refused_details: Sequence[str] = (),
    numbers: Sequence[int] | None = None,
    sender: str | None = None,
    refused_digests: Sequence[bytes | None] = (),
) -> list[events.Verdict]:
    """Only of the polls that were not accepted."""
    raise Declared


@call
async def record_hours(
    session: Session,
    spaces: Sequence[str],
    days: Sequence[int],
    opens: Sequence[str],
    closes: Sequence[str],
    auto_register: bool = True,
    assumed_zone: str = "America/Chicago",
) -> list[events.Verdict]:
    """Only of the rows that were not accepted."""
    raise Declared


@call
async def record_time_zones(
    session: Session, spaces: Sequence[str], time_zones: Sequence[str], auto_register: bool = True
) -> list[events.Verdict]:
    """Only of the rows that were not accepted."""
    raise Declared


# Uptime


@call
async def create_report(
    session: Session,
    now_at: datetime | None = None,
    under: str | None = None,
    format: str = "csv",
    max_running: int = 100,
    token: str | None = None,
    per_hour: int = 1000,
) -> str:
    """Its id."""
    raise Declared


@call
async def get_report(session: Session, report: str) -> uptime.ReportRow:
    raise Declared


@call
async def list_reports(
    session: Session, after_at: datetime | None = None, after_id: str | None = None, max_rows: int = 100
) -> list[uptime.ReportRow]:
    raise Declared


@call
async def list_report_rows(
    session: Session, report: str, after: str | None = None, max_rows: int = 1000
) -> list[uptime.SiteUptimeRow]:
    raise Declared


@call
async def list_report_sites(
    session: Session, report: str, after: str | None = None, max_rows: int = 1000
) -> list[uptime.ReportSiteOut]:
    raise Declared


@shaped(rows.uptimes)
async def list_uptimes(
    session: Session,
    space: str,
    from_at: datetime | None = None,
    to_at: datetime | None = None,
    grain: str | None = None,
) -> uptime.SpaceUptimeOut:
    raise Declared


@shaped(rows.timeline)
async def get_timeline(
    session: Session,
    space: str,
    from_at: datetime | None = None,
    to_at: datetime | None = None,
    max_polls: int = 10_000,
) -> uptime.TimelineOut:
    raise Declared


@call
async def claim_report(session: Session, lease_seconds: float = 30) -> uptime.ReportClaim | None:
    """None where there is nothing to do."""
    raise Declared


@call
async def compute_report(
    session: Session, report: str, attempt: int, after: str | None = None, max_sites: int = 500
) -> uptime.ReportStep:
    raise Declared


@call
async def extend_report(
    session: Session, report: str, attempt: int, progress: float, lease_seconds: float = 30
) -> None:
    raise Declared


@call
async def fail_report(session: Session, report: str, attempt: int, reason: str) -> None:
    raise Declared


@call
async def drop_reports(session: Session, keep: int) -> None:
    raise Declared


# Counts


@call
async def get_count(
    session: Session, space: str, at: datetime | None = None, known_at: datetime | None = None
) -> counts.CountOut:
    raise Declared


@call_in_thread
async def list_counts(
    session: Session,
    spaces: Sequence[str] | None = None,
    under: str | None = None,
    at: datetime | None = None,
    known_at: datetime | None = None,
    known_only: bool = False,
) -> list[counts.CountOut]:
    raise Declared


@call
async def list_counts_at(session: Session, spaces: Sequence[str], ats: Sequence[datetime]) -> list[counts.CountOut]:
    raise Declared


@call
async def list_selections(session: Session, selections: str, shared: bool = False) -> list[counts.SelectionRow]:
    raise Declared


@shaped(rows.space_counts)
async def list_space_counts(
    session: Session,
    space: str,
    from_at: datetime | None = None,
    to_at: datetime | None = None,
    grain: str = "1h",
    time_zone: str | None = None,
    *,
    exact: bool = False,
) -> counts.SpaceCountsOut:
    raise Declared


@call
async def list_changes(session: Session, cursor: str | None = None, *, is_resume: bool = False) -> counts.ChangesRow:
    raise Declared


# Tokens


@call
async def create_token(
    session: Session,
    digest: bytes,
    scopes: Sequence[str],
    name: str | None = None,
    space: str | None = None,
    expires_at: datetime | None = None,
    events_per_second: int | None = None,
    requests_per_second: int | None = None,
) -> tokens.TokenOut:
    raise Declared


@call
async def list_tokens(session: Session, after: str | None = None, max_rows: int = 100) -> list[tokens.TokenOut]:
    raise Declared


@call
async def revoke_token(session: Session, token: str, descendants: bool = True) -> bool:
    """Whether one of them may still be remembered as good."""
    raise Declared


@call
async def find_tokens(session: Session, digests: Sequence[bytes]) -> list[tokens.TokenRow]:
    """Only the good ones."""
    raise Declared


# Channels and what is sent by them


@call
async def put_channel(session: Session, channel: str, patch: notices.ChannelIn) -> tuple[bool, notices.ChannelPutOut]:
    """Whether it was created, and what it is now."""
    raise Declared


@call
async def get_channel(session: Session, channel: str) -> notices.ChannelOut:
    raise Declared


@call
async def list_channels(session: Session, after: str | None = None, max_rows: int = 100) -> list[notices.ChannelOut]:
    raise Declared


@call
async def delete_channel(session: Session, channel: str) -> None:
    raise Declared


@call
async def try_channel(
    session: Session,
    channel: str,
    lease_seconds: int = 30,
    channel_tests: int | None = None,
    token_tests: int | None = None,
) -> notices.ClaimRow:
    raise Declared


@call
async def claim_deliveries(
    session: Session,
    max_rows: int,
    lease_seconds: int = 30,
    a_channel: int = 4,
    a_family: int = 25,
    failing: int = 50,
) -> list[notices.ClaimRow]:
    raise Declared


@call
async def finish_delivery(
    session: Session,
    delivery: int,
    claim: str,
    is_delivered: bool,
    at: datetime,
    duration_ms: int,
    status: int | None = None,
    answer: str | None = None,
    error: str | None = None,
) -> str | None:
    """Its state now; None for one that is no more."""
    raise Declared


@call
async def replay_delivery(
    session: Session, delivery: str, channel_replays: int | None = None, token_replays: int | None = None
) -> notices.DeliveryOut:
    raise Declared


@call
async def list_deliveries(
    session: Session,
    channel: str | None = None,
    state: str | None = None,
    before: int | None = None,
    max_rows: int = 100,
    max_tries: int | None = None,
) -> list[notices.DeliveryOut]:
    raise Declared


@call
async def get_delivery_state(session: Session) -> notices.DeliveryState:
    raise Declared


@call
async def detect_over_capacity(session: Session) -> int:
    """How many notices it stored."""
    raise Declared


# Devices with readings


@call
async def get_device(session: Session, device: str) -> devices.DeviceRow:
    raise Declared


@call
async def list_readings(
    session: Session,
    device: str,
    from_at: datetime | None = None,
    to_at: datetime | None = None,
    max_rows: int = 10_000,
) -> devices.ReadingsRow:
    raise Declared


# The service itself, and its commands


@call
async def get_schema(session: Session) -> list[service.SchemaRow]:
    raise Declared


@call
async def get_wal_position(session: Session) -> service.WalPosition:
    raise Declared


@call
async def get_rollup_state(session: Session) -> service.RollupState:
    raise Declared


@call
async def get_import(session: Session, digest: str) -> service.ImportRow | None:
    """None for a file that was never begun."""
    raise Declared


@call
async def record_import(
    session: Session,
    digest: str,
    file_name: str,
    lines: int,
    accepted: int,
    duplicates: int,
    rejected: int,
    finished: bool,
) -> None:
    raise Declared


@call
async def get_retention(session: Session) -> service.RetentionRow:
    raise Declared


@call
async def set_retention(session: Session, days: int | None) -> service.RetentionRow:
    raise Declared


@call
async def set_horizon(session: Session, from_at: datetime | None) -> datetime:
    """From when on events are taken now."""
    raise Declared


@call
async def list_differences(session: Session) -> list[service.Difference]:
    raise Declared
