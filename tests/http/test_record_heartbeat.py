"""GET and POST /heartbeat."""

from datetime import UTC, datetime, timedelta

import httpx

from tests.http import body, problem, put


async def test_it_takes_one_in_whatever_way_it_comes(client: httpx.AsyncClient) -> None:
    await put(client, "dpus/door", mac_address="02:00:00:00:00:01")
    began = datetime.now(UTC)
    last = began
    for answer in (
        await client.post("/heartbeat", json={"dpu": "door"}),
        await client.post("/heartbeat", json={"mac_address": "02:00:00:00:00:01"}),
        await client.get("/heartbeat?dpu=door"),
        await client.get("/heartbeat", params={"mac_address": "02-00-00-00-00-01"}),
    ):
        found = body(answer)
        assert set(found) == {"dpu", "last_seen"}
        assert found["dpu"] == "door"
        assert last < datetime.fromisoformat(found["last_seen"]) < began + timedelta(minutes=1)
        last = datetime.fromisoformat(found["last_seen"])


async def test_it_registers_an_address_that_nobody_has(client: httpx.AsyncClient) -> None:
    found = body(await client.get("/heartbeat?mac_address=02:00:00:00:00:0A"))
    assert found["dpu"] == "02:00:00:00:00:0a"
    assert body(await client.get("/v1/dpus/02:00:00:00:00:0a"))["mac_address"] == "02:00:00:00:00:0a"


async def test_one_that_is_older_leaves_what_is_known(client: httpx.AsyncClient) -> None:
    first = body(await client.get("/heartbeat?dpu=d"))
    again = body(await client.post("/heartbeat", json={"dpu": "d", "timestamp": first["last_seen"]}))
    assert again == first


async def test_it_says_what_is_wrong(client: httpx.AsyncClient) -> None:
    for path in ("/heartbeat", "/heartbeat?dpu=a&mac_address=02:00:00:00:00:01", "/heartbeat?mac_address=x"):
        problem(await client.get(path), 422, "invalid")
    problem(await client.post("/heartbeat", json={}), 422, "invalid")
    problem(await client.post("/heartbeat", content=b""), 400, "malformed")
    ahead = (datetime.now(UTC) + timedelta(minutes=6)).isoformat()
    assert (
        "clock"
        in problem(await client.post("/heartbeat", json={"dpu": "d", "timestamp": ahead}), 422, "invalid")["detail"]
    )


async def test_head_registers_and_stores_nothing(client: httpx.AsyncClient) -> None:
    for address in ("/heartbeat?mac_address=00:11:22:33:44:55", "/heartbeat?dpu=x"):
        assert (await client.head(address)).status_code == 200
    assert (await client.get("/sensors")).json() == []
