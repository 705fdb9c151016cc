"""Changes of the floor plan: one at a time, for a moment, and then a rest; whoever stores events goes first."""

import asyncio
import gzip
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from headcount.app import create_app
from headcount.database import calls, plan_turns
from headcount.database.plan_turns import (
    LONGEST_REST_SECONDS,
    MOMENT,
    MOMENT_SECONDS,
    REST,
    REST_OF_LIMITED,
    Plans,
)
from headcount.http.asgi import App
from headcount.ingest import rejected
from headcount.settings import Settings
from headcount.wire.messages.events import RerunIn, RerunRow
from headcount.wire.problems import Problem
from headcount.wire.shares import Places
from tests.factories import NOON, apply_site, differences
from tests.http import Json, body, event, problem
from tests.http.guarded import Headers, bearer, guarded, new_token, token_id
from tests.http.streams import PATIENCE, client_of
from tests.http.test_shares import count_waiting, until_waiting

pytestmark = pytest.mark.usefixtures("connection")


@asynccontextmanager
async def plan_held(database_url: str, how: str) -> AsyncIterator[asyncpg.Connection]:
    """Somebody else changes the floor plan, or stores events, as long as this lasts. Gives a session that looks on."""
    owner, onlooker = await asyncpg.connect(database_url), await asyncpg.connect(database_url)
    try:
        async with owner.transaction():
            await owner.execute(f"select core.{how}_plan()")
            yield onlooker
    finally:
        await owner.close()
        await onlooker.close()


async def test_changes_have_one_turn_and_those_of_one_client_are_behind_each_other() -> None:
    plans = Plans()
    begun: list[str] = []

    async def change(client: str) -> None:
        async with plans.turn(client):
            begun.append(client)
            await asyncio.sleep(0)

    async with plans.turn("one"):
        waiting = [asyncio.create_task(change(client)) for client in ("one", "one", "one", "other")]
        for _ in range(20):
            await asyncio.sleep(0)
        assert begun == []
    await asyncio.gather(*waiting)
    assert begun.index("other") <= 1, "its turn comes before the second and third of the client that floods"


async def test_a_client_fills_a_quarter_of_those_that_wait_to_change_something() -> None:
    plans = Plans()
    async with plans.turn("one"):
        waiting = [asyncio.create_task(plans.turn("one").__aenter__()) for _ in range(26)]
        done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        (refused,) = done
        with pytest.raises(Problem) as raised:
            refused.result()
        assert raised.value.kind.status == 429
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


@pytest.mark.parametrize(("is_limited", "times"), [(True, REST_OF_LIMITED), (False, REST)])
async def test_the_rest_follows_the_work_and_is_longer_for_a_limited_token(is_limited: bool, times: float) -> None:
    plans, clock = Plans(), asyncio.get_running_loop().time
    now = clock()
    plans.note(1.0, is_limited=is_limited)
    plans.note(0.5, is_limited=is_limited)
    assert now - 0.001 <= plans.rested_at - 1.5 * times <= clock() + 0.001
    plans.note(1000.0, is_limited=is_limited)
    assert plans.rested_at - now < 2 * LONGEST_REST_SECONDS + 1.5 * times, "bounded"


async def test_nobody_begins_before_there_was_rest_and_a_little_is_owed_by_everybody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    owed = 4 * PATIENCE
    monkeypatch.setattr(plan_turns, "OWED_SECONDS", owed)
    plans = Plans()
    plans.rested_at = asyncio.get_running_loop().time() + owed / 2
    async with asyncio.timeout(PATIENCE), plans.turn("one"):
        pass
    plans.rested_at = asyncio.get_running_loop().time() + owed + 1000
    for client in ("one", "other", None):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), plans.turn(client):
                pass
    plans.rested_at = 0.0
    async with plans.turn("one"):
        pass


async def test_a_moment_passes_after_each_change_even_where_no_rest_is_due() -> None:
    """Who waited through one change must not wait through the next one, too."""
    plans, clock = Plans(), asyncio.get_running_loop().time
    for seconds, moment in ((1.5, MOMENT_SECONDS), (0.2, MOMENT * 0.2)):
        before = clock()
        plans.note(seconds, is_limited=False)
        assert before - 0.001 <= plans.not_before - moment <= clock() + 0.001
        async with plans.turn("one"):
            assert clock() + 0.001 >= plans.not_before


