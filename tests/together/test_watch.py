"""The watch of the database, where the service itself stands still."""

import asyncio
import time

import asyncpg

from headcount.database import calls
from headcount.database.pool import LATE_SECONDS, Database
from headcount.settings import Settings

PATIENCE_SECONDS = 0.2


async def test_it_does_not_take_for_silence_that_the_service_stood_still_several_times(database_url: str) -> None:
    database = Database(Settings(database_url=database_url))
    async with database.opened():
        await database._look()
        assert database.fault is None
        database.watch.seconds = PATIENCE_SECONDS
        check, stood_still = database.check, 0

        async def stand_still(connection: asyncpg.Connection) -> None:
            time.sleep(PATIENCE_SECONDS + 2 * LATE_SECONDS)  # noqa: ASYNC251, that is what it is about
            for _ in range(10_000):  # no answer, until it is given up
                if connection.is_closed():
                    break
                await asyncio.sleep(0.001)
            await connection.fetch("select 1")

        async def check_and_stand_still(session: calls.Session) -> None:
            nonlocal stood_still
            if session is database.watch and stood_still < 3:
                stood_still += 1
                await database.watch._ask(stand_still)
            database.watch.seconds = 30.0
            await check(session)

        database.check = check_and_stand_still  # type: ignore[method-assign, assignment]
        await database._look()
        assert stood_still == 3
        assert database.fault is None
        assert not database.is_silent
