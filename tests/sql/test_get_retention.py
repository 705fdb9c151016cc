from datetime import timedelta

import asyncpg

from tests.factories import NOON, build_house, record
from tests.properties import rollups


async def test_it_says_that_all_events_are_kept_for_ever(connection: asyncpg.Connection) -> None:
    assert [tuple(row) for row in await connection.fetch("select * from api.get_retention()")] == [(None, None)]


async def test_it_says_from_when_on_all_events_are_there(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await record(connection, [("front", NOON, 1)])
    midnight = NOON + timedelta(hours=12)
    await rollups.refresh(connection)
    await rollups.retain(connection, midnight)
    await connection.execute("select api.set_retention(90)")
    assert [tuple(row) for row in await connection.fetch("select * from api.get_retention()")] == [(90, midnight)]
