"""What becomes of rows: a Struct whose fields are named like the columns, unless it is told here how else."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import asyncpg
import msgspec
from msgspec import UNSET

from headcount.wire.messages import counts, events, notices, plan, sensors, uptime

Row = asyncpg.Record
Made = TypeVar("Made")


def maker(kind: type[Made]) -> Callable[[Row], Made]:
    """What makes such a Struct of a row; columns that it has no field for are left out."""
    return MAKERS.get(kind) or (lambda row: msgspec.convert(dict(row), kind))


def in_order(kind: type[Made]) -> Callable[[Row], Made]:
    """Of rows whose columns come in the order of the fields: the fastest way."""
    return lambda row: kind(*row)


def space(row: Row) -> plan.SpaceOut:
    columns = dict(row)
    if columns["opening_hours"] is not None:
        columns["opening_hours"] = msgspec.json.decode(columns["opening_hours"])
    return msgspec.convert(columns, plan.SpaceOut)


def doorway(row: Row) -> plan.DoorwayOut:
    columns = dict(row)
    return msgspec.convert(columns | {"sides": (columns["side_a"], columns["side_b"])}, plan.DoorwayOut)


def placement(row: Row) -> plan.PlacementOut:
    columns = dict(row)
    return msgspec.convert(columns | {"from": columns["from_at"], "until": columns["until_at"]}, plan.PlacementOut)


def dpu(row: Row) -> plan.DpuOut:
    where = None if row["from_at"] is None else placement(row)
    return msgspec.convert(dict(row) | {"placement": where}, plan.DpuOut)


def count_change(row: Row) -> plan.CountChange:
    return plan.CountChange(
        row["space"], row["from_at"], row["to_at"], row["largest_change"], row["at"], row["before"], row["after"]
    )


def rejected_event(row: Row) -> events.RejectedEventOut:
    columns = dict(row)
    return msgspec.convert(columns | {"id": str(row["id"]), "timestamp": row["time"]}, events.RejectedEventOut)


def event(row: Row) -> events.EventOut:
    return events.EventOut(
        dpu=row["dpu"],
        timestamp=row["time"],
        direction=row["direction"],
        sequence=row["sequence"],
        received_at=row["received_at"],
        sign=UNSET if row["sign"] is None else row["sign"],
    )


def heartbeat(row: Row) -> sensors.HeartbeatRow:
    return sensors.HeartbeatRow(row["verdict"], row["detail"], row["dpu"], row["last_seen"])


def count(row: Row) -> counts.CountOut:
    dpus = {"placed": row["dpus_placed"], "online": row["dpus_online"]}
    return msgspec.convert(dict(row) | {"dpus": dpus}, counts.CountOut)


def channel(row: Row) -> notices.ChannelOut:
    return msgspec.convert(dict(row) | {"to": row["recipients"]}, notices.ChannelOut)


def stored_channel(row: Row) -> notices.ChannelPutOut:
    made = {"to": row["recipients"]}
    if row["new_secret"] is not None:
        made["secret"] = row["new_secret"]
    return msgspec.convert(dict(row) | made, notices.ChannelPutOut)


def delivery(row: Row) -> notices.DeliveryOut:
    told = {
        "id": str(row["id"]),
        "data": msgspec.json.decode(row["details"] or "{}"),
        "tries": msgspec.json.decode(row["tries"] or "[]"),
    }
    return msgspec.convert(dict(row) | told, notices.DeliveryOut)


MAKERS: dict[type, Callable[[Row], Any]] = {
    plan.SpaceOut: space,
    plan.DoorwayOut: doorway,
    plan.PlacementOut: placement,
    plan.DpuOut: dpu,
    plan.CountChange: count_change,
    events.RejectedEventOut: rejected_event,
    events.EventOut: event,
    sensors.HeartbeatRow: heartbeat,
    counts.CountOut: count,
    notices.ChannelOut: channel,
    notices.ChannelPutOut: stored_channel,
    notices.DeliveryOut: delivery,
    events.Verdict: in_order(events.Verdict),
    uptime.SiteUptimeRow: in_order(uptime.SiteUptimeRow),
}


# Answers that are made of all rows of a call. `arguments` are those of the call, in order.


def availability(found: Sequence[Row], arguments: Sequence[Any]) -> sensors.AvailabilityOut:
    row = msgspec.convert(dict(found[0]), sensors.AvailabilityRow)
    return sensors.AvailabilityOut(
        arguments[0],
        row.from_at,
        row.to_at,
        row.online_seconds,
        row.offline_seconds,
        row.availability,
        [sensors.OutageOut(*bounds) for bounds in zip(row.froms, row.untils, strict=True)],
    )


def uptimes(found: Sequence[Row], arguments: Sequence[Any]) -> uptime.SpaceUptimeOut:
    buckets = [
        uptime.UptimeOut(row["start_at"], row["end_at"], row["uptime_seconds"], row["downtime_seconds"])
        for row in found
    ]
    return uptime.SpaceUptimeOut(arguments[0], found[0]["time_zone"], buckets, found[0]["polled"])


def timeline(found: Sequence[Row], arguments: Sequence[Any]) -> uptime.TimelineOut:
    row = msgspec.convert(dict(found[0]), uptime.TimelineRow)
    days = zip(row.day_starts, row.day_ends, row.day_ups, row.day_downs, strict=True)
    polls = zip(row.poll_times, row.poll_actives, row.poll_opens, strict=True)
    return uptime.TimelineOut(
        space=arguments[0],
        time_zone=row.time_zone,
        from_=row.from_at,
        to=row.to_at,
        days=[uptime.UptimeOut(*day) for day in days],
        open=[uptime.PeriodOut(*ends) for ends in zip(row.open_starts, row.open_ends, strict=True)],
        up=[uptime.PeriodOut(*ends) for ends in zip(row.up_starts, row.up_ends, strict=True)],
        down=[uptime.PeriodOut(*ends) for ends in zip(row.down_starts, row.down_ends, strict=True)],
        poll_count=row.poll_count,
        polls=[
            uptime.TimelinePollOut(at, "active" if is_active else "inactive", is_open)
            for at, is_active, is_open in polls
        ],
        polled=row.polled,
    )


def space_counts(found: Sequence[Row], arguments: Sequence[Any]) -> counts.SpaceCountsOut:
    buckets = [
        counts.BucketOut(
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
        for row in found
    ]
    return counts.SpaceCountsOut(arguments[0], found[0]["time_zone"], found[0]["resolution"], buckets)
