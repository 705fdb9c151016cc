"""The rule of uptime by cases that were computed by hand. Random ones: tests/properties/test_uptime.py."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import asyncpg
import pytest

from headcount.database import calls
from tests.factories import apply_site

HOUR = 60.0
Row = tuple[int, str, str]


async def uptime(
    connection: asyncpg.Connection,
    now: str,
    hours: int,
    rows: Sequence[Row] = (),
    zone: str | None = "UTC",
    polls: Sequence[tuple[str, bool]] = (),
) -> tuple[float, float]:
    """Minutes up and down in so many hours before now."""
    opening_hours = [{"day": day, "open": start, "close": end} for day, start, end in rows]
    await apply_site(connection, spaces=[{"id": "shop", "time_zone": zone, "opening_hours": opening_hours}])
    times = [datetime.fromisoformat(at.replace("Z", "+00:00")) for at, _ in polls]
    await calls.record_polls(connection, ["shop"] * len(polls), times, [active for _, active in polls])
    now_at = datetime.fromisoformat(now.replace("Z", "+00:00"))
    row = await connection.fetchrow(
        "select u.up, u.down from core.space s, "
        "core.sum_uptimes(array[s.space_id], array[$1::timestamptz], array[$2::timestamptz], $2) u",
        now_at - timedelta(hours=hours),
        now_at,
    )
    assert row is not None
    return row["up"] / 60e6, row["down"] / 60e6


# 2023-01-23 is a Monday.
BUSINESS: dict[str, tuple[str, str, int, list[Row], float]] = {
    "no hours: always": ("UTC", "2023-01-23T12:00:00Z", 24, [], 24 * HOUR),
    "a day": ("UTC", "2023-01-24T00:00:00Z", 168, [(0, "09:00", "12:00")], 3 * HOUR),
    "closed on other days": ("UTC", "2023-01-23T00:00:00Z", 24, [(0, "09:00", "12:00")], 0),
    "overnight, over the end of the week": ("UTC", "2023-01-23T12:00:00Z", 24, [(6, "22:00", "02:00")], 4 * HOUR),
    "overnight until midnight": ("UTC", "2023-01-23T12:00:00Z", 24, [(6, "22:00", "00:00")], 2 * HOUR),
    "from midnight to midnight": ("UTC", "2023-01-25T00:00:00Z", 48, [(0, "00:00", "00:00")], 24 * HOUR),
    "from ten to ten": ("UTC", "2023-01-25T00:00:00Z", 48, [(0, "10:00", "10:00")], 24 * HOUR),
    "23:59:59 is midnight": ("UTC", "2023-01-24T12:00:00Z", 48, [(0, "00:00:00", "23:59:59")], 24 * HOUR),
    "23:59:59 to itself is a second": ("UTC", "2023-01-24T12:00:00Z", 48, [(0, "23:59:59", "23:59:59")], 1 / 60),
    "23:59 is literal": ("UTC", "2023-01-24T12:00:00Z", 48, [(0, "00:00:00", "23:59:00")], 24 * HOUR - 1),
    "23:59:58 is literal": ("UTC", "2023-01-24T12:00:00Z", 48, [(0, "23:00:00", "23:59:58")], HOUR - 2 / 60),
    "several that overlap": (
        "UTC",
        "2023-01-24T12:00:00Z",
        48,
        [(0, "09:00", "12:00"), (0, "11:00", "13:00"), (0, "15:00", "16:00"), (0, "11:00", "12:00")],
        5 * HOUR,
    ),
    "New York skips an hour": ("America/New_York", "2023-03-13T12:00:00Z", 48, [(6, "01:00", "04:00")], 2 * HOUR),
    "New York skips all of it": ("America/New_York", "2023-03-13T12:00:00Z", 48, [(6, "02:10", "02:50")], 0),
    "New York: a day of 23 hours": ("America/New_York", "2023-03-13T12:00:00Z", 48, [(6, "00:00", "00:00")], 23 * HOUR),
    "New York repeats an hour": ("America/New_York", "2023-11-06T12:00:00Z", 48, [(6, "00:30", "02:30")], 3 * HOUR),
    "New York repeats it half": ("America/New_York", "2023-11-06T12:00:00Z", 48, [(6, "01:15", "01:45")], HOUR),
    "Lord Howe skips half an hour": ("Australia/Lord_Howe", "2023-10-01T12:00:00Z", 48, [(6, "01:45", "02:45")], 30),
    "Lord Howe repeats half an hour": ("Australia/Lord_Howe", "2023-04-02T12:00:00Z", 48, [(6, "01:00", "02:00")], 90),
    "Kathmandu is ahead by 5:45": ("Asia/Kathmandu", "2023-01-23T04:00:00Z", 1, [(0, "09:00", "10:00")], 45),
    "Beirut skips midnight": ("Asia/Beirut", "2022-03-27T12:00:00Z", 48, [(5, "23:00", "02:00")], 2 * HOUR),
    "Beirut repeats the hour before it": ("Asia/Beirut", "2022-10-30T12:00:00Z", 48, [(5, "23:00", "00:00")], 2 * HOUR),
}


@pytest.mark.parametrize("case", BUSINESS)
async def test_business_time(connection: asyncpg.Connection, case: str) -> None:
    zone, now, hours, rows, expected = BUSINESS[case]
    assert await uptime(connection, now, hours, rows, zone) == (0, expected)


async def test_the_example(connection: asyncpg.Connection) -> None:
    polls = [("2023-01-23T10:14:00Z", True), ("2023-01-23T11:15:00Z", False)]
    found = await uptime(connection, "2023-01-24T00:00:00Z", 24, [(0, "09:00", "12:00")], polls=polls)
    assert found == (HOUR + 44.5, HOUR + 15.5)


MORNINGS = [(day, "09:00", "12:00") for day in range(7)]
POLLS: dict[str, tuple[list[tuple[str, bool]], float]] = {
    "none": ([], 0),
    "one": ([("2023-01-23T10:00:00Z", True)], 180),
    "one, inactive": ([("2023-01-23T10:00:00Z", False)], 0),
    "one, years ago": ([("2012-01-23T10:00:00Z", True)], 180),
    "one, out of hours": ([("2023-01-23T12:00:00Z", True)], 0),
    "one, after now": ([("2023-01-24T10:00:00Z", True)], 0),
    "the same twice": ([("2023-01-23T10:00:00Z", True)] * 2, 180),
    "two that disagree": ([("2023-01-23T10:00:00Z", True), ("2023-01-23T10:00:00Z", False)], 0),
    "two of long ago that disagree": ([("2022-01-23T10:00:00Z", True), ("2022-01-23T10:00:00Z", False)], 0),
    "of long ago the latest in hours": (
        [("2022-01-21T10:00:00Z", False), ("2022-01-22T10:00:00Z", True), ("2022-01-22T13:00:00Z", False)],
        180,
    ),
    "from before the window, over closed hours": (
        # that of 08:59:59 is none, so the middle is at 23:00 of the evening before
        [("2023-01-22T11:00:00Z", True), ("2023-01-23T11:00:00Z", False), ("2023-01-23T08:59:59Z", False)],
        0,
    ),
    "until the middle": ([("2023-01-22T11:30:00Z", True), ("2023-01-23T11:30:00Z", False)], 0),
    "the first one back without limit": ([("2023-01-23T11:59:59.999999Z", True)], 180),
    "a microsecond apart": ([("2023-01-23T10:00:00Z", True), ("2023-01-23T10:00:00.000001Z", False)], 60),
    "three microseconds apart": (
        [("2023-01-23T10:00:00Z", True), ("2023-01-23T10:00:00.000003Z", False)],
        60 + 1 / 60e6,
    ),
}


@pytest.mark.parametrize("case", POLLS)
async def test_observations(connection: asyncpg.Connection, case: str) -> None:
    polls, expected = POLLS[case]
    up, down = await uptime(connection, "2023-01-23T14:00:00Z", 24, MORNINGS, polls=polls)
    assert up == pytest.approx(expected, abs=1e-9)
    assert down == pytest.approx(180 - expected, abs=1e-9)


async def test_an_observation_reaches_over_closed_hours_to_the_middle(connection: asyncpg.Connection) -> None:
    polls = [("2023-01-22T11:00:00Z", True), ("2023-01-23T08:30:00Z", False), ("2023-01-23T11:00:00Z", False)]
    # 08:30 is out of hours, so the cut is at 23:00 of the evening before
    assert await uptime(connection, "2023-01-23T11:30:00Z", 24, MORNINGS, polls=polls) == (30, 150)
