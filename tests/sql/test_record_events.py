import asyncio
import random
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from headcount.database import calls
from tests.factories import NOON, Event, build_house, differences, hear, record, seconds, stored_events


async def test_it_accepts_what_is_new(connection: asyncpg.Connection) -> None:
    assert await record(connection, [("d", NOON, 1), ("d", NOON + seconds(1), -3), ("e", NOON, 2, 7)]) == []
    assert await stored_events(connection) == [
        ("d", NOON, 1, 0),
        ("d", NOON + seconds(1), -3, 0),
        ("e", NOON, 2, 7),
    ]


async def test_it_counts_a_replayed_event_once(connection: asyncpg.Connection) -> None:
    await record(connection, [("d", NOON, 1)])
    assert await record(connection, [("d", NOON, 1), ("d", NOON + seconds(1), 1)]) == [(0, "duplicate")]
    assert len(await stored_events(connection)) == 2


@pytest.mark.parametrize("age", [0, 7200])
async def test_what_is_sent_again_leaves_the_states_of_dpus_alone(connection: asyncpg.Connection, age: int) -> None:
    begin = datetime.now(UTC) - timedelta(seconds=age + 40)
    events = [(f"d{number % 3}", begin + seconds(number), 1) for number in range(30)]
    await record(connection, events)
    rows = "select xmin::text, s.* from core.dpu_state s order by s.dpu_id"
    before = await connection.fetch(rows)
    assert await record(connection, events) == [(number, "duplicate") for number in range(30)]
    assert await connection.fetch(rows) == before
    # a retry at once says nothing of a clock
    assert await connection.fetchval("select count(*) from core.dpu_clock") == (3 if age else 0)
    # beside what is new, of DPUs that were heard and of one that was not
    new = [("d1", begin + seconds(1), 1, 1), ("d4", begin, 1, 0), ("d2", begin - seconds(1), 1, 0)]
    assert await record(connection, [*events, ("d0", begin, 2), *new]) == [
        *((number, "duplicate") for number in range(30)),
        (30, "conflict"),
    ]
    assert len(await stored_events(connection)) == 33
    assert await differences(connection) == []


async def test_what_may_be_stored_is_looked_up_before_a_dpu_is_locked(connection: asyncpg.Connection) -> None:
    """A look-up can take long; others that report these DPUs would wait."""
    begin = datetime.now(UTC) - timedelta(hours=2)
    events = [(f"d{number % 3}", begin + seconds(number), 1) for number in range(30)]
    await record(connection, events)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("alter function core.find_doubles rename to find_doubles_anyway")
    await connection.execute(
        """
        create function core.find_doubles(
          dpus integer[], times timestamptz[], sequences smallint[], ordinals bigint[],
          out doubles bigint[], out stored integer[])
        language plpgsql as $$
        #variable_conflict use_column
        begin
          if exists (
            select from pg_locks l
            where l.pid = pg_backend_pid() and l.relation = 'core.dpu_state'::regclass and l.mode = 'RowExclusiveLock')
          then
            raise exception 'the DPUs are locked';
          end if;
          select d.* into doubles, stored from core.find_doubles_anyway(dpus, times, sequences, ordinals) d;
        end
        $$
        """
    )
    ahead = datetime.now(UTC) + timedelta(hours=1)
    sent = [("d0", begin - seconds(1), 1), *events, ("d1", begin + seconds(1), 5), *events[:3], ("d2", ahead, 1)]
    sent += [("d2", begin - seconds(2), 1), ("d2", begin - seconds(2), 1), ("d2", begin - seconds(2), -1)]
    assert await record(connection, sent) == [
        *((number, "duplicate") for number in range(1, 31)),
        (31, "conflict"),
        *((number, "duplicate") for number in range(32, 35)),
        (35, "in_future"),
        (37, "duplicate"),
        (38, "conflict"),
    ]
    assert await differences(connection) == []
    await transaction.rollback()


