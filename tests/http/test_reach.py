"""What a token that is limited to a space can do: everything within it, as if nothing else were there."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio

from tests.factories import NOON, apply_site, differences, heard, listen, record, seconds, tick
from tests.http import body, event, problem
from tests.http.guarded import LONG_AGO, MOVED_AT, Headers, bearer, build_site, guarded, leaks, new_token

LATER = "2026-03-04T14:00:00Z"


@pytest_asyncio.fixture(loop_scope="session")
async def own(connection: asyncpg.Connection, database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client with all scopes on the space `own` of the site of build_site."""
    await build_site(connection)
    async with guarded(database_url) as client:
        client.headers.update(await new_token(connection, space="own"))
        yield client


async def test_it_sees_its_part_of_the_site_and_the_rest_as_the_outside(own: httpx.AsyncClient) -> None:
    spaces = body(await own.get("/v1/spaces"))["items"]
    assert [(space["id"], space["parent"]) for space in spaces] == [("own", None), ("own-room", "own")]
    doorways = body(await own.get("/v1/doorways"))["items"]
    assert [(found["id"], found["sides"]) for found in doorways] == [
        ("own-front", [None, "own"]),
        ("own-inner", ["own", "own-room"]),
    ]
    assert body(await own.get("/v1/doorways/own-front"))["sides"] == [None, "own"]
    dpus = body(await own.get("/v1/dpus"))["items"]
    assert [found["id"] for found in dpus] == ["moved", "own-front", "own-inner"]
    assert [found["placement"]["mounted_in"] for found in dpus] == ["own-room", None, "own"]
    assert body(await own.get("/v1/dpus?placed=false"))["items"] == []
    assert body(await own.get("/v1/spaces?limit=1"))["next"]


