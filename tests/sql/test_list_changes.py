"""api.list_changes: what the feed tells, and that it misses nothing."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from headcount.database import calls
from headcount.wire.messages.counts import ChangesRow
from tests.factories import LONG_AGO, NOON, apply_site, build_house, heard, listen, record, reset_unseen, seconds, tick
from tests.sql.test_large_fleet import read_by

pytestmark = pytest.mark.measured


async def read(connection: asyncpg.Connection, cursor: str | None = None) -> ChangesRow:
    return await calls.list_changes(connection, cursor)


async def database_now(connection: asyncpg.Connection) -> datetime:
    now = await connection.fetchval("select clock_timestamp()")
    assert isinstance(now, datetime)
    return now


async def test_it_begins_with_a_cursor_and_says_that_anything_may_have_changed(connection: asyncpg.Connection) -> None:
    begun = await read(connection)
    assert begun.is_all
    after = await read(connection, begun.cursor)
    assert not after.is_all
    assert (after.counts, after.spaces, after.deleted) == ([], [], [])


async def test_it_tells_each_space_whose_outer_doors_were_used_once(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    cursor = (await read(connection)).cursor
    await record(connection, [("front", NOON, 1), ("front", NOON + seconds(1), 1)])
    changes = await read(connection, cursor)
    assert changes.counts == ["house"]
    await record(connection, [("inner", NOON, 1)])
    assert sorted((await read(connection, cursor)).counts) == ["house", "room"]
    assert (await read(connection, changes.cursor)).counts == ["room"]


async def test_it_does_not_tell_of_a_repeated_event(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await record(connection, [("front", NOON, 1)])
    cursor = (await read(connection)).cursor
    assert await record(connection, [("front", NOON, 1)]) == [(0, "duplicate")]
    assert (await read(connection, cursor)).counts == []


async def test_it_tells_of_resets_moves_and_changes_of_the_plan(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    cursor = (await read(connection)).cursor
    await connection.execute("select api.record_reset(space => 'room', count => 3)")
    changes = await read(connection, cursor)
    assert (changes.counts, changes.spaces) == (["room"], [])

    await connection.execute("select api.record_placement(dpu => 'inner', doorway => null, mounted_in => null)")
    changes = await read(connection, changes.cursor)
    assert (changes.counts, changes.spaces) == (["room"], [])

    await connection.execute("select api.put_space(space => 'room', patch => '{\"capacity\": 5}')")
    changes = await read(connection, changes.cursor)
    assert (changes.counts, changes.spaces) == (["room"], ["room"])

    await connection.execute("select api.put_space(space => 'house', patch => '{\"reset_at\": \"04:00\"}')")
    changes = await read(connection, changes.cursor)
    assert sorted(changes.counts) == ["house", "room"]
    assert changes.spaces == ["house"]


async def test_it_tells_of_new_and_deleted_spaces(connection: asyncpg.Connection) -> None:
    cursor = (await read(connection)).cursor
    await apply_site(connection, spaces=[{"id": "shed"}])
    changes = await read(connection, cursor)
    assert (changes.spaces, changes.deleted) == (["shed"], [])
    await connection.execute("select api.delete_space(space => 'shed')")
    gone = await read(connection, changes.cursor)
    assert (gone.counts, gone.spaces, gone.deleted) == ([], [], ["shed"])
    await apply_site(connection, spaces=[{"id": "shed"}])
    back = await read(connection, changes.cursor)
    assert (back.spaces, back.deleted) == (["shed"], [])


@pytest.mark.measured
async def test_of_all_spaces_it_reads_those_that_are_named(connection: asyncpg.Connection) -> None:
    await connection.execute("""
        insert into core.space (id) select 'other-' || n from generate_series(1, 20000) n;
        analyze core.space;
    """)
    cursor = (await read(connection)).cursor
    await apply_site(connection, spaces=[{"id": "shed"}, {"id": "barn"}])
    await connection.execute("select api.delete_space(space => 'shed')")
    rows = await read_by(connection, "select * from api.list_changes($1)", cursor)
    assert rows["space"] < 100
    changes = await read(connection, cursor)
    assert (changes.spaces, changes.deleted) == (["barn"], ["shed"])


async def test_it_tells_of_an_event_ahead_of_the_clock_until_it_is_due(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    now = await database_now(connection)
    await record(connection, [("front", now + seconds(240), 1)])
    first = await read(connection, (await read(connection)).cursor)
    assert first.counts == ["house"]
    assert (await read(connection, first.cursor)).counts == ["house"]
    await connection.execute("update core.change set ahead_until = clock_timestamp() - interval '1 second'")
    assert (await read(connection, first.cursor)).counts == []


async def test_it_tells_when_a_daily_reset_comes_due(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    cursor = (await read(connection)).cursor
    await connection.execute(
        "update core.live_space l set until_at = clock_timestamp() from core.space s "
        "where s.space_id = l.space_id and s.id = 'room'"
    )
    changes = await read(connection, cursor)
    assert changes.counts == ["room"]
    assert (await read(connection, changes.cursor)).counts == []


async def test_it_tells_of_a_daily_reset_that_upkeep_has_taken_in_already(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await record(connection, [("inner", NOON, 1)])
    cursor = (await read(connection)).cursor
    await reset_unseen(connection, "room")
    assert await connection.fetchval("select raw_count from api.list_counts(array['room'])") == 0
    changes = await read(connection, cursor)
    assert changes.counts == ["room"]
    assert (await read(connection, changes.cursor)).counts == []


def moved_back(cursor: str, by: timedelta) -> str:
    """The cursor as it would be if it had been given that much earlier, with nothing committed since."""
    snapshot, *instants, history = cursor.split("@")
    return "@".join([snapshot, *(str(int(at) - int(by.total_seconds() * 1_000_000)) for at in instants), history])


async def test_it_tells_of_sensors_that_fell_silent(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await heard(connection, ("front", NOON))
    await listen(connection, NOON, NOON + seconds(599))
    cursor = (await read(connection)).cursor
    await tick(connection, NOON + seconds(599.9))
    assert (await read(connection, cursor)).counts == []
    await tick(connection, NOON + seconds(600))
    changes = await read(connection, cursor)
    assert (changes.counts, changes.dpus) == (["house"], ["front"])


@pytest.mark.parametrize("end", ["from", "until"])
async def test_it_tells_when_a_planned_move_happens(connection: asyncpg.Connection, end: str) -> None:
    await build_house(connection)
    now = await database_now(connection)
    period = {"from": LONG_AGO.isoformat(), "until": now.isoformat()} if end == "until" else {"from": now.isoformat()}
    await apply_site(
        connection,
        dpus=[{"id": "spare"}],
        placements=[{"dpu": "spare", "doorway": "inner", "mounted_in": "room", **period}],
    )
    cursor = (await read(connection)).cursor
    assert (await read(connection, moved_back(cursor, timedelta(seconds=30)))).counts == ["room"]


async def test_whoever_comes_back_hears_of_it_although_others_were_told_a_moment_ago(
    connection: asyncpg.Connection,
) -> None:
    await build_house(connection)
    now = await database_now(connection)
    move = {"dpu": "spare", "doorway": "inner", "mounted_in": "room", "from": now.isoformat()}
    await apply_site(connection, dpus=[{"id": "spare"}], placements=[move])
    history = (await read(connection)).cursor.rpartition("@")[2]
    # given 4 seconds before: after 5 whoever listens hears of it, too
    told = """
        select l.counts
        from (select floor(extract(epoch from clock_timestamp()) * 1000000)::bigint - 4000000 as at) c
        cross join api.list_changes(concat_ws('@', pg_current_snapshot(), c.at, c.at, $1::text), $2) l
    """
    for is_resume, expected in ((False, []), (True, ["room"])):
        await connection.execute(
            "update core.placement set during = tstzrange(clock_timestamp(), null) "
            "where dpu_id = (select dpu_id from core.dpu where id = 'spare')"
        )
        assert await connection.fetchval(told, history, is_resume) == expected


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "0",
        "nonsense",
        "1:1:@x@y",
        "9:3:@1@1",
        "1:1:@99999999999999999999@1",
        "1:1:@9223372036854775807@1",
        "@@",
        "\t",
    ],
)
async def test_it_says_that_anything_may_have_changed_after_a_cursor_it_cannot_read(
    connection: asyncpg.Connection, cursor: str
) -> None:
    history = (await read(connection)).cursor.rpartition("@")[2]
    assert (await read(connection, cursor)).is_all
    assert (await read(connection, f"{cursor}@{history}")).is_all


async def test_it_says_so_as_well_after_one_that_is_too_old_or_from_another_server(
    connection: asyncpg.Connection,
) -> None:
    cursor = (await read(connection)).cursor
    assert not (await read(connection, moved_back(cursor, timedelta(seconds=110)))).is_all
    assert (await read(connection, moved_back(cursor, timedelta(seconds=130)))).is_all
    assert (await read(connection, moved_back(cursor, -timedelta(minutes=5)))).is_all
    snapshot, at, checked_at, history = cursor.split("@")
    assert (await read(connection, f"{2**60}:{2**60}:@{at}@{checked_at}@{history}")).is_all
    assert (await read(connection, f"{snapshot}@{at}@0@{history}")).is_all
    assert (await read(connection, f"{snapshot}@{at}@{checked_at}@{history[:-1]}")).is_all


async def test_its_rows_are_dropped_after_an_hour(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await connection.execute("update core.change set changed_at = changed_at - interval '61 minutes'")
    await record(connection, [("front", NOON, 1)])
    await connection.execute("call core.run_upkeep()")
    assert await connection.fetchval("select count(*) from core.change where dpu_ids is not null") == 1
    assert (
        await connection.fetchval("select count(*) from core.change where changed_at < now() - interval '1 hour'") == 0
    )


@pytest.mark.concurrency
async def test_it_misses_no_transaction_that_began_earlier_and_commits_later(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build_house(connection)
    early, late = [await asyncpg.connect(database_url) for _ in range(2)]
    try:
        await record(early, [("front", NOON - seconds(1), 1)])  # whoever makes the chunk keeps others out
        transaction = early.transaction()
        await transaction.start()
        await record(early, [("inner", NOON, 1)])
        await record(late, [("front", NOON, 1)])
        cursor = (await read(connection)).cursor
        await record(late, [("front", NOON + seconds(1), 1)])
        changes = await read(connection, cursor)
        assert changes.counts == ["house"]
        await transaction.commit()
        changes = await read(connection, changes.cursor)
        assert changes.counts == ["room"]
        assert (await read(connection, changes.cursor)).counts == []
    finally:
        await early.close()
        await late.close()


async def test_events_of_a_dpu_that_nobody_has_placed_are_nothing_to_tell(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    cursor = (await read(connection)).cursor
    await record(connection, [("unplaced", datetime(2026, 3, 1, tzinfo=UTC), 1)])
    assert (await read(connection, cursor)).counts == []


async def test_after_an_old_cursor_it_reads_nothing_of_what_was_noted_since(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    cursor = moved_back((await read(connection)).cursor, timedelta(minutes=3))
    for number in range(30):
        await record(connection, [("front", NOON + timedelta(seconds=number), 1)])
    old = await read_by(connection, "select * from api.list_changes($1)", cursor)
    assert old["change"] == 0
    new = await read_by(connection, "select * from api.list_changes($1)", moved_back(cursor, timedelta(minutes=-2)))
    assert new["change"] >= 30


def made_up(cursor: str, snapshot: str) -> str:
    """The cursor with another snapshot and the same instants."""
    return "@".join([snapshot, *cursor.split("@")[1:]])


async def test_a_cursor_that_is_far_behind_is_answered_by_everything(connection: asyncpg.Connection) -> None:
    """By notes: transactions that change nothing, of which a login of BI can make many, do not count."""
    cursor = (await read(connection)).cursor
    xmin, xmax = (int(part) for part in cursor.split(":")[:2])
    await connection.execute("select core.note_change(spaces => array[]::integer[])")
    assert not (await read(connection, cursor)).is_all
    assert not (await read(connection, made_up(cursor, "5:5:"))).is_all
    note = (
        "insert into core.change (changed_at, dpu_ids) select clock_timestamp(), '{}' from generate_series(1, $1::int)"
    )
    await connection.execute(note, 19_999)
    assert not (await read(connection, cursor)).is_all
    assert not (await read(connection, made_up(cursor, "5:5:"))).is_all
    await connection.execute(note, 1)
    for snapshot in (f"{xmin}:{xmax}:", "5:5:", f"5:{xmax}:", f"5:{xmax + 5}:"):
        assert (await read(connection, made_up(cursor, snapshot))).is_all, snapshot


async def test_a_snapshot_that_is_older_than_its_instant_is_answered_by_everything(
    connection: asyncpg.Connection,
) -> None:
    await build_house(connection)
    before = (await read(connection)).cursor.split("@")[0]
    await record(connection, [("front", NOON, 1)])
    await connection.execute("update core.change set changed_at = changed_at - interval '3 minutes'")
    await record(connection, [("inner", NOON, 1)])
    begun = await read(connection)
    assert (await read(connection, made_up(begun.cursor, before))).is_all
    assert not (await read(connection, begun.cursor)).is_all
