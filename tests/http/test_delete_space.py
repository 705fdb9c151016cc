"""DELETE /v1/spaces/{id}."""

from typing import Any

import asyncpg
import httpx
import pytest

from headcount.http.asgi import App
from tests.http import body, event, problem, put, room_with_dpu, send
from tests.http.guarded import Headers, bearer, guarded, new_token
from tests.http.reporting import trigger, wait_for
from tests.http.streams import listening


async def ids(client: httpx.AsyncClient, address: str, items: str = "items", id: str = "id") -> list[str]:
    return [item[id] for item in body(await client.get(address))[items]]


async def test_it_removes_a_space_that_has_no_facts(client: httpx.AsyncClient) -> None:
    await put(client, "spaces/room")
    response = await client.delete("/v1/spaces/room")
    assert (response.status_code, response.content) == (204, b"")
    problem(await client.get("/v1/spaces/room"), 404, "not_found")


async def test_it_retires_a_space_that_has_facts_and_they_go_on(client: httpx.AsyncClient) -> None:
    await room_with_dpu(client)
    await send(client, event())
    retired = body(await client.delete("/v1/spaces/room"))
    assert retired["retired_at"]
    assert await ids(client, "/v1/spaces") == []
    assert await ids(client, "/v1/spaces?retired=true") == ["room"]
    assert await ids(client, "/v1/counts", "counts", "space") == []
    assert await ids(client, "/v1/counts?space=room", "counts", "space") == ["room"]
    await send(client, event(timestamp="2026-01-06T08:00:00Z"))
    assert body(await client.get("/v1/spaces/room/count"))["raw_count"] == 2
    assert (await put(client, "spaces/room", retired=False))["retired_at"] is None
    assert await ids(client, "/v1/counts", "counts", "space") == ["room"]


@pytest.mark.parametrize(
    ("method", "path", "content"),
    [
        ("PUT", "/v1/doorways/door", {"sides": [None, "room"]}),
        ("POST", "/v1/spaces/room/resets", {"count": 1}),
        ("PUT", "/v1/channels/hook", {"kind": "webhook", "url": "https://example.org/", "under": "room"}),
        ("POST", "/v1/polls", {"polls": [{"space": "room", "timestamp": "2026-01-05T08:00:00Z", "status": "active"}]}),
    ],
)
async def test_what_refers_to_it_is_a_fact(client: httpx.AsyncClient, method: str, path: str, content: Any) -> None:
    await put(client, "spaces/room")
    assert (await client.request(method, path, json=content)).is_success
    assert body(await client.delete("/v1/spaces/room"))["retired_at"]


async def test_it_keeps_a_space_while_one_in_use_lies_in_it(client: httpx.AsyncClient) -> None:
    await put(client, "spaces/house")
    await put(client, "spaces/room", parent="house")
    await client.post("/v1/spaces/room/resets", json={"count": 1})
    problem(await client.delete("/v1/spaces/house"), 409, "conflict", "space")
    problem(await client.put("/v1/spaces/house", json={"retired": True}), 409, "conflict", "retired")
    body(await client.delete("/v1/spaces/room"))
    assert body(await client.delete("/v1/spaces/house"))["retired_at"]