async def test_what_is_new_is_stored_at_once(connection: asyncpg.Connection) -> None:
    """Whatever else there is to do for it."""
    await build_house(connection)
    now = datetime.now(UTC)
    transaction = connection.transaction()
    await transaction.start()
    code: str = await connection.fetchval("select pg_get_functiondef('core.store_new'::regproc)")
    body = "begin raise exception 'they are looked at one by one'; end"
    await connection.execute(f"{code[: code.index('AS $')]} as $$ {body} $$")
    begin = now - timedelta(hours=2)
    for sent in (
        [(("front", "inner", "other")[number % 3], now + seconds(number), 1) for number in range(30)],
        [("front", now, 1, sequence) for sequence in (1, 2)],
        # late, and before the first event of a placement
        [(f"d{number % 7}", begin + seconds(number), 1) for number in range(30)],
        [("front", now - timedelta(days=5), 1), ("d8", now - timedelta(days=2), 1)],
    ):
        assert await record(connection, sent) == []
    assert await differences(connection) == []
    # after a silence
    await connection.execute("update core.dpu_state set armed_at = '2020-01-01', last_seen_at = '2020-01-02'")
    assert await record(connection, [("front", now, 1, 3), ("d2", now, 1)]) == []
    assert len(await stored_events(connection)) == 66
    await transaction.rollback()


@pytest.mark.parametrize("direction", [1, 2], ids=["duplicate", "conflict"])
@pytest.mark.parametrize("age", [0, 7200])
async def test_what_is_stored_is_found_wherever_it_is_sent_again(
    connection: asyncpg.Connection, age: int, direction: int
) -> None:
    begin = datetime.now(UTC) - timedelta(seconds=age + 600)
    verdict = "duplicate" if direction == 1 else "conflict"
    for place in range(9):
        start = begin + seconds(10 * place)
        events = [(f"d{number % 4}", start + seconds(number), 1) for number in range(9)]
        assert await record(connection, [events[place]]) == []
        events[place] = (*events[place][:2], direction)
        before = await connection.fetchval("select sum(cumulative_count) from core.dpu_state")
        assert await record(connection, events) == [(place, verdict)]
        assert await connection.fetchval("select sum(cumulative_count) from core.dpu_state") == before + 8
    assert len(await stored_events(connection)) == 81
    assert await differences(connection) == []


@pytest.mark.parametrize(
    "beside", [[], [("d8", datetime(2200, 1, 1, tzinfo=UTC), 1)]], ids=["", "beside a refused one"]
)
async def test_duplicates_that_are_found_only_when_they_are_stored_are_no_sign_of_life(
    connection: asyncpg.Connection, beside: list[Event]
) -> None:
    """Beside new events: the first, the middle and the last one are looked up before, and are not stored."""
    begin = datetime.now(UTC) - timedelta(hours=2)
    old = [(dpu, begin, 1) for dpu in ("d1", "d2", "d3", "d4", "d5", "d6", "d7")]
    assert await record(connection, old, backfill=True) == []
    assert await record(connection, [("d2", begin + seconds(1), 1), ("d3", begin + seconds(1), 1)]) == []
    rows = "select d.id, s.last_seen_at, s.first_heard_at, s.cumulative_count from core.dpu_state s"
    rows += " join core.dpu d using (dpu_id) order by d.id"
    before = {row["id"]: tuple(row) for row in await connection.fetch(rows)}
    assert before["d5"][1:3] == (begin, None)
    new = [(dpu, begin + seconds(9), 1) for dpu in ("d1", "d4", "d7")]
    again = [("d2", begin + seconds(1), 1), ("d3", begin + seconds(1), 1), ("d3", begin + seconds(5), 1)]
    conflict = ("d6", begin, 2)
    sent = [new[0], *again, new[1], ("d5", begin, 1), conflict, new[2], *beside]
    verdicts = [(1, "duplicate"), (2, "duplicate"), (5, "duplicate"), (6, "conflict")]
    assert await record(connection, sent) == [*verdicts, *((8, "in_future") for _ in beside)]
    after = {row["id"]: tuple(row) for row in await connection.fetch(rows)}
    assert {dpu for dpu in before if before[dpu][:3] == after[dpu][:3]} == {"d2", "d5"}
    assert {dpu: after[dpu][3] - before[dpu][3] for dpu in before} == {
        "d1": 1, "d2": 0, "d3": 1, "d4": 1, "d5": 0, "d6": 0, "d7": 1
    }  # fmt: skip
    assert await differences(connection) == []