@pytest.mark.concurrency
async def test_one_change_is_in_the_database_and_its_client_can_read_meanwhile(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await apply_site(connection, spaces=[{"id": "own"}])
    tokens = [await new_token(connection), await new_token(connection, space="own")]
    async with guarded(database_url) as client, plan_held(database_url, "lock") as onlooker:
        asked = [
            asyncio.create_task(client.put(f"/v1/spaces/s{number}{dry}", json={}, headers=token))
            for token in tokens
            for number, dry in enumerate(("", "?dry_run=true", "", "?dry_run=true"))
        ]
        await until_waiting(onlooker, 1)
        most = 0
        while not (done := [task for task in asked if task.done()]):
            most = max(most, await count_waiting(onlooker))
            for token in tokens:
                body(await client.get("/v1/spaces/own/count", headers=token))
        assert most == 1
        assert "used the floor plan" in problem(done[0].result(), 503, "unavailable")["detail"]
        assert done[0].result().headers["retry-after"]
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


@pytest.mark.concurrency
async def test_events_are_stored_while_a_change_waits_for_the_floor_plan(
    connection: asyncpg.Connection, database_url: str
) -> None:
    token = await new_token(connection)
    async with guarded(database_url) as client:
        body(await client.post("/v1/events", json={"events": [event()]}, headers=token))
        async with plan_held(database_url, "share") as onlooker:
            change = asyncio.create_task(client.put("/v1/spaces/new", json={}, headers=token))
            await until_waiting(onlooker, 1)
            stored = body(await client.post("/v1/events", json={"events": [event(sequence=2)]}, headers=token))
            assert stored["accepted"] == 1
            assert not change.done(), "it let them pass, and tries again"
        body(await change, 201)


SLOW = """
create function public.wait() returns trigger language plpgsql as 'begin perform pg_sleep(60); return new; end';
create trigger wait before insert on core.space for each row execute function public.wait()
"""


@pytest.mark.concurrency
@pytest.mark.parametrize("space", [None, "own"])
@pytest.mark.parametrize(("dry", "seconds"), [("", "1.5"), ("?dry_run=true", "2")])
async def test_a_token_holds_the_floor_plan_for_a_moment(
    connection: asyncpg.Connection, database_url: str, dry: str, seconds: str, space: str | None
) -> None:
    """Also one that may change everything; it is told that smaller parts would do."""
    await apply_site(connection, spaces=[{"id": "own"}])
    token = await new_token(connection, space=space)
    await connection.execute(SLOW)
    try:
        async with guarded(database_url) as client:
            refused = await client.put(f"/v1/spaces/new{dry}", json={}, headers=token)
    finally:
        await connection.execute("drop function public.wait() cascade")
    found = problem(refused, 503, "unavailable")
    assert f"{seconds} seconds" in found["detail"]
    assert [error["code"] for error in found["errors"]] == ["too_large"]


WRONG: list[tuple[str, Json, str]] = [
    ("spaces/new", {"capacity": -1}, "capacity"),
    ("spaces/new", {"time_zone": "Moon/Crater"}, "time_zone"),
    ("spaces/new", {"reset_at": "25:00"}, "reset_at"),
    ("spaces/new", {"offline_after_seconds": 0}, "offline_after_seconds"),
    ("spaces/new", {"parent": "level-31"}, "parent"),
    ("site", {"spaces": [{"id": "a", "parent": "level-30"}, {"id": "b", "parent": "a"}]}, "spaces[1].parent"),
    (
        "site",
        {"spaces": [{"id": f"c{number}", "parent": f"c{number - 1}" if number else None} for number in range(900)]},
        "spaces[32].parent",
    ),
]


@pytest.mark.concurrency
@pytest.mark.parametrize(("path", "sent", "where"), WRONG)
@pytest.mark.parametrize("dry", ["", "?dry_run=true"])
async def test_what_is_refused_for_its_form_never_asks_for_the_floor_plan(
    connection: asyncpg.Connection, database_url: str, path: str, sent: Json, where: str, dry: str
) -> None:
    levels = [{"id": f"level-{n}", "parent": f"level-{n - 1}" if n else None} for n in range(32)]
    await apply_site(connection, spaces=levels)
    token = await new_token(connection)
    async with guarded(database_url) as client, plan_held(database_url, "lock"):
        problem(await client.put(f"/v1/{path}{dry}", json=sent, headers=token), 422, "invalid", where)


async def test_a_plan_that_moves_what_is_deep_higher_up_is_not_refused_for_what_was(
    connection: asyncpg.Connection,
) -> None:
    levels = [{"id": f"level-{n}", "parent": f"level-{n - 1}" if n else None} for n in range(32)]
    await apply_site(connection, spaces=levels)
    await apply_site(connection, spaces=[{"id": "level-1", "parent": None}, {"id": "new", "parent": "level-31"}])


async def test_a_limited_token_makes_spaces_up_to_a_bound(connection: asyncpg.Connection, database_url: str) -> None:
    await apply_site(connection, spaces=[{"id": "own"}, {"id": "other"}])
    await connection.execute(
        "insert into core.space (id, parent_id) select 'own-' || n, s.space_id"
        " from core.space s cross join generate_series(1, 1998) n where s.id = 'own'"
    )
    limited, whole = await new_token(connection, space="own"), await new_token(connection)
    async with guarded(database_url) as client:
        site = {"spaces": [{"id": "own-1", "name": "One"}, {"id": "last"}, {"id": "last", "name": "L"}, {"id": "more"}]}
        for dry in ("?dry_run=true", ""):
            refused = problem(await client.put(f"/v1/site{dry}", json=site, headers=limited), 409, "conflict")
            assert (refused["errors"][0]["where"], "2000" in refused["detail"]) == ("spaces[3].id", True)
        body(await client.put("/v1/spaces/last", json={}, headers=limited), 201)
        problem(await client.put("/v1/spaces/more", json={}, headers=limited), 409, "conflict", "id")
        body(await client.put("/v1/spaces/own-1", json={"name": "Room"}, headers=limited))
        body(await client.put("/v1/spaces/more", json={"parent": "own"}, headers=whole), 201)


async def test_a_limited_token_makes_doorways_up_to_a_bound(connection: asyncpg.Connection, database_url: str) -> None:
    await apply_site(connection, spaces=[{"id": "own"}, {"id": "room", "parent": "own"}, {"id": "other"}])
    await connection.execute(
        "insert into core.doorway (id, side_b_id) select 'own-' || n, s.space_id"
        " from core.space s cross join generate_series(1, 3998) n where s.id = 'own'"
    )
    await apply_site(connection, doorways=[{"id": "front", "sides": ["other", "own"]}])
    limited, whole = await new_token(connection, space="own"), await new_token(connection)
    new = {"sides": ["room", None]}
    async with guarded(database_url) as client:
        doorways = [{"id": "own-1", "name": "One"}, {"id": "last", **new}, {"id": "last", "name": "L"}]
        site = {"doorways": [*doorways, {"id": "more", **new}]}
        for dry in ("?dry_run=true", ""):
            refused = problem(await client.put(f"/v1/site{dry}", json=site, headers=limited), 409, "conflict")
            assert (refused["errors"][0]["where"], "4000" in refused["detail"]) == ("doorways[3].id", True)
        body(await client.put("/v1/doorways/last", json=new, headers=limited), 201)
        problem(await client.put("/v1/doorways/more", json=new, headers=limited), 409, "conflict", "id")
        body(await client.put("/v1/doorways/own-1", json={"name": "Door"}, headers=limited))
        body(await client.put("/v1/doorways/more", json=new, headers=whole), 201)


async def test_a_family_of_limited_tokens_has_one_such_bound(connection: asyncpg.Connection, database_url: str) -> None:
    """Else each of a thousand tokens that it may make would have another one."""
    await apply_site(connection, spaces=[{"id": "own"}, {"id": "room", "parent": "own"}])
    await connection.execute(
        """
        insert into core.space (id, parent_id) select 'own-' || n, s.space_id
        from core.space s cross join generate_series(1, 1998) n where s.id = 'own';
        insert into core.doorway (id, side_b_id) select 'own-' || n, s.space_id
        from core.space s cross join generate_series(1, 4000) n where s.id = 'own'
        """
    )
    limited, other = await new_token(connection, space="own"), await new_token(connection, space="room")
    async with guarded(database_url) as client:
        made = body(await client.post("/v1/tokens", json={"scopes": ["admin"], "space": "room"}, headers=limited), 201)
        paths = {"/v1/spaces/more": {}, "/v1/doorways/more": {"sides": ["room", None]}}
        for path, sent in paths.items():
            problem(await client.put(path, json=sent, headers=bearer(made["token"])), 409, "conflict", "id")
            body(await client.put(path, json=sent, headers=other), 201)


async def test_a_limited_token_cuts_the_time_of_a_dpu_up_to_a_bound(
    connection: asyncpg.Connection, database_url: str
) -> None:
    def at(day: int, hour: int = 0) -> str:
        return (NOON - timedelta(days=day, hours=-hour)).isoformat()

    def placed(doorway: str, from_at: str, until_at: str | None = None) -> Json:
        return {"dpu": "dpu-1", "doorway": doorway, "mounted_in": "own", "from": from_at, "until": until_at}

    def cuts(first: int, number: int) -> Json:
        return {"placements": [placed("back", at(day), at(day, 1)) for day in range(first, first + number)]}

    doorways = [{"id": name, "sides": ["own", None]} for name in ("front", "back")]
    await apply_site(connection, spaces=[{"id": "own"}], doorways=doorways, dpus=[{"id": "dpu-1"}])
    await apply_site(connection, placements=[placed("front", at(900)), *cuts(1, 480)["placements"]])
    limited, whole = await new_token(connection, space="own"), await new_token(connection)
    path = "/v1/dpus/dpu-1/placements"

    def alone(*placement: Any) -> Json:
        return {name: value for name, value in placed(*placement).items() if name != "dpu"}

    async with guarded(database_url) as client:
        answer = await client.put("/v1/site", json=cuts(500, 20), headers=limited)
        problem(answer, 409, "conflict", "placements[19].dpu")
        body(await client.put("/v1/site", json=cuts(500, 19), headers=limited))
        problem(
            await client.post(path, json=alone("back", at(600), at(600, 1)), headers=limited), 409, "conflict", "dpu"
        )
        # one in the place of many, others elsewhere, and the many back again
        undone = {"from": at(450)}
        body(await client.post(path, json=alone("front", at(450), at(0)), headers=limited), 201)
        body(await client.put("/v1/site", json=cuts(600, 9), headers=limited))
        problem(await client.delete(path, params=undone, headers=limited), 409, "conflict", "from")
        # whoever may do everything may do that as well, and then it can be fewer
        assert (await client.delete(path, params=undone, headers=whole)).status_code == 204
        body(await client.post(path, json=alone("back", at(40), at(0)), headers=limited), 201)


async def test_counts_of_many_spaces_and_those_of_dry_runs_are_slow_reads(
    connection: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headcount.database.current_counts.MANY_SPACES", 2)
    await apply_site(connection, spaces=[{"id": name} for name in ("a", "b", "c")] + [{"id": "d", "parent": "a"}])
    one, other = await new_token(connection), await new_token(connection)
    name = await token_id(connection, one)
    app = create_app(Settings(database_url=database_url, jobs=False, acquire_seconds=0.5))
    async with app.lifespan(), client_of(app) as client:
        body(await client.get("/v1/counts", headers=one))
        async with AsyncExitStack() as stack:
            for _ in range(2):
                await stack.enter_async_context(app.services.database.shares.turn(name, is_slow=True))
            problem(await client.get("/v1/counts", headers=one), 429, "rate_limited")
            problem(await client.put("/v1/spaces/a?dry_run=true", json={}, headers=one), 429, "rate_limited")
            for path in ("/v1/counts?under=a", "/v1/counts?space=a&space=b", "/v1/spaces/a/count"):
                body(await client.get(path, headers=one))
            body(await client.get("/v1/counts", headers=other))
        body(await client.get("/v1/counts", headers=one))


async def refused_events(connection: asyncpg.Connection, number: int) -> None:
    await connection.execute(
        "insert into core.rejected_event (digest, received_at, code, detail, dpu, time, direction, sequence)"
        " select sha256(n::text::bytea), now(), 'too_old', 'old', 'door', '2026-01-05 08:00Z'::timestamptz, 1, n"
        " from generate_series(1, $1::integer) n",
        number,
    )


async def test_refused_events_are_run_again_a_few_in_a_transaction(
    connection: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rejected, "AT_A_TIME", 2)
    await refused_events(connection, 7)
    token = await new_token(connection)
    async with guarded(database_url) as client:
        found = body(await client.post("/v1/rejected/rerun", json={"limit": 5}, headers=token))
        assert (found["received"], found["accepted"]) == (5, 5)
        transactions = "select count(distinct xmin::text) from core.rejected_event where rerun_at is not null"
        assert await connection.fetchval(transactions) == 3
        rest = body(await client.post("/v1/rejected/rerun", json={"after": found["next"]}, headers=token))
        assert (rest["received"], rest["next"]) == (2, None)


async def test_where_a_later_part_fails_the_answer_is_what_became_of_those_before(
    connection: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rejected, "AT_A_TIME", 2)
    await refused_events(connection, 5)
    await connection.execute(
        "create function public.refuse() returns trigger language plpgsql as"
        " 'begin raise exception using errcode = ''55P03''; end';"
        "create trigger refuse before update on core.rejected_event for each row when (old.sequence = 4)"
        " execute function public.refuse()"
    )
    token = await new_token(connection)
    async with guarded(database_url) as client:
        found = body(await client.post("/v1/rejected/rerun", json={}, headers=token))
        assert (found["received"], found["accepted"]) == (2, 2)
        again = await client.post("/v1/rejected/rerun", json={"after": found["next"]}, headers=token)
        await connection.execute("drop function public.refuse() cascade")
        problem(again, 503, "unavailable")
        rest = body(await client.post("/v1/rejected/rerun", json={"after": found["next"]}, headers=token))
        assert (rest["accepted"], rest["next"]) == (3, None)


async def refused_of_days(connection: asyncpg.Connection, *days: int | None) -> None:
    """One of each day from now back, in this order; None: of a day ahead, not the next: midnight may be near."""
    await connection.execute(
        "insert into core.rejected_event (digest, received_at, code, detail, dpu, time, direction, sequence)"
        " select sha256(n.place::text::bytea), now(), 'too_old', 'old', 'door',"
        " date_trunc('day', now(), 'UTC') - coalesce(n.day, -n.place - 1) * interval '1 day', 1, n.place"
        " from unnest($1::integer[]) with ordinality as n (day, place) order by n.place",
        days,
    )


async def test_refused_events_of_many_days_are_run_again_a_few_days_in_a_transaction(
    connection: asyncpg.Connection, database_url: str
) -> None:
    """Each day has locks of its own, and costs time."""
    days = [3, 24, *range(1, 26), 24]
    await refused_of_days(connection, *days)
    token = await new_token(connection)
    async with guarded(database_url) as client:
        found = body(await client.post("/v1/rejected/rerun", json={}, headers=token))
        assert (found["received"], found["accepted"], found["rejected"], found["next"]) == (28, 28, [], None)
    groups = await connection.fetch(
        "select count(*) as events, count(distinct time) as days from core.rejected_event"
        " where rerun_at is not null group by xmin::text order by min(rejected_id)"
    )
    assert [tuple(group) for group in groups] == [(11, 10), (10, 10), (7, 6)]
    assert await connection.fetchval("select count(*) from core.event") == 28


async def test_days_of_refused_events_that_cannot_be_stored_make_no_more_transactions(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await refused_of_days(connection, *[None] * 15, 1, *[None] * 15)
    token = await new_token(connection)
    async with guarded(database_url) as client:
        found = body(await client.post("/v1/rejected/rerun", json={"limit": 31}, headers=token))
        assert (found["received"], found["accepted"]) == (31, 1)
        assert await connection.fetchval("select count(distinct xmin::text) from core.rejected_event") == 1
        rest = body(await client.post("/v1/rejected/rerun", json={"after": found["next"]}, headers=token))
        assert (rest["received"], rest["next"]) == (0, None)


@pytest.mark.parametrize("is_committed", [False, True])
async def test_what_breaks_off_between_days_loses_nothing_and_counts_nothing_twice(
    connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, is_committed: bool
) -> None:
    """The process ends in the second transaction: before or after the commit, and with no answer to anybody."""
    await refused_of_days(connection, *range(1, 26))
    rerun, number = calls.rerun_rejected, itertools.count(1)

    async def break_off(*arguments: Any) -> list[RerunRow]:
        if next(number) != 2:
            return await rerun(*arguments)
        if is_committed:
            await rerun(*arguments)
        raise asyncio.CancelledError

    monkeypatch.setattr(calls, "rerun_rejected", break_off)
    with pytest.raises(asyncio.CancelledError):
        await rejected.rerun(connection, RerunIn(), auto_register=True)
    assert await connection.fetchval("select count(*) from core.event") == (20 if is_committed else 10)
    again = await rejected.rerun(connection, RerunIn(), auto_register=True)
    left = 5 if is_committed else 15
    assert (again.received, again.accepted, again.next) == (left, left, None)
    assert await connection.fetchval("select count(*) from core.event") == 25
    assert await connection.fetchval("select cumulative_count from core.dpu_state") == 25
    assert await differences(connection) == []


LARGE_SITE = json.dumps({"spaces": [{"id": f"s{number}", "name": "x" * 200} for number in range(300)]}).encode()
SMALL_SITE = b'{"spaces":[{"id":"small"}]}'
GZIP = {"content-encoding": "gzip"}


async def until_held(app: App, number: int) -> None:
    async with asyncio.timeout(PATIENCE):
        for _ in itertools.count():
            if app.services.site_places.held == number:
                return
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("dry", ["", "?dry_run=true"])
async def test_large_floor_plans_have_one_place_of_a_client_and_four_of_all_until_they_are_applied(
    connection: asyncpg.Connection, database_url: str, dry: str
) -> None:
    tokens = [await new_token(connection) for _ in range(5)]
    app = create_app(Settings(database_url=database_url, jobs=False))
    # nobody looks into what has no place
    unread, packed = b"[" * 70_000, gzip.compress(LARGE_SITE)
    async with app.lifespan(), client_of(app) as client:

        def send(token: Headers, content: bytes, **more: str) -> asyncio.Task[httpx.Response]:
            return asyncio.create_task(client.put(f"/v1/site{dry}", content=content, headers=token | more))

        async with app.services.database.plans.turn("somebody"):
            applied = [send(tokens[0], packed, **GZIP)]
            await until_held(app, 1)
            problem(await send(tokens[0], unread), 429, "rate_limited")
            refused = problem(await send(tokens[0], gzip.compress(unread), **GZIP), 429, "rate_limited")
            assert "large floor plans" in refused["detail"]
            applied.append(send(tokens[0], gzip.compress(SMALL_SITE), **GZIP))
            applied += [send(token, LARGE_SITE) for token in tokens[1:4]]
            await until_held(app, 4)
            problem(await send(tokens[4], unread), 503, "unavailable")
            gone = applied.pop()
            gone.cancel()
            await until_held(app, 3)
            problem(await send(tokens[4], unread), 422, "invalid")
            await until_held(app, 3)
        assert [(await sent).status_code for sent in applied] == [200] * 4
        await until_held(app, 0)
        body(await send(tokens[0], packed, **GZIP))


async def test_large_floor_plans_of_nobody_have_four_places(database_url: str) -> None:
    app = create_app(Settings(database_url=database_url, auth="off", jobs=False, send_notices=False))
    async with app.lifespan(), client_of(app) as client:
        async with app.services.database.plans.turn(None):
            applied = [asyncio.create_task(client.put("/v1/site", content=LARGE_SITE)) for _ in range(4)]
            await until_held(app, 4)
            problem(await client.put("/v1/site", content=LARGE_SITE), 503, "unavailable")
        assert [(await sent).status_code for sent in applied] == [200] * 4


def test_a_place_that_is_taken_after_its_call_has_ended_is_nobodys() -> None:
    places = Places(1, 1, "floor plans")
    with places.one("one") as place:
        place.take()
        place.take()
        assert places.held == 1
    place.take()
    assert (places.held, places.of_client.held) == (0, {})
