"""api.drop_reports."""

import asyncpg

from service import calls
from tests.factories import apply_site
from tests.http.reporting import begun


async def test_the_newest_of_each_space_are_kept_and_what_runs_is(connection: asyncpg.Connection) -> None:
    await apply_site(connection, spaces=[{"id": "shop"}])
    made = []
    for under in ("shop", None, None, None):
        async with connection.transaction():  # so that no worker of the service sees it
            made.append(await calls.create_report(connection, under=under))
            claim = await calls.claim_report(connection)
            assert claim is not None
            await calls.fail_report(connection, claim.id, claim.attempt, "for the test")
    running, _ = await begun(connection)
    await calls.drop_reports(connection, 2)
    assert {found.id for found in await calls.list_reports(connection)} == {running, made[0], made[2], made[3]}
