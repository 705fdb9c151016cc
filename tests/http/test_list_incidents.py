"""GET /v1/incidents."""

from contextlib import AsyncExitStack
from datetime import datetime
from typing import Any

import asyncpg
import httpx
import pytest

from headcount.app import create_app
from headcount.database import calls
from headcount.settings import Settings
from tests.factories import LONG_AGO, NOON, apply_site, forget, heard, listen, seconds, tick
from tests.http import body, problem
from tests.http.guarded import Headers, build_site, guarded, leaks, new_token, token_id
from tests.http.streams import client_of
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
    own = await new_token(connection, space="own")
    for base in (NOON + seconds(2 * hour), NOON + seconds(4 * hour)):
        names = ("own-front", "own-inner", "secret-inner", "secret-loose", "moved", "late")
        await heard(connection, *((name, base) for name in names))
        await listen(connection, base, base + seconds(600))
        await tick(connection, base + seconds(602))
        await heard(connection, *((name, base + seconds(700)) for name in names))
        await tick(connection, base + seconds(705))
    async with guarded(database_url) as client:
        answer = await client.get("/v1/incidents", headers=own)
        assert not leaks(answer.text)
        found = [(one["kind"], one["dpus"], one["space"], one["started_at"][11:13]) for one in body(answer)["items"]]
        # the site went as a whole: of that it sees its own part
        spaces = {"own-front": None, "own-inner": "own", "moved": "own-room", "late": "own"}
        # the site went as a whole: of that it sees its own part, each by itself
        assert sorted(found, key=str) == sorted(
            (
                ("dpu_offline", [name], space, hour)
                for name, space in spaces.items()
                for hour in ("14", "16")
                if (name, hour) != ("late", "14")
            ),
            key=str,
        )
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
          from core.dpu d, generate_series(1, 2000)
          where d.id = 'secret-inner'
          returning incident_id, dpu_id, started_at
        )
        insert into core.incident_dpu (incident_id, dpu_id, offline_at) select * from made
        """,
        BEGAN,
    )
    await connection.execute("analyze core.incident, core.incident_dpu")
    read = """
        select sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) from pg_stat_xact_user_tables
        where schemaname = 'core' and relname like 'incident%'
    """
    async with connection.transaction():
        await connection.execute(f"set local headcount.token = '{await token_id(connection, own)}'")
        await connection.execute("set local track_functions = 'all'")
        before = await connection.fetchval(read)
        assert len(await calls.list_incidents(connection)) == 1
        query = "select funcname, calls from pg_stat_xact_user_functions where schemaname = 'core'"
        calls_of = {row["funcname"]: row["calls"] for row in await connection.fetch(query)}
        assert await connection.fetchval(read) - before < 50
    assert (calls_of["list_reach"], calls_of["list_subtree"], calls_of["list_seen_until"]) == (1, 1, 1)


async def test_for_a_limited_token_it_is_a_slow_read(
    connection: asyncpg.Connection, database_url: str, own: Headers
) -> None:
    everywhere = await new_token(connection)
    app = create_app(Settings(database_url=database_url, jobs=False, acquire_seconds=0.5))
    async with app.lifespan(), client_of(app) as client:
        async with AsyncExitStack() as stack:
            for headers in (own, everywhere):
                for _ in range(2):
                    name = await token_id(connection, headers)
                    await stack.enter_async_context(app.services.database.shares.turn(name, is_slow=True))
            problem(await client.get("/v1/incidents", headers=own), 429, "rate_limited")
            assert len(await incidents(client, everywhere)) == 1
        assert len(await incidents(client, own)) == 1


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


HIDDEN = ("secret-main", "secret-inner", "secret-b-front")
# When they were heard last before they fell silent, and then again, in seconds: none of this may be told.
WORLDS = {
    "all at once": (0, 640),
    "at other instants": (0.5, 655),
    "hidden ones before": (-40, 640),
    "hidden ones before, and for long": (-40, 740),
    "hidden ones later": (25, 690),
    "hidden ones much later": (120, 735),
    "never silent": (599, 599),
}
# What becomes of two that are seen, which fall silent first.
SILENT: list[tuple[float, str, str]] = [(0, "own-front", "heard"), (1, "own-inner", "heard")]
STORIES: dict[str, list[tuple[float, str, str]]] = {
    "one after the other is back": [(650, "own-front", "heard"), (680, "own-inner", "heard")],
    "one was not offline": [(625, "own-inner", "late"), (700, "own-front", "heard")],
    "one is taken down": [(630, "own-inner", "down"), (715, "own-front", "heard")],
    "one was offline for a shorter time": [
        (660, "own-inner", "heard"),
        (672, "own-inner", "earlier"),
        (681, "own-front", "heard"),
    ],
}


@pytest.mark.parametrize("story", STORIES)
async def test_what_a_limited_token_sees_of_incidents_comes_of_nothing_that_is_hidden(
    connection: asyncpg.Connection, database_url: str, story: str
) -> None:
    """The same at any time, but for the ids: whenever others fall silent and come back, and whether the site does.

    Those of one second: one that falls silent with others need not wait for more, and is listed two seconds sooner.
    """
    await build_site(connection)
    await forget(connection)
    own = await new_token(connection, space="own")
    token = await token_id(connection, own)
    everyone = ("own-front", "own-inner", *HIDDEN)
    seen: dict[str, list[list[object]]] = {}
    kinds = {}
    facts: list[str | None] = []
    found_last: list[object] = []
    for number, (world, (last, back)) in enumerate(WORLDS.items(), start=1):
        base = NOON + seconds(7200 * number)
        before = await connection.fetchval("select coalesce(max(incident_id), 0) from core.incident")
        await heard(connection, *((name, base - seconds(60)) for name in everyone))
        hidden = [(at, name, "heard") for name in HIDDEN for at in (last, back)]
        ahead = sorted([*SILENT, *STORIES[story], *hidden])
        await listen(connection, base - seconds(60), base)
        seen[world] = []
        for second in range(601, 760, 3):
            while ahead and ahead[0][0] <= second:
                at, name, what = ahead.pop(0)
                await happen(connection, base, at, name, what)
            await listen(connection, base, base + seconds(second))
            await tick(connection, base + seconds(second))
            known, facts = facts, await connection.fetchval(FACTS)
            if not seen[world] or facts != known:  # else it would answer the same
                found_last = await shown_to(connection, token, before, base)
            seen[world].append(found_last)
        found = "select array_agg(distinct kind order by kind) from core.incident where incident_id > $1"
        kinds[world] = await connection.fetchval(found, before)
        assert seen[world] == seen["all at once"], world
        again = base + seconds(800)
        if "down" in [what for _, _, what in STORIES[story]]:
            await connection.execute("select api.record_placement('own-inner', 'own-inner', 'own', $1)", again)
        await heard(connection, *((name, again) for name in everyone))
        await tick(connection, again)
    assert "site_offline" in kinds["all at once"]
    assert kinds["never silent"] == ["dpu_offline"]
    assert all(seen["all at once"][3:])
    async with guarded(database_url) as client:
        answer = await client.get("/v1/incidents?limit=1000", headers=own)
        assert not leaks(answer.text)
        assert {(one["kind"], one["absorbed_by"]) for one in body(answer)["items"]} == {("dpu_offline", None)}


@pytest.mark.parametrize("hidden", [(-40.0, 640.0), (0.0, 700.0), (2.0, 900.0)])
async def test_of_a_site_from_before_there_was_the_token_it_sees_what_comes_of_its_own_sensors(
    connection: asyncpg.Connection, database_url: str, hidden: tuple[float, float]
) -> None:
    await build_site(connection)
    await forget(connection)
    last, back = hidden
    signs = sorted([(last, name) for name in HIDDEN] + [(1, "own-front"), (4, "own-inner")])
    await heard(connection, *((name, NOON - seconds(60)) for _, name in signs))
    await heard(connection, *((name, NOON + seconds(at)) for at, name in signs))
    await listen(connection, NOON - seconds(60), NOON + seconds(604))
    for second in (604, 607):
        await tick(connection, NOON + seconds(second))
    assert await connection.fetchval("select array_agg(kind) from core.incident") == ["site_offline"]
    part, site = await new_token(connection, space="own"), await new_token(connection, space="secret-campus")
    async with guarded(database_url, send_notices=False) as client:
        (first,) = await incidents(client, part, "?open=true")
        assert first | {"id": ""} == {
            "id": "",
            "kind": "site_offline",
            "dpus": ["own-front", "own-inner"],
            "space": None,
            "started_at": shown(NOON + seconds(601)),
            "ended_at": None,
            "corrected": False,
            "absorbed_by": None,
        }
        await heard(connection, *((name, NOON + seconds(620)) for name in ("own-front", "own-inner")))
        await tick(connection, NOON + seconds(622))
        (whole,) = await incidents(client, site, "?open=true")
        assert len(whole["dpus"]) == 5
        assert await incidents(client, part, "?open=true") == []
        assert await incidents(client, part) == [first | {"ended_at": shown(NOON + seconds(620))}]
        await heard(connection, *((name, NOON + seconds(back)) for name in HIDDEN))
        await tick(connection, NOON + seconds(back + 2))
        assert await incidents(client, part) == [first | {"ended_at": shown(NOON + seconds(620))}]
        (whole,) = await incidents(client, site)
        assert whole["ended_at"] == shown(NOON + seconds(back))


# All that an answer comes of but what stays: tokens, spaces and doorways. Changed by few of the steps.
FACTS = """
select array[
  (select md5(string_agg(t::text, ' ' order by t)) from core.incident t),
  (select md5(string_agg(t::text, ' ' order by t)) from core.incident_dpu t),
  (select md5(string_agg(t::text, ' ' order by t)) from core.outage t),
  (select md5(string_agg(t::text, ' ' order by t)) from core.placement t),
  (select md5(string_agg(t::text, ' ' order by t)) from core.retirement t),
  (select md5(string_agg(t::text, ' ' order by t)) from core.dpu_state t)]
"""


async def happen(connection: asyncpg.Connection, base: datetime, at: float, name: str, what: str) -> None:
    if what == "down":
        await connection.execute("select api.record_placement($1, null, null, $2)", name, base + seconds(at))
    else:
        # what comes late was sent while it was thought to be silent
        sent = {"heard": at, "late": 400, "earlier": 30}[what]
        await heard(connection, (name, base + seconds(sent)))


async def shown_to(connection: asyncpg.Connection, token: str, before: int, base: datetime) -> list[object]:
    """What GET /v1/incidents shows, with and without ?open=, but for the ids; instants as seconds from the base."""
    async with connection.transaction():
        await connection.execute(f"set local headcount.token = '{token}'")
        found = [await connection.fetch(f"select * from api.list_incidents({open})") for open in ("", "true", "false")]
    return [
        [value - base if isinstance(value, datetime) else value for value in list(row.values())[1:]]
        for rows in found
        for row in rows
        if int(row["id"]) > before
    ]
