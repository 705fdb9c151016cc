"""api.finish_delivery: what comes after a try."""

from datetime import timedelta

import asyncpg

from headcount.database import calls
from tests.factories import NOON
from tests.notices.support import hasten, make_channel, tell

SECOND = timedelta(seconds=1)


async def try_once(connection: asyncpg.Connection, **outcome: object) -> str | None:
    (claim,) = await calls.claim_deliveries(connection, 1)
    return await calls.finish_delivery(
        connection,
        claim.delivery,
        claim.claim,
        outcome.get("is_delivered") is True,
        NOON,
        1234,
        500,
        str(outcome.get("answer", "no")),
        "The receiver answered 500.",
    )


async def test_it_logs_the_try(connection: asyncpg.Connection) -> None:
    await make_channel(connection)
    await tell(connection, "offline")
    assert await try_once(connection, answer="x" * 600) == "pending"
    (row,) = await calls.list_deliveries(connection)
    (found,) = row.tries
    assert (found.at, found.duration_ms, found.delivered, found.status) == (NOON, 1234, False, 500)
    assert (found.answer, found.error) == ("x" * 500, "The receiver answered 500.")


async def test_it_waits_twice_as_long_after_each_failure_up_to_half_an_hour(connection: asyncpg.Connection) -> None:
    rows = await connection.fetch(
        """
        select
          core.get_retry_delay(n, 0) as least,
          core.get_retry_delay(n, 0.5) as middle,
          core.get_retry_delay(n, 1) as most
        from generate_series(1, 100) as n
        """
    )
    seconds = [row["middle"].total_seconds() for row in rows]
    assert seconds[:11] == [5, 10, 20, 40, 80, 160, 320, 640, 1280, 1800, 1800]
    assert seconds[-1] == 1800
    assert (rows[0]["least"], rows[0]["most"]) == (timedelta(seconds=4), timedelta(seconds=6))
    drawn = await connection.fetchval("select count(distinct core.get_retry_delay(3)) from generate_series(1, 20)")
    assert drawn > 10, "not all at once"


async def test_a_failure_is_tried_again_after_that(connection: asyncpg.Connection) -> None:
    await make_channel(connection)
    await tell(connection, "offline")
    for least in (4, 8, 16):
        before = await connection.fetchval("select clock_timestamp()")
        assert await try_once(connection) == "pending"
        due = await connection.fetchval("select due_at from core.delivery")
        after = await connection.fetchval("select clock_timestamp()")
        assert before + least * SECOND <= due <= after + 1.5 * least * SECOND
        await hasten(connection)


async def test_after_24_hours_it_is_given_up(connection: asyncpg.Connection) -> None:
    await make_channel(connection)
    await tell(connection, "offline")
    await connection.execute("update core.delivery set give_up_at = give_up_at - interval '23 hours 59 minutes'")
    assert await try_once(connection) == "pending"
    await connection.execute("update core.delivery set give_up_at = give_up_at - interval '2 minutes', due_at = now()")
    assert await try_once(connection) == "failed"
    (row,) = await calls.list_deliveries(connection)
    assert (row.state, row.next_try_at, len(row.tries)) == ("failed", None, 2)
    assert row.settled_at
    assert await calls.claim_deliveries(connection, 1) == []


async def test_what_is_no_more_is_no_error(connection: asyncpg.Connection) -> None:
    assert await calls.finish_delivery(connection, 4711, "claim", True, NOON, 1) is None
