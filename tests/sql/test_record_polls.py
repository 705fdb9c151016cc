"""api.record_polls."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from headcount.database import calls
from tests.factories import NOON, apply_site, differences, seconds

Poll = tuple[str, datetime, bool]


async def record(connection: asyncpg.Connection, polls: Sequence[Poll], **more: object) -> list[tuple[int, str]]:
    """(index, verdict) of what was not accepted."""
    rows = await connection.fetch(
        "select * from api.record_polls($1, $2, $3, coalesce($4, true), $5)",
        [poll[0] for poll in polls],
        [poll[1] for poll in polls],
        [poll[2] for poll in polls],
        more.get("auto_register"),
        more.get("assumed_zone"),
    )
    return [(row["index"], row["verdict"]) for row in rows]


async def stored(connection: asyncpg.Connection) -> list[Poll]:
    rows = await connection.fetch(
        "select s.id, p.time, p.is_active from core.poll p join core.space s using (space_id) order by 1, 2, 3"
    )
    return [tuple(row) for row in rows]


async def test_it_stores_a_repeated_poll_once(connection: asyncpg.Connection) -> None:
    polls = [("a", NOON, True), ("b", NOON, True), ("a", NOON + seconds(1), True)]
    assert await record(connection, [*polls, polls[0]]) == [(3, "duplicate")]
    assert await record(connection, [*polls, ("c", NOON, False)]) == [(n, "duplicate") for n in range(3)]
    assert len(await stored(connection)) == 4


async def test_it_stores_many_at_once_each_once(connection: asyncpg.Connection) -> None:
    polls = [(f"s{n % 7}", NOON + seconds(n), n % 2 == 0) for n in range(1_500)]
    assert await record(connection, [*polls[:1_200], ("late", NOON.replace(year=1999), True)]) == [(1_200, "too_old")]
    assert await record(connection, polls) == [(n, "duplicate") for n in range(1_200)]
    assert await stored(connection) == sorted(polls)


async def test_names_may_be_said_once_each(connection: asyncpg.Connection) -> None:
    times = [NOON, NOON + seconds(1), NOON, NOON.replace(year=1999), NOON + seconds(1)]
    rows = await connection.fetch(
        "select * from api.record_polls('{a,b}', $1, $2, numbers => '{2,1,1,2,1}')", times, [True] * 5
    )
    assert [(row["index"], row["verdict"]) for row in rows] == [(3, "too_old"), (4, "duplicate")]
    assert await stored(connection) == [("a", NOON, True), ("a", NOON + seconds(1), True), ("b", NOON, True)]
    assert await connection.fetchval("select space from core.rejected_poll") == "b"


async def test_a_number_of_no_name_is_an_unknown_space(connection: asyncpg.Connection) -> None:
    rows = await connection.fetch(
        "select * from api.record_polls('{a}', $1, $2, numbers => '{0,1,2}')", [NOON] * 3, [True] * 3
    )
    assert [(row["index"], row["verdict"]) for row in rows] == [(0, "unknown_space"), (2, "unknown_space")]


async def test_it_keeps_two_polls_of_one_instant_that_disagree(connection: asyncpg.Connection) -> None:
    assert await record(connection, [("a", NOON, True), ("a", NOON, False)]) == []
    assert await stored(connection) == [("a", NOON, False), ("a", NOON, True)]


async def test_it_creates_unknown_spaces_and_leaves_the_counts_as_they_are(connection: asyncpg.Connection) -> None:
    assert await record(connection, [("new", NOON, True)]) == []
    found = await calls.get_space(connection, "new")
    assert (found.parent, found.time_zone, found.effective_time_zone) == (None, None, "UTC")
    assert await differences(connection) == []
    assert (await calls.get_count(connection, "new")).count == 0


async def test_it_creates_nothing_where_registration_is_off(connection: asyncpg.Connection) -> None:
    assert await record(connection, [("new", NOON, True)], auto_register=False) == [(0, "unknown_space")]
    assert await calls.list_spaces(connection) == []
    assert await connection.fetchval("select code from core.rejected_poll") == "unknown_space"


async def test_it_refuses_impossible_clocks_and_keeps_each_refusal_once(connection: asyncpg.Connection) -> None:
    now = datetime.now(UTC)
    polls = [
        ("a", datetime(2009, 6, 30, tzinfo=UTC), True),
        ("a", now + timedelta(hours=1), True),
        ("a", datetime(2000, 1, 1, tzinfo=UTC), True),
        ("a", now + timedelta(minutes=4), True),
    ]
    for _ in range(2):
        refused = (await record(connection, polls))[:3]
        assert refused == [(0, "too_old"), (1, "in_future"), (2, "clock_unset")]
    assert await connection.fetchval("select count(*) from core.rejected_poll") == 3


async def test_many_refused_polls_are_not_compared_each_with_each(connection: asyncpg.Connection) -> None:
    """As after some calls on a connection, when plans are for arrays of any length. It took two minutes, not a second.
    With little memory it does not depend on how fast memory is."""
    await connection.execute(
        "set plan_cache_mode = force_generic_plan; set work_mem = '64kB'; set statement_timeout = '30s'"
    )
    polls = [(f"junk-{n}", NOON, True) for n in range(20_000)]
    assert await record(connection, polls, auto_register=False) == [(n, "unknown_space") for n in range(20_000)]
    assert await connection.fetchval("select count(*) from core.rejected_poll") == 20_000
    assert await connection.fetchval("select sum(count) from core.refused_of_family") == 20_000


async def test_a_zone_is_assumed_only_where_nothing_else_depends_on_it(connection: asyncpg.Connection) -> None:
    await apply_site(
        connection,
        spaces=[
            {"id": "zoned", "time_zone": "Asia/Beirut"},
            {"id": "house"},
            {"id": "room", "parent": "house"},
            {"id": "hall"},
            {"id": "alone"},
        ],
        doorways=[{"id": "door", "sides": [None, "hall"]}],
    )
    names = ["zoned", "house", "room", "hall", "alone", "new"]
    for _ in range(2):
        await record(connection, [(name, NOON, True) for name in names], assumed_zone="America/Chicago")
    zones = {space.id: space.time_zone for space in await calls.list_spaces(connection)}
    assert [zones[name] for name in names] == ["Asia/Beirut", None, None, None, *["America/Chicago"] * 2]
    assert await differences(connection) == []


async def test_it_refuses_arrays_of_different_lengths(connection: asyncpg.Connection) -> None:
    with pytest.raises(asyncpg.PostgresError) as refused:
        await connection.fetch("select * from api.record_polls('{a}', '{}', '{}')")
    assert refused.value.sqlstate == "PT422"
    with pytest.raises(asyncpg.PostgresError) as refused:
        await connection.fetch("select * from api.record_polls('{a}', $1, '{true}', numbers => '{}')", [NOON])
    assert refused.value.sqlstate == "PT422"


async def test_a_space_that_was_polled_is_not_removed_but_retired(connection: asyncpg.Connection) -> None:
    await record(connection, [("a", NOON, True)])
    await connection.execute("select api.delete_space('a')")
    assert await connection.fetchval("select retired_at is not null from core.space where id = 'a'")
    assert await connection.fetchval("select count(*) from core.poll") == 1


@pytest.mark.concurrency
async def test_two_senders_of_the_same_polls_store_them_once(connection: asyncpg.Connection, database_url: str) -> None:
    polls = [(f"s{n % 7}", NOON + seconds(n), n % 2 == 0) for n in range(200)]
    other = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            assert await record(connection, polls[:100]) == []
            waiting = asyncio.ensure_future(record(other, polls[::-1]))
            await asyncio.sleep(0.2)
        assert len(await waiting) == 100
        assert len(await stored(connection)) == 200
    finally:
        await other.close()
