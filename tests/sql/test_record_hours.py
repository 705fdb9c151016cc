"""api.record_hours."""

from collections.abc import Sequence

import asyncpg
import pytest

from headcount.database import calls
from tests.factories import apply_site

Row = tuple[str, int, str, str]


async def record(connection: asyncpg.Connection, rows: Sequence[Row]) -> list[tuple[int, str]]:
    columns = [[row[n] for row in rows] for n in range(4)]
    found = await connection.fetch("select * from api.record_hours($1, $2, $3, $4)", *columns)
    return [(row["index"], row["verdict"]) for row in found]


async def test_it_adds_the_rows_of_a_space_whatever_their_order_and_each_once(connection: asyncpg.Connection) -> None:
    rows = [("a", 0, "09:00:00", "12:00:00"), ("b", 6, "22:00", "02:00"), ("a", 0, "13:00:00", "23:59:59")]
    assert await record(connection, [*rows, rows[0]]) == [(3, "duplicate")]
    assert await record(connection, [("a", 1, "00:00", "00:00"), *rows]) == [(n, "duplicate") for n in (1, 2, 3)]
    hours = (await calls.get_space(connection, "a")).opening_hours or []
    assert [(row.day, row.open, row.close) for row in hours] == [
        (0, "09:00:00", "12:00:00"),
        (0, "13:00:00", "23:59:59"),
        (1, "00:00", "00:00"),
    ]


async def test_it_leaves_what_somebody_else_said(connection: asyncpg.Connection) -> None:
    hours = [{"day": 3, "open": "10:00", "close": "11:00"}]
    await apply_site(connection, spaces=[{"id": "a", "opening_hours": hours, "time_zone": "Asia/Beirut"}])
    await record(connection, [("a", 0, "09:00", "12:00")])
    found = await calls.get_space(connection, "a")
    assert [row.day for row in found.opening_hours or []] == [3, 0]
    assert found.time_zone == "Asia/Beirut"


async def test_a_space_that_it_creates_is_in_chicago(connection: asyncpg.Connection) -> None:
    await record(connection, [("a", 0, "09:00", "12:00")])
    assert (await calls.get_space(connection, "a")).time_zone == "America/Chicago"


async def test_it_refuses_a_row_that_is_none(connection: asyncpg.Connection) -> None:
    with pytest.raises(asyncpg.PostgresError) as refused:
        await record(connection, [("a", 0, "09:00", "24:00")])
    assert refused.value.sqlstate == "PT422"
