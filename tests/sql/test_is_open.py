"""core.is_open: whether a space is open at an instant."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from tests.factories import apply_site

BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = [{"day": 6, "open": "20:00", "close": "03:00"}]


async def is_open(connection: asyncpg.Connection, space: str, at: datetime) -> bool:
    found = await connection.fetchval(
        "select core.is_open(s.space_id, $2) from core.space s where s.id = $1", space, at
    )
    assert isinstance(found, bool)
    return found


def berlin(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN)


@pytest.mark.parametrize(
    ("hours", "local", "expected"),
    [
        # 2026-03-02 is a Monday
        ([{"day": 0, "open": "09:00", "close": "12:00"}], "2026-03-02 08:59:59.999999", False),
        ([{"day": 0, "open": "09:00", "close": "12:00"}], "2026-03-02 09:00", True),
        ([{"day": 0, "open": "09:00", "close": "12:00"}], "2026-03-02 11:59:59.999999", True),
        ([{"day": 0, "open": "09:00", "close": "12:00"}], "2026-03-02 12:00", False),
        ([{"day": 0, "open": "09:00", "close": "12:00"}], "2026-03-03 10:00", False),
        (
            [{"day": 0, "open": "09:00", "close": "12:00"}, {"day": 0, "open": "11:00", "close": "13:00"}],
            "2026-03-02 12:30",
            True,
        ),
        # over midnight, from Sunday to Monday
        (NIGHT, "2026-03-08 20:00", True),
        (NIGHT, "2026-03-09 02:59:59", True),
        (NIGHT, "2026-03-09 03:00", False),
        (NIGHT, "2026-03-08 02:00", False),
        ([{"day": 0, "open": "00:00", "close": "00:00"}], "2026-03-02 00:00", True),
        ([{"day": 0, "open": "00:00", "close": "00:00"}], "2026-03-02 23:59:59.5", True),
        ([{"day": 0, "open": "00:00", "close": "00:00"}], "2026-03-03 00:00", False),
        ([{"day": 0, "open": "09:00", "close": "23:59:59"}], "2026-03-02 23:59:59.9", True),
        ([{"day": 0, "open": "09:00", "close": "23:59:58"}], "2026-03-02 23:59:58", False),
        ([], "2026-03-02 12:00", True),
        (None, "2026-03-02 12:00", True),
        # the clocks go forward at 02:00: what shows 03:00 is an instant later
        ([{"day": 6, "open": "02:00", "close": "03:00"}], "2026-03-29 03:00", False),
        ([{"day": 6, "open": "03:00", "close": "04:00"}], "2026-03-29 03:00", True),
    ],
)
async def test_it_goes_by_the_local_clock(
    connection: asyncpg.Connection, hours: list[dict[str, Any]] | None, local: str, expected: bool
) -> None:
    await apply_site(connection, spaces=[{"id": "shop", "time_zone": "Europe/Berlin", "opening_hours": hours}])
    assert await is_open(connection, "shop", berlin(local)) is expected


async def test_a_clock_time_that_comes_twice_is_open_twice(connection: asyncpg.Connection) -> None:
    hours = [{"day": 6, "open": "02:00", "close": "03:00"}]
    await apply_site(connection, spaces=[{"id": "shop", "time_zone": "Europe/Berlin", "opening_hours": hours}])
    for fold in (0, 1):
        assert await is_open(connection, "shop", berlin("2026-10-25 02:30").replace(fold=fold))


async def test_hours_and_their_zone_are_those_of_the_nearest_space_that_has_some(
    connection: asyncpg.Connection,
) -> None:
    nine = [{"day": 0, "open": "09:00", "close": "10:00"}]
    await apply_site(
        connection,
        spaces=[
            {"id": "mall", "time_zone": "Europe/Berlin", "opening_hours": nine},
            {"id": "wing", "parent": "mall", "time_zone": "America/New_York"},
            {"id": "shop", "parent": "wing"},
            {"id": "kiosk", "parent": "wing", "opening_hours": [{"day": 0, "open": "20:00", "close": "21:00"}]},
        ],
    )
    assert await is_open(connection, "shop", berlin("2026-03-02 09:30"))
    assert not await is_open(connection, "shop", berlin("2026-03-02 15:30"))
    assert not await is_open(connection, "kiosk", berlin("2026-03-02 09:30"))
    assert await is_open(connection, "kiosk", datetime(2026, 3, 2, 20, 30, tzinfo=ZoneInfo("America/New_York")))
