"""api.drop_reports."""

import asyncpg

from headcount.database import calls
from tests.http.guarded import new_token, token_id
from tests.http.reporting import begun


async def test_the_newest_of_each_token_are_kept_all_of_the_last_hour_and_what_runs(
    connection: asyncpg.Connection,
) -> None:
    tokens = [await token_id(connection, await new_token(connection, "read")) for _ in range(2)]
    made: dict[str | None, list[str]] = {}
    for token in (*tokens, tokens[0], tokens[0], tokens[0], None, None, None):
        async with connection.transaction():  # so that no worker of the service sees it
            report = await calls.create_report(connection, token=token)
            claim = await calls.claim_report(connection)
            assert claim is not None
            await calls.fail_report(connection, claim.id, claim.attempt, "for the test")
            made.setdefault(token, []).append(report)
    running, _ = await begun(connection)
    await calls.drop_reports(connection, 2)
    assert len(await calls.list_reports(connection)) == 9

    await connection.execute("update core.report set finished_at = finished_at - interval '61 minutes'")
    async with connection.transaction():
        await calls.drop_reports(connection, 2)
        kept = {found.id for found in await calls.list_reports(connection)}
    one, other = tokens
    assert kept == {running, *made[one][2:], *made[other], *made[None][1:]}
