"""Where most DPUs are ahead it is our clock that is wrong: events are told to come again."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from service import calls
from tests.factories import apply_site, record, trust

HOUR = timedelta(hours=1)


def now() -> datetime:
    return datetime.now(UTC)


async def hear(connection: asyncpg.Connection, *dpus: str) -> None:
    assert await record(connection, [(dpu, now() - timedelta(seconds=1), 1) for dpu in dpus]) == []
    await trust(connection)


async def refuse(connection: asyncpg.Connection, *dpus: str) -> None:
    assert {verdict for _, verdict in await record(connection, [(dpu, now() + HOUR, 1) for dpu in dpus])} == {
        "in_future"
    }


async def suspect(connection: asyncpg.Connection, *dpus: str) -> None:
    before = await connection.fetchval("select count(*) from core.rejected_event")
    events = [(dpu, now() + HOUR, 1) for dpu in dpus]
    with pytest.raises(asyncpg.PostgresError) as raised:
        await record(connection, [*events, ("new", now(), 1)])
    assert (raised.value.sqlstate, raised.value.constraint_name) == ("PT503", "clock_suspect")
    assert await connection.fetchval("select count(*) from core.rejected_event") == before
    assert await connection.fetchval("select count(*) from core.dpu where id = 'new'") == 0


async def test_it_stores_nothing_where_most_dpus_of_the_last_minute_are_ahead(connection: asyncpg.Connection) -> None:
    await hear(connection, "a", "b", "c", "d", "e")
    await suspect(connection, "a", "b", "c")


async def test_it_adds_up_what_comes_in_several_requests(connection: asyncpg.Connection) -> None:
    await hear(connection, "a", "b", "c", "d", "e")
    await refuse(connection, "a")
    await refuse(connection, "b")
    await suspect(connection, "c")
    # nobody has to be refused for good again: what was told to come again is remembered
    await connection.execute("update core.dpu_clock set refused_at = refused_at - interval '2 minutes'")
    await calls.note_ahead(connection, ["a", "b", "d", "x"], [now() + HOUR, now() + HOUR, now(), now() + HOUR])
    assert await connection.fetchval(
        "select array_agg(d.id order by d.id) from core.dpu_clock c join core.dpu d on d.dpu_id = c.dpu_id "
        "where c.suspected_at > clock_timestamp() - interval '1 minute'"
    ) == ["a", "b"]
    await suspect(connection, "c")


async def test_few_that_are_ahead_are_refused(connection: asyncpg.Connection) -> None:
    await hear(connection, "a", "b", "c", "d", "e", "f")
    await refuse(connection, "a", "b", "c")  # half of them
    await connection.execute("truncate core.change, core.dpu_clock")
    await refuse(connection, "a", "b")  # most, but two


async def test_invented_dpus_say_nothing_about_our_clock(connection: asyncpg.Connection) -> None:
    await hear(connection, "a", "b")
    await refuse(connection, *(f"invented-{number}" for number in range(100)))
    await refuse(connection, "a", "b")


async def test_dpus_that_were_made_up_just_now_say_nothing_although_events_of_them_were_accepted(
    connection: asyncpg.Connection,
) -> None:
    await hear(connection, "a")
    invented = [f"invented-{number}" for number in range(200)]
    assert await record(connection, [(dpu, now() - timedelta(seconds=1), 1) for dpu in invented]) == []
    await refuse(connection, *invented)
    await hear(connection)
    await suspect(connection, *invented)  # a day later


@pytest.mark.parametrize("is_heard", [True, False])
async def test_where_there_are_no_others_new_dpus_say_it(connection: asyncpg.Connection, is_heard: bool) -> None:
    """An installation that has just been made, before anything is placed."""
    dpus = ["a", "b", "c"]
    if is_heard:
        assert await record(connection, [(dpu, now() - timedelta(seconds=1), 1) for dpu in dpus]) == []
    await suspect(connection, *dpus)


async def test_nor_do_they_speak_for_our_clock(connection: asyncpg.Connection) -> None:
    await hear(connection, "a", "b", "c")
    assert (
        await record(connection, [(f"invented-{number}", now() - timedelta(seconds=1), 1) for number in range(9)]) == []
    )
    await suspect(connection, "a", "b", "c")


async def test_dpus_that_are_placed_say_something_at_once(connection: asyncpg.Connection) -> None:
    dpus = ["a", "b", "c"]
    await apply_site(
        connection,
        spaces=[{"id": "room"}],
        doorways=[{"id": "door", "sides": [None, "room"]}],
        dpus=[{"id": dpu} for dpu in dpus],
        placements=[
            {"dpu": dpu, "doorway": "door", "mounted_in": "room", "from": "2020-01-01T00:00:00Z"} for dpu in dpus
        ],
    )
    assert await record(connection, [(dpu, now() - timedelta(seconds=1), 1) for dpu in dpus]) == []
    await suspect(connection, *dpus)


async def test_what_is_ahead_by_centuries_says_nothing_about_our_clock(connection: asyncpg.Connection) -> None:
    await hear(connection, "a", "b", "c")
    for _ in range(2):
        refused = await record(connection, [(dpu, datetime(2999, 1, 1, tzinfo=UTC), 1) for dpu in ("a", "b", "c")])
        assert [verdict for _, verdict in refused] == ["in_future"] * 3


async def test_a_backfill_is_never_told_to_come_again(connection: asyncpg.Connection) -> None:
    await hear(connection, "a", "b", "c")
    verdicts = await calls.record_events(
        connection, ["a", "b", "c"], [now() + HOUR] * 3, [1] * 3, [0] * 3, backfill=True
    )
    assert [verdict.verdict for verdict in verdicts] == ["in_future"] * 3


async def test_events_of_the_past_are_stored_meanwhile(connection: asyncpg.Connection) -> None:
    await hear(connection, "a", "b", "c")
    await suspect(connection, "a", "b", "c")
    await hear(connection, "a", "b", "c", "d")
