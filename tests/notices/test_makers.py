"""Channels answer to the tokens that chose where they send: without one that is valid and reaches them, none sends."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import asyncpg
import httpx
import pytest

from headcount.database import calls
from tests.http import body, problem
from tests.http.guarded import Headers, bearer, build_site, guarded, new_token, token_id
from tests.notices.support import LOCAL, hasten, log, make_channel, receiver, tell, tell_all, until_settled

HOOK = {"kind": "webhook", "url": "https://receiver.example/hook"}
CUT = ("hook", "offline", "suppressed", "out_of_reach")
SENT = ("hook", "offline", "pending", None)


@pytest.fixture
async def admin(connection: asyncpg.Connection) -> Headers:
    await build_site(connection)
    return await new_token(connection)


@pytest.fixture
async def tenant(connection: asyncpg.Connection, admin: Headers) -> Headers:
    return await new_token(connection, "admin", space="own")


async def put(client: httpx.AsyncClient, headers: Headers, name: str = "hook", **fields: object) -> None:
    answer = await client.put(f"/v1/channels/{name}", json=fields, headers=headers)
    assert answer.status_code in (200, 201), answer.text


async def is_cut(client: httpx.AsyncClient, admin: Headers, name: str = "hook") -> bool:
    listed = body(await client.get("/v1/channels", headers=admin))["items"]
    found = body(await client.get(f"/v1/channels/{name}", headers=admin))["out_of_reach"]
    assert [item["out_of_reach"] for item in listed if item["id"] == name] == [found]
    return bool(found)


async def revoke(client: httpx.AsyncClient, connection: asyncpg.Connection, admin: Headers, token: Headers) -> None:
    answer = await client.delete(f"/v1/tokens/{await token_id(connection, token)}", headers=admin)
    assert answer.status_code == 204


async def test_a_revoked_tokens_channel_tells_nothing(
    connection: asyncpg.Connection, database_url: str, admin: Headers, tenant: Headers
) -> None:
    async with guarded(database_url, send_notices=False) as client:
        child = bearer(body(await client.post("/v1/tokens", json={"scopes": ["admin"]}, headers=tenant), 201)["token"])
        await put(client, child, under="own-room", **HOOK)
        assert not await is_cut(client, admin)
        await revoke(client, connection, admin, tenant)
        assert await is_cut(client, admin)
        await tell(connection, "offline", 1, "own-room")
        await tell(connection, "online", 1, "own-room")
        assert await log(connection) == [CUT, ("hook", "online", "suppressed", "out_of_reach")]
        assert await calls.claim_deliveries(connection, 10) == []


async def test_a_space_that_moves_away_takes_its_notices_along(
    connection: asyncpg.Connection, database_url: str, admin: Headers, tenant: Headers
) -> None:
    async with guarded(database_url, send_notices=False) as client:
        await put(client, tenant, under="own-room", **HOOK)
        for parent, expected in (("secret-b", CUT), ("own", SENT)):
            body(await client.put("/v1/spaces/own-room", json={"parent": parent}, headers=admin))
            await tell(connection, "offline", 1, "own-room")
            assert (await log(connection))[-1] == expected
            assert await is_cut(client, admin) == (expected == CUT)


async def test_a_room_that_leaves_the_part_of_who_made_the_token_takes_its_channels_along(
    connection: asyncpg.Connection, database_url: str, admin: Headers, tenant: Headers
) -> None:
    async with guarded(database_url, send_notices=False) as client:
        sent = {"scopes": ["admin"], "space": "own-room"}
        child = bearer(body(await client.post("/v1/tokens", json=sent, headers=tenant), 201)["token"])
        await put(client, child, **HOOK)
        for parent, expected in (("secret-b", CUT), ("own", SENT)):
            body(await client.put("/v1/spaces/own-room", json={"parent": parent}, headers=admin))
            await tell(connection, "offline", 1, "own-room")
            assert (await log(connection))[-1] == expected
            assert await is_cut(client, admin) == (expected == CUT)
            assert body(await client.get("/v1/channels", headers=child))["items"] == [] or expected == SENT


async def test_the_end_of_what_was_told_is_not_told_any_more(
    connection: asyncpg.Connection, database_url: str, admin: Headers, tenant: Headers
) -> None:
    async with guarded(database_url, send_notices=False) as client:
        await put(client, tenant, under="own-room", **HOOK)
        await tell(connection, "offline", 1, "own-room")
        (claim,) = await calls.claim_deliveries(connection, 10)
        await calls.finish_delivery(connection, claim.delivery, claim.claim, True, claim.occurred_at, 1)
        await revoke(client, connection, admin, tenant)
        await tell(connection, "online", 1, "own-room")
        assert (await log(connection))[-1] == ("hook", "online", "suppressed", "out_of_reach")


async def test_what_waits_is_cancelled_and_what_is_under_way_ends(
    connection: asyncpg.Connection, database_url: str, admin: Headers, tenant: Headers
) -> None:
    async with guarded(database_url, send_notices=False) as client:
        await put(client, tenant, under="own-room", **HOOK)
        await make_channel(connection, "other")
        for incident in (1, 2):
            await tell(connection, "offline", incident, "own-room")
        claims = await calls.claim_deliveries(connection, 10, a_channel=1)
        assert [claim.channel for claim in claims] == ["hook", "other"]
        await revoke(client, connection, admin, tenant)
        assert [claim.channel for claim in await calls.claim_deliveries(connection, 10)] == ["other"]
        assert [row[2:] for row in await log(connection, "hook")] == [("pending", None), ("cancelled", "out_of_reach")]
        # it fails, and is not tried again
        await calls.finish_delivery(connection, claims[0].delivery, claims[0].claim, False, claims[0].occurred_at, 1)
        await hasten(connection)
        assert await calls.claim_deliveries(connection, 10, a_channel=0) == []
        assert {row[2:] for row in await log(connection, "hook")} == {("cancelled", "out_of_reach")}


@pytest.mark.parametrize("limited", [True, False])
async def test_nothing_about_a_space_that_has_moved_away_is_told_not_even_the_end_of_what_was(
    connection: asyncpg.Connection, database_url: str, admin: Headers, tenant: Headers, limited: bool
) -> None:
    async with guarded(database_url, send_notices=False) as client:
        await put(client, tenant if limited else admin, under="own", **HOOK)
        await tell(connection, "over_capacity", None, "own-room")
        (claim,) = await calls.claim_deliveries(connection, 10)
        await calls.finish_delivery(connection, claim.delivery, claim.claim, True, claim.occurred_at, 1)
        await tell_all(connection, [("offline", 1, "own-room"), ("offline", 2, "own")])
        body(await client.put("/v1/spaces/own-room", json={"parent": "secret-b"}, headers=admin))
        await tell_all(connection, [("capacity_ok", None, "own-room"), ("online", 1, "own-room")])
        sent = [(claim.kind, claim.details) for claim in await calls.claim_deliveries(connection, 10)]
        assert [kind for kind, _ in sent] == (["offline"] if limited else ["offline", "offline", "capacity_ok"])
        assert [row[1:] for row in await log(connection)] == [
            ("over_capacity", "delivered", None),
            ("offline", "cancelled", "out_of_reach") if limited else ("offline", "pending", None),
            ("offline", "pending", None),
            ("online", "suppressed", "out_of_reach") if limited else ("online", "pending", None),
            ("capacity_ok", "suppressed", "out_of_reach") if limited else ("capacity_ok", "pending", None),
        ]


@pytest.mark.parametrize("limited", [True, False])
async def test_whoever_takes_a_channel_over_gets_nothing_from_before_it_was_made_narrower(
    connection: asyncpg.Connection, database_url: str, admin: Headers, tenant: Headers, limited: bool
) -> None:
    async with guarded(database_url, send_notices=False) as client:
        await put(client, admin, under="secret-campus", **HOOK)
        await tell(connection, "over_capacity", None, "secret-room")
        (claim,) = await calls.claim_deliveries(connection, 10)
        await calls.finish_delivery(connection, claim.delivery, claim.claim, True, claim.occurred_at, 1)
        await tell_all(connection, [("offline", 1, "secret-room"), ("offline", 2, "own-room"), ("offline", 3, None)])
        await calls.try_channel(connection, "hook")  # by a process that dies
        await connection.execute("update core.delivery set due_at = now() where claim is not null")
        await put(client, admin, under="own")
        await put(client, tenant if limited else admin, url="https://elsewhere.example/")
        await tell(connection, "capacity_ok", None, "secret-room")
        claims = await calls.claim_deliveries(connection, 10)
        assert {claim.url for claim in claims} == {"https://elsewhere.example/"}
        expected = ["offline", "test"] if limited else ["capacity_ok", "offline", "offline", "test"]
        assert sorted(claim.kind for claim in claims) == expected
        cut = {row[1:] for row in await log(connection) if row[3]}
        assert cut == (
            {("offline", "cancelled", "out_of_reach"), ("capacity_ok", "suppressed", "out_of_reach")}
            if limited
            else set()
        )


async def test_what_is_behind_a_hundred_beyond_reach_is_not_sent_either(
    connection: asyncpg.Connection, database_url: str, admin: Headers, tenant: Headers
) -> None:
    async with guarded(database_url, send_notices=False) as client:
        await put(client, tenant, under="own", **HOOK)
        await tell_all(connection, [("offline", number, "own-room") for number in range(110)])
        await tell(connection, "offline", 200, "own")
        body(await client.put("/v1/spaces/own-room", json={"parent": "secret-b"}, headers=admin))
        assert [len(await calls.claim_deliveries(connection, 200)) for _ in range(2)] == [0, 1]
        assert sorted(row[2] for row in await log(connection)) == ["cancelled"] * 110 + ["pending"]


async def test_another_valid_token_of_the_family_is_enough_if_it_can_read(
    connection: asyncpg.Connection, database_url: str, admin: Headers
) -> None:
    maker = await new_token(connection, "admin", "ingest", space="own")
    async with guarded(database_url, send_notices=False) as client:
        await put(client, maker, under="own-room", **HOOK)
        for number, (scope, space, expected) in enumerate(
            (("ingest", "own", CUT), ("read", "own-room", SENT), ("admin", "own", SENT))
        ):
            sent = {"scopes": [scope], "space": space}
            made = body(await client.post("/v1/tokens", json=sent, headers=maker), 201)
            await connection.execute(
                "update core.token set revoked_at = now() where id = $1", await token_id(connection, maker)
            )
            await tell(connection, "offline", number, "own-room")
            assert (await log(connection))[-1] == expected
            await connection.execute("update core.token set revoked_at = now() where id = $1", made["id"])
            await connection.execute(
                "update core.token set revoked_at = null where id = $1", await token_id(connection, maker)
            )
        at = datetime.now(UTC) - timedelta(seconds=1)
        await connection.execute("update core.token set expires_at = $1 where space_id is not null", at)
        await tell(connection, "offline", 9, "own-room")
        assert (await log(connection))[-1] == CUT


async def test_it_is_neither_tested_nor_replayed_until_somebody_chooses_again_where_it_sends(
    connection: asyncpg.Connection, database_url: str, admin: Headers, tenant: Headers
) -> None:
    async with receiver() as hook, guarded(database_url, private_targets=LOCAL) as client:
        await put(client, tenant, under="own-room", kind="webhook", url=hook.url)
        await tell(connection, "offline", 1, "own-room")
        (row,) = await until_settled(connection)
        await revoke(client, connection, admin, tenant)
        for path, where in (("channels/hook/test", "channel"), (f"deliveries/{row.id}/replay", "delivery")):
            refused = problem(await client.post(f"/v1/{path}", headers=admin), 409, "conflict", where)
            assert "url" in refused["detail"]
        await put(client, admin, only_in_opening_hours=False)
        assert await is_cut(client, admin), "that says nothing of where it sends"
        await put(client, admin, url=hook.url)
        assert not await is_cut(client, admin)
        body(await client.post("/v1/channels/hook/test", headers=admin))
        body(await client.post(f"/v1/deliveries/{row.id}/replay", headers=admin))
        assert len(await hook.wait_for(3)) == 3


async def test_whoever_chooses_where_an_administrators_channel_sends_answers_for_it(
    connection: asyncpg.Connection, database_url: str, admin: Headers, tenant: Headers
) -> None:
    async with guarded(database_url, send_notices=False) as client:
        for name in ("hook", "muted"):
            await put(client, admin, name, under="own-room", **HOOK)
        await put(client, tenant, "hook", url="https://elsewhere.example/")
        await put(client, tenant, "muted", muted_until="2020-01-01T00:00:00Z")
        await revoke(client, connection, admin, tenant)
        assert await is_cut(client, admin, "hook")
        assert not await is_cut(client, admin, "muted")
        await tell(connection, "offline", 1, "own-room")
        assert sorted(row[::2] for row in await log(connection)) == [("hook", "suppressed"), ("muted", "pending")]


async def test_whoever_takes_a_channel_over_gets_nothing_signed_with_the_secret_of_others(
    connection: asyncpg.Connection, database_url: str, admin: Headers, tenant: Headers
) -> None:
    async with guarded(database_url, send_notices=False) as client:

        async def change(by: Headers, status: int = 200, **patch: Any) -> str | None:
            found = body(await client.put("/v1/channels/hook", json=patch, headers=by), status)
            kept = await connection.fetchval("select secret from core.channel")
            assert found.get("secret") in (None, kept)
            secrets.append(kept)
            return cast("str | None", found.get("secret"))

        secrets: list[str] = []
        assert await change(admin, 201, under="own-room", **HOOK)
        assert await change(admin, url="https://other.example/") is None
        assert await change(tenant, muted_until=None) is None
        assert await change(tenant, url="https://elsewhere.example/")
        assert await change(tenant, url="https://third.example/") is None
        assert await change(admin, url="https://other.example/")
        assert [secrets.index(secret) for secret in secrets] == [0, 0, 0, 3, 3, 5]


async def test_a_family_takes_no_more_channels_over_than_it_can_have(
    connection: asyncpg.Connection, database_url: str, admin: Headers, tenant: Headers
) -> None:
    async with guarded(database_url, send_notices=False) as client:
        await put(client, admin, under="own-room", **HOOK)
        for number in range(20):
            await put(client, tenant, f"own-{number}", **HOOK)
        refused = await client.put("/v1/channels/hook", json={"url": "https://elsewhere.example/"}, headers=tenant)
        problem(refused, 409, "conflict", "channel")
        await put(client, tenant, "hook", muted_until=None)
        await put(client, tenant, "own-0", url="https://elsewhere.example/")


async def test_a_channel_of_a_token_without_a_space_outlives_it(
    connection: asyncpg.Connection, database_url: str, admin: Headers
) -> None:
    other = await new_token(connection)
    async with guarded(database_url, send_notices=False) as client:
        await put(client, other, under="own-room", **HOOK)
        await revoke(client, connection, admin, other)
        await tell(connection, "offline", 1, "own-room")
        assert await log(connection) == [SENT]
