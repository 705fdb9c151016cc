"""From silence to a notice: what outages amount to for a channel."""

import asyncpg

from headcount.database import calls
from tests.factories import NOON, seconds
from tests.notices.support import log, make_channel
from tests.sql.test_detect_outages import beat, build, run


async def send(connection: asyncpg.Connection) -> list[str]:
    """What goes out now, as its kinds."""
    claims = await calls.claim_deliveries(connection, 100)
    for claim in claims:
        await calls.finish_delivery(connection, claim.delivery, claim.claim, True, NOON, 1)
    return [claim.kind for claim in claims]


async def test_a_site_that_goes_dark_is_one_notice_and_its_return_another(connection: asyncpg.Connection) -> None:
    dpus = [f"d{number}" for number in range(300)]
    await build(connection, *dpus)
    await make_channel(connection)
    await run(connection, NOON, NOON)
    await beat(connection, NOON, *dpus)
    await run(connection, NOON + seconds(1), NOON + seconds(8))
    assert await send(connection) == ["offline"]
    await beat(connection, NOON + seconds(9), *dpus)
    await run(connection, NOON + seconds(10), NOON + seconds(11))
    assert await send(connection) == ["online"]
    assert await log(connection) == [("hook", "offline", "delivered", None), ("hook", "online", "delivered", None)]


async def test_a_service_that_was_stopped_tells_nothing(connection: asyncpg.Connection) -> None:
    await build(connection, "a", "b", "c")
    await make_channel(connection)
    await run(connection, NOON, NOON)
    await beat(connection, NOON, "a", "b", "c")
    await run(connection, NOON + seconds(1), NOON + seconds(1))
    stopped = NOON + seconds(20 * 60)
    await run(connection, stopped, stopped)
    await beat(connection, stopped + seconds(0.5), "a", "b", "c")
    await run(connection, stopped + seconds(1), stopped + seconds(2))
    assert await log(connection) == []


async def test_who_was_told_of_an_outage_that_was_none_is_told_so_once(connection: asyncpg.Connection) -> None:
    await build(connection, "a")
    await make_channel(connection)
    await run(connection, NOON, NOON)
    await beat(connection, NOON, "a")
    await run(connection, NOON + seconds(1), NOON + seconds(6))
    assert await send(connection) == ["offline"]
    for at in (1.5, 3.0, 4.5):
        await beat(connection, NOON + seconds(at), "a", received=NOON + seconds(6))
    await beat(connection, NOON + seconds(6), "a")
    await run(connection, NOON + seconds(7), NOON + seconds(7))
    assert await send(connection) == ["correction"]
    await run(connection, NOON + seconds(8), NOON + seconds(8))
    assert await send(connection) == []


async def test_who_was_not_told_yet_hears_nothing_of_an_outage_that_was_none(connection: asyncpg.Connection) -> None:
    await build(connection, "a")
    await make_channel(connection)
    await run(connection, NOON, NOON)
    await beat(connection, NOON, "a")
    await run(connection, NOON + seconds(1), NOON + seconds(6))
    for at in (1.5, 3.0, 4.5):
        await beat(connection, NOON + seconds(at), "a", received=NOON + seconds(6))
    await beat(connection, NOON + seconds(6), "a")
    await run(connection, NOON + seconds(7), NOON + seconds(7))
    assert await send(connection) == []
    assert {state for _, _, state, _ in await log(connection)} == {"cancelled"}
