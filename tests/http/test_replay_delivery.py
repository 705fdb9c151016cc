"""POST /v1/deliveries/{id}/replay."""

import asyncio

import asyncpg
import httpx
import pytest

from headcount.database import calls
from headcount.routes.notices import CHANNEL_REPLAYS, TOKEN_REPLAYS
from tests.http import body, problem
from tests.http.guarded import bearer, build_site, guarded, new_token
from tests.notices.support import (
    make_channel,
    put_channel,
    receiver,
    service,
    tell,
    tell_all,
    until_settled,
)


async def test_it_is_sent_again_with_the_same_id(connection: asyncpg.Connection, database_url: str) -> None:
    async with receiver() as hook, service(database_url) as client:
        await put_channel(client, "hook", kind="webhook", url=hook.url)
        await tell(connection, "offline")
        (row,) = await until_settled(connection)
        found = body(await client.post(f"/v1/deliveries/{row.id}/replay"))
        assert (found["state"], found["notice"], len(found["tries"])) == ("pending", row.notice, 1)
        await hook.wait_for(2)
        (row,) = await until_settled(connection)
        assert len(row.tries) == 2
    assert {seen["headers"]["webhook-id"] for seen in hook.seen} == {row.notice}


async def test_what_was_given_up_is_tried_for_another_day(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await make_channel(connection)
    await tell(connection, "offline")
    await connection.execute("update core.delivery set give_up_at = now() - interval '1 hour'")
    for expected in ("failed", "pending"):
        (claim,) = await calls.claim_deliveries(connection, 1)
        state = await calls.finish_delivery(connection, claim.delivery, claim.claim, False, claim.occurred_at, 1)
        assert state == expected
        assert body(await client.post("/v1/deliveries/1/replay"))["next_try_at"]


@pytest.mark.parametrize("state", ["suppressed", "cancelled"])
async def test_what_was_not_sent_can_be(client: httpx.AsyncClient, connection: asyncpg.Connection, state: str) -> None:
    await make_channel(connection)
    await tell(connection, "offline")
    await connection.execute("update core.delivery set state = $1, reason = 'because', settled_at = now()", state)
    found = body(await client.post("/v1/deliveries/1/replay"))
    assert (found["state"], found["reason"], found["settled_at"]) == ("pending", None, None)
    assert len(await calls.claim_deliveries(connection, 10)) == 1


async def test_one_that_is_being_sent_stays_so(client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    await make_channel(connection)
    await tell(connection, "offline")
    assert len(await calls.claim_deliveries(connection, 10)) == 1
    assert body(await client.post("/v1/deliveries/1/replay"))["state"] == "pending"
    assert await calls.claim_deliveries(connection, 10) == []


@pytest.mark.parametrize("delivery", ["4711", "nothing", "999999999999999999999", "-1"])
async def test_an_unknown_one_is_not_found(
    client: httpx.AsyncClient, connection: asyncpg.Connection, delivery: str
) -> None:
    problem(await client.post(f"/v1/deliveries/{delivery}/replay"), 404, "not_found", "delivery")


async def test_a_limited_token_replays_those_of_the_channels_that_it_reaches(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build_site(connection)
    await make_channel(connection, "everything")
    await make_channel(connection, "own", under="own")
    await tell_all(connection, [("offline", 1, "own-room")])
    limited = await new_token(connection, "admin", space="own")
    async with guarded(database_url, send_notices=False) as client:
        rows = {row.channel: row.id for row in await calls.list_deliveries(connection)}
        body(await client.post(f"/v1/deliveries/{rows['own']}/replay", headers=limited))
        other = await client.post(f"/v1/deliveries/{rows['everything']}/replay", headers=limited)
        problem(other, 404, "not_found", "delivery")


async def test_what_a_channel_told_of_elsewhere_is_not_sent_again_by_a_limited_token(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build_site(connection)
    await make_channel(connection, "hook")
    await tell_all(connection, [("offline", 1, "secret-b"), ("offline", 2, None), ("offline", 3, "own")])
    await make_channel(connection, "hook", under="own")
    limited = await new_token(connection, "admin", space="own")
    everywhere = await new_token(connection, "admin")
    async with guarded(database_url, send_notices=False) as client:
        for row in await calls.list_deliveries(connection):
            answer = await client.post(f"/v1/deliveries/{row.id}/replay", headers=limited)
            if row.space == "own":
                body(answer)
            else:
                problem(answer, 404, "not_found", "delivery")
            body(await client.post(f"/v1/deliveries/{row.id}/replay", headers=everywhere))


async def test_a_test_is_not_sent_again(connection: asyncpg.Connection, database_url: str) -> None:
    async with receiver() as hook, service(database_url, send_notices=False) as client:
        await put_channel(client, "hook", kind="webhook", url=hook.url)
        found = body(await client.post("/v1/channels/hook/test"))
        refused = problem(await client.post(f"/v1/deliveries/{found['id']}/replay"), 409, "conflict", "delivery")
        assert "/test" in refused["detail"]
        assert await calls.claim_deliveries(connection, 10) == []
        assert len(hook.seen) == 1


async def test_a_channel_replays_so_many_a_minute_in_all_processes_together(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await make_channel(connection)
    await make_channel(connection, "second")
    await tell(connection, "offline")
    rows = {row.channel: row.id for row in await calls.list_deliveries(connection)}
    async with service(database_url, send_notices=False) as one, service(database_url, send_notices=False) as other:
        for number in range(CHANNEL_REPLAYS):
            body(await (one, other)[number % 2].post(f"/v1/deliveries/{rows['hook']}/replay"))
        for client in (one, other):
            refused = await client.post(f"/v1/deliveries/{rows['hook']}/replay")
            problem(refused, 429, "rate_limited")
            assert refused.headers["retry-after"] == "10"
        body(await one.post(f"/v1/deliveries/{rows['second']}/replay"))
        # a minute later; and where the clock was set back since
        for moved in ("- interval '1 minute'", "+ interval '1 hour'"):
            await connection.execute(f"update core.replay set at = at {moved}")
            body(await one.post(f"/v1/deliveries/{rows['hook']}/replay"))
            assert await connection.fetchval("select count(*) from core.replay") == 1


async def test_a_token_and_those_it_made_replay_so_many_a_minute_by_all_channels(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build_site(connection)
    for number in range(4):
        await make_channel(connection, f"hook-{number}", under="own")
    await tell_all(connection, [("offline", 1, "own-room")])
    limited = await new_token(connection, "admin", space="own")
    other, everywhere = await new_token(connection, "admin", space="own"), await new_token(connection, "admin")
    rows = [row.id for row in await calls.list_deliveries(connection)]
    async with guarded(database_url, send_notices=False) as client:
        child = bearer(body(await client.post("/v1/tokens", json={"scopes": ["admin"]}, headers=limited), 201)["token"])
        for number in range(TOKEN_REPLAYS):
            headers = (limited, child)[number % 2]
            body(await client.post(f"/v1/deliveries/{rows[number % 4]}/replay", headers=headers))
        for headers in (limited, child):
            problem(await client.post(f"/v1/deliveries/{rows[3]}/replay", headers=headers), 429, "rate_limited")
        body(await client.post(f"/v1/deliveries/{rows[3]}/replay", headers=other))
        await connection.execute("delete from core.replay")
        for number in range(TOKEN_REPLAYS):
            body(await client.post(f"/v1/deliveries/{rows[number % 4]}/replay", headers=everywhere))
        refused = await client.post(f"/v1/deliveries/{rows[3]}/replay", headers=everywhere)
        problem(refused, 429, "rate_limited")


async def test_mail_counts_once_for_each_recipient(connection: asyncpg.Connection, database_url: str) -> None:
    await build_site(connection)
    people = [f"person{number}@example.org" for number in range(TOKEN_REPLAYS)]
    await make_channel(connection, "mail", under="own", kind="email", url=None, to=people)
    await make_channel(connection, "hook", under="own")
    await tell_all(connection, [("offline", 1, "own-room")])
    limited = await new_token(connection, "admin", space="own")
    rows = {row.channel: row.id for row in await calls.list_deliveries(connection)}
    async with guarded(database_url, send_notices=False) as client:
        body(await client.post(f"/v1/deliveries/{rows['mail']}/replay", headers=limited))
        refused = await client.post(f"/v1/deliveries/{rows['hook']}/replay", headers=limited)
        problem(refused, 429, "rate_limited")


@pytest.mark.concurrency
async def test_replays_at_the_same_time_are_counted_each(connection: asyncpg.Connection, database_url: str) -> None:
    await make_channel(connection)
    await tell(connection, "offline")
    (row,) = await calls.list_deliveries(connection)
    others = [await asyncpg.connect(database_url) for _ in range(12)]
    try:
        answers = await asyncio.gather(
            *(calls.replay_delivery(other, row.id, channel_replays=5) for other in others), return_exceptions=True
        )
    finally:
        for other in others:
            await other.close()
    refused = [answer for answer in answers if isinstance(answer, asyncpg.PostgresError)]
    assert [error.sqlstate for error in refused] == ["PT429"] * 7
