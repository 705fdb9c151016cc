"""POST /v1/deliveries/{id}/replay."""

import asyncpg
import httpx
import pytest

from headcount.database import calls
from tests.http import body, problem
from tests.http.guarded import build_site, guarded, new_token
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