async def test_it_keeps_a_space_to_which_a_token_is_limited(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await put(client, "spaces/room")
    await new_token(connection, space="room")
    problem(await client.delete("/v1/spaces/room"), 409, "conflict", "space")


async def test_nobody_is_told_that_a_retired_space_is_full(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await room_with_dpu(client)
    await put(client, "channels/hook", kind="webhook", url="https://example.org/", events=["over_capacity"])
    await put(client, "spaces/room", capacity=1, retired=True)
    await send(client, event(direction=5))
    assert await connection.fetchval("select api.detect_over_capacity()") == 0
    await put(client, "spaces/room", retired=False)
    assert await connection.fetchval("select api.detect_over_capacity()") == 1


async def test_it_knows_no_other_space(client: httpx.AsyncClient) -> None:
    problem(await client.delete("/v1/spaces/room"), 404, "not_found")


async def test_it_is_left_out_of_what_lies_under_another_but_answers_by_its_name(client: httpx.AsyncClient) -> None:
    await put(client, "spaces/house")
    await room_with_dpu(client)
    await put(client, "spaces/room", parent="house")
    await send(client, event())
    body(await client.delete("/v1/spaces/room"))
    for address, found in (
        ("/v1/counts", ["house"]),
        ("/v1/counts?under=house", ["house"]),
        ("/v1/counts?under=room", ["room"]),
        ("/v1/counts?space=room", ["room"]),
    ):
        assert await ids(client, address, "counts", "space") == found, address
    assert await ids(client, "/v1/spaces?parent=house") == []
    assert body(await client.get("/v1/spaces/room"))["retired_at"]


@pytest.mark.parametrize("query", ["", "under=house"])
async def test_the_live_stream_leaves_it_out(app: App, client: httpx.AsyncClient, query: str) -> None:
    """At once where it was told before, and from the beginning of later streams."""
    await put(client, "spaces/house")
    await room_with_dpu(client)
    await put(client, "spaces/room", parent="house")
    await send(client, event())
    async with listening(app, query) as stream:
        await stream.wait_for(2)
        assert sorted(stream.counts()) == [("house", 1), ("room", 1)]
        last_id = stream.events[-1].id
        body(await client.delete("/v1/spaces/room"))
        gone = {"space": "room", "deleted": True}
        await stream.wait_until(lambda: any(one.name == "space" and one.data == gone for one in stream.events))
        told = len(stream.events)
        await send(client, event(timestamp="2026-01-06T08:00:00Z"))
        await put(client, "spaces/house", capacity=9)
        await stream.wait_until(lambda: any(one.name == "count" for one in stream.events[told:]))
        assert not [one for one in stream.events[told:] if one.data.get("space") == "room"]
    async with listening(app, query) as stream:
        await stream.wait_for(1)
        assert [space for space, _ in stream.counts()] == ["house"]
    if not query:
        async with listening(app, query, last_id=last_id) as stream:
            await stream.wait_until(lambda: any(one.data == gone for one in stream.events))


async def test_the_live_stream_tells_it_to_who_names_it(app: App, client: httpx.AsyncClient) -> None:
    await room_with_dpu(client)
    await send(client, event())
    body(await client.delete("/v1/spaces/room"))
    async with listening(app, "space=room") as stream:
        await stream.wait_for(1)
        assert stream.counts() == [("room", 1)]


async def test_reports_leave_it_out_unless_they_are_about_it(client: httpx.AsyncClient) -> None:
    await put(client, "spaces/house")
    for space in ("room", "shop"):
        await put(client, f"spaces/{space}", parent="house")
        polls = [{"space": space, "timestamp": "2026-01-05T08:00:00Z", "status": "active"}]
        assert (await client.post("/v1/polls", json={"polls": polls})).is_success
    body(await client.delete("/v1/spaces/room"))
    for under, found in ((None, ["shop"]), ("house", ["shop"]), ("room", ["room"])):
        report = await trigger(client, **({"under": under} if under else {}))
        await wait_for(client, report)
        assert await ids(client, f"/v1/reports/{report}/rows", "items", "space") == found, under


async def test_a_space_to_which_a_token_was_limited_is_retired_and_the_family_of_the_token_stays(
    connection: asyncpg.Connection, database_url: str
) -> None:
    """Else what it made would belong to nobody, and outlive the revocation of whoever made it."""
    async with guarded(database_url) as client:
        admin = await new_token(connection)
        for name, parent in (("own", None), ("between", "own"), ("below", "between")):
            body(await client.put(f"/v1/spaces/{name}", json={"parent": parent}, headers=admin), 201)

        async def make(space: str, headers: Headers) -> tuple[str, Headers]:
            made = body(
                await client.post("/v1/tokens", json={"scopes": ["admin"], "space": space}, headers=headers), 201
            )
            return made["id"], bearer(made["token"])

        first_id, first = await make("own", admin)
        second_id, second = await make("between", first)
        _, third = await make("below", second)
        hook = {"kind": "webhook", "url": "https://receiver.example/hook"}
        body(await client.put("/v1/channels/hook", json=hook, headers=third), 201)
        body(await client.put("/v1/spaces/below", json={"parent": "own"}, headers=first))
        gone = await client.delete(f"/v1/tokens/{second_id}?descendants=false", headers=first)
        assert gone.status_code == 204
        assert body(await client.delete("/v1/spaces/between", headers=first))["retired_at"]
        assert (await client.delete(f"/v1/tokens/{first_id}", headers=admin)).status_code == 204
        problem(await client.get("/v1/spaces", headers=third), 401, "unauthorized")
        assert body(await client.get("/v1/channels/hook", headers=admin))["out_of_reach"]
        assert second_id in [item["id"] for item in body(await client.get("/v1/tokens", headers=admin))["items"]]