async def test_it_counts_as_everybody_does(own: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    at = "2026-03-04T13:30:00Z"
    counts = body(await own.get(f"/v1/counts?at={at}"))["counts"]
    # own-front is mounted outside: away from it is into the space
    assert [(found["space"], found["raw_count"]) for found in counts] == [("own", 3), ("own-room", 1 + 2)]
    for found in counts:
        assert body(await own.get(f"/v1/spaces/{found['space']}/count?at={at}")) == found
    whole = await connection.fetch("select space, raw_count from api.list_counts(at => $1)", datetime.fromisoformat(at))
    assert {(found["space"], found["raw_count"]) for found in counts} <= {tuple(row) for row in whole}


async def test_it_knows_of_a_dpu_what_it_reported_here(own: httpx.AsyncClient) -> None:
    events = body(await own.get("/v1/events?dpu=moved"))["items"]
    assert [(found["timestamp"], found["direction"]) for found in events] == [("2026-03-04T13:00:00Z", 2)]
    assert body(await own.get("/devices/moved")) == {
        "data": {"2026-03-04T13:00:00Z": 2},
        "latest_timestamp": "2026-03-04T13:00:00Z",
        "cumulative_count": 2,
    }
    dpu = body(await own.get("/v1/dpus/moved"))
    assert (dpu["cumulative_count"], dpu["latest_timestamp"]) == (2, "2026-03-04T13:00:00Z")
    placements = body(await own.get("/v1/dpus/moved/placements"))["items"]
    assert [(found["doorway"], found["from"]) for found in placements] == [("own-inner", "2026-03-04T12:00:00Z")]


async def test_a_dpu_that_has_reported_nothing_here_yet_has_no_latest_timestamp(
    own: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await connection.execute(
        """
        select api.record_placement(
          dpu => 'secret-inner', doorway => 'own-inner', mounted_in => 'own', from_at => '2026-03-05T00:00Z')
        """
    )
    found = body(await own.get("/v1/dpus/secret-inner"))
    assert (found["cumulative_count"], found["latest_timestamp"]) == (0, None)
    assert body(await own.get("/devices/secret-inner")) == {
        "data": {},
        "latest_timestamp": None,
        "cumulative_count": 0,
    }
    assert body(await own.get("/v1/events?dpu=secret-inner"))["items"] == []


async def test_it_reports_for_a_dpu_while_it_hung_here_also_after_it_has_gone(
    own: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await connection.execute(
        """
        select api.record_placement(dpu => 'moved', doorway => 'secret-inner', mounted_in => 'secret-b', from_at => $1)
        """,
        datetime.fromisoformat(LATER),
    )
    events = [
        event("moved", "2026-03-04T11:59:59.999999Z", 1),
        event("moved", MOVED_AT.isoformat(), 1),
        event("moved", "2026-03-04T13:59:59.999999Z", 1),
        event("moved", LATER, 1),
        event("own-front", LATER, 1),
    ]
    answer = body(await own.post("/v1/events", json={"events": events}))
    assert (answer["accepted"], [found["index"] for found in answer["rejected"]]) == (3, [0, 3])
    assert {found["code"] for found in answer["rejected"]} == {"unknown_dpu"}
    again = body(await own.post("/v1/events", json={"events": events}))
    assert (again["duplicates"], [found["index"] for found in again["rejected"]]) == (3, [0, 3])
    assert await differences(connection) == []


async def test_it_runs_its_part_of_the_site(own: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    found = body(await own.put("/v1/spaces/own-cellar", json={"capacity": 3}), 201)
    assert found["parent"] == "own", "where it does not say, in its own space"
    assert body(await own.put("/v1/spaces/own-vault", json={"parent": "own-cellar"}), 201)["parent"] == "own-cellar"
    # what it was shown of its own space it can send back
    assert body(await own.put("/v1/spaces/own", json={"parent": None, "capacity": 7}))["capacity"] == 7
    assert await parent(connection, "own") == "secret-campus"
    body(await own.put("/v1/doorways/own-stairs", json={"sides": ["own", "own-cellar"]}), 201)
    body(await own.put("/v1/doorways/own-hatch", json={"sides": [None, "own-cellar"]}), 201)
    moved = {"doorway": "own-stairs", "mounted_in": "own-cellar", "from": LATER}
    body(await own.post("/v1/dpus/own-inner/placements", json=moved), 201)
    body(await own.put("/v1/dpus/own-inner", json={"name": "Stairs"}))
    body(await own.post("/v1/spaces/own/resets", json={"count": 5}), 201)
    site = {
        "spaces": [
            {"id": "own-loft"},
            {"id": "own-box", "parent": "own-attic"},
            {"id": "own-attic", "parent": "own-loft"},
        ],
        "doorways": [{"id": "own-ladder", "sides": ["own-loft", "own"]}],
        "dpus": [{"id": "moved", "name": "Ladder"}],
        "placements": [{"dpu": "moved", "doorway": "own-ladder", "mounted_in": "own", "from": LATER}],
    }
    changes = body(await own.put("/v1/site", json=site))["changes"]
    assert [found["change"] for found in changes] == ["created"] * 4 + ["updated"] * 2
    changes = body(await own.put("/v1/site", json=site))["changes"]
    assert {found["change"] for found in changes} == {"unchanged"}
    assert await parent(connection, "own-loft") == "own"
    assert await parent(connection, "own-box") == "own-attic"
    assert (await own.delete("/v1/spaces/own-vault")).status_code == 204
    assert await differences(connection) == []


async def parent(connection: asyncpg.Connection, space: str) -> str | None:
    found = await connection.fetchval("select parent from api.get_space(space => $1)", space)
    return None if found is None else str(found)


async def test_a_dpu_that_it_takes_down_is_its_own_no_more(own: httpx.AsyncClient) -> None:
    assert (await own.post("/v1/dpus/own-inner/placements", json={"doorway": None})).status_code == 201
    assert (await own.get("/v1/dpus/own-inner")).status_code == 404
    again = {"doorway": "own-inner", "mounted_in": "own"}
    assert (await own.post("/v1/dpus/own-inner/placements", json=again)).status_code == 404
    # what it has reported here counts, and can be seen, as before
    found = body(await own.get("/v1/events?space=own-room"))["items"]
    assert "own-inner" in [item["dpu"] for item in found]


@pytest.mark.parametrize("within", ["own", "secret-b"])
async def test_where_the_tree_is_hung_anew_the_token_reaches_what_is_there_now(
    own: httpx.AsyncClient, connection: asyncpg.Connection, within: str
) -> None:
    await apply_site(connection, spaces=[{"id": "own-room", "parent": within}])
    assert (await own.get("/v1/spaces/own-room")).status_code == (200 if within == "own" else 404)
    doorway = body(await own.get("/v1/doorways/own-inner"))
    assert doorway["sides"] == ["own", "own-room" if within == "own" else None]


async def test_a_token_reaches_no_further_than_those_that_made_it_by_the_tree_as_it_is_now(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build_site(connection)
    async with guarded(database_url) as client:

        async def make(by: Headers, space: str | None = None) -> Headers:
            sent = {"scopes": ["ingest", "read", "admin"], "space": space}
            return bearer(body(await client.post("/v1/tokens", json=sent, headers=by), 201)["token"])

        async def seen(by: Headers) -> list[str]:
            return [space["id"] for space in body(await client.get("/v1/spaces", headers=by))["items"]]

        async def hang(space: str, parent: str) -> None:
            await apply_site(connection, spaces=[{"id": space, "parent": parent}])

        maker = await new_token(connection, space="own")
        second = await make(maker)
        room = await make(second, "own-room")
        last = await make(room)
        straight = await make(await new_token(connection), "own-room")
        report = body(await client.post("/v1/reports", json={"under": "own-room"}, headers=room), 202)["id"]

        await hang("own-room", "secret-b")
        for token in (room, last):
            assert await seen(token) == []
            for path in (
                "spaces/own-room",
                "spaces/own-room/count",
                "doorways/own-inner",
                "dpus/own-inner",
                f"reports/{report}",
                "live?space=own-room",
            ):
                answer = await client.get(f"/v1/{path}", headers=token)
                assert answer.status_code == 404, path
                assert not leaks(answer.text)
            for path in ("counts", "doorways", "dpus", "incidents", "reports", "tokens", "channels", "deliveries"):
                found = body(await client.get(f"/v1/{path}", headers=token))
                assert all(value in ([], None) or key == "at" for key, value in found.items()), found
            refused = await client.post("/v1/events", json={"events": [event("own-inner", LATER, 1)]}, headers=token)
            assert [one["code"] for one in body(refused)["rejected"]] == ["unknown_dpu"]
            # nor does it make anything
            hook = {"kind": "webhook", "url": "https://receiver.example/hook"}
            for method, path, sent in (
                ("PUT", "spaces/own-new", {}),
                ("PUT", "spaces/own-room", {}),
                ("PUT", "site", {"spaces": [{"id": "own-new"}]}),
                ("PUT", "channels/hook", hook),
                ("POST", "reports", {}),
                ("POST", "tokens", {"scopes": ["read"]}),
            ):
                answer = await client.request(method, f"/v1/{path}", json=sent, headers=token)
                problem(answer, 403, "forbidden")
                assert not leaks(answer.text)
        assert await seen(second) == ["own"]
        assert await seen(straight) == ["own-room"], "nobody limited made it"

        await hang("own-room", "own")
        for token in (room, last):
            assert await seen(token) == ["own-room"]
            body(await client.get(f"/v1/reports/{report}", headers=token))
        # the part of its makers may come to lie in its own
        await hang("own-room", "secret-b")
        await hang("own", "own-room")
        assert await seen(straight) == ["own", "own-room"]
        assert await seen(last) == ["own"]
        assert body(await client.get("/v1/spaces/own", headers=last))["parent"] is None
        assert body(await client.put("/v1/spaces/own-new", json={}, headers=last), 201)["parent"] == "own"


async def test_the_reach_of_one_that_no_limited_token_made_costs_no_look_at_others(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build_site(connection)
    async with guarded(database_url) as client:
        sent = {"scopes": ["read"], "space": "own"}
        body(await client.post("/v1/tokens", json=sent, headers=await new_token(connection)), 201)
    async with connection.transaction():
        await connection.execute(
            "select set_config('headcount.token', id, true) from core.token where space_id is not null"
        )
        await connection.execute("set local track_functions = 'all'")
        assert await connection.fetchval("select core.get_reach() > 0")
        query = "select funcname, calls from pg_stat_xact_user_functions where schemaname = 'core'"
        calls_of = {row["funcname"]: row["calls"] for row in await connection.fetch(query)}
    assert {"list_makers", "list_above"}.isdisjoint(calls_of)


async def test_a_token_that_was_revoked_or_has_expired_reaches_nothing_in_the_database(
    own: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    for end in ("revoked_at", "expires_at"):
        token = await connection.fetchval("select min(id) from core.token")
        async with connection.transaction():
            await connection.execute(f"update core.token set {end} = clock_timestamp()")
            await connection.execute("select set_config('headcount.token', $1, true)", token)
            assert await connection.fetch("select * from api.list_spaces()") == []
            assert await connection.fetch("select * from api.list_counts()") == []
            with pytest.raises(asyncpg.PostgresError, match="There is no space"):
                await connection.fetch("select * from api.get_count(space => 'own')")
        await connection.execute(f"update core.token set {end} = null")


async def test_a_token_that_expires_within_a_statement_reaches_the_same_in_all_of_it(
    own: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    left, has_begun = 0.5, False
    while not has_begun:
        expires_at = await connection.fetchval(
            "update core.token set expires_at = clock_timestamp() + $1 * interval '1 s' returning expires_at", left
        )
        async with connection.transaction():
            await connection.execute("select set_config('headcount.token', (select min(id) from core.token), true)")
            found = await connection.fetch(
                """
                select s.step, core.get_reach() as reach, statement_timestamp() as begun
                from generate_series(1, 3) as s (step)
                cross join lateral (select s.step, pg_sleep(case s.step when 2 then $1 else 0 end) offset 0) as w (step)
                """,
                left + 0.5,
            )
            assert len({row["reach"] for row in found}) == 1
            assert await connection.fetchval("select core.get_reach()") == 0
        # a busy machine may take longer to begin it
        has_begun = found[0]["begun"] < expires_at
        assert (found[0]["reach"] != 0) == has_begun
        left *= 2


async def test_what_one_request_may_not_see_the_next_one_on_the_same_connection_does(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build_site(connection)
    everywhere, here = await new_token(connection), await new_token(connection, space="own")
    async with guarded(database_url, pool_size=1) as client:
        for _ in range(3):
            assert len(body(await client.get("/v1/spaces", headers=here))["items"]) == 2
            assert (await client.get("/v1/spaces/secret-b", headers=here)).status_code == 404
            assert len(body(await client.get("/v1/spaces", headers=everywhere))["items"]) == 5


async def test_a_dry_run_shows_it_no_counts_beyond_its_reach(own: httpx.AsyncClient) -> None:
    """Though they would change as well."""
    reset = {"count": 9, "at": "2026-03-04T13:30:00Z"}
    found = body(await own.post("/v1/spaces/own/resets?dry_run=true", json=reset))
    assert "secret" not in str(found)
    assert [(change["space"], change["before"], change["after"]) for change in found["counts"]] == [("own", 3, 9)]
    move = {"doorway": "own-inner", "mounted_in": "own-room", "from": "2026-03-04T00:00:00Z"}
    found = body(await own.post("/v1/dpus/own-inner/placements?dry_run=true", json=move))
    assert {change["space"] for change in found["counts"]} == {"own-room"}


async def test_a_past_event_of_a_dpu_that_hangs_elsewhere_by_now_is_no_sign_of_life_there(
    database_url: str, connection: asyncpg.Connection
) -> None:
    await build_site(connection)
    async with guarded(database_url) as client:
        admin, past = await new_token(connection), await new_token(connection, "ingest", space="secret-b")
        before = body(await client.get("/v1/dpus/moved", headers=admin))
        for number in range(2):
            at = (NOON - seconds(60 + number)).isoformat()
            await client.post("/v1/events", json={"events": [event(dpu="moved", timestamp=at)]}, headers=past)
        assert body(await client.get("/v1/dpus/moved", headers=admin))["last_seen"] == before["last_seen"]
        now = await new_token(connection, "ingest", space="own")
        at = (NOON + seconds(60)).isoformat()
        await client.post("/v1/events", json={"events": [event(dpu="moved", timestamp=at)]}, headers=now)
        assert body(await client.get("/v1/dpus/moved", headers=admin))["last_seen"] != before["last_seen"]


async def hang(connection: asyncpg.Connection, dpu: str, moved_at: datetime, before: str, since: str) -> None:
    """Registers a DPU that hangs above secret-inner before an instant and above own-inner since, or the other way."""
    sides = {"secret-inner": "secret-b", "own-inner": "own"}
    await apply_site(
        connection,
        dpus=[{"id": dpu, "mac_address": "02:00:00:00:00:77"}],
        placements=[
            {
                "dpu": dpu,
                "doorway": before,
                "mounted_in": sides[before],
                "from": LONG_AGO,
                "until": moved_at.isoformat(),
            },
            {"dpu": dpu, "doorway": since, "mounted_in": sides[since], "from": moved_at.isoformat()},
        ],
    )


async def state_of(connection: asyncpg.Connection, dpu: str) -> tuple[object, ...]:
    """All that a message could change of it."""
    state = await connection.fetchrow(
        """
        select s.last_seen_at, s.first_heard_at, s.armed_at, s.sends_heartbeats, s.agreed_at, s.offline_at, c.clock,
          c.rejected_last_day
        from api.list_dpus() c join core.dpu d on d.id = c.id join core.dpu_state s on s.dpu_id = d.dpu_id
        where d.id = $1
        """,
        dpu,
    )
    assert state
    return tuple(state)


async def beat(client: httpx.AsyncClient, *heartbeats: dict[str, str], backfill: bool = False) -> tuple[int, list[str]]:
    address = "/v1/heartbeats?backfill=true" if backfill else "/v1/heartbeats"
    answer = body(await client.post(address, json={"heartbeats": heartbeats}))
    return answer["accepted"], [found["code"] for found in answer["rejected"]]


@pytest.mark.parametrize("backfill", [False, True])
async def test_a_past_heartbeat_of_a_dpu_that_hangs_elsewhere_by_now_counts_at_its_own_time_only(
    own: httpx.AsyncClient, connection: asyncpg.Connection, backfill: bool
) -> None:
    now = datetime.now(UTC)
    await hang(connection, "gone", now - seconds(60), "own-inner", "secret-inner")
    await record(connection, [("gone", now, 1)])
    before = await state_of(connection, "gone")
    # one beside it that is here counts as ever
    here = await state_of(connection, "moved")
    past = [{"dpu": "gone", "timestamp": (now - seconds(90 - number)).isoformat()} for number in range(3)]
    assert await beat(own, *past, {"dpu": "moved"}, backfill=backfill) == (4, [])
    assert await beat(own, past[0], backfill=backfill) == (0, [])
    assert await state_of(connection, "gone") == before
    assert await state_of(connection, "moved") != here
    assert await connection.fetchval(
        "select last_heartbeat_at from core.dpu_state join core.dpu using (dpu_id) where id = 'gone'"
    ) == now - seconds(88)
    assert await differences(connection) == []


async def test_a_past_heartbeat_leaves_a_dpu_that_hangs_elsewhere_offline(
    own: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    now = datetime.now(UTC)
    await hang(connection, "gone", now - seconds(1800), "own-inner", "secret-inner")
    await heard(connection, ("gone", now - seconds(3600)))
    await listen(connection, now - seconds(3700), now)
    await tick(connection, now)
    before = await state_of(connection, "gone")
    assert before[5]
    # it corrects what was known of the time when it hung here, and no more
    assert await beat(own, {"dpu": "gone", "timestamp": (now - seconds(2000)).isoformat()}) == (1, [])
    after = await state_of(connection, "gone")
    assert after[0] == now - seconds(2000)
    assert after[5]
    assert after[1:5] == before[1:5]


async def test_heartbeats_of_a_dpu_that_hangs_here_later_are_of_an_unknown_one(
    own: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    now = datetime.now(UTC)
    await hang(connection, "coming", now + seconds(180), "secret-inner", "own-inner")
    await record(connection, [("coming", now, 1)])
    before = await state_of(connection, "coming")
    times = [(now + seconds(ahead)).isoformat() for ahead in (200, 31 * 86400)]
    assert await beat(own, *({"dpu": "coming", "timestamp": time} for time in times)) == (0, ["unknown_dpu"] * 2)
    assert (await own.post("/heartbeat", json={"dpu": "coming", "timestamp": times[0]})).status_code == 404
    assert await state_of(connection, "coming") == before


async def test_a_heartbeat_that_is_ahead_is_of_now(own: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    now = datetime.now(UTC)
    await hang(connection, "leaving", now + seconds(180), "own-inner", "secret-inner")
    times = [(now + seconds(ahead)).isoformat() for ahead in (200, 31 * 86400)]
    assert await beat(own, *({"dpu": "leaving", "timestamp": time} for time in times)) == (1, ["in_future"])
    state = await state_of(connection, "leaving")
    assert state[0]
    assert state[6] == "ahead"


@pytest.mark.parametrize("code", ["too_old", "clock_unset"])
async def test_a_refused_heartbeat_of_a_dpu_that_hangs_elsewhere_says_nothing(
    own: httpx.AsyncClient, connection: asyncpg.Connection, code: str
) -> None:
    now = datetime.now(UTC)
    await hang(connection, "gone", now - seconds(60), "own-inner", "secret-inner")
    before = await state_of(connection, "gone")
    if code == "too_old":
        await connection.execute("select api.set_horizon($1)", datetime(2024, 1, 1, tzinfo=UTC))
        at = "2023-01-01T00:00:00Z"
    else:
        await connection.execute(
            """
            update core.placement set during = tstzrange('1960-01-01Z', upper(during))
            where dpu_id = (select dpu_id from core.dpu where id = 'gone') and lower(during) = $1
            """,
            datetime.fromisoformat(LONG_AGO),
        )
        at = "1970-01-01T00:00:00Z"
    assert await beat(own, {"dpu": "gone", "timestamp": at}) == (0, [code])
    assert await state_of(connection, "gone") == before


async def test_the_answer_to_a_past_heartbeat_does_not_tell_when_the_dpu_was_heard_elsewhere(
    own: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    now = datetime.now(UTC)
    await hang(connection, "gone", now - seconds(60), "own-inner", "secret-inner")
    await record(connection, [("gone", now, 1)])
    for named in ({"dpu": "gone"}, {"mac_address": "02:00:00:00:00:77"}):
        sent = {**named, "timestamp": (now - seconds(90)).isoformat()}
        told = body(await own.post("/heartbeat", json=sent))
        assert (told["dpu"], datetime.fromisoformat(told["last_seen"])) == ("gone", now - seconds(90))
    assert body(await own.post("/heartbeat", json={"dpu": "moved"}))["last_seen"]


def instants(found: dict[str, Any]) -> dict[str, datetime | None]:
    """What an answer says of when a DPU was heard from."""
    names = {"last_seen", "last_heartbeat", "since", "first_heard"} & found.keys()
    return {name: found[name] and datetime.fromisoformat(found[name]) for name in names}


async def all_told(client: httpx.AsyncClient, dpu: str, token: Headers | None = None) -> dict[str, datetime | None]:
    """The same in each answer that shows the DPU. `token`: another one than the client has."""
    sensors = [body(await client.get(f"/sensors{query}", headers=token)) for query in ("", "?space=own", "?limit=50")]
    (first, *others) = [instants(found) for each in sensors for found in each if found["id"] == dpu]
    assert others == [first] * len(others)
    dpus = [
        body(await client.get(f"/v1/dpus/{dpu}", headers=token)),
        body(await client.put(f"/v1/dpus/{dpu}", json={"name": "late"}, headers=token)),
    ]
    dpus += [found for found in body(await client.get("/v1/dpus", headers=token))["items"] if found["id"] == dpu]
    (second, *others) = [instants(found) for found in dpus]
    assert others == [second] * 2
    assert first["last_seen"] == second["last_seen"]
    return first | second


@pytest.mark.parametrize("is_offline", [True, False])
async def test_it_is_not_told_when_a_dpu_was_heard_from_elsewhere(
    own: httpx.AsyncClient, connection: asyncpg.Connection, is_offline: bool
) -> None:
    now = datetime.now(UTC)
    came, last = now - seconds(120), now - seconds(5000 if is_offline else 300)
    await hang(connection, "late", came, "secret-inner", "own-inner")
    # within the token's space it was moved once more
    move = "select api.record_placement(dpu => 'late', doorway => 'own-inner', mounted_in => 'own-room', from_at => $1)"
    await connection.execute(move, now - seconds(30))
    await heard(connection, ("late", last - seconds(60)), ("late", last))
    await listen(connection, last - seconds(60), now)
    await tick(connection, now)
    whole = await all_told(own, "late", await new_token(connection))
    assert whole["last_seen"] == whole["last_heartbeat"] == last
    assert whole["since"] == (last + seconds(600) if is_offline else last - seconds(60))
    assert whole["first_heard"] == last - seconds(60)
    assert await all_told(own, "late") == {
        "last_seen": None, "last_heartbeat": None, "since": came, "first_heard": came,
    }  # fmt: skip
    # what it is told from then on is all of it
    assert await beat(own, {"dpu": "late", "timestamp": (now - seconds(60)).isoformat()}) == (1, [])
    told = await all_told(own, "late")
    assert told["last_heartbeat"] == now - seconds(60)
    assert told["last_seen"]
    assert told["last_seen"] >= now - seconds(60)
    assert told["since"]
    assert told["since"] >= came


async def test_the_answer_to_a_heartbeat_of_an_earlier_time_here_does_not_tell_it_either(
    own: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    now = datetime.now(UTC)
    await hang(connection, "back", now - seconds(3000), "own-inner", "secret-inner")
    move = "select api.record_placement(dpu => 'back', doorway => 'own-front', mounted_in => 'own', from_at => $1)"
    await connection.execute(move, now - seconds(60))
    await heard(connection, ("back", now - seconds(3500)), ("back", now - seconds(600)))
    early = now - seconds(3500)  # one that is known tells nothing new
    told = body(await own.post("/heartbeat", json={"dpu": "back", "timestamp": early.isoformat()}))
    assert datetime.fromisoformat(told["last_seen"]) == early
    told = body(await own.post("/heartbeat", json={"dpu": "back", "timestamp": now.isoformat()}))
    assert datetime.fromisoformat(told["last_seen"]) >= now


async def test_refused_events_of_a_dpu_that_hangs_elsewhere_count_for_nobody(
    own: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    now = datetime.now(UTC)
    await hang(connection, "gone", now - seconds(60), "own-inner", "secret-inner")
    await connection.execute("select api.set_horizon($1)", datetime(2024, 1, 1, tzinfo=UTC))
    past = (now - seconds(90)).isoformat()
    await record(connection, [("gone", now - seconds(90), 1)])
    before = await state_of(connection, "gone")
    sent = [
        event("gone", "2023-01-01T00:00:00Z", 1),
        event("gone", past, 2),
        event("gone", past, 1),
        event("moved", "2023-01-01T00:00:00Z", 1),
    ]
    answer = body(await own.post("/v1/events", json={"events": sent}))
    # `moved` hung elsewhere then
    assert [found["code"] for found in answer["rejected"]] == ["too_old", "conflict", "unknown_dpu"]
    assert await state_of(connection, "gone") == before
    clocks = "select count(*) from core.dpu_clock join core.dpu using (dpu_id) where id = 'gone'"
    assert await connection.fetchval(clocks) == 0
    kept = await connection.fetch("select is_within from core.rejected_event where dpu = 'gone'")
    assert [row["is_within"] for row in kept] == [False, False]
    assert not await connection.fetchval("select count(*) from core.refused_of_dpu where dpu = 'gone'")


async def test_events_ahead_are_only_of_dpus_that_hang_here_now_and_then(
    own: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    now = datetime.now(UTC)
    times = [(now + seconds(ahead)).isoformat() for ahead in (200, 31 * 86400)]
    for dpu, before, since in (("coming", "secret-inner", "own-inner"), ("leaving", "own-inner", "secret-inner")):
        await connection.execute("update core.dpu set mac_address = null")
        await hang(connection, dpu, now + seconds(180), before, since)
        unchanged = await state_of(connection, dpu)
        answer = body(await own.post("/v1/events", json={"events": [event(dpu, time, 1) for time in times]}))
        assert [found["code"] for found in answer["rejected"]] == ["unknown_dpu"] * 2
        assert await state_of(connection, dpu) == unchanged
    answer = body(await own.post("/v1/events", json={"events": [event("moved", time, 1) for time in times]}))
    assert [found["code"] for found in answer["rejected"]] == ["in_future"]


async def test_events_ahead_of_dpus_that_hang_elsewhere_do_not_keep_our_clock_suspected(
    own: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    now = datetime.now(UTC)
    await hang(connection, "coming", now + seconds(3600), "secret-inner", "own-inner")
    await record(connection, [("coming", now, 1)])
    async with connection.transaction():
        await connection.execute("select set_config('headcount.token', min(id), true) from core.token")
        await connection.execute(
            "select api.note_ahead(array['coming', 'moved'], array[$1, $1]::timestamptz[])", now + seconds(7200)
        )
    noted = await connection.fetch(
        "select d.id from core.dpu_clock c join core.dpu d using (dpu_id) where c.suspected_at is not null"
    )
    assert [row["id"] for row in noted] == ["moved"]


async def test_it_sets_no_threshold_of_less_than_a_minute(
    own: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    short, least = {"offline_after_seconds": 59}, {"offline_after_seconds": 60}
    for path in ("spaces/own", "spaces/own-new", "dpus/own-inner"):
        refused = problem(await own.put(f"/v1/{path}", json=short), 422, "invalid", "offline_after_seconds")
        assert "60 or more" in refused["detail"]
    for change in ("", "?dry_run=true"):
        for kind, changed in (("spaces", "own"), ("spaces", "own-new"), ("dpus", "own-inner")):
            answer = await own.put(f"/v1/site{change}", json={kind: [{"id": changed, **short}]})
            problem(answer, 422, "invalid", f"{kind}[0].offline_after_seconds")
    site = {"spaces": [{"id": "own", **least}], "dpus": [{"id": "own-inner", **least}]}
    body(await own.put("/v1/site", json=site))
    body(await own.put("/v1/spaces/own", json={"offline_after_seconds": None}))
    # what somebody else set can be named
    await connection.execute("""select api.put_space('own', '{"offline_after_seconds": 2}')""")
    await connection.execute("""select api.put_dpu('own-inner', '{"offline_after_seconds": 2}')""")
    body(await own.put("/v1/spaces/own", json={"name": "Own", "offline_after_seconds": 2}))
    body(await own.put("/v1/dpus/own-inner", json={"name": "Inner", "offline_after_seconds": 2}))
