import json
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from tests.factories import LONG_AGO, NOON, apply_site, build_house, record, seconds

from .test_preview_change import preview
from .test_record_placement import HOUR

SECOND = seconds(1)
MICROSECOND = timedelta(microseconds=1)


async def compare(connection: asyncpg.Connection, change: str, **arguments: Any) -> list[tuple[Any, ...]]:
    """(space, from, to, largest change, at, before, after) of each space that would change; to is None if it lasts."""
    _, facts = await preview(
        connection, change, {name: str(v) if isinstance(v, datetime) else v for name, v in arguments.items()}
    )
    rows = await connection.fetch("select * from api.compare_counts(facts => $1)", json.dumps(facts))
    now = datetime.fromisoformat(facts["now"])
    return [tuple(None if value == now else value for value in row) for row in rows]


async def test_a_move_changes_counts_from_its_first_event_on(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await record(connection, [("front", NOON + seconds(n), 1) for n in range(10)])
    assert await compare(
        connection, "record_placement", dpu="front", doorway="inner", mounted_in="room", from_at=NOON + seconds(7)
    ) == [
        ("house", NOON + seconds(7), None, 3, NOON + seconds(9), 10, 7),
        ("room", NOON + seconds(7), None, 3, NOON + seconds(9), 0, 3),
    ]


async def test_what_comes_in_and_goes_again_differs_in_between(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await record(connection, [("front", NOON, 2), ("front", NOON + HOUR, -2), ("front", NOON + 2 * HOUR, 0)])
    assert await compare(
        connection, "record_placement", dpu="front", doorway=None, mounted_in=None, from_at=LONG_AGO
    ) == [("house", NOON, NOON + HOUR - MICROSECOND, 2, NOON, 2, 0)]


async def test_nothing_differs_where_nobody_passed(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await record(connection, [("front", NOON, 2), ("front", NOON, -2, 1)])
    assert (
        await compare(connection, "record_placement", dpu="front", doorway=None, mounted_in=None, from_at=LONG_AGO)
        == []
    )


async def test_a_daily_reset_ends_what_differs(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await connection.execute("""select api.put_space('house', '{"reset_at": "00:00"}')""")
    await record(connection, [("front", NOON, 2), ("front", NOON + timedelta(days=3), 1)])
    midnight = NOON.replace(hour=0)
    assert await compare(
        connection, "record_placement", dpu="front", doorway="front", mounted_in=None, from_at=LONG_AGO
    ) == [("house", NOON, midnight + timedelta(days=4) - MICROSECOND, 4, NOON, 2, -2)]


async def test_a_reset_changes_the_count_up_to_the_next_one(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await record(connection, [("front", NOON, 4), ("front", NOON + 2 * HOUR, 1)])
    await connection.execute("select api.record_reset('house', 7, $1)", NOON + 3 * HOUR)
    assert await compare(connection, "record_reset", space="house", count=10, at=NOON + HOUR) == [
        ("house", NOON + HOUR, NOON + 3 * HOUR - MICROSECOND, 6, NOON + HOUR, 4, 10)
    ]
    assert await compare(connection, "record_reset", space="house", count=10, at=NOON + 3 * HOUR) == [
        ("house", NOON + 3 * HOUR, None, 3, NOON + 3 * HOUR, 7, 10)
    ]
    assert await compare(connection, "undo_reset", space="house", at=NOON + 3 * HOUR) == [
        ("house", NOON + 3 * HOUR, None, 2, NOON + 3 * HOUR, 7, 5)
    ]
    assert await compare(connection, "record_reset", space="house", count=4, at=NOON + HOUR) == []


async def test_another_reset_time_changes_what_lies_between(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await connection.execute("""select api.put_space('house', '{"reset_at": "04:00"}')""")
    night = NOON.replace(hour=4, minute=30)
    await record(connection, [("front", NOON - timedelta(days=1), 3), ("front", night, 2)])
    four = night.replace(minute=0)
    assert await compare(connection, "put_space", space="house", patch={"reset_at": "05:00"}) == [
        ("house", four, four + timedelta(days=1) - MICROSECOND, 3, four, 0, 3)
    ]


async def test_without_its_daily_reset_a_count_goes_on(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await connection.execute("""select api.put_space('house', '{"reset_at": "00:00"}')""")
    await record(connection, [("front", NOON, 2), ("front", NOON + timedelta(days=1), 3)])
    assert await compare(connection, "put_space", space="house", patch={"reset_at": None}) == [
        ("house", NOON.replace(hour=0) + timedelta(days=1), None, 5, NOON.replace(hour=0) + timedelta(days=2), 0, 5)
    ]


async def test_another_parent_changes_its_counts_and_those_of_what_it_leaves(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await apply_site(connection, spaces=[{"id": "annex"}])
    await record(connection, [("inner", NOON, -2)])  # into the room
    assert await compare(connection, "put_space", space="room", patch={"parent": "annex"}) == [
        ("annex", NOON, None, 2, NOON, 0, 2),
        ("house", NOON, None, 2, NOON, 0, -2),
    ]


async def test_a_new_floor_plan_counts_what_was_kept_for_it(connection: asyncpg.Connection) -> None:
    """Also of a space that is not there yet."""
    await record(connection, [("front", NOON, 5)])
    site = {
        "spaces": [{"id": "house", "reset_at": "00:00"}],
        "doorways": [{"id": "front", "sides": [None, "house"]}],
        "placements": [{"dpu": "front", "doorway": "front", "mounted_in": "house", "from": str(LONG_AGO)}],
    }
    assert await compare(connection, "apply_site", **site) == [
        ("house", NOON, NOON.replace(hour=0) + timedelta(days=1) - MICROSECOND, 5, NOON, 0, 5)
    ]


async def test_it_looks_at_every_instant(connection: asyncpg.Connection) -> None:
    """Ten people from 9 to 17, and a period that begins and ends at night: samples an hour apart saw nothing."""
    await build_house(connection)
    day = datetime(2026, 3, 5, tzinfo=NOON.tzinfo)
    events = []
    for number in range(24):
        nine = day + timedelta(days=number, hours=9)
        events += [("front", nine, 10), ("front", nine + timedelta(hours=8), -10)]
    await record(connection, events)
    start = day - timedelta(hours=3)
    assert await compare(
        connection,
        "record_placement",
        dpu="front",
        doorway=None,
        mounted_in=None,
        from_at=start,
        until_at=start + timedelta(days=24),
    ) == [("house", events[0][1], events[-1][1] - MICROSECOND, 10, events[0][1], 10, 0)]