async def test_it_counts_a_repeat_within_one_call_once(connection: asyncpg.Connection) -> None:
    assert await record(connection, [("d", NOON, 1), ("d", NOON, 1), ("d", NOON, 1)]) == [
        (1, "duplicate"),
        (2, "duplicate"),
    ]
    assert await differences(connection) == []


async def test_it_lets_the_first_of_two_contradicting_events_stand(connection: asyncpg.Connection) -> None:
    assert await record(connection, [("d", NOON, 1), ("d", NOON, -1)]) == [(1, "conflict")]
    assert await record(connection, [("d", NOON, 5), ("d", NOON, 1)]) == [(0, "conflict"), (1, "duplicate")]
    assert await stored_events(connection) == [("d", NOON, 1, 0)]
    kept = await connection.fetch(
        "select code, dpu, time, direction, sequence from core.rejected_event order by direction"
    )
    assert [tuple(row) for row in kept] == [("conflict", "d", NOON, -1, 0), ("conflict", "d", NOON, 5, 0)]


async def test_it_tells_events_of_one_instant_apart_by_sequence(connection: asyncpg.Connection) -> None:
    assert await record(connection, [("d", NOON, 1, 0), ("d", NOON, 1, 1)]) == []


async def test_it_refuses_impossible_clocks_and_keeps_what_it_refused(connection: asyncpg.Connection) -> None:
    now = await connection.fetchval("select clock_timestamp()")
    old = datetime(2009, 1, 1, tzinfo=UTC)
    assert await record(
        connection,
        [
            ("d", now + timedelta(minutes=4, seconds=50), 1),
            ("d", now + timedelta(minutes=6), 1),
            ("d", old, 1),
        ],
    ) == [(1, "in_future"), (2, "too_old")]
    kept = await connection.fetch("select code, received_at, detail from core.rejected_event order by code")
    assert [row["code"] for row in kept] == ["in_future", "too_old"]
    assert all(row["received_at"] >= now and "clock" in row["detail"] for row in kept)


@pytest.mark.parametrize("start", ["1970-01-01", "1980-01-06", "2000-01-01", "2010-01-01"])
async def test_it_knows_the_instants_at_which_unset_clocks_begin(connection: asyncpg.Connection, start: str) -> None:
    begin = datetime.fromisoformat(f"{start}T00:00:00+00:00")
    around = [timedelta(hours=-14), timedelta(minutes=14, seconds=31), timedelta(days=2)]
    beyond = [timedelta(hours=-14, microseconds=-1), timedelta(days=2, microseconds=1)]
    verdicts = dict(await record(connection, [("d", begin + apart, 1) for apart in (*around, *beyond)]))
    assert [verdicts[index] for index in range(3)] == ["clock_unset"] * 3
    assert [verdicts.get(index) for index in (3, 4)] == ["too_old", None if start == "2010-01-01" else "too_old"]
    details = await connection.fetch("select detail from core.rejected_event where code = 'clock_unset'")
    assert {row["detail"] for row in details} == {
        "The timestamp comes from a clock that was never set. Set the clock of the device."
    }
    assert await hear(connection, ("d", begin)) == ["clock_unset"]


async def test_it_registers_unknown_dpus_unplaced(connection: asyncpg.Connection) -> None:
    await record(connection, [("b", NOON, 1), ("a", NOON, 1), ("b", NOON + seconds(1), 1)])
    rows = await connection.fetch("select id, from_at, cumulative_count from api.list_dpus()")
    assert [tuple(row) for row in rows] == [("a", None, 1), ("b", None, 2)]


async def test_it_refuses_unknown_dpus_where_registration_is_off(connection: asyncpg.Connection) -> None:
    await record(connection, [("known", NOON, 1)])
    assert await record(connection, [("other", NOON, 1), ("known", NOON + seconds(1), 1)], auto_register=False) == [
        (0, "unknown_dpu")
    ]
    assert await connection.fetchval("select dpu from core.rejected_event") == "other"
    assert await connection.fetchval("select count(*) from core.dpu") == 1


async def test_it_keeps_a_refused_event_once_however_often_it_is_sent(connection: asyncpg.Connection) -> None:
    for _ in range(3):
        await record(connection, [("d", NOON, 1), ("d", NOON, 2)], refused=[("{}", "dpu is missing")])
    kept = await connection.fetch("select code, body from core.rejected_event order by code")
    assert [tuple(row) for row in kept] == [("conflict", None), ("invalid", "{}")]


