"""POST /v1/tokens."""

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from headcount.database import calls
from headcount.http.auth import digest_of, make_token
from tests.factories import build_house
from tests.http import body, problem
from tests.http.guarded import administered, bearer, guarded, new_token, token_id


async def test_it_answers_with_the_token_and_all_that_is_known_of_it(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build_house(connection)
    admin = await new_token(connection, "admin")
    sent = {
        "scopes": ["read", "ingest", "read"],
        "name": "Gateway",
        "space": "house",
        "expires_at": "2099-01-01T00:00:00Z",
        "events_per_second": 100,
        "requests_per_second": 10,
    }
    async with guarded(database_url) as client:
        made = body(await client.post("/v1/tokens", json=sent, headers=admin), 201)
    assert made.pop("token").startswith("hc_")
    assert made.pop("id").startswith("tok_")
    assert made.pop("created_at")
    assert made.pop("created_by") == await token_id(connection, admin)
    assert made == {**sent, "scopes": ["ingest", "read"], "revoked_at": None, "last_used_at": None}


async def test_the_token_is_good_at_once_for_what_it_says(connection: asyncpg.Connection, database_url: str) -> None:
    await build_house(connection)
    async with guarded(database_url) as client, guarded(database_url) as other:
        admin = await new_token(connection, "admin")
        made = body(await client.post("/v1/tokens", json={"scopes": ["read"], "space": "room"}, headers=admin), 201)
        for service in (client, other):
            found = body(await service.get("/v1/counts", headers=bearer(made["token"])))
            assert [count["space"] for count in found["counts"]] == ["room"]


async def test_it_takes_nothing_but_a_reasonable_token(connection: asyncpg.Connection, database_url: str) -> None:
    refused: list[tuple[dict[str, Any], str | None]] = [
        ({}, "scopes"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["all"]}, "scopes[0]"),
        ({"scopes": ["read"], "space": "nowhere"}, "space"),
        ({"scopes": ["read"], "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"scopes": ["read"], "events_per_second": 0}, "events_per_second"),
        ({"scopes": ["read"], "token": make_token()}, "token"),
    ]
    async with administered(connection, database_url) as client:
        for sent, where in refused:
            problem(await client.post("/v1/tokens", json=sent), 422, "invalid", where)


async def test_a_limited_one_makes_only_what_is_within_itself(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build_house(connection)
    token, end = make_token(), datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    await calls.create_token(connection, digest_of(token), ["admin", "read"], None, "room", end, 100, None)
    async with guarded(database_url) as client:
        client.headers.update(bearer(token))
        problem(await client.post("/v1/tokens", json={"scopes": ["ingest"]}), 403, "forbidden", "scopes")
        problem(await client.post("/v1/tokens", json={"scopes": ["read"], "space": "house"}), 422, "invalid", "space")
        for more in (
            {},
            {"space": "room"},
            {"expires_at": (end + timedelta(days=9)).isoformat(), "events_per_second": 900},
        ):
            made = body(await client.post("/v1/tokens", json={"scopes": ["read"], **more}), 201)
            assert made["space"] == "room"
            assert datetime.fromisoformat(made["expires_at"]) == end
            assert (made["events_per_second"], made["requests_per_second"]) == (100, None)
        made = body(await client.post("/v1/tokens", json={"scopes": ["read"], "events_per_second": 7}), 201)
        assert made["events_per_second"] == 7


async def test_a_space_is_kept_while_a_good_token_is_limited_to_it(
    connection: asyncpg.Connection, database_url: str
) -> None:
    async with administered(connection, database_url) as client:
        await client.put("/v1/spaces/room", json={})
        made = body(await client.post("/v1/tokens", json={"scopes": ["read"], "space": "room"}), 201)
        answer = problem(await client.delete("/v1/spaces/room"), 409, "conflict", "space")
        assert made["id"] in answer["detail"]
        assert (await client.delete(f"/v1/tokens/{made['id']}")).status_code == 204
        assert body(await client.delete("/v1/spaces/room"))["retired_at"]
    assert await connection.fetchval("select count(*) from core.token where space_id is not null") == 1


async def test_a_token_never_has_more_than_the_one_that_made_it(
    connection: asyncpg.Connection, database_url: str
) -> None:
    token, end = make_token(), datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    await calls.create_token(connection, digest_of(token), ["admin"], None, None, end, None, 10)
    async with guarded(database_url) as client:
        client.headers.update(bearer(token))
        more = {"expires_at": (end + timedelta(days=9)).isoformat(), "requests_per_second": 1000}
        for sent in ({}, more):
            made = body(await client.post("/v1/tokens", json={"scopes": ["ingest"], **sent}), 201)
            assert datetime.fromisoformat(made["expires_at"]) == end
            assert (made["events_per_second"], made["requests_per_second"]) == (None, 10)


async def test_what_a_limited_token_makes_shares_its_rate(connection: asyncpg.Connection, database_url: str) -> None:
    await build_house(connection)
    token = make_token()
    await calls.create_token(connection, digest_of(token), ["admin", "read"], None, "house", None, None, 5)
    async with guarded(database_url) as client:
        made = [
            body(await client.post("/v1/tokens", json={"scopes": ["read"]}, headers=bearer(token)), 201)["token"]
            for _ in range(5)
        ]
        answers = [(await client.get("/v1/spaces", headers=bearer(made[n % 5]))).status_code for n in range(60)]
    assert answers.count(200) < 35, "25 at once, and 5 a second"
    assert answers.count(429) > 25


async def test_a_chain_of_tokens_that_make_one_another_has_an_end(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build_house(connection)
    headers = await new_token(connection, space="house")
    async with guarded(database_url) as client:
        for _ in range(9):
            made = body(await client.post("/v1/tokens", json={"scopes": ["admin"]}, headers=headers), 201)
            headers = bearer(made["token"])
        problem(await client.post("/v1/tokens", json={"scopes": ["admin"]}, headers=headers), 403, "forbidden")


async def test_without_tokens_none_is_made_by_http(client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    """It would be good later, when tokens are asked for."""
    answer = problem(await client.post("/v1/tokens", json={"scopes": ["admin"]}), 403, "forbidden")
    assert "headcount token create" in answer["detail"]
    assert await connection.fetchval("select count(*) from core.token") == 0


@pytest.mark.parametrize("scopes", ["null", "'{}'", "'{read,root}'"])
async def test_the_database_itself_takes_only_scopes_that_there_are(
    connection: asyncpg.Connection, scopes: str
) -> None:
    with pytest.raises(asyncpg.PostgresError, match="needs scopes"):
        await connection.execute(f"select api.create_token(digest => sha256(''), scopes => {scopes})")


async def test_a_family_of_limited_tokens_has_at_most_a_thousand(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build_house(connection)
    whole = await new_token(connection, "admin")
    read = {"scopes": ["read"]}
    async with guarded(database_url) as client:

        async def make(by: dict[str, str], **fields: Any) -> httpx.Response:
            return await client.post("/v1/tokens", json=read | fields, headers=by)

        async def begin() -> dict[str, str]:
            made = body(await make(whole, scopes=["admin"], space="house"), 201)
            return bearer(made["token"])

        first, other = await begin(), await begin()
        second = bearer(body(await make(first, scopes=["admin"]), 201)["token"])
        await connection.execute(
            """insert into core.token (id, digest, scopes, space_id, created_at, created_by_id)
            select 'tok_many' || n, sha256(n::text::bytea), '{read}', t.space_id, t.created_at, t.token_id
            from core.token t cross join generate_series(1, 997) n where t.id = $1""",
            await token_id(connection, second),
        )
        body(await make(first), 201)
        await connection.execute("update core.token set revoked_at = created_at where id like 'tok_many%'")
        for token in (first, second):
            refused = problem(await make(token), 409, "conflict")
            assert "1000 tokens that are valid or less than 24 hours old" in refused["detail"]
            assert "Revoke some" in refused["detail"]
        for token in (other, whole):
            body(await make(token), 201)
        await connection.execute(
            """update core.token
            set created_at = created_at - interval '2 days', revoked_at = created_at - interval '1 day'
            where id like 'tok_many%'"""
        )
        for token in (first, second):
            body(await make(token), 201)
