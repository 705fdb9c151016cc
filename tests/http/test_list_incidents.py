"""GET /v1/incidents."""

import asyncpg
import httpx

from tests.factories import LONG_AGO, NOON, apply_site, forget, heard, listen, seconds, tick
from tests.http import body, problem
from tests.http.guarded import build_site, guarded, leaks, new_token


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
