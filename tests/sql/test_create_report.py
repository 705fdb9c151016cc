"""api.create_report: each token has its own share, and the same answer to the same question."""

from datetime import timedelta

import asyncpg
import pytest

from headcount.database import calls
from tests.factories import NOON, apply_site
from tests.http.guarded import new_token, token_id


async def new_id(connection: asyncpg.Connection) -> str:
    return await token_id(connection, await new_token(connection, "read"))


async def finish(connection: asyncpg.Connection) -> str:
    """Computes a report that waits: its id. In the transaction of the test, so that no worker of a service sees it."""
    claim = await calls.claim_report(connection)
    assert claim is not None
    await calls.fail_report(connection, claim.id, claim.attempt, "for the test")
    await connection.execute("update core.report set state = 'complete' where id = $1", claim.id)
    return claim.id


async def poll(connection: asyncpg.Connection, minutes: int) -> None:
    await calls.record_polls(connection, ["shop"], [NOON + timedelta(minutes=minutes)], [True])


async def test_a_token_that_asks_the_same_again_gets_the_same_report(connection: asyncpg.Connection) -> None:
    await apply_site(connection, spaces=[{"id": "shop"}])
    one, other = await new_id(connection), await new_id(connection)
    async with connection.transaction():
        first = await calls.create_report(connection, token=one)
        assert await calls.create_report(connection, token=one) == first
        await finish(connection)
        assert await calls.create_report(connection, token=one) == first
        different = {
            first,
            await calls.create_report(connection, token=other),
            await calls.create_report(connection, NOON, token=one),
            await calls.create_report(connection, NOON + timedelta(seconds=1), token=one),
            await calls.create_report(connection, None, "shop", token=one),
            await calls.create_report(connection, None, None, "json", token=one),
            await calls.create_report(connection),
            await calls.create_report(connection),
        }
        assert len(different) == 8
        await connection.execute("update core.report set created_at = created_at - interval '61 seconds'")
        assert await calls.create_report(connection, token=one) not in different


async def test_it_is_another_report_once_something_changed_that_it_tells_of(
    connection: asyncpg.Connection,
) -> None:
    token = await new_id(connection)
    await poll(connection, 0)
    seen = []
    for change in (
        lambda: poll(connection, 1),
        lambda: calls.record_hours(connection, ["shop"], [0], ["09:00"], ["12:00"]),
        lambda: calls.record_time_zones(connection, ["shop"], ["Asia/Beirut"]),
        lambda: apply_site(connection, spaces=[{"id": "new"}]),
        None,
    ):
        seen.append(await calls.create_report(connection, NOON, token=token))
        await connection.execute("update core.report set state = 'complete', snapshot = pg_current_snapshot()")
        assert await calls.create_report(connection, NOON, token=token) == seen[-1]
        await poll(connection, 0)  # a duplicate changes nothing
        assert await calls.create_report(connection, NOON, token=token) == seen[-1]
        if change:
            await change()
    assert len(set(seen)) == 5


async def test_while_it_waits_what_is_stored_meanwhile_will_be_in_it(connection: asyncpg.Connection) -> None:
    token = await new_id(connection)
    async with connection.transaction():
        first = await calls.create_report(connection, token=token)
        await poll(connection, 1)
        assert await calls.create_report(connection, token=token) == first


@pytest.mark.concurrency
async def test_polls_that_commit_after_a_report_was_begun_make_another_one(
    connection: asyncpg.Connection, database_url: str
) -> None:
    token = await new_id(connection)
    other = await asyncpg.connect(database_url)
    try:
        transaction = other.transaction()
        await transaction.start()
        await poll(other, 1)
        first = await calls.create_report(connection, NOON, token=token)
        await connection.execute("update core.report set state = 'complete', snapshot = pg_current_snapshot()")
        assert await calls.create_report(connection, NOON, token=token) == first
        await transaction.commit()
        assert await calls.create_report(connection, NOON, token=token) != first
    finally:
        await other.close()


async def test_a_token_can_have_a_quarter_of_those_that_wait(connection: asyncpg.Connection) -> None:
    one, other = await new_id(connection), await new_id(connection)
    async with connection.transaction():
        for number in range(3):
            await calls.create_report(connection, NOON + timedelta(seconds=number), max_running=12, token=one)
        with pytest.raises(asyncpg.PostgresError, match="3 reports of this token are not done"):
            async with connection.transaction():
                await calls.create_report(connection, max_running=12, token=one)
        await calls.create_report(connection, max_running=12, token=other)
        await finish(connection)
        await calls.create_report(connection, max_running=12, token=one)


async def test_a_token_can_ask_for_so_many_an_hour(connection: asyncpg.Connection) -> None:
    one, other = await new_id(connection), await new_id(connection)
    async with connection.transaction():
        for number in range(2):
            await calls.create_report(connection, NOON + timedelta(seconds=number), token=one, per_hour=2)
            await finish(connection)
        with pytest.raises(asyncpg.PostgresError, match="2 reports within an hour") as refused:
            async with connection.transaction():
                await calls.create_report(connection, token=one, per_hour=2)
        assert refused.value.sqlstate == "PT429"
        await calls.create_report(connection, token=other, per_hour=2)
        await connection.execute("update core.report set created_at = created_at - interval '1 hour'")
        await calls.create_report(connection, token=one, per_hour=2)


async def test_those_of_one_token_are_computed_one_after_the_other(connection: asyncpg.Connection) -> None:
    many, few = await new_id(connection), await new_id(connection)
    async with connection.transaction():
        of_many = [await calls.create_report(connection, NOON + timedelta(seconds=n), token=many) for n in range(2)]
        of_few = await calls.create_report(connection, token=few)
        without = [await calls.create_report(connection, NOON + timedelta(seconds=n)) for n in range(2)]
        taken = [await calls.claim_report(connection, 600) for _ in range(5)]
        assert [claim and claim.id for claim in taken] == [of_many[0], of_few, *without, None]
        assert taken[0] is not None
        await calls.fail_report(connection, taken[0].id, taken[0].attempt, "It is over.")
        after = await calls.claim_report(connection, 600)
    assert after is not None
    assert after.id == of_many[1]
