"""Where most DPUs are ahead it is our clock that is wrong: events are told to come again."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from headcount.database import calls
from tests import factories
from tests.factories import apply_site, record, trust

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


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


async def beat(connection: asyncpg.Connection, time: datetime | None, *dpus: str) -> list[str | None]:
    return await factories.hear(connection, *((dpu, time) for dpu in dpus))


async def test_heartbeats_that_agree_with_our_clock_speak_for_it(connection: asyncpg.Connection) -> None:
    await hear(connection, "a", "b", "c", "d", "e", "f")
    await connection.execute("truncate core.change")  # their events were long ago
    await suspect(connection, "a", "b", "c")
    assert await beat(connection, now() - timedelta(minutes=4), "d", "e", "f") == [None] * 3
    await refuse(connection, "a", "b", "c")


@pytest.mark.parametrize("time", [None, timedelta(minutes=-6)])
async def test_heartbeats_without_a_time_and_old_ones_do_not(
    connection: asyncpg.Connection, time: timedelta | None
) -> None:
    await hear(connection, "a", "b", "c", "d", "e", "f")
    await connection.execute("truncate core.change")
    assert await beat(connection, None if time is None else now() + time, "d", "e", "f") == [None] * 3
    await suspect(connection, "a", "b", "c")


async def test_nor_do_heartbeats_that_were_kept_for_later(connection: asyncpg.Connection) -> None:
    await hear(connection, "a", "b", "c", "d", "e", "f")
    await connection.execute("truncate core.change")
    await connection.execute(
        "select api.record_heartbeats($1, array[null, null, null], $2, backfill => true)",
        ["d", "e", "f"],
        [now()] * 3,
    )
    await suspect(connection, "a", "b", "c")


async def test_heartbeats_of_dpus_that_were_made_up_just_now_do_not_outvote_others(
    connection: asyncpg.Connection,
) -> None:
    await hear(connection, "a", "b", "c")
    await beat(connection, now(), *(f"invented-{number}" for number in range(9)))
    await suspect(connection, "a", "b", "c")


async def test_sensors_that_never_sent_an_event_speak_for_our_clock_as_well(connection: asyncpg.Connection) -> None:
    await hear(connection, "a", "b", "c")
    await connection.execute("truncate core.change")
    await beat(connection, now(), "d", "e", "f")
    await trust(connection)
    await refuse(connection, "a", "b", "c")


async def test_heartbeats_from_ahead_speak_against_our_clock(connection: asyncpg.Connection) -> None:
    await hear(connection, "a", "b", "c", "d")
    await connection.execute("truncate core.change")
    assert await beat(connection, now() + HOUR, "a", "b") == ["in_future"] * 2
    await suspect(connection, "c")
    assert await beat(connection, now(), "a") == [None]
    await refuse(connection, "c")


async def test_heartbeats_from_ahead_by_centuries_do_not(connection: asyncpg.Connection) -> None:
    await hear(connection, "a", "b", "c")
    await beat(connection, datetime(2999, 1, 1, tzinfo=UTC), "a", "b")
    await refuse(connection, "c")


async def test_a_dpu_whose_heartbeats_are_right_gives_its_events_a_wrong_time(connection: asyncpg.Connection) -> None:
    """Such as local time that is called UTC."""
    await hear(connection, "a", "b", "c")
    await beat(connection, now(), "a", "b", "c")
    await refuse(connection, "a", "b", "c")


# Odd events of DPUs that agree with our clock otherwise


async def hear_often(connection: asyncpg.Connection, times: int, *dpus: str, ago: timedelta = SECOND) -> None:
    for number in range(times):
        assert await record(connection, [(dpu, now() - ago, 1, number) for dpu in dpus]) == []
    await trust(connection)


async def test_a_few_odd_events_do_not_hold_back_what_comes_with_them(connection: asyncpg.Connection) -> None:
    """Such as those of one gateway with a token that somebody else has."""
    dpus = ("a", "b", "c")
    await hear_often(connection, 3, *dpus)
    for odd in (1, 2):
        assert await record(connection, [*((dpu, now() + odd * HOUR, 1) for dpu in dpus), ("d", now(), 1)]) == [
            (number, "in_future") for number in range(3)
        ]
    # as many as agree, or more
    await suspect(connection, *dpus)


async def test_what_agrees_in_the_same_request_counts(connection: asyncpg.Connection) -> None:
    dpus = ("a", "b", "c")
    await hear(connection, *dpus)
    odd = [(dpu, now() + HOUR, 1) for dpu in dpus]
    agreeing = [(dpu, now() - SECOND, 1, number) for number in range(5) for dpu in dpus]
    assert await record(connection, [*odd, *agreeing]) == [(number, "in_future") for number in range(3)]


async def test_dpus_of_which_most_events_are_ahead_are_ahead(connection: asyncpg.Connection) -> None:
    dpus = ("a", "b", "c")
    await hear_often(connection, 5, *dpus)
    await suspect(connection, *dpus * 5)


async def test_events_of_some_time_ago_do_not_agree(connection: asyncpg.Connection) -> None:
    dpus = ("a", "b", "c")
    await hear_often(connection, 5, *dpus, ago=6 * MINUTE)
    await suspect(connection, *dpus)


async def test_events_that_came_some_time_ago_do_not_count(connection: asyncpg.Connection) -> None:
    dpus = ("a", "b", "c")
    await hear_often(connection, 5, *dpus)
    await let_pass(connection, 2 * MINUTE)
    await suspect(connection, *dpus)


@pytest.mark.parametrize(
    "trace",
    [
        "select core.note_listening(clock_timestamp() + interval '1 hour')",
        "update core.dpu_state set latest_time = clock_timestamp() + interval '1 hour'",
    ],
)
async def test_where_our_clock_was_set_back_what_agreed_before_does_not_count(
    connection: asyncpg.Connection, trace: str
) -> None:
    dpus = ("a", "b", "c")
    await hear_often(connection, 5, *dpus)
    await connection.execute(trace)
    await suspect(connection, *dpus)


# Suspicion that lasts


async def come_again(connection: asyncpg.Connection, *dpus: str) -> None:
    """What the service does where events are told to come again."""
    await suspect(connection, *dpus)
    await calls.note_ahead(connection, dpus, [now() + HOUR] * len(dpus))


async def let_pass(connection: asyncpg.Connection, time: timedelta) -> None:
    """All that was noted of clocks was so much earlier."""
    for table, columns in {
        "core.clock_suspicion": ("since_at", "judged_at"),
        "core.dpu_clock": ("refused_at", "suspected_at", "heartbeat_refused_at"),
        "core.dpu_state": ("agreed_at", "last_seen_at"),
        "core.change": ("changed_at",),
    }.items():
        moved = ", ".join(f"{column} = {column} - $1::interval" for column in columns)
        await connection.execute(f"update {table} set {moved}", time)
    await connection.execute("update core.event set lag_ms = lag_ms - $1::bigint", time // timedelta(milliseconds=1))


async def suspect_long(connection: asyncpg.Connection, *dpus: str) -> None:
    """Ten minutes of suspicion, all through."""
    for _ in range(10):
        await come_again(connection, *dpus)
        await let_pass(connection, MINUTE)


async def test_three_sensors_alone_are_told_to_come_again_for_ten_minutes(connection: asyncpg.Connection) -> None:
    """The three of one gateway, whose clock is wrong; the others are silent."""
    dpus = ("a", "b", "c")
    await hear(connection, *dpus, "d", "e")
    await suspect_long(connection, *dpus)
    await refuse(connection, *dpus)
    # they are kept, with the reason, and can be run again; what comes then is not told to come again either
    assert await connection.fetchval("select count(*) from core.rejected_event where code = 'in_future'") == 3
    for _ in range(12):
        await let_pass(connection, MINUTE)
        await refuse(connection, *dpus)
    await let_pass(connection, timedelta(minutes=59))
    await refuse(connection, *dpus)
    await let_pass(connection, timedelta(minutes=61))
    await come_again(connection, *dpus)


async def test_time_without_suspicion_does_not_count(connection: asyncpg.Connection) -> None:
    dpus = ("a", "b", "c")
    await hear(connection, *dpus, "d", "e")
    await come_again(connection, *dpus)
    await let_pass(connection, 11 * MINUTE)
    await suspect_long(connection, *dpus)
    await refuse(connection, *dpus)


async def test_most_of_all_live_sensors_are_told_to_come_again_for_as_long_as_they_are_ahead(
    connection: asyncpg.Connection,
) -> None:
    dpus = [f"sensor-{number}" for number in range(10)]
    await hear(connection, *dpus, *(f"other-{number}" for number in range(9)))
    for _ in range(30):
        await let_pass(connection, MINUTE)
        await come_again(connection, *dpus)


async def test_as_many_sensors_as_are_right_are_not_most(connection: asyncpg.Connection) -> None:
    dpus = [f"sensor-{number}" for number in range(10)]
    await hear(connection, *dpus, *(f"other-{number}" for number in range(10)))
    await let_pass(connection, MINUTE)
    await suspect_long(connection, *dpus)
    await refuse(connection, *dpus)


async def test_sensors_that_turn_out_to_be_ahead_later_bring_the_suspicion_back(connection: asyncpg.Connection) -> None:
    few, others = ("a", "b", "c"), [f"other-{number}" for number in range(8)]
    await hear(connection, *few, *others)
    await let_pass(connection, MINUTE)
    await suspect_long(connection, *few)
    await refuse(connection, *few)
    await let_pass(connection, MINUTE)
    # the first of them are refused, and kept
    await refuse(connection, *others)
    await come_again(connection, *few)
    await come_again(connection, *others)


async def test_that_our_clock_was_set_back_confirms_it_for_however_few(connection: asyncpg.Connection) -> None:
    dpus = ("a", "b", "c")
    await hear(connection, *dpus)
    await connection.execute("select core.note_listening(clock_timestamp() + interval '1 hour')")
    for _ in range(20):
        await let_pass(connection, MINUTE)
        await come_again(connection, *dpus)


async def test_many_dpus_that_were_made_up_confirm_nothing(connection: asyncpg.Connection) -> None:
    invented = [f"invented-{number}" for number in range(30)]
    assert await record(connection, [(dpu, now() - timedelta(seconds=1), 1) for dpu in invented]) == []
    await let_pass(connection, MINUTE)
    await suspect_long(connection, *invented)
    await refuse(connection, *invented)


async def test_many_whose_heartbeats_are_right_by_now_confirm_nothing(connection: asyncpg.Connection) -> None:
    dpus = [f"sensor-{number}" for number in range(12)]
    await hear(connection, *dpus)
    await let_pass(connection, MINUTE)
    await suspect_long(connection, *dpus)
    await beat(connection, now(), *dpus[:3])
    await come_again(connection, *dpus[3:])  # it is judged anew
    await refuse(connection, *dpus[3:])


async def test_many_of_which_most_events_agree_confirm_nothing(connection: asyncpg.Connection) -> None:
    dpus = [f"sensor-{number}" for number in range(12)]
    await hear(connection, *dpus)
    await let_pass(connection, MINUTE)
    await suspect_long(connection, *dpus)
    await hear_often(connection, 3, *dpus[:3])
    await come_again(connection, *dpus[3:])  # it is judged anew
    await refuse(connection, *dpus[3:])


async def test_a_suspicion_from_before_our_clock_was_set_back_is_another_one(connection: asyncpg.Connection) -> None:
    dpus = ("a", "b", "c")
    await hear(connection, *dpus)
    await come_again(connection, *dpus)
    await let_pass(connection, -HOUR)
    await connection.execute("truncate core.change")
    await come_again(connection, *dpus)
    assert await connection.fetchval("select since_at < clock_timestamp() from core.clock_suspicion")
