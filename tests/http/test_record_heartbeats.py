"""POST /v1/heartbeats."""

import gzip
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest

from headcount.settings import Settings
from tests.http import body, problem, put
from tests.http.streams import served

NOW = datetime.now(UTC)


def ago(**time: float) -> str:
    return (NOW - timedelta(**time)).isoformat()


def ahead(**time: float) -> str:
    return (datetime.now(UTC) + timedelta(**time)).isoformat()


async def beat(client: httpx.AsyncClient, *heartbeats: Any) -> Any:
    return body(await client.post("/v1/heartbeats", json={"heartbeats": list(heartbeats)}))


def accepted(count: int) -> Any:
    return {"received": count, "accepted": count, "duplicates": 0, "rejected": []}


async def sensors(client: httpx.AsyncClient) -> dict[str, Any]:
    return {sensor["id"]: sensor for sensor in body(await client.get("/sensors"))}


async def test_it_takes_heartbeats_by_id_and_by_mac_address(client: httpx.AsyncClient) -> None:
    await put(client, "dpus/named", mac_address="02:00:00:00:00:0A")
    assert await beat(client, {"dpu": "named"}, {"dpu": "new", "timestamp": ago(seconds=5)}) == accepted(2)
    for spelled in ("02:00:00:00:00:0a", "02-00-00-00-00-0A", "02000000000a"):
        assert await beat(client, {"mac_address": spelled}) == accepted(1)
    found = await sensors(client)
    assert list(found) == ["named", "new"]
    assert found["new"]["last_heartbeat"] == ago(seconds=5).replace("+00:00", "Z")
    assert datetime.fromisoformat(found["new"]["last_seen"]) > NOW, "when it was received"
    assert found["named"]["state"] == "online"


async def test_it_registers_an_address_that_nobody_has(client: httpx.AsyncClient) -> None:
    assert await beat(client, {"mac_address": "02-00-00-AA-BB-CC"}, {"mac_address": "020000aabbcd"}) == accepted(2)
    found = await sensors(client)
    assert [(id, sensor["mac_address"]) for id, sensor in found.items()] == [
        ("02:00:00:aa:bb:cc", "02:00:00:aa:bb:cc"),
        ("02:00:00:aa:bb:cd", "02:00:00:aa:bb:cd"),
    ]
    assert await beat(client, {"dpu": "02:00:00:aa:bb:cc"}) == accepted(1)
    assert len(await sensors(client)) == 2


async def test_it_tells_what_is_nothing_new(client: httpx.AsyncClient) -> None:
    new, old = {"dpu": "d", "timestamp": ago(seconds=10)}, {"dpu": "d", "timestamp": ago(seconds=20)}
    # the first one there is shows that the DPU was there, whatever came before in the request
    assert await beat(client, new, new, old) == accepted(3) | {"accepted": 2, "duplicates": 1}
    assert await beat(client, old, new) == accepted(2) | {"accepted": 0, "duplicates": 2}
    assert await beat(client, {"dpu": "d", "timestamp": ago(seconds=15)}) == accepted(1) | {
        "accepted": 0,
        "duplicates": 1,
    }
    assert (await sensors(client))["d"]["last_heartbeat"] == new["timestamp"].replace("+00:00", "Z")


async def test_a_bad_one_costs_no_other(client: httpx.AsyncClient) -> None:
    found = await beat(
        client,
        {"dpu": "a"},
        {"dpu": "a b"},
        {"mac_address": "no"},
        {},
        {"dpu": "a", "mac_address": "02:00:00:00:00:0a"},
        {"dpu": "a", "timestamp": "2026-01-05 08:00"},
        {"dpu": "a", "timestamp": ahead(minutes=6)},
        {"dpu": "a", "timestamp": "2009-06-30T23:59:59Z"},
        {"dpu": "a", "more": 1},
        17,
        {"dpu": "b", "timestamp": ahead(minutes=4)},
    )
    assert (found["received"], found["accepted"], found["duplicates"]) == (11, 2, 0)
    assert [(one["index"], one["code"]) for one in found["rejected"]] == [
        (1, "invalid"),
        (2, "invalid"),
        (3, "invalid"),
        (4, "invalid"),
        (5, "invalid"),
        (6, "in_future"),
        (7, "too_old"),
        (8, "invalid"),
        (9, "invalid"),
    ]
    assert all(one["detail"] for one in found["rejected"])
    seen = (await sensors(client))["b"]["last_seen"]
    assert datetime.fromisoformat(seen) < datetime.now(UTC), "a clock that is ahead counts as now"


async def test_it_refuses_unknown_dpus_where_registration_is_off(
    connection: asyncpg.Connection, database_url: str
) -> None:
    settings = Settings(database_url=database_url, auth="off", jobs=False, auto_register=False)
    async with served(settings) as client:
        await put(client, "dpus/known")
        found = await beat(client, {"dpu": "known"}, {"dpu": "new"}, {"mac_address": "02:00:00:00:00:0a"})
        assert (found["accepted"], [one["code"] for one in found["rejected"]]) == (1, ["unknown_dpu"] * 2)
        problem(await client.post("/heartbeat", json={"dpu": "new"}), 404, "not_found")


async def test_it_takes_messagepack_and_gzip(client: httpx.AsyncClient) -> None:
    sent = {"heartbeats": [{"dpu": "a", "timestamp": NOW}, {"dpu": "b", "timestamp": ago(seconds=1)}, {"dpu": 1}]}
    answer = await client.post(
        "/v1/heartbeats", content=msgspec.msgpack.encode(sent), headers={"Content-Type": "application/msgpack"}
    )
    assert body(answer)["accepted"] == 2
    packed = gzip.compress(json.dumps({"heartbeats": [{"dpu": "c"}]}).encode())
    answer = await client.post("/v1/heartbeats", content=packed, headers={"Content-Encoding": "gzip"})
    assert body(answer) == accepted(1)
    assert (await sensors(client))["a"]["last_heartbeat"] == NOW.isoformat().replace("+00:00", "Z")


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"{", 400, "malformed"),
        (b"[]", 422, "invalid"),
        (b'{"heartbeats": 1}', 422, "invalid"),
        (b'{"heartbeats": [], "more": 1}', 422, "invalid"),
    ],
)
async def test_it_refuses_what_is_no_list_of_heartbeats(
    client: httpx.AsyncClient, sent: bytes, status: int, code: str
) -> None:
    problem(await client.post("/v1/heartbeats", content=sent), status, code)
    assert await beat(client) == accepted(0)


async def test_it_takes_10_000_and_no_more(client: httpx.AsyncClient) -> None:
    heartbeats = [{"dpu": f"d{number}"} for number in range(10_000)]
    assert await beat(client, *heartbeats) == accepted(10_000)
    answer = await client.post("/v1/heartbeats", json={"heartbeats": [*heartbeats, {"dpu": "more"}]})
    problem(answer, 413, "too_large")
    assert len(body(await client.get("/sensors"))) == 10_000
