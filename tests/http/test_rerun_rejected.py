"""POST /v1/rejected/rerun."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import httpx
import pytest

from headcount.database import calls
from headcount.ingest import formats
from headcount.ingest.formats import EventBatch
from tests.factories import NOON, differences, seconds
from tests.http import Json, body, event, problem
from tests.http.guarded import build_site, guarded, new_token, token_id
from tests.http.test_list_rejected import ahead, rejected, send
from tests.sql.test_locks import until

OLD = "2005-07-24T12:00:00Z"


async def rerun(client: httpx.AsyncClient, **asked: object) -> Json:
    answer: Json = body(await client.post("/v1/rejected/rerun", json=asked))
    return answer


async def test_what_was_refused_goes_in_once_the_reason_is_mended(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await send(client, event(dpu="door", timestamp=OLD, direction=3))
    assert await rerun(client) == {
        "received": 1,
        "accepted": 0,
        "duplicates": 0,
        "rejected": [
            {"index": 0, "code": "too_old", "detail": (item := (await rejected(client))[0])["detail"], "id": item["id"]}
        ],
        "next": None,
    }
    await calls.set_horizon(connection, datetime(2005, 1, 1, tzinfo=UTC))
    before = datetime.now(UTC)
    answer = await rerun(client, dpu="door")
    assert (answer["received"], answer["accepted"], answer["rejected"]) == (1, 1, [])
    (stored,) = await calls.list_events(connection, "door")
    assert (stored.direction, stored.received_at >= before - timedelta(seconds=5)) == (3, True)
    assert await rejected(client) == []
    (trace,) = await rejected(client, "?rerun=true")
    assert trace["id"] == item["id"]
    assert trace["rerun_at"] is not None
    assert body(await client.get("/v1/dpus/door"))["rejected_last_day"] == 0
    assert (await rerun(client))["received"] == 0
    assert await differences(connection) == []


@pytest.mark.concurrency
async def test_two_at_the_same_time_take_a_refusal_off_once(
    client: httpx.AsyncClient, connection: asyncpg.Connection, database_url: str
) -> None:
    await send(client, *(event(dpu="door", timestamp=OLD, sequence=number) for number in range(3)))
    await send(client, event(dpu="door", timestamp=ahead()))
    await calls.set_horizon(connection, datetime(2005, 1, 1, tzinfo=UTC))
    first, second = [await asyncpg.connect(database_url) for _ in range(2)]
    try:
        transaction = first.transaction()
        await transaction.start()
        await first.execute("select api.rerun_rejected(code => 'too_old')")
        pid = await second.fetchval("select pg_backend_pid()")
        other = asyncio.create_task(second.fetch("select * from api.rerun_rejected(code => 'too_old')"))
        await until(connection, f"select wait_event_type = 'Lock' from pg_stat_activity where pid = {pid}")
        await transaction.commit()
        assert [row["verdict"] for row in await other] == ["duplicate"] * 3
    finally:
        await first.close()
        await second.close()
    assert body(await client.get("/v1/dpus/door"))["rejected_last_day"] == 1
    assert len(await rejected(client, "?rerun=true")) == 3


async def test_what_our_own_clock_refused_goes_in_when_it_is_right_again(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await send(client, *(event(dpu="door", timestamp=ahead(), sequence=number) for number in range(3)))
    # an hour later
    await connection.execute("update core.rejected_event set time = time - interval '61 minutes'")
    assert (await rerun(client, code="in_future"))["accepted"] == 3


async def test_what_stays_refused_has_the_new_reason(client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    await send(client, event(dpu="door", timestamp=OLD), event(dpu="door", timestamp=OLD, direction=2), 17)
    await calls.set_horizon(connection, datetime(2005, 1, 1, tzinfo=UTC))
    answer = await rerun(client)
    assert (answer["received"], answer["accepted"]) == (3, 1)
    kept = {item["id"]: item for item in await rejected(client)}
    assert len(kept) == 2
    assert [(item["code"], item["detail"]) for item in answer["rejected"]] == [
        (kept[item["id"]]["code"], kept[item["id"]]["detail"]) for item in answer["rejected"]
    ]
    assert sorted(item["code"] for item in answer["rejected"]) == ["conflict", "invalid"]


@pytest.mark.parametrize("where", ["ids", "dpu", "from", "query"])
async def test_it_runs_those_that_are_asked_for(
    client: httpx.AsyncClient, connection: asyncpg.Connection, where: str
) -> None:
    await send(client, *(event(dpu=dpu, timestamp=OLD) for dpu in ("a", "b")))
    await connection.execute("update core.rejected_event set received_at = '2026-01-01' where dpu = 'a'")
    await calls.set_horizon(connection, datetime(2005, 1, 1, tzinfo=UTC))
    (item,) = await rejected(client, "?dpu=b")
    asked: dict[str, Json] = {
        "ids": {"ids": [item["id"]]},
        "dpu": {"dpu": "b"},
        "from": {"from": "2026-01-02T00:00:00Z"},
    }
    if where == "query":
        answer = body(await client.post(f"/v1/rejected/rerun?ids={item['id']}&ids=999999"))
    else:
        answer = await rerun(client, **asked[where])
    assert (answer["received"], answer["accepted"]) == (1, 1)
    assert [left["dpu"] for left in await rejected(client)] == ["a"]


async def test_it_goes_on_behind_those_that_stay(client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    await send(client, 17, 18, event(dpu="door", timestamp=OLD))
    await calls.set_horizon(connection, datetime(2005, 1, 1, tzinfo=UTC))
    first = await rerun(client, limit=2)
    second = await rerun(client, limit=2, after=first["next"])
    assert first["received"] + second["received"] == 3
    assert first["accepted"] + second["accepted"] == 1
    assert second["next"] is None


async def test_it_refuses_what_makes_no_sense(client: httpx.AsyncClient) -> None:
    problem(await client.post("/v1/rejected/rerun", json={"id": "1"}), 422, "invalid")
    problem(await client.post("/v1/rejected/rerun", json={"ids": ["x"]}), 422, "invalid")
    problem(await client.post("/v1/rejected/rerun?dpu=a", json={"dpu": "b"}), 422, "invalid")


async def test_a_limited_token_runs_what_it_sees(database_url: str, connection: asyncpg.Connection) -> None:
    await build_site(connection)
    async with guarded(database_url) as client:
        everything, own = await new_token(connection), await new_token(connection, "admin", "read", space="own")
        await send(
            client, *(event(dpu=dpu, timestamp=ahead()) for dpu in ("own-inner", "secret-inner")), headers=everything
        )
        await connection.execute("update core.rejected_event set time = time - interval '61 minutes'")
        answer = body(await client.post("/v1/rejected/rerun", json={}, headers=own))
        assert (answer["received"], answer["accepted"]) == (1, 1)
        assert [item["dpu"] for item in await rejected(client, headers=everything)] == ["secret-inner"]
        reader = await new_token(connection, "read")
        problem(await client.post("/v1/rejected/rerun", json={}, headers=reader), 403, "forbidden")


async def test_an_event_that_is_run_again_is_no_sign_of_life(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await send(client, event(dpu="door", timestamp=OLD))
    seen = body(await client.get("/v1/dpus/door"))["last_seen"]
    await calls.set_horizon(connection, datetime(2005, 1, 1, tzinfo=UTC))
    assert (await rerun(client))["accepted"] == 1
    assert body(await client.get("/v1/dpus/door"))["last_seen"] == seen


async def test_an_event_that_is_still_ahead_is_no_sign_of_life_either(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await send(client, event(dpu="door", timestamp=ahead()))
    # an hour later; the event is ahead by less than 5 minutes now
    await connection.execute("update core.rejected_event set time = clock_timestamp() + interval '4 minutes'")
    seen = body(await client.get("/v1/dpus/door"))["last_seen"]
    assert (await rerun(client))["accepted"] == 1
    assert body(await client.get("/v1/dpus/door"))["last_seen"] == seen


async def test_an_event_that_is_ahead_and_backfilled_brings_no_sensor_to_life(client: httpx.AsyncClient) -> None:
    soon = (datetime.now(UTC) + timedelta(minutes=4)).isoformat()
    answer = await client.post("/v1/events?backfill=true", json={"events": [event(dpu="door", timestamp=soon)]})
    assert body(answer)["accepted"] == 1
    found = body(await client.get("/v1/dpus/door"))
    assert (found["state"], found["last_seen"]) == ("never_seen", None)
    # what comes then does
    await send(client, event(dpu="door", timestamp=datetime.now(UTC).isoformat()))
    assert body(await client.get("/v1/dpus/door"))["state"] != "never_seen"


async def test_what_is_refused_again_says_nothing_of_the_clock(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await send(client, event(dpu="door", timestamp=ahead()))
    await send(client, event(dpu="door", timestamp=datetime.now(UTC).isoformat()))
    assert body(await client.get("/v1/dpus/door"))["clock"] == "ok"
    assert (await rerun(client))["accepted"] == 0
    assert body(await client.get("/v1/dpus/door"))["clock"] == "ok"


async def test_what_a_limited_token_sent_goes_in_only_where_it_reaches(
    database_url: str, connection: asyncpg.Connection
) -> None:
    await build_site(connection)
    async with guarded(database_url) as client:
        everything, own = await new_token(connection), await new_token(connection, "ingest", space="own")
        before = body(await client.get("/v1/dpus/secret-inner", headers=everything))
        at = "2026-01-31T12:00:00Z"
        await send(client, event(dpu="secret-inner", timestamp=at, direction=21), headers=own)
        await send(client, event(dpu="invented", timestamp=at), headers=own)
        await send(client, event(dpu="own-inner", timestamp=ahead()), headers=own)
        await connection.execute(
            "update core.rejected_event set time = time - interval '61 minutes' where dpu = 'own-inner'"
        )
        answer = body(await client.post("/v1/rejected/rerun", json={}, headers=everything))
        assert (answer["received"], answer["accepted"]) == (3, 1)
        assert [item["code"] for item in answer["rejected"]] == ["unknown_dpu"] * 2
        assert "token that sent it" in answer["rejected"][0]["detail"]
        assert body(await client.get("/v1/dpus/secret-inner", headers=everything)) == before
        problem(await client.get("/v1/dpus/invented", headers=everything), 404, "not_found")
        assert body(await client.get("/v1/dpus/own-inner", headers=everything))["rejected_last_day"] == 0


async def test_dpus_that_a_rerun_registers_count_for_the_token_that_sent_them(
    database_url: str, connection: asyncpg.Connection
) -> None:
    async with guarded(database_url, auto_register=False) as client:
        await send(client, *(event(dpu=dpu) for dpu in ("a", "b", "c")), headers=await new_token(connection, "ingest"))
    await calls.set_registration(connection, 2, 1, 100)
    async with connection.transaction():
        rows = await calls.rerun_rejected(connection)
    assert sorted(row.verdict or "" for row in rows) == ["", "", "unknown_dpu"]


async def test_of_two_that_contradict_each_other_the_first_goes_in(
    database_url: str, connection: asyncpg.Connection
) -> None:
    times = [f"2026-01-05T08:00:{second:02}Z" for second in range(20)]
    async with guarded(database_url, auto_register=False) as client:
        everything = await new_token(connection)
        pairs = [event(dpu="door", timestamp=time, direction=each) for time in times for each in (1, -1)]
        assert len((await send(client, *pairs, headers=everything))["rejected"]) == 40
        shown = reversed(await rejected(client, "?limit=100", headers=everything))
        assert [item["direction"] for item in shown] == [1, -1] * 20
        await client.put("/v1/dpus/door", json={}, headers=everything)
        answer = body(await client.post("/v1/rejected/rerun", json={}, headers=everything))
    assert (answer["accepted"], [item["code"] for item in answer["rejected"]]) == (20, ["conflict"] * 20)
    assert [stored.direction for stored in await calls.list_events(connection, "door")] == [1] * 20


async def test_the_first_goes_in_also_of_several_requests_that_were_refused_together(
    database_url: str, connection: asyncpg.Connection
) -> None:
    times = [NOON + seconds(number) for number in range(20)]
    async with guarded(database_url, auto_register=False) as client:
        everything, other = await new_token(connection), await new_token(connection, "ingest")
        senders = [await token_id(connection, token) for token in (everything, other, everything)]
        # as the writer stores them: in one transaction
        requests = [
            EventBatch(["door"] * 20, order, [direction] * 20, [0] * 20, sender=sender)
            for order, direction, sender in zip((times, times, times[::-1]), (1, 2, -1), senders, strict=True)
        ]
        for answer in await formats.record_all(connection, requests, auto_register=False):
            assert len(answer.rejected) == 20
        await client.put("/v1/dpus/door", json={}, headers=everything)
        answer = body(await client.post("/v1/rejected/rerun", json={}, headers=everything))
    assert (answer["accepted"], len(answer["rejected"])) == (20, 40)
    assert [stored.direction for stored in await calls.list_events(connection, "door")] == [1] * 20


async def test_what_a_token_sent_that_nobody_knows_any_more_stays_refused(
    database_url: str, connection: asyncpg.Connection
) -> None:
    await build_site(connection)
    async with guarded(database_url) as client:
        everything, own = await new_token(connection), await new_token(connection, "ingest", space="own")
        await send(client, event(dpu="secret-inner", timestamp="2026-01-31T12:00:00Z", direction=21), headers=own)
        await connection.execute("update core.rejected_event set token = 'tok_gone'")
        answer = body(await client.post("/v1/rejected/rerun", json={}, headers=everything))
        assert (answer["received"], answer["accepted"]) == (1, 0)
        await connection.execute("update core.rejected_event set token = $1", await token_id(connection, everything))
        assert body(await client.post("/v1/rejected/rerun", json={}, headers=everything))["accepted"] == 1
