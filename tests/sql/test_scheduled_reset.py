"""The instant of a daily reset, by hand (model.md section 7)."""

from datetime import UTC, date, datetime, time

import asyncpg
import pytest

from tests.factories import apply_site


def utc(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, tzinfo=UTC)


CASES = {
    "an ordinary day": ("America/New_York", date(2026, 7, 1), time(4), utc(2026, 7, 1, 8)),
    "the clock skips it": ("America/New_York", date(2026, 3, 8), time(2, 30), utc(2026, 3, 8, 7)),
    "just before the gap": ("America/New_York", date(2026, 3, 8), time(1, 59), utc(2026, 3, 8, 6, 59)),
    "just after the gap": ("America/New_York", date(2026, 3, 8), time(3), utc(2026, 3, 8, 7)),
    "later on that day": ("America/New_York", date(2026, 3, 8), time(12), utc(2026, 3, 8, 16)),
    "shown twice: the first": (
        "America/New_York",
        date(2026, 11, 1),
        time(1, 30),
        utc(2026, 11, 1, 5, 30),
    ),
    "after it was shown twice": ("America/New_York", date(2026, 11, 1), time(2), utc(2026, 11, 1, 7)),
    "half an hour, skipped": (
        "Australia/Lord_Howe",
        date(2026, 10, 4),
        time(2, 15),
        utc(2026, 10, 3, 15, 30),
    ),
    "half an hour, twice": (
        "Australia/Lord_Howe",
        date(2026, 4, 5),
        time(1, 45),
        utc(2026, 4, 4, 14, 45),
    ),
    "midnight is skipped": ("Asia/Beirut", date(2026, 3, 29), time(0), utc(2026, 3, 28, 22)),
    "midnight comes an hour late": ("Asia/Beirut", date(2026, 10, 25), time(0), utc(2026, 10, 24, 22)),
    "no change at all": ("Asia/Kathmandu", date(2026, 5, 5), time(0), utc(2026, 5, 4, 18, 15)),
    "one minute past midnight, gone back": (
        "America/St_Johns",
        date(2010, 11, 7),
        time(0),
        utc(2010, 11, 7, 2, 30),
    ),
    "a day that never was": ("Pacific/Apia", date(2011, 12, 30), time(4), utc(2011, 12, 30, 10)),
    "the day after it": ("Pacific/Apia", date(2011, 12, 31), time(4), utc(2011, 12, 30, 14)),
}


@pytest.mark.parametrize(("zone", "day", "clock", "expected"), CASES.values(), ids=CASES.keys())
async def test_it_resets_at_the_first_instant_that_shows_the_time(
    connection: asyncpg.Connection, zone: str, day: date, clock: time, expected: datetime
) -> None:
    found = await connection.fetchval("select core.get_scheduled_reset($1, $2, $3)", day, zone, clock)
    assert found == expected


async def test_it_lists_daily_resets_beside_explicit_ones(connection: asyncpg.Connection) -> None:
    await apply_site(connection, spaces=[{"id": "s", "time_zone": "America/New_York", "reset_at": "02:30"}])
    for at, count in ((utc(2026, 3, 8, 7), 4), (utc(2026, 3, 8, 12), 9)):
        await connection.execute("select api.record_reset(space => 's', count => $1, at => $2)", count, at)
    rows = await connection.fetch(
        "select at, count, scheduled from api.list_resets(space => 's', scheduled => true, from_at => $1, to_at => $2)",
        utc(2026, 3, 7),
        utc(2026, 3, 10),
    )
    assert [tuple(row) for row in rows] == [
        (utc(2026, 3, 7, 7, 30), 0, True),
        (utc(2026, 3, 8, 7), 4, False),
        (utc(2026, 3, 8, 12), 9, False),
        (utc(2026, 3, 9, 6, 30), 0, True),
    ]


async def test_it_lists_one_reset_where_two_days_share_an_instant(connection: asyncpg.Connection) -> None:
    await apply_site(connection, spaces=[{"id": "s", "time_zone": "Pacific/Apia", "reset_at": "00:00"}])
    rows = await connection.fetch(
        "select at from api.list_resets(space => 's', scheduled => true, from_at => $1, to_at => $2)",
        utc(2011, 12, 30, 10),
        utc(2011, 12, 31, 10),
    )
    assert [row["at"] for row in rows] == [utc(2011, 12, 30, 10)]


async def offsets(connection: asyncpg.Connection, zone: str) -> set[float]:
    """The offsets of a zone by its own rules: a session's time zone is never an abbreviation."""
    await connection.execute("select set_config('timezone', $1, false)", zone)
    found = await connection.fetch(
        "select distinct extract(timezone from t)::float as seconds from unnest($1::timestamptz[]) t", MONTHS
    )
    return {row["seconds"] for row in found}


MONTHS = [utc(year, month, 15) for year in range(2010, 2031) for month in range(1, 13)]


@pytest.mark.parametrize("abbreviations", ["Default", "Australia", "India"])
async def test_every_zone_it_takes_is_counted_by_its_own_rules(
    connection: asyncpg.Connection, abbreviations: str
) -> None:
    """`at time zone` looks for an abbreviation first, and that is a fixed offset."""
    await connection.execute("select set_config('timezone_abbreviations', $1, false)", abbreviations)
    try:
        shadowed = await connection.fetch(
            """
            select n.name, n.name = any (core.list_time_zones(array[n.name])) as is_taken,
              array(
                select distinct extract(epoch from (t at time zone n.name) - (t at time zone 'UTC'))::float
                from unnest($1::timestamptz[]) t
              ) as seconds
            from pg_timezone_names n
            where upper(n.name) in (select a.abbrev from pg_timezone_abbrevs a)
            """,
            MONTHS,
        )
        assert {"CET", "EET", "MET", "WET"} <= {row["name"] for row in shadowed if not row["is_taken"]}
        assert {"UTC", "GMT"} <= {row["name"] for row in shadowed if row["is_taken"]}
        for row in shadowed:
            assert row["is_taken"] == (await offsets(connection, row["name"]) == set(row["seconds"])), row["name"]
    finally:
        await connection.execute("set timezone = 'UTC'; reset timezone_abbreviations")


async def test_the_zone_it_names_instead_has_the_same_rules(connection: asyncpg.Connection) -> None:
    try:
        for name in ("CET", "EET", "MET", "WET"):
            instead = await connection.fetchval("select core.get_zone_instead($1)", name)
            assert await offsets(connection, name) == await offsets(connection, instead)
            await connection.execute("set timezone = 'UTC'")
            with pytest.raises(asyncpg.PostgresError, match=f"'{name}' is also an abbreviation") as refused:
                await apply_site(connection, spaces=[{"id": "hall", "time_zone": name}])
            assert refused.value.sqlstate == "PT422"
            assert (refused.value.detail, refused.value.hint) == (
                "spaces[0].time_zone",
                f"Use the name of a place, such as {instead}.",
            )
    finally:
        await connection.execute("set timezone = 'UTC'")
