"""One function for each function of schema `api`, of the same name: one statement, arguments by name.

What they do, their units and their errors are told in docs/sql-api.md.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol, TypeVar

import asyncpg
import msgspec
from msgspec import UNSET

from headcount.wire import messages
from headcount.wire.instants import encoded


class Session(Protocol):
    """Where a call runs: the Database of headcount.database.pool, or a connection whose
    transaction is to hold several calls."""

    async def fetch(self, query: str, *args: object) -> list[asyncpg.Record]: ...

    async def fetchrow(self, query: str, *args: object) -> asyncpg.Record | None: ...


Shape = TypeVar("Shape", bound=msgspec.Struct)


def _shape(row: asyncpg.Record | None, kind: type[Shape]) -> Shape:
    """A row as the Struct whose fields are named like its columns; further columns are left out."""
    if row is None:
        raise LookupError(f"no row to make a {kind.__name__} of")
    return msgspec.convert(dict(row), kind)


def _patch(body: msgspec.Struct) -> str:
    """The fields that the body has, as JSON: absent ones are left out, null stays null."""
    return msgspec.json.encode(body, enc_hook=encoded).decode()


# The floor plan


async def put_space(session: Session, space: str, patch: messages.SpaceIn) -> tuple[bool, messages.SpaceOut]:
    """Whether it was created, and what it is now."""
    row = await session.fetchrow("select * from api.put_space(space => $1, patch => $2)", space, _patch(patch))
    return _created(row), _space(row)


async def get_space(session: Session, space: str) -> messages.SpaceOut:
    return _space(await session.fetchrow("select * from api.get_space(space => $1)", space))


async def list_spaces(
    session: Session,
    parent: str | None = None,
    after: str | None = None,
    max_rows: int = 100,
    retired: bool = False,
) -> list[messages.SpaceOut]:
    rows = await session.fetch(
        "select * from api.list_spaces(parent => $1, after => $2, max_rows => $3, retired => $4)",
        parent,
        after,
        max_rows,
        retired,
    )
    return [_space(row) for row in rows]


async def delete_space(session: Session, space: str) -> bool:
    """Whether it was retired, and not removed."""
    return _is_retired(await session.fetchrow("select api.delete_space(space => $1)", space))


async def delete_doorway(session: Session, doorway: str) -> bool:
    """Whether it was retired, and not removed."""
    return _is_retired(await session.fetchrow("select api.delete_doorway(doorway => $1)", doorway))


async def delete_dpu(session: Session, dpu: str) -> bool:
    """Whether it was retired, and not removed."""
    return _is_retired(await session.fetchrow("select api.delete_dpu(dpu => $1)", dpu))


async def put_doorway(session: Session, doorway: str, patch: messages.DoorwayIn) -> tuple[bool, messages.DoorwayOut]:
    """Whether it was created, and what it is now."""
    row = await session.fetchrow("select * from api.put_doorway(doorway => $1, patch => $2)", doorway, _patch(patch))
    return _created(row), _doorway(row)


async def get_doorway(session: Session, doorway: str) -> messages.DoorwayOut:
    return _doorway(await session.fetchrow("select * from api.get_doorway(doorway => $1)", doorway))


async def list_doorways(
    session: Session, after: str | None = None, max_rows: int = 100, retired: bool = False
) -> list[messages.DoorwayOut]:
    rows = await session.fetch(
        "select * from api.list_doorways(after => $1, max_rows => $2, retired => $3)", after, max_rows, retired
    )
    return [_doorway(row) for row in rows]


async def put_dpu(session: Session, dpu: str, patch: messages.DpuIn) -> tuple[bool, messages.DpuOut]:
    """Whether it was created, and what it is now."""
    row = await session.fetchrow("select * from api.put_dpu(dpu => $1, patch => $2)", dpu, _patch(patch))
    return _created(row), _dpu(row)


async def get_dpu(session: Session, dpu: str) -> messages.DpuOut:
    return _dpu(await session.fetchrow("select * from api.get_dpu(dpu => $1)", dpu))


async def list_dpus(
    session: Session,
    space: str | None = None,
    state: str | None = None,
    placed: bool | None = None,
    after: str | None = None,
    max_rows: int = 100,
    retired: bool = False,
) -> list[messages.DpuOut]:
    rows = await session.fetch(
        "select * from api.list_dpus("
        "space => $1, state => $2, placed => $3, after => $4, max_rows => $5, retired => $6)",
        space,
        state,
        placed,
        after,
        max_rows,
        retired,
    )
    return [_dpu(row) for row in rows]


async def list_placements(session: Session, dpu: str) -> list[messages.PlacementOut]:
    return [_placement(row) for row in await session.fetch("select * from api.list_placements(dpu => $1)", dpu)]


async def record_placement(
    session: Session,
    dpu: str,
    doorway: str | None,
    mounted_in: str | None,
    from_at: datetime | None = None,
    until_at: datetime | None = None,
) -> messages.PlacementOut:
    """The placement as stored; its doorway is None where the DPU was taken down."""
    row = await session.fetchrow(
        "select * from api.record_placement(dpu => $1, doorway => $2, mounted_in => $3, from_at => $4, until_at => $5)",
        dpu,
        doorway,
        mounted_in,
        from_at,
        until_at,
    )
    return _placement(row)


async def apply_site(session: Session, site: messages.SiteIn) -> list[messages.SiteChange]:
    rows = await session.fetch("select * from api.apply_site(site => $1)", _patch(site))
    return [_shape(row, messages.SiteChange) for row in rows]


async def record_reset(session: Session, space: str, count: int, at: datetime | None = None) -> messages.ResetOut:
    row = await session.fetchrow("select * from api.record_reset(space => $1, count => $2, at => $3)", space, count, at)
    return _shape(row, messages.ResetOut)


async def undo_placement(session: Session, dpu: str, from_at: datetime) -> None:
    await session.fetchrow("select api.undo_placement(dpu => $1, from_at => $2)", dpu, from_at)


async def undo_reset(session: Session, space: str, at: datetime) -> None:
    await session.fetchrow("select api.undo_reset(space => $1, at => $2)", space, at)


async def preview_change(session: Session, change: str, arguments: str) -> messages.Preview:
    """What one of these functions would do; `arguments` is JSON."""
    row = await session.fetchrow("select * from api.preview_change(change => $1, arguments => $2)", change, arguments)
    return _shape(row, messages.Preview)


async def compare_counts(session: Session, facts: str) -> list[messages.CountChange]:
    rows = await session.fetch("select * from api.compare_counts(facts => $1)", facts)
    return [
        messages.CountChange(
            row["space"], row["from_at"], row["to_at"], row["largest_change"], row["at"], row["before"], row["after"]
        )
        for row in rows
    ]


async def list_resets(
    session: Session,
    space: str,
    from_at: datetime | None = None,
    to_at: datetime | None = None,
    scheduled: bool = False,
    after: datetime | None = None,
    max_rows: int = 100,
) -> list[messages.ResetRow]:
    rows = await session.fetch(
        "select * from api.list_resets("
        "space => $1, from_at => $2, to_at => $3, scheduled => $4, after => $5, max_rows => $6)",
        space,
        from_at,
        to_at,
        scheduled,
        after,
        max_rows,
    )
    return [_shape(row, messages.ResetRow) for row in rows]


# Events


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
) -> list[messages.Verdict]:
    """Only of the events that were not accepted."""
    rows = await session.fetch(
        "select * from api.record_events("
        "dpus => $1, times => $2, directions => $3, sequences => $4, auto_register => $5, "
        "refused_bodies => $6, refused_details => $7, refused_dpus => $8, keep_refused => $9, "
        "senders => $10, sender_sizes => $11, backfill => $12)",
        dpus,
        times,
        directions,
        sequences,
        auto_register,
        refused_bodies,
        refused_details,
        refused_dpus,
        keep_refused,
        senders,
        sender_sizes,
        backfill,
    )
    return [messages.Verdict(*row) for row in rows]


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
) -> list[messages.RejectedEventOut]:
    rows = await session.fetch(
        "select * from api.list_rejected("
        "dpu => $1, source => $2, code => $3, from_at => $4, to_at => $5, "
        "before_at => $6, before_id => $7, rerun => $8, max_rows => $9)",
        dpu,
        source,
        code,
        from_at,
        to_at,
        before_at,
        before_id,
        rerun,
        max_rows,
    )
    return [
        msgspec.convert(dict(row) | {"id": str(row["id"]), "timestamp": row["time"]}, messages.RejectedEventOut)
        for row in rows
    ]


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
) -> list[messages.RerunRow]:
    """What became of each, in the order in which they were refused."""
    rows = await session.fetch(
        "select * from api.rerun_rejected("
        "dpu => $1, source => $2, code => $3, from_at => $4, to_at => $5, "
        "ids => $6, after_id => $7, auto_register => $8, max_rows => $9)",
        dpu,
        source,
        code,
        from_at,
        to_at,
        ids,
        after_id,
        auto_register,
        max_rows,
    )
    return [_shape(row, messages.RerunRow) for row in rows]


async def get_refusal_state(session: Session) -> messages.RefusalState:
    return _shape(await session.fetchrow("select * from api.get_refusal_state()"), messages.RefusalState)


async def note_ahead(session: Session, dpus: Sequence[str], times: Sequence[datetime]) -> None:
    await session.fetchrow("select api.note_ahead(dpus => $1, times => $2)", dpus, times)


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
) -> list[messages.EventOut]:
    rows = await session.fetch(
        "select * from api.list_events("
        "dpu => $1, space => $2, from_at => $3, to_at => $4, "
        "after_time => $5, after_dpu => $6, after_sequence => $7, max_rows => $8)",
        dpu,
        space,
        from_at,
        to_at,
        after_time,
        after_dpu,
        after_sequence,
        max_rows,
    )
    return [
        messages.EventOut(
            dpu=row["dpu"],
            timestamp=row["time"],
            direction=row["direction"],
            sequence=row["sequence"],
            received_at=row["received_at"],
            sign=UNSET if row["sign"] is None else row["sign"],
        )
        for row in rows
    ]


# Sensors


async def record_heartbeats(
    session: Session,
    dpus: Sequence[str | None],
    mac_addresses: Sequence[str | None],
    times: Sequence[datetime | None],
    auto_register: bool = True,
    senders: Sequence[str | None] = (),
    sender_sizes: Sequence[int] = (),
    backfill: bool = False,
) -> list[messages.HeartbeatRow]:
    """What became of each, in their order."""
    rows = await session.fetch(
        "select * from api.record_heartbeats(dpus => $1, mac_addresses => $2, times => $3, auto_register => $4, "
        "senders => $5, sender_sizes => $6, backfill => $7)",
        dpus,
        mac_addresses,
        times,
        auto_register,
        senders,
        sender_sizes,
        backfill,
    )
    return [messages.HeartbeatRow(row["verdict"], row["detail"], row["dpu"], row["last_seen"]) for row in rows]


async def detect_outages(session: Session) -> int | None:
    """How many DPUs went offline; None: another process is at it."""
    row = await session.fetchrow("select api.detect_outages()")
    found: int | None = row[0] if row else None
    return found


async def list_sensors(
    session: Session, space: str | None = None, state: str | None = None
) -> list[messages.SensorOut]:
    rows = await session.fetch("select * from api.list_sensors(space => $1, state => $2)", space, state)
    # There may be very many: others go on meanwhile.
    return await asyncio.to_thread(lambda: [_shape(row, messages.SensorOut) for row in rows])


async def list_turned_dpus(
    session: Session, dpus: Sequence[str], tokens: Sequence[str] = ()
) -> list[messages.TurnedRow]:
    rows = await session.fetch("select * from api.list_turned_dpus(dpus => $1, tokens => $2)", dpus, tokens)
    return [_shape(row, messages.TurnedRow) for row in rows]


async def list_incidents(
    session: Session, open: bool | None = None, after: int | None = None, max_rows: int = 100
) -> list[messages.IncidentOut]:
    rows = await session.fetch(
        "select * from api.list_incidents(open => $1, after => $2, max_rows => $3)", open, after, max_rows
    )
    return [_shape(row, messages.IncidentOut) for row in rows]


async def get_availability(
    session: Session, dpu: str, from_at: datetime | None = None, to_at: datetime | None = None
) -> messages.AvailabilityOut:
    row = await session.fetchrow(
        "select * from api.get_availability(dpu => $1, from_at => $2, to_at => $3)", dpu, from_at, to_at
    )
    found = _shape(row, messages.AvailabilityRow)
    return messages.AvailabilityOut(
        dpu,
        found.from_at,
        found.to_at,
        found.online_seconds,
        found.offline_seconds,
        found.availability,
        [messages.OutageOut(*bounds) for bounds in zip(found.froms, found.untils, strict=True)],
    )


async def set_registration(session: Session, burst: int, per_hour: int, max_unplaced: int) -> None:
    await session.fetchrow(
        "select api.set_registration(burst => $1, per_hour => $2, max_unplaced => $3)", burst, per_hour, max_unplaced
    )


# Polls, and what an import says of sites


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
) -> list[messages.Verdict]:
    """Only of the polls that were not accepted."""
    rows = await session.fetch(
        "select * from api.record_polls("
        "spaces => $1, times => $2, are_active => $3, auto_register => $4, "
        "assumed_zone => $5, refused_bodies => $6, refused_details => $7, numbers => $8, sender => $9)",
        spaces,
        times,
        are_active,
        auto_register,
        assumed_zone,
        refused_bodies,
        refused_details,
        numbers,
        sender,
    )
    return [messages.Verdict(*row) for row in rows]


async def record_hours(
    session: Session,
    spaces: Sequence[str],
    days: Sequence[int],
    opens: Sequence[str],
    closes: Sequence[str],
    auto_register: bool = True,
    assumed_zone: str = "America/Chicago",
) -> list[messages.Verdict]:
    """Only of the rows that were not accepted."""
    rows = await session.fetch(
        "select * from api.record_hours("
        "spaces => $1, days => $2, opens => $3, closes => $4, auto_register => $5, assumed_zone => $6)",
        spaces,
        days,
        opens,
        closes,
        auto_register,
        assumed_zone,
    )
    return [messages.Verdict(*row) for row in rows]


async def record_time_zones(
    session: Session, spaces: Sequence[str], time_zones: Sequence[str], auto_register: bool = True
) -> list[messages.Verdict]:
    """Only of the rows that were not accepted."""
    rows = await session.fetch(
        "select * from api.record_time_zones(spaces => $1, time_zones => $2, auto_register => $3)",
        spaces,
        time_zones,
        auto_register,
    )
    return [messages.Verdict(*row) for row in rows]


# Uptime


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
    row = await session.fetchrow(
        "select api.create_report(now_at => $1, under => $2, format => $3, max_running => $4, "
        "token => $5, per_hour => $6) as id",
        now_at,
        under,
        format,
        max_running,
        token,
        per_hour,
    )
    return str(row and row["id"])


async def get_report(session: Session, report: str) -> messages.ReportRow:
    return _shape(await session.fetchrow("select * from api.get_report(report => $1)", report), messages.ReportRow)


async def list_reports(
    session: Session, after_at: datetime | None = None, after_id: str | None = None, max_rows: int = 100
) -> list[messages.ReportRow]:
    rows = await session.fetch(
        "select * from api.list_reports(after_at => $1, after_id => $2, max_rows => $3)", after_at, after_id, max_rows
    )
    return [_shape(row, messages.ReportRow) for row in rows]


async def list_report_rows(
    session: Session, report: str, after: str | None = None, max_rows: int = 1000
) -> list[messages.SiteUptimeRow]:
    rows = await session.fetch(
        "select * from api.list_report_rows(report => $1, after => $2, max_rows => $3)", report, after, max_rows
    )
    return [messages.SiteUptimeRow(*row) for row in rows]


async def list_report_sites(
    session: Session, report: str, after: str | None = None, max_rows: int = 1000
) -> list[messages.ReportSiteOut]:
    rows = await session.fetch(
        "select * from api.list_report_sites(report => $1, after => $2, max_rows => $3)", report, after, max_rows
    )
    return [_shape(row, messages.ReportSiteOut) for row in rows]


async def list_uptimes(
    session: Session,
    space: str,
    from_at: datetime | None = None,
    to_at: datetime | None = None,
    grain: str | None = None,
) -> messages.SpaceUptimeOut:
    rows = await session.fetch(
        "select * from api.list_uptimes(space => $1, from_at => $2, to_at => $3, grain => $4)",
        space,
        from_at,
        to_at,
        grain,
    )
    buckets = [
        messages.UptimeOut(row["start_at"], row["end_at"], row["uptime_seconds"], row["downtime_seconds"])
        for row in rows
    ]
    return messages.SpaceUptimeOut(space, rows[0]["time_zone"], buckets, rows[0]["polled"])


async def get_timeline(
    session: Session,
    space: str,
    from_at: datetime | None = None,
    to_at: datetime | None = None,
    max_polls: int = 10_000,
) -> messages.TimelineOut:
    row = await session.fetchrow(
        "select * from api.get_timeline(space => $1, from_at => $2, to_at => $3, max_polls => $4)",
        space,
        from_at,
        to_at,
        max_polls,
    )
    found = _shape(row, messages.TimelineRow)
    days = zip(found.day_starts, found.day_ends, found.day_ups, found.day_downs, strict=True)
    polls = zip(found.poll_times, found.poll_actives, found.poll_opens, strict=True)
    return messages.TimelineOut(
        space=space,
        time_zone=found.time_zone,
        from_=found.from_at,
        to=found.to_at,
        days=[messages.UptimeOut(*day) for day in days],
        open=[messages.PeriodOut(*ends) for ends in zip(found.open_starts, found.open_ends, strict=True)],
        up=[messages.PeriodOut(*ends) for ends in zip(found.up_starts, found.up_ends, strict=True)],
        down=[messages.PeriodOut(*ends) for ends in zip(found.down_starts, found.down_ends, strict=True)],
        poll_count=found.poll_count,
        polls=[
            messages.TimelinePollOut(at, "active" if is_active else "inactive", is_open)
            for at, is_active, is_open in polls
        ],
        polled=found.polled,
    )


async def claim_report(session: Session, lease_seconds: float = 30) -> messages.ReportClaim | None:
    """None where there is nothing to do."""
    row = await session.fetchrow("select * from api.claim_report(lease_seconds => $1)", lease_seconds)
    return _shape(row, messages.ReportClaim) if row else None


async def compute_report(
    session: Session, report: str, attempt: int, after: str | None = None, max_sites: int = 500
) -> messages.ReportStep:
    row = await session.fetchrow(
        "select * from api.compute_report(report => $1, attempt => $2, after => $3, max_sites => $4)",
        report,
        attempt,
        after,
        max_sites,
    )
    return _shape(row, messages.ReportStep)


async def extend_report(
    session: Session, report: str, attempt: int, progress: float, lease_seconds: float = 30
) -> None:
    await session.fetchrow(
        "select api.extend_report(report => $1, attempt => $2, progress => $3, lease_seconds => $4)",
        report,
        attempt,
        progress,
        lease_seconds,
    )


async def fail_report(session: Session, report: str, attempt: int, reason: str) -> None:
    await session.fetchrow("select api.fail_report(report => $1, attempt => $2, reason => $3)", report, attempt, reason)


async def drop_reports(session: Session, keep: int) -> None:
    await session.fetchrow("select api.drop_reports(keep => $1)", keep)


# Counts


async def get_count(
    session: Session, space: str, at: datetime | None = None, known_at: datetime | None = None
) -> messages.CountOut:
    return _count(
        await session.fetchrow(
            "select * from api.get_count(space => $1, at => $2, known_at => $3)", space, at, known_at
        )
    )


async def list_counts(
    session: Session,
    spaces: Sequence[str] | None = None,
    under: str | None = None,
    at: datetime | None = None,
    known_at: datetime | None = None,
    known_only: bool = False,
) -> list[messages.CountOut]:
    rows = await session.fetch(
        "select * from api.list_counts(spaces => $1, under => $2, at => $3, known_at => $4, known_only => $5)",
        spaces,
        under,
        at,
        known_at,
        known_only,
    )
    return [_count(row) for row in rows]


async def list_selections(session: Session, selections: str) -> list[messages.SelectionRow]:
    rows = await session.fetch("select * from api.list_selections(selections => $1)", selections)
    return [_shape(row, messages.SelectionRow) for row in rows]


async def list_space_counts(
    session: Session,
    space: str,
    from_at: datetime | None = None,
    to_at: datetime | None = None,
    grain: str = "1h",
    time_zone: str | None = None,
) -> messages.SpaceCountsOut:
    rows = await session.fetch(
        "select * from api.list_space_counts(space => $1, from_at => $2, to_at => $3, grain => $4, time_zone => $5)",
        space,
        from_at,
        to_at,
        grain,
        time_zone,
    )
    return messages.SpaceCountsOut(
        space,
        rows[0]["time_zone"],
        rows[0]["resolution"],
        [
            messages.BucketOut(
                row["start_at"],
                row["end_at"],
                row["count"],
                row["raw_count"],
                row["min"],
                row["max"],
                row["average"],
                row["entries"],
                row["exits"],
                row["utilization"],
            )
            for row in rows
        ],
    )


async def list_changes(session: Session, cursor: str | None = None) -> messages.ChangesRow:
    return _shape(await session.fetchrow("select * from api.list_changes(cursor => $1)", cursor), messages.ChangesRow)


# Tokens


async def create_token(
    session: Session,
    digest: bytes,
    scopes: Sequence[str],
    name: str | None = None,
    space: str | None = None,
    expires_at: datetime | None = None,
    events_per_second: int | None = None,
    requests_per_second: int | None = None,
) -> messages.TokenOut:
    row = await session.fetchrow(
        "select * from api.create_token("
        "digest => $1, scopes => $2, name => $3, space => $4, "
        "expires_at => $5, events_per_second => $6, requests_per_second => $7)",
        digest,
        scopes,
        name,
        space,
        expires_at,
        events_per_second,
        requests_per_second,
    )
    return _shape(row, messages.TokenOut)


async def list_tokens(session: Session, after: str | None = None, max_rows: int = 100) -> list[messages.TokenOut]:
    rows = await session.fetch("select * from api.list_tokens(after => $1, max_rows => $2)", after, max_rows)
    return [_shape(row, messages.TokenOut) for row in rows]


async def revoke_token(session: Session, token: str, descendants: bool = True) -> None:
    await session.fetchrow("select api.revoke_token(token => $1, descendants => $2)", token, descendants)


async def find_tokens(session: Session, digests: Sequence[bytes]) -> list[messages.TokenRow]:
    """Only the good ones."""
    rows = await session.fetch("select * from api.find_tokens(digests => $1)", digests)
    return [_shape(row, messages.TokenRow) for row in rows]


# Channels and what is sent by them


async def put_channel(session: Session, channel: str, patch: messages.ChannelIn) -> tuple[bool, messages.ChannelPutOut]:
    """Whether it was created, and what it is now."""
    row = await session.fetchrow("select * from api.put_channel(channel => $1, patch => $2)", channel, _patch(patch))
    columns = dict(row or {})
    made = {"to": columns.get("recipients")}
    if columns.get("new_secret") is not None:
        made["secret"] = columns["new_secret"]
    return _created(row), msgspec.convert(columns | made, messages.ChannelPutOut)


async def get_channel(session: Session, channel: str) -> messages.ChannelOut:
    return _channel(await session.fetchrow("select * from api.get_channel(channel => $1)", channel))


async def list_channels(session: Session, after: str | None = None, max_rows: int = 100) -> list[messages.ChannelOut]:
    rows = await session.fetch("select * from api.list_channels(after => $1, max_rows => $2)", after, max_rows)
    return [_channel(row) for row in rows]


async def delete_channel(session: Session, channel: str) -> None:
    await session.fetchrow("select api.delete_channel(channel => $1)", channel)


async def try_channel(
    session: Session,
    channel: str,
    lease_seconds: int = 30,
    channel_tests: int | None = None,
    token_tests: int | None = None,
) -> messages.ClaimRow:
    row = await session.fetchrow(
        "select * from api.try_channel(channel => $1, lease_seconds => $2, channel_tests => $3, token_tests => $4)",
        channel,
        lease_seconds,
        channel_tests,
        token_tests,
    )
    return _shape(row, messages.ClaimRow)


async def claim_deliveries(
    session: Session,
    max_rows: int,
    lease_seconds: int = 30,
    a_channel: int = 4,
    a_family: int = 25,
    failing: int = 50,
) -> list[messages.ClaimRow]:
    rows = await session.fetch(
        "select * from api.claim_deliveries("
        "max_rows => $1, lease_seconds => $2, a_channel => $3, a_family => $4, failing => $5)",
        max_rows,
        lease_seconds,
        a_channel,
        a_family,
        failing,
    )
    return [_shape(row, messages.ClaimRow) for row in rows]


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
    row = await session.fetchrow(
        "select api.finish_delivery("
        "delivery => $1, claim => $2, is_delivered => $3, at => $4, "
        "duration_ms => $5, status => $6, answer => $7, error => $8)",
        delivery,
        claim,
        is_delivered,
        at,
        duration_ms,
        status,
        answer,
        error,
    )
    return row[0] if row else None


async def replay_delivery(session: Session, delivery: str) -> messages.DeliveryOut:
    return _delivery(await session.fetchrow("select * from api.replay_delivery(delivery => $1)", delivery))


async def list_deliveries(
    session: Session,
    channel: str | None = None,
    state: str | None = None,
    before: int | None = None,
    max_rows: int = 100,
) -> list[messages.DeliveryOut]:
    rows = await session.fetch(
        "select * from api.list_deliveries(channel => $1, state => $2, before => $3, max_rows => $4)",
        channel,
        state,
        before,
        max_rows,
    )
    return [_delivery(row) for row in rows]


async def get_delivery_state(session: Session) -> messages.DeliveryState:
    return _shape(await session.fetchrow("select * from api.get_delivery_state()"), messages.DeliveryState)


async def detect_over_capacity(session: Session) -> int:
    """How many notices it stored."""
    row = await session.fetchrow("select api.detect_over_capacity()")
    return int(row[0]) if row else 0


# Devices with readings


async def get_device(session: Session, device: str) -> messages.DeviceRow:
    return _shape(await session.fetchrow("select * from api.get_device(device => $1)", device), messages.DeviceRow)


async def list_readings(
    session: Session,
    device: str,
    from_at: datetime | None = None,
    to_at: datetime | None = None,
    max_rows: int = 10_000,
) -> messages.ReadingsRow:
    row = await session.fetchrow(
        "select * from api.list_readings(device => $1, from_at => $2, to_at => $3, max_rows => $4)",
        device,
        from_at,
        to_at,
        max_rows,
    )
    return _shape(row, messages.ReadingsRow)


# The service itself, and its commands


async def get_schema(session: Session) -> list[messages.SchemaRow]:
    return [_shape(row, messages.SchemaRow) for row in await session.fetch("select * from api.get_schema()")]


async def get_wal_position(session: Session) -> messages.WalPosition:
    return _shape(await session.fetchrow("select * from api.get_wal_position()"), messages.WalPosition)


async def get_rollup_state(session: Session) -> messages.RollupState:
    return _shape(await session.fetchrow("select * from api.get_rollup_state()"), messages.RollupState)


async def get_import(session: Session, digest: str) -> messages.ImportRow | None:
    """None for a file that was never begun."""
    row = await session.fetchrow("select * from api.get_import(digest => $1)", digest)
    return _shape(row, messages.ImportRow) if row else None


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
    await session.fetchrow(
        "select api.record_import("
        "digest => $1, file_name => $2, lines => $3, accepted => $4, "
        "duplicates => $5, rejected => $6, finished => $7)",
        digest,
        file_name,
        lines,
        accepted,
        duplicates,
        rejected,
        finished,
    )


async def get_retention(session: Session) -> messages.RetentionRow:
    return _shape(await session.fetchrow("select * from api.get_retention()"), messages.RetentionRow)


async def set_retention(session: Session, days: int | None) -> messages.RetentionRow:
    return _shape(await session.fetchrow("select * from api.set_retention(days => $1)", days), messages.RetentionRow)


async def set_horizon(session: Session, from_at: datetime | None) -> datetime:
    """From when on events are taken now."""
    row = await session.fetchrow("select api.set_horizon(from_at => $1) as at", from_at)
    return msgspec.convert(row and row["at"], datetime)


async def list_differences(session: Session) -> list[messages.Difference]:
    rows = await session.fetch("select * from api.list_differences()")
    return [_shape(row, messages.Difference) for row in rows]


# Rows whose columns are not the fields of their Struct


def _is_retired(row: asyncpg.Record | None) -> bool:
    return bool(row and row[0])


def _created(row: asyncpg.Record | None) -> bool:
    return bool(row and row["created"])


def _space(row: asyncpg.Record | None) -> messages.SpaceOut:
    columns = dict(row or {})
    if columns.get("opening_hours") is not None:
        columns["opening_hours"] = msgspec.json.decode(columns["opening_hours"])
    return msgspec.convert(columns, messages.SpaceOut)


def _doorway(row: asyncpg.Record | None) -> messages.DoorwayOut:
    columns = dict(row or {})
    return msgspec.convert(columns | {"sides": (columns.get("side_a"), columns.get("side_b"))}, messages.DoorwayOut)


def _placement(row: asyncpg.Record | None) -> messages.PlacementOut:
    columns = dict(row or {})
    return msgspec.convert(
        columns | {"from": columns.get("from_at"), "until": columns.get("until_at")}, messages.PlacementOut
    )


def _dpu(row: asyncpg.Record | None) -> messages.DpuOut:
    columns = dict(row or {})
    placed = row is not None and row["from_at"] is not None
    return msgspec.convert(columns | {"placement": _placement(row) if row and placed else None}, messages.DpuOut)


def _channel(row: asyncpg.Record | None) -> messages.ChannelOut:
    columns = dict(row or {})
    return msgspec.convert(columns | {"to": columns.get("recipients")}, messages.ChannelOut)


def _delivery(row: asyncpg.Record | None) -> messages.DeliveryOut:
    columns = dict(row or {})
    told = {
        "id": str(columns.get("id")),
        "data": msgspec.json.decode(columns.get("details") or "{}"),
        "tries": msgspec.json.decode(columns.get("tries") or "[]"),
    }
    return msgspec.convert(columns | told, messages.DeliveryOut)


def _count(row: asyncpg.Record | None) -> messages.CountOut:
    columns = dict(row or {})
    dpus = {"placed": columns.get("dpus_placed"), "online": columns.get("dpus_online")}
    return msgspec.convert(columns | {"dpus": dpus}, messages.CountOut)
