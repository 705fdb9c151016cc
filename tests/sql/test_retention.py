"""What holds once old events were dropped: everything that quarter-hours can tell, and a clear error for the rest."""

from collections.abc import Awaitable, Sequence
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest

from tests.factories import LONG_AGO, NOON, apply_site, build_house, differences, raw_count, record, seconds
from tests.properties import rollups

MINUTE, QUARTER, HOUR, DAY = timedelta(minutes=1), timedelta(minutes=15), timedelta(hours=1), timedelta(days=1)
MICROSECOND = timedelta(microseconds=1)
HORIZON = NOON.replace(hour=0) + DAY  # events are kept from here on
HOUSE = "select * from bi.{} where space = 'house' and bucket >= $1 and bucket < $2 order by bucket"


async def retain(connection: asyncpg.Connection, until: datetime = HORIZON) -> None:
    await rollups.refresh(connection)
    await rollups.retain(connection, until)


async def fill(connection: asyncpg.Connection) -> None:
    """Four days around the horizon: somebody every seven minutes at the front, every hour at the inner door."""
    await build_house(connection)
    start = HORIZON - 3 * DAY
    events = [("front", start + n * 7 * MINUTE, 1 if n % 3 else -1) for n in range(800)]
    await record(connection, [*events, *(("inner", start + n * HOUR, -1) for n in range(90))])


async def refusal(answer: Awaitable[object]) -> asyncpg.PostgresError:
    with pytest.raises(asyncpg.PostgresError) as raised:
        await answer
    assert getattr(raised.value, "sqlstate", None) == "PT422"
    assert "(retention)" in str(raised.value)
    return raised.value


def where(error: asyncpg.PostgresError) -> str:
    return str(getattr(error, "detail", None) or "")


def hint(error: asyncpg.PostgresError) -> str:
    return str(getattr(error, "hint", None) or "")


async def place(
    connection: asyncpg.Connection, dpu: str, doorway: str | None, start: datetime, until: datetime | None = None
) -> None:
    side = "house" if doorway else None
    await connection.execute("select api.record_placement($1, $2, $3, $4, $5)", dpu, doorway, side, start, until)


async def reset(connection: asyncpg.Connection, space: str, count: int, at: datetime | None = None) -> None:
    await connection.execute("select api.record_reset(space => $1, count => $2, at => $3)", space, count, at)


async def counts(connection: asyncpg.Connection, instants: Sequence[datetime], space: str = "house") -> list[int]:
    return [await raw_count(connection, space, at) for at in instants]


async def series(connection: asyncpg.Connection, start: datetime, end: datetime) -> list[dict[str, Any]]:
    rows = await connection.fetch("select * from api.list_space_counts('house', $1, $2, '1h')", start, end)
    return [dict(row) for row in rows]


