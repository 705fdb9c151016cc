"""GET /v1/incidents."""

from datetime import datetime
from typing import Any

import asyncpg
import httpx
import pytest

from headcount.database import calls
from tests.factories import LONG_AGO, NOON, apply_site, forget, heard, listen, seconds, tick
from tests.http import body, problem
from tests.http.guarded import Headers, build_site, guarded, leaks, new_token, token_id
from tests.notices.support import make_channel, told_at


async def test_it_lists_them_newest_first_in_pages(client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    for name in "abc":
        await apply_site(
            connection,
            spaces=[{"id": f"site-{name}"}],
            doorways=[{"id": name, "sides": [f"site-{name}", None]}],
            dpus=[{"id": name}],
            placements=[{"dpu": name, "doorway": name, "mounted_in": f"site-{name}", "from": LONG_AGO}],
        )
    await heard(connection, ("a", NOON), ("b", NOON + seconds(1)), ("c", NOON + seconds(2)))
    await listen(connection, NOON, NOON + seconds(610))
    await tick(connection, NOON + seconds(611))
    await heard(connection, ("b", NOON + seconds(612.5)))
    await tick(connection, NOON + seconds(613))
    c, b, a = body(await client.get("/v1/incidents"))["items"]
    assert b == {
        "id": b["id"],
        "kind": "dpu_offline",
        "dpus": ["b"],
        "space": "site-b",
        "started_at": "2026-03-04T12:10:01Z",
        "ended_at": "2026-03-04T12:10:12.500000Z",
        "corrected": False,
        "absorbed_by": None,
    }
    assert body(await client.get("/v1/incidents?open=true"))["items"] == [c, a]
    assert body(await client.get("/v1/incidents?open=false"))["items"] == [b]
    page = body(await client.get("/v1/incidents?limit=2"))
    assert page["items"] == [c, b]
    assert body(await client.get("/v1/incidents", params={"limit": 2, "after": page["next"]})) == {
        "items": [a],
        "next": None,
    }
    problem(await client.get("/v1/incidents?open=perhaps"), 422, "invalid", "open")
    problem(await client.get("/v1/incidents?after=x"), 422, "invalid", "after")


async def test_a_limited_token_sees_what_hung_above_its_doorways_then(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build_site(connection)
    await forget(connection)
    hour = 3600
    await apply_site(
        connection,
        dpus=[{"id": "late"}],
        placements=[{"dpu": "late", "doorway": "own-inner", "mounted_in": "own", "from": NOON + seconds(3 * hour)}],
    )
    for base in (NOON + seconds(2 * hour), NOON + seconds(4 * hour)):
        names = ("own-front", "own-inner", "secret-inner", "secret-loose", "moved", "late")
        await heard(connection, *((name, base) for name in names))
        await listen(connection, base, base + seconds(600))
        await tick(connection, base + seconds(602))
        await heard(connection, *((name, base + seconds(700)) for name in names))
        await tick(connection, base + seconds(705))
    async with guarded(database_url) as client:
        own = await new_token(connection, space="own")
        answer = await client.get("/v1/incidents", headers=own)
        assert not leaks(answer.text)
        found = [(one["kind"], one["dpus"], one["space"], one["started_at"][11:13]) for one in body(answer)["items"]]
        # the site went as a whole: of that it sees its own part
        assert ("site_offline", ["late", "moved", "own-front", "own-inner"], None, "16") in found
        assert ("site_offline", ["moved", "own-front", "own-inner"], None, "14") in found
        whole = body(await client.get("/v1/incidents", headers=await new_token(connection)))["items"]
        assert {one["space"] for one in whole if one["kind"] == "site_offline"} == {"secret-campus"}
        assert not any("secret-loose" in one["dpus"] for one in whole), "it hangs nowhere"


BEGAN = NOON + seconds(600)
LEFT = NOON + seconds(610)
BACK = NOON + seconds(620)


@pytest.fixture
async def own(connection: asyncpg.Connection) -> Headers:
    """A token of `own`, where `wander` fell silent at BEGAN. Its channel was told, and the owners' for `own`."""
    await build_site(connection)
    await forget(connection)
    await apply_site(
        connection,
        dpus=[{"id": "wander"}],
        placements=[{"dpu": "wander", "doorway": "own-inner", "mounted_in": "own", "from": LONG_AGO}],
    )
    headers = await new_token(connection, space="own")
    await make_channel(connection, "owners", under="own")
    async with connection.transaction():
        digest = "select set_config('headcount.token', id, true) from core.token where space_id is not null"
        await connection.execute(digest)
        await make_channel(connection, "tenant", under="own")
    await heard(connection, ("wander", NOON))
    await listen(connection, NOON, BEGAN)
    for second in (1, 3):
        await tick(connection, BEGAN + seconds(second))
    await told_at(connection, BEGAN + seconds(3))
    return headers


async def move(connection: asyncpg.Connection, doorway: str, mounted_in: str, at: datetime) -> None:
    await connection.execute("select api.record_placement('wander', $1, $2, $3)", doorway, mounted_in, at)
    await tick(connection, at + seconds(1))


async def incidents(client: httpx.AsyncClient, headers: Headers, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = body(await client.get(f"/v1/incidents{query}", headers=headers))["items"]
    return found


async def told(client: httpx.AsyncClient, headers: Headers) -> set[tuple[str, str, str]]:
    items = body(await client.get("/v1/deliveries", headers=headers))["items"]
    return {(item["channel"], item["kind"], item["state"]) for item in items}


def shown(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


BEGINNING = {("tenant", "offline", "pending"), ("owners", "offline", "pending")}


@pytest.mark.parametrize("is_corrected", [False, True])
async def test_a_limited_token_is_not_told_what_becomes_of_one_that_leaves_while_it_is_offline(
    connection: asyncpg.Connection, database_url: str, own: Headers, is_corrected: bool
) -> None:
    everywhere = await new_token(connection)
    async with guarded(database_url, send_notices=False) as client:
        (before,) = await incidents(client, own)
        assert (before["started_at"], before["ended_at"]) == (shown(BEGAN), None)
        assert await told(client, own) == BEGINNING
        await move(connection, "secret-inner", "secret-b", LEFT)
        after = before | {"ended_at": shown(LEFT)}
        assert await incidents(client, own) == [after]
        assert await incidents(client, everywhere) == [before]

        await heard(connection, ("wander", BACK))
        if is_corrected:
            # what it had sent before it left comes late: it was never silent for so long
            await heard(connection, ("wander", BEGAN - seconds(1)))
        await tick(connection, BACK + seconds(1))
        (whole,) = await incidents(client, everywhere)
        assert whole["corrected"] == is_corrected
        assert whole["ended_at"] is not None
        assert whole["ended_at"] >= shown(BACK)
        kind = "correction" if is_corrected else "online"
        assert ("owners", kind, "cancelled" if is_corrected else "pending") in await told(client, everywhere)

        assert await incidents(client, own) == [after]
        assert await incidents(client, own, "?open=true") == []
        assert await incidents(client, own, "?open=false") == [after]
        assert not {one for one in await told(client, own) if one[1] == kind}


async def test_the_end_goes_to_no_channel_of_who_does_not_reach_it(
    connection: asyncpg.Connection, database_url: str, own: Headers
) -> None:
    everywhere = await new_token(connection)
    async with guarded(database_url, send_notices=False) as client:
        await move(connection, "secret-inner", "secret-b", LEFT)
        await heard(connection, ("wander", BACK))
        await tick(connection, BACK + seconds(1))
        assert await told(client, everywhere) == BEGINNING | {
            ("tenant", "online", "suppressed"),
            ("owners", "online", "pending"),
        }
        assert await told(client, own) == BEGINNING
        items = body(await client.get("/v1/deliveries", headers=everywhere))["items"]
        for item in items:
            answer = await client.post(f"/v1/deliveries/{item['id']}/replay", headers=own)
            if item["kind"] == "online":
                problem(answer, 404, "not_found")
            else:
                assert answer.status_code < 300
        # sent again by who may: not by the tenant's channel
        (beyond,) = (item for item in items if (item["channel"], item["kind"]) == ("tenant", "online"))
        assert beyond["reason"] == "out_of_reach"
        answer = await client.post(f"/v1/deliveries/{beyond['id']}/replay", headers=everywhere)
        assert answer.status_code < 300
        assert await connection.fetchval("select array(select core.list_strays(array[$1::bigint]))", int(beyond["id"]))


async def test_a_limited_token_is_told_of_one_that_stays_within_reach_or_is_put_back(
    connection: asyncpg.Connection, database_url: str, own: Headers
) -> None:
    """Also by a channel for the part in which it hung."""
    async with guarded(database_url, send_notices=False) as client:
        await move(connection, "secret-inner", "secret-b", LEFT)
        await move(connection, "own-front", "own", LEFT + seconds(2))
        (found,) = await incidents(client, own, "?open=true")
        assert found["ended_at"] is None
        await heard(connection, ("wander", BACK))
        await tick(connection, BACK + seconds(1))
        await move(connection, "secret-inner", "secret-b", BACK + seconds(10))
        assert await incidents(client, own) == [found | {"ended_at": shown(BACK)}]
        assert await told(client, own) == BEGINNING | {("tenant", "online", "pending"), ("owners", "online", "pending")}


async def test_incidents_beyond_reach_cost_a_limited_token_nothing(
    connection: asyncpg.Connection, own: Headers
) -> None:
    await connection.execute(
        """
        with made as (
          insert into core.incident (kind, dpu_id, started_at, ended_at, recorded_at)
          select 'dpu_offline', d.dpu_id, $1::timestamptz, $1 + interval '1 second', $1
          from core.dpu d, generate_series(1, 20)
          where d.id = 'secret-inner'
          returning incident_id, dpu_id, started_at
        )
        insert into core.incident_dpu (incident_id, dpu_id, offline_at) select * from made
        """,
        BEGAN,
    )
    async with connection.transaction():
        await connection.execute(f"set local headcount.token = '{await token_id(connection, own)}'")
        await connection.execute("set local track_functions = 'all'")
        assert len(await calls.list_incidents(connection)) == 1
        query = "select funcname, calls from pg_stat_xact_user_functions where schemaname = 'core'"
        calls_of = {row["funcname"]: row["calls"] for row in await connection.fetch(query)}
    assert (calls_of["list_reach"], calls_of["find_seen_until"]) == (1, 1)
    assert calls_of["list_subtree"] == 1


@pytest.mark.parametrize("leaving", [4, 2])
async def test_a_limited_token_is_not_told_what_becomes_of_those_that_leave_its_site(
    connection: asyncpg.Connection, database_url: str, leaving: int
) -> None:
    """Its space is a whole site, of which all or half of the sensors are moved to another one."""
    names = ["a1", "a2", "a3", "a4"]
    await apply_site(
        connection,
        spaces=[{"id": "own"}, {"id": "secret"}],
        doorways=[{"id": f"{space}-door", "sides": [space, None]} for space in ("own", "secret")],
        dpus=[{"id": name} for name in names],
        placements=[{"dpu": name, "doorway": "own-door", "mounted_in": "own", "from": LONG_AGO} for name in names],
    )
    headers = await new_token(connection, space="own")
    async with connection.transaction():
        await connection.execute(f"set local headcount.token = '{await token_id(connection, headers)}'")
        await make_channel(connection, "tenant", under="own")
    await heard(connection, *((name, NOON) for name in names))
    await listen(connection, NOON, BEGAN)
    for second in (1, 3):
        await tick(connection, BEGAN + seconds(second))
    async with guarded(database_url, send_notices=False) as client:
        (before,) = await incidents(client, headers)
        assert (before["kind"], before["dpus"]) == ("site_offline", names)
        for name in names[:leaving]:
            await connection.execute("select api.record_placement($1, 'secret-door', 'secret', $2)", name, LEFT)
        await tick(connection, LEFT + seconds(1))
        after = before if leaving == 2 else before | {"ended_at": shown(LEFT)}
        assert await incidents(client, headers) == [after]
        await heard(connection, *((name, BACK) for name in names[: leaving - 1]))
        await tick(connection, BACK + seconds(1))
        assert await incidents(client, headers) == [after]
        assert await told(client, headers) == {("tenant", "offline", "pending")}
        # of its own it is told, and nothing of who is still silent elsewhere
        await heard(connection, *((name, BACK + seconds(5)) for name in names[leaving:]))
        await tick(connection, BACK + seconds(6))
        ends = {("tenant", "online", "pending")} if leaving == 2 else set()
        assert await told(client, headers) == {("tenant", "offline", "pending")} | ends
        after |= {"ended_at": shown(BACK + seconds(5))} if leaving == 2 else {}
        assert await incidents(client, headers) == [after]