async def test_it_takes_nothing_at_all(connection: asyncpg.Connection) -> None:
    assert await record(connection, []) == []


async def test_it_refuses_arrays_of_different_lengths(connection: asyncpg.Connection) -> None:
    with pytest.raises(asyncpg.PostgresError) as caught:
        await connection.fetch(
            "select * from api.record_events(array['d'], array[]::timestamptz[], array[1], array[0]::smallint[])"
        )
    assert caught.value.sqlstate == "PT422"


async def test_it_keeps_the_state_of_a_dpu_in_step_with_its_events(connection: asyncpg.Connection) -> None:
    now = await connection.fetchval("select clock_timestamp()")
    ahead = now + timedelta(minutes=3)
    await record(connection, [("d", NOON, 3), ("d", NOON - timedelta(days=900), -10), ("d", ahead, 1)])
    row = await connection.fetchrow("select * from core.dpu_state")
    assert row is not None
    assert (row["cumulative_count"], row["latest_time"]) == (-6, ahead)
    assert (row["first_time"], row["earlier_time"]) == (NOON - timedelta(days=900), None)
    assert await differences(connection) == []


async def test_it_takes_10_000_events_of_many_days_in_any_order(connection: asyncpg.Connection) -> None:
    events = [(f"d{number % 97}", NOON - timedelta(minutes=number), 1) for number in range(10_000)]
    assert await record(connection, events[::-1]) == []
    refused = await record(connection, [*events[5_000:], ("new", NOON, 1)])
    assert refused == [(index, "duplicate") for index in range(5_000)]
    assert await differences(connection) == []


