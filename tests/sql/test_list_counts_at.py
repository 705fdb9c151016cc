from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from headcount.database import calls
from headcount.http.auth import digest_of
from tests.factories import NOON, apply_site, build_house, record

FUTURE = datetime(2999, 1, 1, tzinfo=UTC)


async def list_counts_at(connection: asyncpg.Connection, *asked: tuple[str, datetime]) -> list[tuple[Any, ...]]:
    rows = await connection.fetch(
        "select * from api.list_counts_at($1, $2)", [space for space, _ in asked], [at for _, at in asked]
    )
    return [tuple(row) for row in rows]


async def test_each_is_what_get_count_says(connection: asyncpg.Connection) -> None:
    """Across a daily reset, a move, and the instants just before an event and at it."""
    await build_house(connection)
    await apply_site(connection, spaces=[{"id": "house", "reset_at": "12:00", "capacity": 7, "time_zone": "UTC"}])
    await connection.execute(
        "select api.record_placement(dpu => 'front', doorway => 'inner', mounted_in => 'room', from_at => $1)",
        NOON + timedelta(hours=1),
    )
    await record(connection, [("front", NOON + timedelta(minutes=n - 90), n) for n in range(1, 180, 7)])
    asked = [
        (space, NOON + timedelta(minutes=minutes, microseconds=microseconds))
        for minutes in (0, -90, 61, -20, 200, 1)
        for microseconds in (0, -1)
        for space in ("room", "house")
    ]
    expected = [
        tuple((await connection.fetch("select * from api.get_count($1, $2)", space, at))[0]) for space, at in asked
    ]
    found = await list_counts_at(connection, *asked)
    assert found == expected
    assert len({row[3] for row in found}) > 4, "the counts differ"


async def test_what_is_unknown_is_left_out(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    found = await list_counts_at(connection, ("nowhere", NOON), ("room", NOON), ("nowhere", NOON), ("house", NOON))
    assert [row[0] for row in found] == ["room", "house"]
    assert await list_counts_at(connection) == []
    assert await list_counts_at(connection, ("nowhere", NOON)) == []


async def test_a_limited_token_is_told_of_its_own_spaces_only(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    token = (await calls.create_token(connection, digest_of("token"), ["read"], space="room")).id
    async with connection.transaction():
        await connection.execute("select set_config('headcount.token', $1, true)", token)
        found = await list_counts_at(connection, ("house", NOON), ("room", NOON))
    assert [row[0] for row in found] == ["room"]


async def test_instants_ahead_and_arrays_of_different_lengths_are_refused(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    with pytest.raises(asyncpg.PostgresError) as refused:
        await list_counts_at(connection, ("room", NOON), ("room", FUTURE))
    assert (refused.value.sqlstate, refused.value.detail) == ("PT422", "at")
    with pytest.raises(asyncpg.PostgresError) as refused:
        await connection.fetch("select * from api.list_counts_at($1, $2)", ["room"], [NOON, NOON])
    assert refused.value.sqlstate == "PT422"
