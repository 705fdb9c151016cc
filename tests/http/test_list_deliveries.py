"""GET /v1/deliveries."""

import asyncpg
import httpx
import pytest

from headcount.database import calls
from headcount.routes import notices
from tests.http import body, problem
from tests.http.guarded import build_site, guarded, leaks, new_token
from tests.notices.support import make_channel, tell, tell_all


async def test_it_lists_the_newest_first_page_by_page(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await make_channel(connection)
    for number in range(5):
        await tell(connection, "offline", number)
    first = body(await client.get("/v1/deliveries?limit=3"))
    second = body(await client.get("/v1/deliveries", params={"limit": 3, "after": first["next"]}))
    assert [item["id"] for item in first["items"] + second["items"]] == ["5", "4", "3", "2", "1"]
    assert second["next"] is None
    problem(await client.get("/v1/deliveries?after=nonsense"), 422, "invalid", "after")


async def test_it_tells_everything_of_each(client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    await make_channel(connection)
    await tell(connection, "offline", incident=1)
    (claim,) = await calls.claim_deliveries(connection, 1)
    await calls.finish_delivery(
        connection,
        claim.delivery,
        claim.claim,
        False,
        claim.occurred_at,
        12,
        503,
        "Later",
        "The receiver answered 503.",
    )
    (item,) = body(await client.get("/v1/deliveries"))["items"]
    assert item.pop("created_at")
    assert item.pop("next_try_at")
    assert item == {
        "id": "1",
        "channel": "hook",
        "notice": claim.notice,
        "kind": "offline",
        "space": None,
        "occurred_at": "2026-03-04T12:00:00Z",
        "data": {"kind": "dpu_offline", "dpus": ["dpu-1"], "dpu_count": 1, "incident": 1},
        "state": "pending",
        "reason": None,
        "settled_at": None,
        "tries": [
            {
                "at": "2026-03-04T12:00:00Z",
                "duration_ms": 12,
                "delivered": False,
                "status": 503,
                "answer": "Later",
                "error": "The receiver answered 503.",
            }
        ],
    }


async def test_it_finds_those_of_a_channel_and_in_a_state(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await make_channel(connection, "a")
    await make_channel(connection, "b", muted_until="2099-01-01T00:00:00Z")
    await tell_all(connection, [("offline", 1, None), ("offline", 2, None)])

    async def found(query: str) -> list[str]:
        return [item["channel"] for item in body(await client.get(f"/v1/deliveries?{query}"))["items"]]

    assert sorted(await found("")) == ["a", "a", "b", "b"]
    assert await found("channel=a") == ["a", "a"]
    assert await found("state=suppressed") == ["b", "b"]
    assert await found("channel=a&state=suppressed") == []
    problem(await client.get("/v1/deliveries?channel=nothing"), 404, "not_found", "channel")
    problem(await client.get("/v1/deliveries?state=lost"), 422, "invalid", "state")


async def test_a_limited_token_sees_those_of_the_channels_that_it_reaches(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build_site(connection)
    await make_channel(connection, "secret-all")
    await make_channel(connection, "secret-b", under="secret-b")
    await make_channel(connection, "own", under="own")
    await tell_all(connection, [("offline", 1, "own-room"), ("offline", 2, "secret-b"), ("offline", 3, None)])
    everywhere, limited = await new_token(connection, "read"), await new_token(connection, "read", space="own")
    async with guarded(database_url) as client:
        assert len(body(await client.get("/v1/deliveries", headers=everywhere))["items"]) == 5
        answer = await client.get("/v1/deliveries", headers=limited)
        assert [item["space"] for item in body(answer)["items"]] == ["own-room"]
        assert not leaks(answer.text)
        for channel in ("secret-all", "secret-b"):
            problem(await client.get(f"/v1/deliveries?channel={channel}", headers=limited), 404, "not_found")


async def test_what_a_channel_told_before_it_was_narrowed_stays_with_those_who_could_see_it(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build_site(connection)
    await make_channel(connection, "hook")
    await tell_all(connection, [("offline", 1, "secret-b"), ("offline", 2, None), ("offline", 3, "secret-campus")])
    await make_channel(connection, "hook", under="own")
    await tell_all(connection, [("offline", 4, "own"), ("offline", 5, "own-room")])
    await calls.try_channel(connection, "hook")
    everywhere, limited = await new_token(connection, "read"), await new_token(connection, "read", space="own")
    room = await new_token(connection, "read", space="own-room")
    async with guarded(database_url) as client:
        for query in ("", "?channel=hook", "?state=pending"):
            answer = await client.get(f"/v1/deliveries{query}", headers=limited)
            found = [(item["kind"], item["space"]) for item in body(answer)["items"]]
            assert found == [("test", None), ("offline", "own-room"), ("offline", "own")]
            assert not leaks(answer.text)
        assert len(body(await client.get("/v1/deliveries?channel=hook", headers=everywhere))["items"]) == 6
        first = body(await client.get("/v1/deliveries?limit=2", headers=limited))
        second = body(await client.get("/v1/deliveries", params={"after": first["next"]}, headers=limited))
        assert [item["space"] for item in second["items"]] == ["own"]
        await make_channel(connection, "hook", under="own-room")
        answer = await client.get("/v1/deliveries", headers=room)
        assert [item["space"] for item in body(answer)["items"]] == [None, "own-room"]


@pytest.mark.parametrize("limit", [1, 2, 5, 100])
async def test_its_pages_end_where_they_have_many_tries(
    client: httpx.AsyncClient, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(notices, "MAX_PAGE_TRIES", 4)
    await make_channel(connection)
    for delivery, tries in enumerate([4, 0, 1, 5, 2, 2], start=1):
        await tell(connection, "offline", delivery)
        for _ in range(tries):
            await calls.replay_delivery(connection, str(delivery))
            (claim,) = await calls.claim_deliveries(connection, 1)
            await calls.finish_delivery(
                connection, claim.delivery, claim.claim, True, claim.occurred_at, 12, 200, "Thanks", None
            )
    pages: list[list[str]] = []
    after: dict[str, str] = {}
    while True:
        page = body(await client.get("/v1/deliveries", params={"limit": str(limit)} | after))
        pages.append([item["id"] for item in page["items"]])
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert [item for page in pages for item in page] == ["6", "5", "4", "3", "2", "1"]
    if limit == 100:
        assert pages == [["6", "5"], ["4"], ["3", "2", "1"], []]
