from datetime import UTC, datetime, timedelta

import asyncpg

from headcount.database import calls
from headcount.http.auth import digest_of
from tests.factories import record
from tests.http.guarded import build_site


async def test_what_is_30_days_old_is_dropped_and_counted(connection: asyncpg.Connection) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    await record(connection, [("new", later, 1), ("old", later, 1)])
    await calls.record_polls(connection, ["a"], [later], [True])
    await connection.execute(
        "update core.rejected_event set received_at = received_at - interval '30 days 1 minute' where dpu = 'old'"
    )
    await connection.execute("update core.rejected_poll set received_at = received_at - interval '31 days'")
    await connection.execute("select core.drop_refused(), core.drop_refused()")
    assert [item.dpu for item in await calls.list_rejected(connection)] == ["new"]
    state = await calls.get_refusal_state(connection)
    assert (state.dropped_events, state.dropped_polls) == (1, 1)


async def refuse(connection: asyncpg.Connection, dpu: str, number: int, token: str | None = None) -> None:
    """So many events of a year in which nobody counted."""
    async with connection.transaction():
        await connection.execute("select set_config('headcount.token', $1, true)", token or "")
        old = datetime(2005, 1, 1, tzinfo=UTC)
        times = [old + timedelta(seconds=second) for second in range(number)]
        verdicts = await calls.record_events(connection, [dpu] * number, times, [1] * number, [0] * number)
        assert len(verdicts) == number


async def dropped(connection: asyncpg.Connection) -> int:
    return (await calls.get_refusal_state(connection)).dropped_events


async def last_for_two_hours(connection: asyncpg.Connection) -> None:
    """What was refused in this hour counts in the next one as well, in which the test may go on."""
    for what in ("family_id, is_within", "dpu"):
        table = "family" if what.startswith("family") else "dpu"
        await connection.execute(
            f"insert into core.refused_of_{table} ({what}, count, hour) "
            f"select {what}, count, hour + interval '1 hour' from core.refused_of_{table} on conflict do nothing"
        )


async def kept(connection: asyncpg.Connection) -> int:
    return int(await connection.fetchval("select count(*) from core.rejected_event"))


async def test_of_what_a_family_sends_beyond_its_reach_10_000_an_hour_are_kept(connection: asyncpg.Connection) -> None:
    await build_site(connection)
    first = (await calls.create_token(connection, digest_of("first"), ["ingest", "admin"], space="own")).id
    async with connection.transaction():
        await connection.execute("select set_config('headcount.token', $1, true)", first)
        second = (await calls.create_token(connection, digest_of("second"), ["ingest"])).id
    await refuse(connection, "secret-inner", 9_998, first)
    await last_for_two_hours(connection)
    await refuse(connection, "secret-b-front", 5, second)
    assert (await kept(connection), await dropped(connection)) == (10_000, 3)
    # what it may report, and what others send, is kept all the same
    await connection.execute("select core.drop_refused()")
    await refuse(connection, "secret-inner", 7)
    assert (await kept(connection), await dropped(connection)) == (10_007, 3)


async def test_of_what_a_dpu_has_refused_100_000_an_hour_are_kept(connection: asyncpg.Connection) -> None:
    await refuse(connection, "door", 1)
    await connection.execute("update core.refused_of_dpu set count = 99998")
    await last_for_two_hours(connection)
    await refuse(connection, "door", 5)
    assert (await kept(connection), await dropped(connection)) == (3, 2)
    await refuse(connection, "other", 5)
    assert (await kept(connection), await dropped(connection)) == (8, 2)


async def test_counting_what_was_refused_reads_none_of_it(connection: asyncpg.Connection) -> None:
    """However much it is: the rows are gone, and the number is still known."""
    await refuse(connection, "door", 3)
    await connection.execute("delete from core.rejected_event")
    assert (await calls.get_dpu(connection, "door")).rejected_last_day == 3
    assert [sensor.rejected_last_day for sensor in await calls.list_sensors(connection)] == [3]


async def test_refused_polls_of_a_family_are_bounded_as_its_refused_events_are(connection: asyncpg.Connection) -> None:
    await build_site(connection)
    own = (await calls.create_token(connection, digest_of("own"), ["ingest"], space="own")).id
    other = (await calls.create_token(connection, digest_of("other"), ["ingest"])).id
    now = datetime.now(UTC)

    async def poll(spaces: list[str], times: list[datetime], limited_to: str = "", sender: str | None = None) -> None:
        async with connection.transaction():
            await connection.execute("select set_config('headcount.token', $1, true)", limited_to)
            polls = await calls.record_polls(connection, spaces, times, [True] * len(spaces), sender=sender)
            assert len(polls) == len(spaces)

    async def polls() -> tuple[int, int]:
        number = await connection.fetchval("select count(*) from core.rejected_poll")
        return number, (await calls.get_refusal_state(connection)).dropped_polls

    await refuse(connection, "secret-inner", 9_996, own)
    await last_for_two_hours(connection)
    await poll([f"unknown-{number}" for number in range(7)], [now] * 7, own)
    assert await polls() == (4, 3)
    # what stands there already is not counted again, and what others send is kept all the same
    old = [datetime(2005, 1, 1, tzinfo=UTC) + timedelta(seconds=second) for second in range(5)]
    for _ in range(2):
        await poll(["polled"] * 5, old, sender=other)
    assert await polls() == (9, 3)
    counts = "select count from core.refused_of_family where is_within and family_id = core.get_family($1)"
    assert await connection.fetchval(counts, other) == 5
