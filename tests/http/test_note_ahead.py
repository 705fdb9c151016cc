"""503 clock_suspect: most sensors are ahead of our clock, so it is ours that is wrong."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import httpx

from tests.factories import trust
from tests.http import body, event, problem
from tests.http.test_list_rejected import ahead, rejected, send, sensor


async def test_events_are_told_to_come_again_and_nothing_is_stored(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    dpus = ["a", "b", "c"]
    await send(client, *(event(dpu=dpu, timestamp=datetime.now(UTC).isoformat()) for dpu in dpus))
    await trust(connection)
    events = {"events": [*(event(dpu=dpu, timestamp=ahead()) for dpu in dpus), event(dpu="d")]}
    answer = await client.post("/v1/events", json=events)
    told = problem(answer, 503, "clock_suspect")
    assert "send it again" in told["detail"]
    assert answer.headers["Retry-After"] == "10"
    assert await rejected(client) == []
    assert await connection.fetchval("select count(*) from core.event") == 3
    # what was told to come again is remembered: one of them alone is enough now
    problem(await client.post("/v1/events", json={"events": events["events"][:1]}), 503, "clock_suspect")


async def test_nothing_is_stored_of_a_large_request_either(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    dpus = ["a", "b", "c"]
    await send(client, *(event(dpu=dpu, timestamp=datetime.now(UTC).isoformat()) for dpu in dpus))
    await trust(connection)
    at = datetime.now(UTC) - timedelta(minutes=20)
    old = [event(dpu="d", timestamp=(at - timedelta(milliseconds=number)).isoformat()) for number in range(1_200)]
    events = {"events": [*old, *(event(dpu=dpu, timestamp=ahead()) for dpu in dpus)]}
    answer = await client.post("/v1/events", json=events)
    assert "Nothing was stored" in problem(answer, 503, "clock_suspect")["detail"]
    assert await rejected(client) == []
    assert await connection.fetchval("select count(*) from core.event") == 3


async def test_where_a_part_of_a_large_request_is_stored_it_is_told_so(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    """The first part has events of two sensors alone, which is too few to suspect our clock."""
    dpus = ["a", "b", "c"]
    await send(client, *(event(dpu=dpu, timestamp=datetime.now(UTC).isoformat()) for dpu in dpus))
    await trust(connection)
    far, near = ahead(2), ahead(1)
    many = [event(dpu=dpus[number % 2], timestamp=far, sequence=number) for number in range(1_000)]
    answer = await client.post("/v1/events", json={"events": [event(dpu="c", timestamp=near), *many]})
    told = problem(answer, 503, "clock_suspect")["detail"]
    assert "Only a part of the request is stored" in told
    assert "clock of the database server" in told
    assert answer.headers["Retry-After"] == "10"
    assert await connection.fetchval("select count(*) from core.rejected_event where dpu <> 'c'") == 1_000
    assert await connection.fetchval("select count(*) from core.rejected_event") == 1_000


async def test_nobody_else_in_the_group_has_to_come_again(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    dpus = ["a", "b", "c"]
    await send(client, *(event(dpu=dpu, timestamp=datetime.now(UTC).isoformat()) for dpu in dpus))
    await trust(connection)
    ahead_of_it = {"events": [event(dpu=dpu, timestamp=ahead()) for dpu in dpus]}
    right = [
        {"events": [event(dpu="d", timestamp=datetime.now(UTC).isoformat(), sequence=number)]} for number in range(9)
    ]
    answers = await asyncio.gather(
        *(client.post("/v1/events", json=content) for content in (*right[:4], ahead_of_it, *right[4:]))
    )
    problem(answers.pop(4), 503, "clock_suspect")
    assert [body(answer)["accepted"] for answer in answers] == [1] * 9


async def test_one_odd_event_of_each_sensor_holds_nobody_back(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    """Somebody has the token of one gateway, and sends them for all of its sensors."""
    dpus = ["a", "b", "c"]
    for sequence in range(2):
        at = datetime.now(UTC).isoformat()
        await send(client, *(event(dpu=dpu, timestamp=at, sequence=sequence) for dpu in dpus))
    await trust(connection)
    odd = [event(dpu=dpu, timestamp=ahead()) for dpu in dpus]
    right = [event(dpu="d", timestamp=datetime.now(UTC).isoformat(), sequence=number) for number in range(5)]
    answer = await send(client, *odd, *right)
    assert (answer["accepted"], [item["code"] for item in answer["rejected"]]) == (5, ["in_future"] * 3)


async def test_our_own_clock_marks_no_sensor(client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    dpus = ["a", "b", "c"]
    await send(client, *(event(dpu=dpu, timestamp=datetime.now(UTC).isoformat()) for dpu in dpus))
    await trust(connection)
    events = {"events": [event(dpu=dpu, timestamp=ahead()) for dpu in dpus]}
    for _ in range(2):
        problem(await client.post("/v1/events", json=events), 503, "clock_suspect")
    assert [await sensor(client, dpu) for dpu in dpus] == [(0, "ok")] * 3


async def test_three_sensors_alone_do_not_come_again_for_ever(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    """The three of one gateway, whose clock is wrong. Nothing is lost: it is kept, and can be run again."""
    dpus = ["a", "b", "c"]
    await send(client, *(event(dpu=dpu, timestamp=datetime.now(UTC).isoformat()) for dpu in dpus))
    await trust(connection)
    events = {"events": [event(dpu=dpu, timestamp=ahead()) for dpu in dpus]}
    problem(await client.post("/v1/events", json=events), 503, "clock_suspect")
    await connection.execute("update core.clock_suspicion set since_at = since_at - interval '11 minutes'")
    answer = body(await client.post("/v1/events", json=events))
    assert [rejection["code"] for rejection in answer["rejected"]] == ["in_future"] * 3
    assert [await sensor(client, dpu) for dpu in dpus] == [(1, "ahead")] * 3
    # their time has come: it was our clock after all, and is mended
    await connection.execute("update core.rejected_event set time = time - interval '2 hours'")
    rerun = body(await client.post("/v1/rejected/rerun", json={"code": "in_future"}))
    assert rerun["accepted"] == 3
    assert await rejected(client) == []


async def test_heartbeats_that_are_right_speak_for_our_clock(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    dpus = ["a", "b", "c", "d", "e", "f"]
    await send(client, *(event(dpu=dpu, timestamp=datetime.now(UTC).isoformat()) for dpu in dpus))
    await trust(connection)
    await connection.execute("truncate core.change")
    events = {"events": [event(dpu=dpu, timestamp=ahead()) for dpu in dpus[:3]]}
    heartbeats = [{"dpu": dpu, "timestamp": datetime.now(UTC).isoformat()} for dpu in dpus[3:]]
    assert body(await client.post("/v1/heartbeats", json={"heartbeats": heartbeats}))["accepted"] == 3
    assert len(body(await client.post("/v1/events", json=events))["rejected"]) == 3
