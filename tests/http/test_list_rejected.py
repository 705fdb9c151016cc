"""GET /v1/rejected, and what a DPU says of its refused events."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest

from headcount.database import calls
from tests.factories import NOON, seconds
from tests.http import Json, body, event, problem
from tests.http.guarded import bearer, build_site, guarded, leaks, new_token, token_id

UNSET = "2000-01-01T00:14:31Z"


def ahead(hours: float = 1) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


async def send(client: httpx.AsyncClient, *events: Any, **more: Any) -> Json:
    answer: Json = body(await client.post("/v1/events", json={"events": list(events)}, **more))
    return answer


async def rejected(client: httpx.AsyncClient, query: str = "", **more: Any) -> list[Json]:
    items: list[Json] = body(await client.get(f"/v1/rejected{query}", **more))["items"]
    return items


async def test_it_tells_what_was_refused_and_why(client: httpx.AsyncClient) -> None:
    at = ahead()
    bad = event(dpu="door", timestamp="2026-01-05 08:00", direction=2)
    answer = await send(client, event(dpu="door", timestamp=at, direction=3, sequence=4), bad, 17)
    assert [item["code"] for item in answer["rejected"]] == ["in_future", "invalid", "invalid"]
    first, *others = sorted(await rejected(client), key=lambda item: (item["code"], item["dpu"] is None))
    told = {name: first[name] for name in ("dpu", "code", "detail", "direction", "sequence", "source", "body")}
    assert told == {
        "dpu": "door",
        "code": "in_future",
        "detail": answer["rejected"][0]["detail"],
        "direction": 3,
        "sequence": 4,
        "source": None,
        "body": None,
    }
    assert datetime.fromisoformat(first["timestamp"]) == datetime.fromisoformat(at)
    assert datetime.now(UTC) - datetime.fromisoformat(first["received_at"]) < timedelta(minutes=1)
    # whose it was is known also where it could not be decoded
    assert [(item["dpu"], item["code"], json.loads(item["body"])) for item in others] == [
        ("door", "invalid", bad),
        (None, "invalid", 17),
    ]


async def test_it_says_whose_a_line_of_csv_was(client: httpx.AsyncClient) -> None:
    text = "timestamp,direction,dpu_id\n2026-01-05T08:00:00Z,x,door\n"
    await client.post("/v1/events", content=text, headers={"content-type": "text/csv"})
    (item,) = await rejected(client, "?dpu=door")
    assert item["body"] == "2026-01-05T08:00:00Z,x,door"


async def test_it_lists_by_dpu_code_and_receipt(client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    await send(client, event(dpu="a", timestamp=ahead()), event(dpu="b", timestamp=ahead()))
    await send(client, event(dpu="a", timestamp="2000-01-01T00:14:31Z"))
    await connection.execute("update core.rejected_event set received_at = '2026-01-01' where dpu = 'b'")
    assert [item["dpu"] for item in await rejected(client)] == ["a", "a", "b"]
    assert {item["code"] for item in await rejected(client, "?dpu=a")} == {"in_future", "clock_unset"}
    assert [item["dpu"] for item in await rejected(client, "?code=clock_unset")] == ["a"]
    assert [item["dpu"] for item in await rejected(client, "?to=2026-01-02T00:00:00Z")] == ["b"]
    assert [item["dpu"] for item in await rejected(client, "?from=2026-01-02T00:00:00Z")] == ["a", "a"]
    assert await rejected(client, "?source=north") == []
    problem(await client.get("/v1/rejected?dpus=a"), 422, "invalid")


def in_json(dpu: str) -> bytes:
    return json.dumps({"events": [event(dpu=dpu)]}).encode()


def in_msgpack(dpu: str) -> bytes:
    return msgspec.msgpack.encode({"events": [event(dpu=dpu)]})


def in_ndjson(dpu: str) -> bytes:
    return json.dumps(event(dpu=dpu)).encode()


def in_csv(dpu: str) -> bytes:
    return f"dpu_id,timestamp,direction\n{dpu},2026-01-05T08:00:00Z,1\n".encode()


@pytest.mark.parametrize("length", [1_500, 5_000, 20_000])
@pytest.mark.parametrize(
    ("kind", "write"),
    [
        ("application/json", in_json),
        ("application/msgpack", in_msgpack),
        ("application/x-ndjson", in_ndjson),
        ("text/csv", in_csv),
    ],
)
async def test_what_differs_only_behind_what_is_shown_is_kept_by_itself(
    client: httpx.AsyncClient, kind: str, write: Callable[[str], bytes], length: int
) -> None:
    for end in ("a", "b", "a"):
        answer = await client.post("/v1/events", content=write("x" * length + end), headers={"content-type": kind})
        assert [item["code"] for item in body(answer)["rejected"]] == ["invalid"]
    first, second = await rejected(client)
    assert first["body"] == second["body"]
    assert "the first of" in first["body"]


async def test_it_keeps_those_of_one_request_by_themselves_too(client: httpx.AsyncClient) -> None:
    await send(client, *(event(dpu="x" * 2_000 + end) for end in "aab"), event(dpu="door", timestamp=UNSET), 17)
    assert [item["code"] for item in await rejected(client)].count("invalid") == 3


async def test_what_is_shown_alike_is_kept_by_itself(client: httpx.AsyncClient) -> None:
    """Such as a character that cannot be seen, and the same written out."""
    for cell in ("\x01", "\\x01"):
        await client.post("/v1/events", content=in_csv(cell), headers={"content-type": "text/csv"})
    first, second = await rejected(client)
    assert first["body"] == second["body"]


async def test_what_is_shown_as_it_is_and_came_to_a_service_of_0_2_0_too_is_kept_once(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    """It sends no digests."""
    (refusal,) = (await send(client, 17))["rejected"]
    await connection.execute(
        "select api.record_events('{}', '{}', '{}', '{}', true, array['17'], $1, array[null])", [refusal["detail"]]
    )
    assert len(await rejected(client)) == 1


async def test_it_goes_on_page_by_page(client: httpx.AsyncClient) -> None:
    await send(client, *(event(dpu="a", timestamp=ahead(1 + number)) for number in range(5)))
    whole = await rejected(client)
    found: list[Json] = []
    after = ""
    while True:
        page = body(await client.get(f"/v1/rejected?limit=2{after}"))
        found += page["items"]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert found == whole
    assert len(whole) == 5


async def test_a_limited_token_sees_what_was_sent_at_its_doorways(
    database_url: str, connection: asyncpg.Connection
) -> None:
    await build_site(connection)
    async with guarded(database_url) as client:
        everything, own = await new_token(connection), await new_token(connection, "read", space="own")
        dpus = ("own-inner", "moved", "secret-inner", "secret-loose")
        await send(client, *(event(dpu=dpu, timestamp=UNSET) for dpu in dpus), 17, headers=everything)
        # while it hung elsewhere
        await connection.execute(
            "insert into core.rejected_event (digest, received_at, code, detail, dpu, body) "
            "values ('x', '2021-01-01', 'invalid', 'It is secret.', 'moved', 'secret')"
        )
        assert len(await rejected(client, headers=everything)) == 6
        answer = await client.get("/v1/rejected", headers=own)
        assert {item["dpu"] for item in body(answer)["items"]} == {"own-inner", "moved"}
        assert not leaks(answer.text)
        assert body(await client.get("/v1/dpus/moved", headers=own))["rejected_last_day"] == 1
        problem(await client.get("/v1/rejected", headers=await new_token(connection, "ingest")), 403, "forbidden")
        problem(await client.get("/v1/rejected", headers=bearer("x")), 401, "unauthorized")


async def test_a_limited_token_does_not_see_what_was_refused_of_a_time_at_which_a_dpu_hung_elsewhere(
    database_url: str, connection: asyncpg.Connection
) -> None:
    await build_site(connection)
    before, after = ((NOON + seconds(shift)).isoformat() for shift in (-3600, 3600))
    async with guarded(database_url) as client:
        everything, own = await new_token(connection), await new_token(connection, "ingest", "read", space="own")
        events = [event(dpu="moved", timestamp=time, direction=5) for time in (before, after)]
        answer = await send(client, *events, headers=everything)
        assert [item["code"] for item in answer["rejected"]] == ["conflict", "conflict"]
        assert [item["timestamp"] for item in await rejected(client, headers=own)] == ["2026-03-04T13:00:00Z"]
        # what it sent itself it knows
        await send(client, events[0], headers=own)
        assert sorted(item["code"] for item in await rejected(client, headers=own)) == ["conflict", "unknown_dpu"]
        assert len(await rejected(client, headers=everything)) == 3


async def test_a_limited_token_says_nothing_of_dpus_beyond_its_reach(
    database_url: str, connection: asyncpg.Connection
) -> None:
    await build_site(connection)
    async with guarded(database_url) as client:
        own = await new_token(connection, "ingest", "read", space="own")
        bad = [event(dpu=dpu, timestamp="yesterday") for dpu in ("own-inner", "secret-inner")]
        await send(client, *bad, headers=own)
    dpus = await connection.fetch("select dpu from core.rejected_event order by dpu")
    assert [row["dpu"] for row in dpus] == ["own-inner", None]


# What a DPU says


async def sensor(client: httpx.AsyncClient, dpu: str) -> tuple[int, str]:
    one = body(await client.get(f"/v1/dpus/{dpu}"))
    (listed,) = (item for item in body(await client.get("/v1/dpus"))["items"] if item["id"] == dpu)
    (shown,) = (item for item in (await client.get("/sensors")).json() if item["id"] == dpu)
    for other in (listed, shown):
        assert (other["rejected_last_day"], other["clock"]) == (one["rejected_last_day"], one["clock"])
    return one["rejected_last_day"], one["clock"]


async def test_what_a_limited_token_sends_of_a_dpu_beyond_its_reach_is_kept_without_counting_for_it(
    database_url: str, connection: asyncpg.Connection
) -> None:
    await build_site(connection)
    async with guarded(database_url) as client:
        everything, own = await new_token(connection), await new_token(connection, "ingest", space="own")
        other = await new_token(connection, "read", space="secret-b")
        await send(client, event(dpu="secret-inner", timestamp=ahead()), headers=own)
        (item,) = await rejected(client, headers=everything)
        assert (item["code"], item["token"]) == ("unknown_dpu", await token_id(connection, own))
        assert await rejected(client, headers=other) == []
        # nor does it stand in the way of the DPU's own
        await send(client, event(dpu="secret-inner", timestamp=ahead()), headers=everything)
        (item,) = await rejected(client, headers=other)
        assert (item["code"], item["token"]) == ("in_future", None)
        for headers in (everything, other):
            shown = body(await client.get("/v1/dpus/secret-inner", headers=headers))
            assert shown["rejected_last_day"] == 1
            (sensor,) = [s for s in body(await client.get("/sensors", headers=headers)) if s["id"] == "secret-inner"]
            assert sensor["rejected_last_day"] == 1


async def test_a_limited_token_counts_what_was_refused_while_a_dpu_hung_at_its_doorways(
    database_url: str, connection: asyncpg.Connection
) -> None:
    await build_site(connection)
    async with guarded(database_url) as client:
        everything, own = await new_token(connection), await new_token(connection, "read", space="own")
        await send(client, event(dpu="secret-inner", timestamp=ahead()), headers=everything)
        # they are counted by hours, and one may just have begun
        await connection.execute("update core.rejected_event set received_at = received_at - interval '3 hours'")
        await connection.execute("update core.refused_of_dpu set hour = hour - interval '3 hours'")
        moment = datetime.now(UTC) - timedelta(seconds=5)
        await calls.record_placement(connection, "secret-inner", "own-inner", "own", moment)
        assert body(await client.get("/v1/dpus/secret-inner", headers=own))["rejected_last_day"] == 0
        await send(
            client, *(event(dpu="secret-inner", timestamp=ahead(), sequence=n) for n in (1, 2)), headers=everything
        )
        assert body(await client.get("/v1/dpus/secret-inner", headers=own))["rejected_last_day"] == 2
        assert body(await client.get("/v1/dpus/secret-inner", headers=everything))["rejected_last_day"] == 3


async def test_a_sensor_whose_clock_is_ahead_shows_it_until_an_event_goes_in(client: httpx.AsyncClient) -> None:
    now = datetime.now(UTC).isoformat()
    await send(client, event(dpu="door", timestamp=now))
    assert await sensor(client, "door") == (0, "ok")
    for hours in (1, 2):
        await send(client, event(dpu="door", timestamp=ahead(hours)))
    assert await sensor(client, "door") == (2, "ahead")
    await send(client, event(dpu="door", timestamp=datetime.now(UTC).isoformat()))
    assert await sensor(client, "door") == (2, "ok")


async def test_a_sensor_whose_clock_was_never_set_shows_it(client: httpx.AsyncClient) -> None:
    # what a camera sent that had just been plugged in
    answer = await send(
        client,
        event(dpu="pcm000000000001", timestamp="2000-01-01T00:14:31Z", direction=34),
        event(dpu="pcm000000000001", timestamp="2000-01-01T00:14:31Z", direction=-17, sequence=1),
    )
    assert [item["code"] for item in answer["rejected"]] == ["clock_unset"] * 2
    assert body(await client.get("/v1/dpus/pcm000000000001"))["state"] != "never_seen"  # it has just spoken
    assert await sensor(client, "pcm000000000001") == (2, "unset")


async def test_a_sensor_whose_clock_is_years_behind_shows_it(client: httpx.AsyncClient) -> None:
    await send(client, event(dpu="door", timestamp="2007-06-01T00:00:00Z"))
    assert await sensor(client, "door") == (1, "behind")


async def test_a_sensor_whose_clock_stands_still_shows_it(client: httpx.AsyncClient) -> None:
    for direction in (1, 1, 2, -1):
        await send(client, event(dpu="vs125", timestamp="2026-05-30T08:15:00Z", direction=direction))
    assert await sensor(client, "vs125") == (2, "stuck")
    await send(client, event(dpu="vs125", timestamp="2026-05-30T08:16:00Z"))
    assert await sensor(client, "vs125") == (2, "ok")


async def test_people_in_one_second_and_an_event_that_is_sent_again_are_no_stuck_clock(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    twice = [event(dpu="s2", timestamp="2026-01-28T10:00:00Z")] * 2
    assert (await send(client, *twice))["duplicates"] == 1
    for _ in range(6):
        await send(client, twice[0])
    assert await sensor(client, "s2") == (0, "ok")
    now = datetime.now(UTC).isoformat()
    await send(client, *(event(dpu="s3", timestamp=now, direction=direction) for direction in (1, 2, -1, 3)))
    assert await sensor(client, "s3") == (3, "ok")
    # but for ten minutes the same instant, and nothing else
    await connection.execute("update core.dpu_clock set repeated_from = repeated_from - interval '11 minutes'")
    assert await sensor(client, "s2") == (0, "stuck")


async def test_a_backlog_that_is_sent_again_is_no_stuck_clock(client: httpx.AsyncClient) -> None:
    backlog = [event(dpu="door", timestamp=f"2026-01-28T10:00:{second:02}Z") for second in range(10)]
    for _ in range(8):
        await send(client, *backlog)
    assert await sensor(client, "door") == (0, "ok")


INCOMPLETE: list[Json] = [
    {"timestamp": "2026-01-05T08:00:00Z"},
    {"direction": 1},
    {"timestamp": "2026-01-05T08:00:00Z", "direction": 1, "sequenc": 1},
]


@pytest.mark.parametrize("kind", ["application/json", "application/x-ndjson", "application/msgpack"])
async def test_an_incomplete_event_is_kept_for_its_sensor(client: httpx.AsyncClient, kind: str) -> None:
    events = [{"dpu": "s3", **fields} for fields in INCOMPLETE]
    content = {
        "application/json": msgspec.json.encode({"events": events}),
        "application/x-ndjson": b"\n".join(map(msgspec.json.encode, events)),
        "application/msgpack": msgspec.msgpack.encode({"events": events}),
    }[kind]
    answer = body(await client.post("/v1/events", content=content, headers={"content-type": kind}))
    assert [item["code"] for item in answer["rejected"]] == ["invalid"] * 3
    assert [item["dpu"] for item in await rejected(client, "?dpu=s3")] == ["s3"] * 3
    assert await sensor(client, "s3") == (3, "ok")
    # it was heard, and is there from now on
    found = body(await client.get("/v1/dpus/s3"))
    assert found["state"] != "never_seen"
    assert datetime.now(UTC) - datetime.fromisoformat(found["last_seen"]) < timedelta(minutes=1)


async def test_a_timestamp_of_messagepack_that_cannot_be_read_does_not_lose_the_sensor(
    client: httpx.AsyncClient,
) -> None:
    late = msgspec.msgpack.Ext(-1, bytes(4) + (2**40).to_bytes(8))
    content = msgspec.msgpack.encode({"events": [{"dpu": "s3", "timestamp": late, "direction": 1}]})
    await client.post("/v1/events", content=content, headers={"content-type": "application/msgpack"})
    assert [(item["dpu"], item["code"]) for item in await rejected(client)] == [("s3", "invalid")]


async def test_an_incomplete_reading_is_kept_for_its_sensor(client: httpx.AsyncClient) -> None:
    readings = {"id": "s4", "readings": [{"timestamp": "2026-01-05T08:00:00Z"}, 17]}
    await client.post("/ingest", json=readings)
    assert [item["dpu"] for item in await rejected(client, "?dpu=s4")] == ["s4"] * 2


async def test_without_registration_an_incomplete_event_adds_no_sensor(
    database_url: str, connection: asyncpg.Connection
) -> None:
    await calls.record_events(
        connection, [], [], [], [], False, refused_bodies=["{}"], refused_details=["No."], refused_dpus=["stranger"]
    )
    assert await connection.fetchval("select count(*) from core.dpu") == 0
    assert await connection.fetchval("select dpu from core.rejected_event") == "stranger"


async def test_incomplete_events_register_no_more_sensors_than_their_token_may(
    database_url: str, connection: asyncpg.Connection
) -> None:
    async with guarded(database_url) as client:
        await calls.set_registration(connection, 2, 1, 100)
        headers = await new_token(connection)
        await send(client, *({"dpu": f"new-{number}"} for number in range(5)), headers=headers)
        assert await connection.fetchval("select count(*) from core.dpu") == 2
        assert len(await rejected(client, headers=headers)) == 5


async def test_it_knows_the_codes(client: httpx.AsyncClient) -> None:
    told = problem(await client.get("/v1/rejected?code=bogus"), 422, "invalid")
    assert "must be invalid, conflict, in_future, clock_unset, too_old or unknown_dpu" in told["detail"]
    problem(await client.post("/v1/rejected/rerun", json={"code": "bogus"}), 422, "invalid")


@pytest.mark.parametrize(("time", "clock"), [(None, "ahead"), (UNSET, "unset"), ("2007-06-01T00:00:00Z", "behind")])
async def test_a_refused_heartbeat_shows_in_the_clock(client: httpx.AsyncClient, time: str | None, clock: str) -> None:
    async def beat(**more: str) -> list[Json]:
        refused: list[Json] = body(await client.post("/v1/heartbeats", json={"heartbeats": [{"dpu": "door", **more}]}))[
            "rejected"
        ]
        return refused

    assert len(await beat(timestamp=time or ahead())) == 1
    assert await sensor(client, "door") == (0, clock)
    # without a time it says nothing of its clock
    assert await beat() == []
    assert await sensor(client, "door") == (0, clock)
    assert await beat(timestamp=datetime.now(UTC).isoformat()) == []
    assert await sensor(client, "door") == (0, "ok")


async def test_a_heartbeat_says_nothing_of_the_clock_of_refused_events(client: httpx.AsyncClient) -> None:
    await send(client, event(dpu="door", timestamp=ahead()))
    beats = [{"dpu": "door", "timestamp": datetime.now(UTC).isoformat()}]
    assert body(await client.post("/v1/heartbeats", json={"heartbeats": beats}))["accepted"] == 1
    assert await sensor(client, "door") == (1, "ahead")