def same_but_for_extremes(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> None:
    for then, now in zip(before, after, strict=True):
        for name in ("start_at", "end_at", "count", "raw_count", "entries", "exits"):
            assert now[name] == then[name]
        assert now["average"] == pytest.approx(then["average"])


async def sensors(connection: asyncpg.Connection, at: datetime) -> tuple[int, int | None]:
    row = await connection.fetchrow("select dpus_placed, dpus_online from api.get_count('house', $1)", at)
    assert row
    return row[0], row[1]


# What is dropped


async def test_it_drops_the_chunks_of_old_events_and_keeps_the_rollups(connection: asyncpg.Connection) -> None:
    await fill(connection)
    await rollups.refresh(connection)
    before = await connection.fetch("select * from core.dpu_flow_15m_v1 order by bucket, dpu_id")
    await retain(connection)
    assert await connection.fetchval("select min(time) from core.event") >= HORIZON
    assert await connection.fetch("select * from core.dpu_flow_15m_v1 order by bucket, dpu_id") == before
    assert await differences(connection) == []


async def test_it_drops_compressed_chunks_too(connection: asyncpg.Connection) -> None:
    await fill(connection)
    await rollups.refresh(connection)
    await rollups.compress(connection, HORIZON - 9 * DAY, HORIZON + DAY, 1)
    await retain(connection)
    assert await connection.fetchval("select count(*) from show_chunks('core.event')") == 1
    assert await differences(connection) == []


async def test_chunks_go_an_hour_after_they_are_not_read_any_more(connection: asyncpg.Connection) -> None:
    await fill(connection)
    await rollups.refresh(connection)
    await connection.execute("call core.retire_events($1)", HORIZON)
    await connection.execute("call core.drop_retired_chunks()")
    assert await connection.fetchval("select count(*) from show_chunks('core.event')") == 4
    await refusal(raw_count(connection, "house", NOON + MINUTE))
    await connection.execute("update core.rollup_state set retired_at = retired_at - interval '1 hour'")
    await connection.execute("call core.drop_retired_chunks()")
    assert await connection.fetchval("select count(*) from show_chunks('core.event')") == 1


@pytest.mark.concurrency
async def test_a_reader_that_began_before_still_finds_the_events(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await fill(connection)
    await rollups.refresh(connection)
    reader = await asyncpg.connect(database_url)
    try:
        async with reader.transaction(isolation="repeatable_read"):
            before = await raw_count(reader, "house", NOON + MINUTE)
            await connection.execute("call core.retire_events($1)", HORIZON)
            await connection.execute("call core.drop_retired_chunks()")
            assert await raw_count(reader, "house", NOON + MINUTE) == before
        await refusal(raw_count(reader, "house", NOON + MINUTE))
    finally:
        await reader.close()


@pytest.mark.concurrency
async def test_it_gives_way_to_events_that_are_being_stored(connection: asyncpg.Connection, database_url: str) -> None:
    await fill(connection)
    await rollups.refresh(connection)
    writer = await asyncpg.connect(database_url)
    try:
        async with writer.transaction():
            assert await record(writer, [("front", NOON + seconds(3), 1)]) == []
            await connection.execute("call core.retire_events($1)", HORIZON)
            assert await connection.fetchval("select events_from from api.get_retention()") is None
        await connection.execute("call core.retire_events($1)", HORIZON)
    finally:
        await writer.close()
    # it came late, is not in the rollups yet, and so nothing of its day may go
    assert await connection.fetchval("select events_from from api.get_retention()") == HORIZON - DAY
    assert await differences(connection) == []


async def test_it_drops_nothing_that_the_rollups_do_not_hold_yet(connection: asyncpg.Connection) -> None:
    await fill(connection)
    await rollups.refresh(connection)
    await record(connection, [("front", NOON - DAY + seconds(1), 1)])
    await connection.execute("call core.retire_events($1)", HORIZON)
    assert await connection.fetchval("select events_from from api.get_retention()") == HORIZON - 2 * DAY
    await rollups.refresh(connection)
    await connection.execute("update core.rollup_state set materialized_until = $1", HORIZON - HOUR)
    await connection.execute("call core.retire_events($1)", HORIZON)
    assert await connection.fetchval("select events_from from api.get_retention()") == HORIZON - DAY


async def test_it_never_goes_back(connection: asyncpg.Connection) -> None:
    await fill(connection)
    await retain(connection)
    await connection.execute("call core.retire_events($1)", HORIZON - DAY)
    assert await connection.fetchval("select events_from from api.get_retention()") == HORIZON


async def test_later_refreshes_leave_the_rollups_of_dropped_events_alone(connection: asyncpg.Connection) -> None:
    await fill(connection)
    await retain(connection, HORIZON - DAY)
    await retain(connection)
    before = await counts(connection, [HORIZON - n * HOUR for n in range(70)])
    late = [("front", HORIZON + n * 5 * HOUR + MINUTE, 1) for n in range(20)]
    await record(connection, [*late, ("front", HORIZON, 1, 9)])
    await rollups.refresh(connection)
    await connection.execute("update core.rollup_state set materialized_until = $1", HORIZON)
    await rollups.refresh(connection)
    await record(connection, [("front", HORIZON + 40 * DAY, 1)])
    await rollups.refresh(connection)
    assert await differences(connection) == []
    assert (await counts(connection, [HORIZON - n * HOUR for n in range(70)]))[1:] == before[1:]


# What is still answered, and what is not


async def test_counts_before_are_exact_at_quarter_hours(connection: asyncpg.Connection) -> None:
    await fill(connection)
    instants = [HORIZON - 2 * DAY + n * QUARTER for n in range(250)]
    before = [*await counts(connection, instants), *await counts(connection, instants, "room")]
    await retain(connection)
    assert [*await counts(connection, instants), *await counts(connection, instants, "room")] == before


async def test_a_count_within_a_quarter_hour_is_refused_and_told_what_to_do(connection: asyncpg.Connection) -> None:
    await fill(connection)
    await retain(connection)
    error = await refusal(raw_count(connection, "house", NOON + MINUTE))
    assert where(error) == "at"
    assert "Events before 2026-03-05T00:00:00Z were dropped" in str(error)
    assert "'front' from 2026-03-04T12:00:00Z to 2026-03-04T12:15:00Z" in str(error)
    assert "such as 2026-03-04T12:15:00Z" in hint(error)
    await refusal(connection.fetch("select * from api.list_counts(under => 'house', at => $1)", NOON + MINUTE))


async def test_a_count_within_a_quarter_hour_in_which_nothing_was_reported_is_answered(
    connection: asyncpg.Connection,
) -> None:
    await fill(connection)
    before = await raw_count(connection, "room", NOON + 20 * MINUTE)
    await retain(connection)
    assert await raw_count(connection, "room", NOON + 20 * MINUTE) == before


async def test_counts_behind_the_horizon_are_exact_at_any_instant(connection: asyncpg.Connection) -> None:
    await fill(connection)
    await reset(connection, "room", 7, HORIZON - HOUR)
    instants = [HORIZON, HORIZON + MICROSECOND, HORIZON + seconds(421), HORIZON + 9 * HOUR + seconds(1)]
    before = [*await counts(connection, instants), *await counts(connection, instants, "room")]
    await retain(connection)
    assert [*await counts(connection, instants), *await counts(connection, instants, "room")] == before


async def test_what_was_known_then_is_not_known_any_more(connection: asyncpg.Connection) -> None:
    await fill(connection)
    known_at = await connection.fetchval("select clock_timestamp()")
    before = await raw_count(connection, "room", HORIZON + HOUR, known_at)
    await retain(connection)
    assert where(await refusal(raw_count(connection, "house", NOON, known_at))) == "known_at"
    assert where(await refusal(raw_count(connection, "room", HORIZON + HOUR, known_at))) == "known_at"
    await reset(connection, "room", before + 3, HORIZON)
    after = await connection.fetchval("select clock_timestamp()")
    # the reset is not known at the earlier instant, but a daily one would do as well: nothing before it is asked for
    assert await raw_count(connection, "room", HORIZON + HOUR, after) == before + 3 + 1
    await refusal(raw_count(connection, "room", HORIZON + HOUR, known_at))


async def test_how_many_sensors_were_online_stays_known(connection: asyncpg.Connection) -> None:
    await fill(connection)
    await retain(connection)
    assert await sensors(connection, NOON) == (1, 1)
    assert await sensors(connection, HORIZON) == (1, 1)
    await place(connection, "front", None, LONG_AGO)
    assert await sensors(connection, NOON) == (0, 0)


async def test_a_series_from_before_is_right_but_for_its_extremes(connection: asyncpg.Connection) -> None:
    await fill(connection)
    before = await series(connection, HORIZON - 2 * DAY, HORIZON + DAY)
    assert {bucket["resolution"] for bucket in before} == {"event"}
    await retain(connection)
    after = await series(connection, HORIZON - 2 * DAY, HORIZON + DAY)
    assert {bucket["resolution"] for bucket in after} == {"15m"}
    same_but_for_extremes(before, after)
    assert {bucket["resolution"] for bucket in await series(connection, HORIZON, HORIZON + DAY)} == {"event"}


async def test_events_from_before_are_refused_where_they_are_asked_for(connection: asyncpg.Connection) -> None:
    await fill(connection)
    await record(connection, [("young", HORIZON + HOUR, 1)])
    await retain(connection)
    listed = "select * from api.list_events(dpu => $1, from_at => $2, to_at => $3)"
    assert where(await refusal(connection.fetch(listed, "front", NOON, None))) == "from"
    assert where(await refusal(connection.fetch(listed, "front", None, HORIZON))) == "to"
    in_house = "select * from api.list_events(space => 'house', from_at => $1)"
    assert where(await refusal(connection.fetch(in_house, NOON))) == "from"
    assert [row["time"] for row in await connection.fetch(listed, "front", None, HORIZON + 7 * MINUTE)] == [
        HORIZON + 6 * MINUTE
    ]
    assert len(await connection.fetch(listed, "front", HORIZON, HORIZON + 7 * MINUTE)) == 1
    # nothing of it was dropped
    assert len(await connection.fetch(listed, "young", NOON, None)) == 1
    assert len(await connection.fetch(listed, "front", LONG_AGO, LONG_AGO + DAY)) == 0


async def test_readings_from_before_are_refused_where_they_are_asked_for(connection: asyncpg.Connection) -> None:
    await fill(connection)
    summed = await connection.fetchrow("select latest_timestamp, cumulative_count from api.list_readings('front')")
    await retain(connection)
    read = "select * from api.list_readings('front', $1, $2)"
    assert where(await refusal(connection.fetch(read, NOON, None))) == "from"
    row = await connection.fetchrow(read, None, None)
    assert row
    assert min(row["times"]) == HORIZON + 6 * MINUTE
    assert [row["latest_timestamp"], row["cumulative_count"]] == list(summed or ())


async def test_events_from_before_are_too_old(connection: asyncpg.Connection) -> None:
    await fill(connection)
    await retain(connection)
    events = [("front", HORIZON - MICROSECOND, 1), ("front", HORIZON, 1), ("front", HORIZON - 3 * DAY, -1)]
    assert await record(connection, events) == [(0, "too_old"), (2, "too_old")]
    detail = await connection.fetchval("select min(detail) from core.rejected_event")
    assert "before 2026-03-05T00:00:00Z" in detail
    assert "retention" in detail
    assert await connection.fetchval("select count(*) from core.late_mark where bucket < $1", HORIZON) == 0


# Quarter-hours that have to be cut


async def test_it_keeps_the_quarter_hours_that_a_placement_or_a_reset_cuts(connection: asyncpg.Connection) -> None:
    await fill(connection)
    await place(connection, "front", "inner", NOON + 3 * MINUTE, NOON + HOUR + seconds(1))
    await place(connection, "front", "front", NOON - DAY, NOON - DAY + QUARTER)
    await reset(connection, "room", 4, NOON - HOUR + MINUTE)
    await reset(connection, "room", 5, NOON - 2 * HOUR)
    await connection.execute("""select api.put_space('house', '{"reset_at": "18:08"}')""")
    instants = [HORIZON - 2 * DAY + n * QUARTER for n in range(250)]
    before = [*await counts(connection, instants), *await counts(connection, instants, "room")]
    hours = await series(connection, HORIZON - 2 * DAY, HORIZON)
    await retain(connection)
    assert [*await counts(connection, instants), *await counts(connection, instants, "room")] == before
    same_but_for_extremes(hours, await series(connection, HORIZON - 2 * DAY, HORIZON))
    kept = await connection.fetch("""
        select distinct d.id, time_bucket('15 minutes', k.time) from core.kept_event k join core.dpu d using (dpu_id)
        order by 1, 2""")
    at_six = [HORIZON - n * DAY - 6 * HOUR for n in (2, 1, 0)]
    assert [tuple(row) for row in kept] == [
        *(("front", at) for at in sorted([*at_six, NOON, NOON + HOUR])),
        # the room has its own reset, and the daily one from the house
        *(("inner", at) for at in sorted([*at_six, NOON - HOUR])),
    ]
    assert await differences(connection) == []


async def test_it_keeps_what_a_reset_cuts_also_under_clocks_that_jump(connection: asyncpg.Connection) -> None:
    """Berlin skips 02:00 to 03:00 on 2026-03-29: that day the reset of 02:08 is at 01:00 UTC, on a quarter-hour."""
    await build_house(connection)
    spring = datetime.fromisoformat("2026-03-29T01:00:00Z")
    await connection.execute("""select api.put_space('house', '{"reset_at": "02:08", "time_zone": "Europe/Berlin"}')""")
    await record(connection, [("front", spring + n * 5 * MINUTE, 1) for n in range(-400, 400)])
    instants = [spring + n * QUARTER for n in range(-90, 90)]
    before = await counts(connection, instants)
    await retain(connection, datetime.fromisoformat("2026-03-31T00:00:00Z"))
    assert await counts(connection, instants) == before
    kept = await connection.fetch(
        "select distinct time_bucket('15 minutes', time) as at from core.kept_event order by 1"
    )
    assert [row["at"].isoformat()[5:16] for row in kept] == ["03-28T01:00", "03-30T00:00"]


async def test_a_never_reset_count_goes_back_to_a_placement_that_began_within_a_quarter_hour(
    connection: asyncpg.Connection,
) -> None:
    await fill(connection)
    await place(connection, "front", None, LONG_AGO, HORIZON - 2 * DAY + 3 * MINUTE)
    now = await connection.fetchval("select raw_count from api.get_count('house')")
    await retain(connection)
    await reset(connection, "room", 1)  # derives live rows
    await connection.execute("""select api.put_space('house', '{"reset_at": "never", "time_zone": "Asia/Tokyo"}')""")
    assert await connection.fetchval("select raw_count from api.get_count('house')") == now
    assert await raw_count(connection, "house", HORIZON + 3 * DAY) == now
    assert await differences(connection) == []


# Changes of the floor plan


async def test_a_move_within_a_quarter_hour_that_was_dropped_is_refused(connection: asyncpg.Connection) -> None:
    await fill(connection)
    await retain(connection)
    error = await refusal(place(connection, "front", "inner", NOON + MINUTE))
    assert where(error) == "from"
    assert "such as 2026-03-04T12:15:00Z" in hint(error)
    assert where(await refusal(place(connection, "front", None, NOON, NOON + HOUR + MINUTE))) == "until"
    site = {"dpu": "front", "doorway": "inner", "mounted_in": "room", "from": NOON + MINUTE}
    assert where(await refusal(apply_site(connection, placements=[site]))) == "placements[0].from"
    assert await differences(connection) == []


async def test_a_move_on_a_quarter_hour_changes_the_period_it_concerns(connection: asyncpg.Connection) -> None:
    await fill(connection)
    at, since = NOON + 2 * HOUR, HORIZON - 3 * DAY
    total = await raw_count(connection, "house", at)
    part = await raw_count(connection, "house", NOON + HOUR - MICROSECOND) - await raw_count(
        connection, "house", NOON - MICROSECOND
    )
    await retain(connection)
    await place(connection, "front", None, NOON, NOON + HOUR)
    assert await raw_count(connection, "house", at) == total - part
    assert await raw_count(connection, "house", since - MINUTE) == 0
    assert await differences(connection) == []


async def test_a_sensor_that_was_last_heard_before_holds_up_no_change(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await record(connection, [("front", HORIZON - DAY + n * MINUTE, 1) for n in (1, 2)])
    await retain(connection)
    await apply_site(connection, dpus=[{"id": "young"}])
    await place(connection, "young", "front", LONG_AGO)
    assert await connection.fetchval("select raw_count from api.get_count('house')") == 2
    assert await differences(connection) == []


async def test_moves_where_nothing_was_dropped_are_as_free_as_ever(connection: asyncpg.Connection) -> None:
    await fill(connection)
    await place(connection, "front", "front", NOON + MINUTE, NOON + 2 * MINUTE)
    await reset(connection, "house", 3, NOON + HOUR + MINUTE)
    await retain(connection)
    await place(connection, "inner", "front", NOON + 17 * MINUTE, NOON + 18 * MINUTE)  # silent at that time
    await apply_site(connection, dpus=[{"id": "young"}])
    await place(connection, "young", "front", LONG_AGO + MINUTE, HORIZON + MINUTE)
    await place(connection, "front", "front", NOON + MINUTE)  # as it was
    await place(connection, "front", "inner", NOON + HOUR + 3 * MINUTE)  # within a quarter-hour that was kept
    await place(connection, "front", "front", NOON + HOUR + 3 * MINUTE)
    assert await differences(connection) == []


async def test_a_reset_within_a_quarter_hour_that_was_dropped_is_refused(connection: asyncpg.Connection) -> None:
    await fill(connection)
    await retain(connection)
    assert where(await refusal(reset(connection, "house", 4, NOON + MINUTE))) == "at"
    await reset(connection, "room", 5, NOON + 20 * MINUTE)  # nobody passed its door
    await reset(connection, "house", 6, NOON)
    assert await counts(connection, [NOON, NOON + 20 * MINUTE], "room") == [
        await raw_count(connection, "room", NOON),
        5,
    ]
    assert await raw_count(connection, "house", NOON) == 6
    assert await differences(connection) == []


async def test_another_daily_reset_is_allowed_and_what_it_cannot_answer_is_refused(
    connection: asyncpg.Connection,
) -> None:
    await fill(connection)
    before, noon = await counts(connection, [NOON - QUARTER, NOON])
    await retain(connection)
    await connection.execute("""select api.put_space('house', '{"reset_at": "11:50"}')""")
    error = await refusal(raw_count(connection, "house", NOON))
    assert where(error) == "at"
    assert "from 2026-03-04T11:45:00Z" in str(error)
    assert where(await refusal(series(connection, NOON - DAY, NOON))) == "from"
    assert await raw_count(connection, "house", HORIZON + 20 * HOUR) != 0
    assert await connection.fetchval("select raw_count from api.get_count('house')") == 0
    await connection.execute("""select api.put_space('house', '{"reset_at": "11:45"}')""")
    assert await raw_count(connection, "house", NOON) == noon - before


async def test_a_change_that_would_leave_the_count_of_now_without_its_events_is_refused(
    connection: asyncpg.Connection,
) -> None:
    await fill(connection)
    await apply_site(connection, spaces=[{"id": "hall"}])
    await reset(connection, "hall", 4, NOON + MINUTE)
    await retain(connection)
    rehung = """select api.put_space('house', '{"parent": "hall"}')"""
    error = await refusal(connection.execute(rehung))
    assert "Record a reset" in hint(error)
    assert await connection.fetchval("select raw_count from api.get_count('hall')") == 4
    await reset(connection, "hall", 9)
    await connection.execute(rehung)
    assert await connection.fetchval("select raw_count from api.get_count('hall')") == 9
    # it went in with the past of the house, which for a while cannot be told
    assert await raw_count(connection, "hall", NOON) == await raw_count(connection, "house", NOON)
    await refusal(raw_count(connection, "hall", NOON + HOUR))
    assert await differences(connection) == []


# BI and verify


async def test_the_views_by_quarter_hours_stay_as_they_were(connection: asyncpg.Connection) -> None:
    await fill(connection)
    await place(connection, "front", "inner", NOON + 3 * MINUTE, NOON + HOUR + seconds(1))
    await reset(connection, "house", 5, NOON + 2 * HOUR + seconds(1))
    window = (HORIZON - 4 * DAY, HORIZON + DAY)
    views = ("space_flows_15m", "space_counts_15m")
    before = {view: await connection.fetch(HOUSE.format(view), *window) for view in views}
    assert len(before["space_counts_15m"]) == 4 * 96  # nothing counts for it before
    await retain(connection)
    assert {view: await connection.fetch(HOUSE.format(view), *window) for view in views} == before
    assert await connection.fetchval("select min(time) from bi.events") == HORIZON
    await connection.execute("""select api.put_space('house', '{"reset_at": "11:50"}')""")
    assert where(await refusal(connection.fetch(HOUSE.format("space_counts_15m"), *window))) == "bucket"
    assert await connection.fetch(HOUSE.format("space_flows_15m"), *window) == before["space_flows_15m"]


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        ("update core.dpu_total set before = before + 1 where day = $1", "dpu_total"),
        ("update core.dpu_total set totals = array[7] where day = $1", "dpu_total"),
        ("delete from core.dpu_total where day = $1", "dpu_total"),
        (
            "update core.dpu_flow_15m_v1 set net = net + 1 where bucket = $1::timestamptz + interval '12 hours'",
            "dpu_flow_15m",
        ),
        ("delete from core.kept_event where time < $1::timestamptz + interval '12 hours 10 minutes'", "dpu_flow_15m"),
        ("update core.kept_event set direction = 7 where time > $1", "dpu_flow_15m"),
        ("update core.dpu_state set first_time = $1", "dpu_state"),
        ("update core.live_flow set net = net + 1 where from_at < $1", "live_flow"),
    ],
)
async def test_verify_still_finds_what_is_broken_before(
    connection: asyncpg.Connection, broken: str, check: str
) -> None:
    await fill(connection)
    await place(connection, "front", "inner", NOON + MINUTE)
    await place(connection, "front", "front", NOON + MINUTE)
    await retain(connection)
    assert await connection.fetchval("select count(*) from core.kept_event") > 1
    assert await differences(connection) == []
    materialized = await connection.fetch("""
        select view_name, format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name) as name
        from timescaledb_information.continuous_aggregates""")
    for view, name in materialized:
        broken = broken.replace(f"core.{view}", name)
    await connection.execute(broken, NOON.replace(hour=0))
    assert check in {row[0] for row in await differences(connection)}


# Setting it


async def test_the_upkeep_drops_what_is_due(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    now = await connection.fetchval("select clock_timestamp()")
    due = now.replace(hour=0, minute=0, second=0, microsecond=0) - 8 * DAY
    await record(connection, [("front", due - MINUTE, 1), ("front", due, 1), ("front", now - HOUR, 1)])
    await connection.execute("call core.run_upkeep()")
    assert await connection.fetchval("select events_from from api.get_retention()") is None
    await connection.execute("select api.set_retention(8)")
    await connection.execute("call core.run_upkeep()")
    assert await connection.fetchval("select events_from from api.get_retention()") in (due, due + DAY)  # midnight
    await connection.execute("update core.rollup_state set retired_at = retired_at - interval '1 hour'")
    await connection.execute("call core.run_upkeep()")
    assert await connection.fetchval("select min(time) from core.event") >= due
    assert await raw_count(connection, "house", now) == 3


async def test_for_ever_stops_it(connection: asyncpg.Connection) -> None:
    await fill(connection)
    await connection.execute("select api.set_retention(8)")
    await connection.execute("select api.set_retention(null)")
    await connection.execute("call core.run_upkeep()")
    assert await connection.fetchval("select events_from from api.get_retention()") is None
