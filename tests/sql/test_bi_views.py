"""The views of bi say what the functions say, at every moment; and they look only at what was asked for."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import msgspec
import pytest

from headcount.database import calls
from tests.conftest import Scene
from tests.factories import LONG_AGO, NOON, apply_site, build_house, record, seconds
from tests.http.reporting import begun

pytestmark = pytest.mark.slow

QUARTER = timedelta(minutes=15)
MOMENTS = ("nothing rolled up", "all rolled up", "late events since", "rolled up and compressed")


def quarters(start: datetime, count: int) -> list[datetime]:
    return [start + number * QUARTER for number in range(count)]


async def series(connection: asyncpg.Connection, space: str, start: datetime, end: datetime) -> list[tuple[Any, ...]]:
    rows = await connection.fetch(
        """
        select c.start_at, c.raw_count, c.entries, c.exits
        from api.list_space_counts(space => $1, from_at => $2, to_at => $3, grain => '15m', time_zone => 'UTC') c
        """,
        space,
        start,
        end,
    )
    return [tuple(row) for row in rows]


async def bi_series(
    connection: asyncpg.Connection, space: str, start: datetime, end: datetime
) -> list[tuple[Any, ...]]:
    rows = await connection.fetch(
        """
        select c.bucket, c.raw_count, coalesce(f.entries, 0), coalesce(f.exits, 0), c.count, f.net
        from bi.space_counts_15m c
        left join bi.space_flows_15m f on f.space = c.space and f.bucket = c.bucket
        where c.space = $1 and c.bucket >= $2 and c.bucket < $3
        order by c.bucket
        """,
        space,
        start,
        end,
    )
    assert all(row["count"] == max(0, row["raw_count"]) for row in rows)
    assert all(row["net"] is None or row["net"] == row[2] - row[3] for row in rows)
    return [tuple(row)[:4] for row in rows]


async def build_busy_house(connection: asyncpg.Connection, start: datetime) -> None:
    """Moves within a quarter-hour and on its edge, resets within, on the edge and daily through a change of clocks."""
    await apply_site(
        connection,
        spaces=[
            {"id": "house", "time_zone": "Europe/Berlin", "reset_at": "02:30"},
            {"id": "room", "parent": "house", "reset_at": "never"},
        ],
        doorways=[{"id": "front", "sides": [None, "house"]}, {"id": "inner", "sides": ["house", "room"]}],
        dpus=[{"id": "one"}, {"id": "two"}],
        placements=[
            {"dpu": dpu, "doorway": doorway, "mounted_in": "house", "from": LONG_AGO.isoformat()}
            for dpu, doorway in (("one", "front"), ("two", "inner"))
        ],
    )
    events = [
        ("one" if number % 3 else "two", start + number * timedelta(seconds=397), (number * 7) % 5 - 2)
        for number in range(500)
    ]
    await record(connection, events)
    for dpu, doorway, side, hours in (
        ("one", "inner", "room", 5.1),
        ("one", "front", None, 9.0),
        ("two", "front", "house", 20.49),
        ("two", None, None, 30.3),
        ("two", "inner", "house", 30.4),
    ):
        await connection.execute(
            "select api.record_placement(dpu => $1, doorway => $2, mounted_in => $3, from_at => $4)",
            dpu,
            doorway,
            side,
            start + timedelta(hours=hours),
        )
    for space, count, hours in (("room", 4, 3.0), ("room", 2, 3.1), ("house", 9, 11.2), ("house", 1, 11.2)):
        await connection.execute(
            "select api.record_reset(space => $1, count => $2, at => $3)", space, count, start + timedelta(hours=hours)
        )
    # exactly at a reset, and exactly where a placement begins
    await record(connection, [("one", start + timedelta(hours=11.2), 100), ("two", start + timedelta(hours=20.49), 7)])


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize(
    "start", [datetime(2026, 3, 28, tzinfo=UTC), datetime(2025, 10, 25, tzinfo=UTC)], ids=["spring", "autumn"]
)
async def test_counts_and_flows_equal_the_series(connection: asyncpg.Connection, start: datetime, moment: str) -> None:
    await build_busy_house(connection, start)
    if moment != MOMENTS[0]:
        await connection.execute("call core.refresh_rollups()")
    if moment == MOMENTS[2]:
        await record(
            connection, [("one", start + number * timedelta(hours=1.7) + seconds(3), 5) for number in range(30)]
        )
    if moment == MOMENTS[3]:
        await connection.execute("select compress_chunk(c) from show_chunks('core.event') c")
    end = start + timedelta(days=3)
    for space in ("house", "room"):
        counted_since = await connection.fetchval("select counted_since from bi.spaces where space = $1", space)
        assert start <= counted_since < start + timedelta(minutes=20)
        all_quarters = await series(connection, space, start - timedelta(hours=6), end)
        expected = [row for row in all_quarters if row[0] > counted_since - QUARTER]
        assert await bi_series(connection, space, start - timedelta(hours=6), end) == expected
        assert await bi_series(connection, space, start + timedelta(hours=11), start + timedelta(hours=12)) == [
            row for row in expected if start + timedelta(hours=11) <= row[0] < start + timedelta(hours=12)
        ]


async def test_the_running_quarter_is_counted_as_far_as_it_has_come(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    now = await connection.fetchval("select clock_timestamp()")
    await record(connection, [("front", now - seconds(1), 3), ("front", now + seconds(200), 4)])
    newest = await connection.fetchrow(
        "select bucket, count from bi.space_counts_15m where space = 'house' order by bucket desc limit 1"
    )
    assert newest is not None
    assert newest["bucket"] <= now + seconds(60)
    assert newest["count"] == 3


async def bounds(connection: asyncpg.Connection) -> dict[str, tuple[datetime, datetime, int]]:
    """By space: its first and its last quarter-hour in bi.space_counts_15m, and how many it has."""
    rows = await connection.fetch(
        "select space, min(bucket), max(bucket), count(*) from bi.space_counts_15m group by 1"
    )
    return {row["space"]: tuple(row)[1:] for row in rows}


async def test_the_quarters_of_a_space_begin_with_what_first_counts_for_it(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    now = await connection.fetchval("select clock_timestamp()")
    running = now - (now - NOON) % QUARTER
    await record(connection, [("front", NOON + seconds(1000), 2), ("front", now - 200 * QUARTER, 1)])
    assert await connection.fetchval("select bool_or(counted) from bi.spaces where space = 'room'") is False
    first, last, number = (await bounds(connection)).pop("house")
    assert (first, await connection.fetchval("select count(distinct space) from bi.space_counts_15m")) == (
        NOON + QUARTER,
        1,
    )
    assert last >= running
    assert number == (last - first) // QUARTER + 1
    # nothing happened for hours: it held as many
    rows = await connection.fetch(
        "select count from bi.space_counts_15m where space = 'house' and bucket >= $1 and bucket < $2",
        NOON + 2 * QUARTER,
        NOON + 20 * QUARTER,
    )
    assert [row["count"] for row in rows] == [2] * 18

    await connection.execute("select api.record_reset(space => 'room', count => 4, at => $1)", NOON + 7 * QUARTER)
    await record(connection, [("front", NOON - 3 * QUARTER, 1)])  # late
    found = await bounds(connection)
    assert {space: first for space, (first, _, _) in found.items()} == {
        "house": NOON - 3 * QUARTER,
        "room": NOON + 7 * QUARTER,
    }


async def test_an_event_of_long_ago_costs_nothing_where_it_does_not_count(connection: asyncpg.Connection) -> None:
    """Of a DPU whose clock was not set: at the door of one space, or placed nowhere."""
    await build_house(connection)
    await record(connection, [("front", NOON, 2), ("inner", NOON - timedelta(days=9_000), 1), ("loose", LONG_AGO, 1)])
    house = "from bi.space_counts_15m where space = 'house'"
    assert await connection.fetchval(f"select min(bucket) {house}") == NOON
    number = await connection.fetchval(f"select count(*) {house}")
    touched = await read(connection, f"select avg(count) {house}")
    quarters = [node for node in touched if node.get("Function Name") == "list_block_quarters"]
    assert sum(node["Actual Loops"] for node in quarters) <= number / 960 + 2


async def test_an_empty_database_has_no_quarters(connection: asyncpg.Connection) -> None:
    await apply_site(connection, spaces=[{"id": "house"}])
    assert await connection.fetchval("select count(*) from bi.space_flows_15m") == 0
    assert await connection.fetchval("select coalesce(sum(count), 0) from bi.space_counts_15m") == 0


async def test_current_counts_equal_the_functions(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    now = await connection.fetchval("select clock_timestamp()")
    await record(connection, [("front", now - seconds(100), 3), ("inner", now - seconds(2000), -1)])
    rows = await connection.fetch("select * from bi.space_counts_now order by space")
    expected = await connection.fetch("select * from api.list_counts() order by space")
    names = ["space", "count", "raw_count", "since", "capacity", "utilization", "dpus_placed", "dpus_online"]
    names += ["counted", "counted_since"]
    assert [[row[name] for name in names] for row in rows] == [[row[name] for name in names] for row in expected]


async def test_spaces_say_what_holds_for_them(connection: asyncpg.Connection) -> None:
    await apply_site(
        connection,
        spaces=[
            {"id": "site", "time_zone": "Asia/Tokyo", "reset_at": "04:00"},
            {"id": "hall", "parent": "site", "reset_at": "never", "capacity": 7, "name": "The hall"},
            {"id": "stage", "parent": "hall"},
        ],
    )
    rows = await connection.fetch("select * from bi.spaces order by space")
    assert [tuple(row) for row in rows] == [
        ("hall", "The hall", "site", "site/hall", 1, "Asia/Tokyo", "never", 7, False, None, None),
        ("site", None, None, "site", 0, "Asia/Tokyo", "04:00", None, False, None, None),
        ("stage", None, "hall", "site/hall/stage", 2, "Asia/Tokyo", "never", None, False, None, None),
    ]


async def test_the_plan_and_the_facts_are_told_by_their_ids(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await record(connection, [("front", NOON, 1), ("loose", NOON, -2, 5)])
    await connection.execute("select api.record_reset(space => 'room', count => 4, at => $1)", NOON)
    await connection.execute(
        "select api.record_placement(dpu => 'inner', doorway => 'front', mounted_in => null, from_at => $1)", NOON
    )
    doorways = await connection.fetch("select * from bi.doorways order by 1")
    assert [tuple(row) for row in doorways] == [
        ("front", None, None, "house", None),
        ("inner", None, "house", "room", None),
    ]
    placements = await connection.fetch(
        "select dpu, doorway, mounted_in, from_at, until_at from bi.placements order by 1, from_at"
    )
    assert [tuple(row) for row in placements] == [
        ("front", "front", "house", LONG_AGO, None),
        ("inner", "inner", "house", LONG_AGO, NOON),
        ("inner", "front", None, NOON, None),
    ]
    events = await connection.fetch("select dpu, time, sequence, direction, doorway from bi.events order by 1")
    assert [tuple(row) for row in events] == [("front", NOON, 0, 1, "front"), ("loose", NOON, 5, -2, None)]
    resets = await connection.fetch("select space, at, count from bi.resets")
    assert [tuple(row) for row in resets] == [("room", NOON, 4)]
    dpus = await connection.fetch(
        "select dpu, last_seen_at > latest_time, latest_time, cumulative_count from bi.dpus order by 1"
    )
    assert [tuple(row) for row in dpus] == [
        ("front", True, NOON, 1),
        ("inner", None, None, 0),
        ("loose", True, NOON, -2),
    ]


async def test_refused_events_are_told_as_the_api_lists_them(connection: asyncpg.Connection) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    await record(connection, [("front", later, 2, 3), ("back", NOON, 1)], refused=[("{}", "It is empty.")])
    listed = await calls.list_rejected(connection)
    found = await connection.fetch("select * from bi.rejected_events order by received_at desc, id::bigint desc")
    assert [{"timestamp" if name == "time" else name: value for name, value in row.items()} for row in found] == [
        msgspec.structs.asdict(item) for item in listed
    ]
    assert [
        tuple(row) for row in await connection.fetch("select dpu, clock, rejected_last_day from bi.dpus order by dpu")
    ] == [
        ("back", "ok", 0),
        ("front", "ahead", 1),
    ]
    await connection.execute("update core.rejected_event set time = time - interval '61 minutes'")
    await calls.rerun_rejected(connection)
    assert await connection.fetchval("select sum(rejected_last_day) from bi.dpus") == 0


async def test_everything_is_commented_and_nothing_is_json(connection: asyncpg.Connection) -> None:
    rows = await connection.fetch(
        """
        select c.relname || coalesce('.' || a.attname, ''), a.atttypid::regtype::text
        from pg_class c
        left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
        where c.relnamespace = 'bi'::regnamespace
          and (obj_description(c.oid) is null or col_description(c.oid, a.attnum) is null
               or a.atttypid in ('json'::regtype, 'jsonb'::regtype))
        """
    )
    assert [tuple(row) for row in rows] == []


# Columns are only ever appended: a line of this table grows at its end and changes in no other way.
async def test_complete_reports_are_told_as_their_csv_has_them(connection: asyncpg.Connection) -> None:
    await calls.record_polls(connection, ["shop", "kiosk"], [NOON, NOON - seconds(90)], [True, False])
    report, attempt = await begun(connection)
    assert await connection.fetchval("select count(*) from bi.uptime_reports") == 0
    async with connection.transaction(isolation="repeatable_read"):
        await calls.compute_report(connection, report, attempt)
    found = await connection.fetch("select * from bi.uptime_reports order by space")
    assert [tuple(row)[3:] for row in found] == [
        tuple(msgspec.structs.astuple(row)) for row in await calls.list_report_rows(connection, report)
    ]
    assert {(row["report"], row["now_at"]) for row in found} == {(report, NOON)}


COLUMNS = {
    "doorways": "doorway name side_a side_b retired_at",
    "dpu_flips": "dpu at state recorded_at",
    "dpus": "dpu name mac_address registered_at last_seen_at latest_time cumulative_count state last_heartbeat_at "
    "retired_at offline_after_seconds clock rejected_last_day",
    "events": "dpu time sequence direction received_at doorway",
    "incidents": "incident kind space dpu dpus started_at ended_at corrected absorbed_by",
    "placements": "dpu doorway mounted_in from_at until_at recorded_at",
    "rejected_events": "id received_at dpu code detail time direction sequence body source rerun_at token",
    "resets": "space at count recorded_at",
    "space_counts_15m": "space bucket count raw_count",
    "space_counts_now": "space at count raw_count since capacity utilization dpus_placed dpus_online counted "
    "counted_since",
    "space_flows_15m": "space bucket entries exits net",
    "spaces": "space name parent path depth time_zone reset_at capacity counted counted_since retired_at",
    "uptime_reports": "report created_at now_at space uptime_last_hour_minutes uptime_last_day_hours "
    "uptime_last_week_hours downtime_last_hour_minutes downtime_last_day_hours downtime_last_week_hours",
}


async def test_columns_stay_where_they_are(connection: asyncpg.Connection) -> None:
    rows = await connection.fetch(
        """
        select c.relname, string_agg(a.attname, ' ' order by a.attnum)
        from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
        where c.relnamespace = 'bi'::regnamespace group by 1
        """
    )
    assert dict(tuple(row) for row in rows) == COLUMNS


def nodes(plan: Any) -> list[dict[str, Any]]:
    return [plan] + [node for child in plan.get("Plans", []) for node in nodes(child)]


async def read(connection: asyncpg.Connection, query: str) -> list[dict[str, Any]]:
    """The nodes of a plan that ran."""
    plan = await connection.fetchval(f"explain (analyze, costs off, timing off, format json) {query}")
    return [node for node in nodes(json.loads(plan)[0]["Plan"]) if node["Actual Loops"] > 0]


@pytest.fixture
async def long_history(connection: asyncpg.Connection, scene: Scene) -> None:
    """Two months of two doors, rolled up."""
    if await scene.is_there(("long_history",)):
        return
    await build_house(connection)
    days = [("front", NOON + number * timedelta(days=1), 1) for number in range(60)]
    await record(connection, [*days, *(("inner", time, 1) for _, time, _ in days)])
    await connection.execute("call core.refresh_rollups()")
    await connection.execute("analyze")
    await scene.note("long_history")


@pytest.mark.usefixtures("long_history")
async def test_events_of_a_day_touch_the_chunk_of_that_day(connection: asyncpg.Connection) -> None:
    touched = await read(
        connection,
        """
        select * from bi.events
        where dpu = 'front' and time >= '2026-03-10 00:00:00+00' and time < '2026-03-11 00:00:00+00'
        """,
    )
    assert len({node["Relation Name"] for node in touched if node.get("Relation Name", "").startswith("_hyper")}) == 1


@pytest.mark.parametrize(
    "condition",
    [
        "bucket >= '2026-03-10 00:00:00+00' and bucket < '2026-03-11 00:00:00+00'",
        "bucket >= '2026-03-10 00:00:00+00'::timestamptz - interval '1 hour' and bucket < '2026-03-11 00:00:00+00'",
        "bucket = '2026-03-10 00:00:00+00'",
        "bucket between '2026-03-09 00:00:00+00' and '2026-03-11 00:00:00+00' and extract(hour from bucket) = 3",
        "bucket in ('2026-03-10 00:00:00+00', '2026-03-10 12:00:00+00')",
    ],
)
@pytest.mark.usefixtures("long_history")
async def test_counts_of_a_day_count_one_block_once(connection: asyncpg.Connection, condition: str) -> None:
    touched = await read(connection, f"select * from bi.space_counts_15m where space = 'house' and {condition}")
    remembered = [node for node in touched if node["Node Type"] == "Memoize"]
    assert [node["Cache Misses"] for node in remembered] in ([1], [2])


# The last of them, as it writes.
@pytest.mark.parametrize("is_rolled_up", [True, False])
@pytest.mark.usefixtures("long_history")
async def test_flows_of_a_day_touch_the_chunks_of_that_day(connection: asyncpg.Connection, is_rolled_up: bool) -> None:
    if not is_rolled_up:
        await connection.execute("update core.rollup_state set materialized_until = '2000-01-01 00:00:00+00'")
    day = "space = 'house' and bucket >= '2026-03-10 00:00:00+00' and bucket < '2026-03-11 00:00:00+00'"
    touched = await read(connection, f"select * from bi.space_flows_15m where {day}")
    chunks = {node["Relation Name"] for node in touched if node.get("Relation Name", "").startswith("_hyper")}
    assert 1 <= len(chunks) <= 3


async def test_only_the_spaces_that_are_wanted_are_counted(connection: asyncpg.Connection) -> None:
    """Which they are is said by another view."""
    spaces = [{"id": "site"}, {"id": "other"}, *({"id": f"room-{n}", "parent": "site"} for n in range(2))]
    await apply_site(connection, spaces=[*spaces, *({"id": f"far-{n}", "parent": "other"} for n in range(300))])
    await connection.execute("analyze core.space")
    touched = await read(
        connection,
        "select n.count from bi.space_counts_now n join bi.spaces s on s.space = n.space where s.parent = 'site'",
    )
    assert [n["Actual Loops"] for n in touched if n.get("Function Name") == "count_space_now"] == [2]
