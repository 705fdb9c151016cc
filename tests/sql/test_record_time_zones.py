"""api.record_time_zones."""

from collections.abc import Sequence

import asyncpg
import pytest

from headcount.database import calls
from tests.factories import NOON, apply_site, differences


async def record(connection: asyncpg.Connection, rows: Sequence[tuple[str, str]]) -> list[tuple[int, str]]:
    columns = [[row[n] for row in rows] for n in range(2)]
    found = await connection.fetch("select * from api.record_time_zones($1, $2)", *columns)
    return [(row["index"], row["verdict"]) for row in found]


async def zones(connection: asyncpg.Connection) -> dict[str, str | None]:
    return {space.id: space.time_zone for space in await calls.list_spaces(connection)}


async def test_it_sets_zones_and_says_which_are_none(connection: asyncpg.Connection) -> None:
    rows = [("a", "Asia/Beirut"), ("b", "Mars/Olympus"), ("c", "America/New_York"), ("d", "")]
    assert await record(connection, rows) == [(1, "invalid"), (3, "invalid")]
    assert await zones(connection) == {"a": "Asia/Beirut", "c": "America/New_York"}
    assert await record(connection, [rows[0], rows[2]]) == [(0, "duplicate"), (1, "duplicate")]


async def test_it_names_a_zone_instead_of_an_abbreviation(connection: asyncpg.Connection) -> None:
    (refused,) = await calls.record_time_zones(connection, ["a"], ["MET"])
    assert refused.verdict == "invalid"
    assert refused.detail == (
        "'MET' is also an abbreviation: it would be a fixed offset, without summer time. "
        "Use the name of a place, such as Europe/Brussels."
    )
    with pytest.raises(asyncpg.PostgresError, match="'EET' is also an abbreviation"):
        await calls.record_polls(connection, ["a"], [NOON], [True], assumed_zone="EET")


async def test_of_several_rows_of_a_space_the_last_one_holds(connection: asyncpg.Connection) -> None:
    assert await record(connection, [("a", "Asia/Beirut"), ("a", "Europe/Berlin")]) == []
    assert await zones(connection) == {"a": "Europe/Berlin"}


async def test_it_replaces_what_was_assumed_and_what_was_assumed_never_replaces_it(
    connection: asyncpg.Connection,
) -> None:
    for _ in range(2):
        await calls.record_polls(connection, ["a", "b"], [NOON] * 2, [True] * 2, assumed_zone="America/Chicago")
        await record(connection, [("a", "Asia/Beirut")])
    assert await zones(connection) == {"a": "Asia/Beirut", "b": "America/Chicago"}


async def test_the_counts_of_spaces_with_a_daily_reset_follow_the_zone(connection: asyncpg.Connection) -> None:
    await apply_site(
        connection,
        spaces=[{"id": "house", "reset_at": "04:00"}, {"id": "room", "parent": "house"}],
        doorways=[{"id": "door", "sides": [None, "room"]}],
    )
    await record(connection, [("house", "Asia/Kathmandu")])
    assert await differences(connection) == []
    found = await calls.get_space(connection, "room")
    assert (found.effective_time_zone, found.effective_reset_at) == ("Asia/Kathmandu", "04:00")