@pytest.mark.concurrency
async def test_it_stores_an_event_once_that_many_send_at_once(
    connection: asyncpg.Connection, database_url: str
) -> None:
    """Every sender sends all events in an order of its own: no deadlock, and each is accepted exactly once."""
    events = [(f"d{number % 40}", NOON + seconds(number // 40), 1) for number in range(800)]
    senders = [await asyncpg.connect(database_url) for _ in range(8)]
    try:
        refused = await asyncio.gather(
            *(record(sender, events[shift * 100 :] + events[: shift * 100]) for shift, sender in enumerate(senders))
        )
    finally:
        await asyncio.gather(*(sender.close() for sender in senders))
    assert {verdict for verdicts in refused for _, verdict in verdicts} == {"duplicate"}
    assert sum(len(verdicts) for verdicts in refused) == 7 * len(events)
    assert len(await stored_events(connection)) == len(events)
    assert await differences(connection) == []


@pytest.mark.concurrency
async def test_it_waits_for_a_transaction_that_stores_the_same_event(
    connection: asyncpg.Connection, database_url: str
) -> None:
    """One that ends in a rollback leaves the event to the other; one that commits makes it a duplicate."""
    other = await asyncpg.connect(database_url)
    try:
        for end, expected in (("rollback", []), ("commit", [(0, "duplicate")])):
            event = ("d", NOON + seconds(len(expected)), 1)
            await record(connection, [("d", NOON - seconds(9), 1)])
            await other.execute("begin")
            assert await record(other, [event]) == []
            waiting = asyncio.create_task(record(connection, [event]))
            await asyncio.sleep(0.2)
            assert not waiting.done()
            await other.execute(end)
            assert await waiting == expected
    finally:
        await other.close()
    assert await differences(connection) == []


@pytest.mark.concurrency
async def test_senders_of_the_same_dpus_never_wait_for_each_other_in_a_circle(
    connection: asyncpg.Connection, database_url: str
) -> None:
    names = [f"d{number}" for number in range(20)]
    await record(connection, [(name, NOON, 1) for name in names])
    await connection.execute("analyze core.dpu_state")  # few rows: the planner would rather read them all
    chance = random.Random(1)

    async def send(sender: int) -> int:
        session = await asyncpg.connect(database_url, server_settings={"timezone": "UTC"})
        try:
            for call in range(40):  # beyond the fifth its plans are generic ones
                at = NOON + timedelta(seconds=1 + call, milliseconds=sender)
                assert await record(session, [(name, at, 1) for name in chance.sample(names, 12)]) == []
            return 40 * 12
        finally:
            await session.close()

    stored = await asyncio.gather(*(send(sender) for sender in range(6)))
    assert await connection.fetchval("select sum(cumulative_count) from core.dpu_state") == sum(stored) + 20


async def test_it_bounds_what_it_keeps_of_a_refused_body(connection: asyncpg.Connection) -> None:
    await record(connection, [], refused=[("x" * 8_000_000, "It is long.")])
    body = await connection.fetchval("select body from core.rejected_event")
    assert body == "x" * 1000 + " … (the first of 8,000,000 characters)"


async def test_it_notes_whose_a_refused_body_was(connection: asyncpg.Connection) -> None:
    await calls.record_events(
        connection, [], [], [], [], refused_bodies=["a", "b"], refused_details=["x", "y"], refused_dpus=["d", None]
    )
    kept = await connection.fetch("select dpu, body from core.rejected_event order by body")
    assert [tuple(row) for row in kept] == [("d", "a"), (None, "b")]


async def test_of_a_dpu_so_many_events_are_taken_that_are_ahead(connection: asyncpg.Connection) -> None:
    """Each count of now reads them: one sensor could make those of all spaces above it as slow as it likes."""
    await build_house(connection)
    most: int = await connection.fetchval("select core.get_most_ahead()")
    begin = datetime.now(UTC) + seconds(60)
    events: list[Event] = [("front", begin + timedelta(milliseconds=10 * number), 1) for number in range(most + 20)]
    assert await record(connection, events[:500]) == []
    # those that come first, beside others; each request again says the same
    mixed: list[Event] = [("other", begin, 1), *events, events[-1]]
    surplus = [(number, "in_future") for number in range(most + 1, most + 22)]
    assert await record(connection, mixed) == [*((number + 1, "duplicate") for number in range(500)), *surplus]
    assert await record(connection, mixed) == [
        *((number, "duplicate") for number in range(most + 1)),
        *surplus,
    ]
    assert await record(connection, [events[-1]]) == [(0, "in_future")]
    assert await record(connection, [("front", datetime.now(UTC), 5)]) == [], "what is not ahead"
    details = await connection.fetch("select detail, count(*) from core.rejected_event group by 1")
    (detail,) = details
    assert f"More than {most} events of this DPU are ahead" in detail[0]
    assert detail[1] == 20
    assert len(await stored_events(connection)) == most + 2
    assert await connection.fetchval("select raw_count from api.get_count(space => 'house')") == 5
    assert await differences(connection) == []


async def test_what_is_stored_is_never_too_much(connection: asyncpg.Connection) -> None:
    """Also where the first, the middle and the last one are new."""
    most: int = await connection.fetchval("select core.get_most_ahead()")
    begin = datetime.now(UTC) + seconds(60)
    stored: list[Event] = [("front", begin + timedelta(milliseconds=number), 1) for number in range(most)]
    assert await record(connection, stored) == []
    other: list[Event] = [("other", datetime.now(UTC) + timedelta(milliseconds=number), 1) for number in range(3)]
    conflict: Event = (*stored[1][:2], 2)
    sent = [other[0], stored[0], other[1], conflict, other[2]]
    assert await record(connection, sent) == [(1, "duplicate"), (3, "conflict")]


async def test_counts_of_now_read_what_is_ahead_of_placements_that_last(connection: asyncpg.Connection) -> None:
    """And not once for each that ended: a DPU may have been moved a thousand times."""
    await build_house(connection)
    for hour in range(20):
        await connection.execute(
            "select * from api.record_placement(dpu => 'front', doorway => 'front', mounted_in => $1, "
            "from_at => $2::timestamptz)",
            "house" if hour % 2 else None,
            NOON + timedelta(hours=hour),
        )
    now = datetime.now(UTC)
    await record(connection, [("front", now - seconds(1), 1), ("front", now + seconds(100), 10)])
    async with connection.transaction():
        await connection.execute("set local track_functions = 'pl'")
        assert await connection.fetchval("select raw_count from api.get_count(space => 'house')") == 1
        calls = "select calls from pg_stat_xact_user_functions where funcname = 'look_ahead'"
        assert await connection.fetchval(calls) == 1
