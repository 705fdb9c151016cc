"""What all addresses share about bodies, formats and request ids."""

import asyncio
import gzip
from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest

from headcount.http import requests
from headcount.http.asgi import App
from tests.http import body, problem


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "application/json"),
        ("", "application/json"),
        ("*/*", "application/json"),
        ("text/html,*/*;q=0.8", "application/json"),
        ("application/msgpack", "application/msgpack"),
        ("application/x-msgpack", "application/msgpack"),
        ("application/msgpack, */*", "application/msgpack"),
        ("application/json, application/msgpack", "application/json"),
        ("application/json;q=0.5, application/msgpack", "application/msgpack"),
        ("application/msgpack;q=0", "application/json"),
        ("application/msgpack;q=high", "application/json"),
    ],
)
async def test_it_answers_in_the_format_preferred(client: httpx.AsyncClient, accept: str | None, kind: str) -> None:
    response = await client.get("/v1/spaces", headers={"accept": accept or ""})
    assert response.headers["content-type"] == kind
    decode = msgspec.msgpack.decode if kind.endswith("msgpack") else msgspec.json.decode
    assert decode(response.content) == {"items": [], "next": None}


async def test_it_tells_errors_as_problem_json_whatever_is_preferred(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/spaces/room", headers={"accept": "application/msgpack"})
    problem(response, 404, "not_found")


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"content-type": "text/plain"}, 415, "unsupported_media_type"),
        ({"content-type": "application/x-ndjson"}, 415, "unsupported_media_type"),
        ({"content-type": "application/json; charset=utf-16"}, 415, "unsupported_media_type"),
        ({"content-encoding": "deflate"}, 415, "unsupported_media_type"),
        ({"content-encoding": "gzip"}, 400, "malformed"),
        ({"content-type": "application/msgpack"}, 422, "invalid"),
    ],
)
async def test_it_refuses_formats_that_it_does_not_know(
    client: httpx.AsyncClient, headers: dict[str, str], status: int, code: str
) -> None:
    problem(await client.put("/v1/spaces/room", content=b"{}", headers=headers), status, code)


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 400, "malformed"),
        (b"{", 400, "malformed"),
        (b'{"name": NaN}', 400, "malformed"),
        (b'{"name": "\xff"}', 400, "malformed"),
        (b'{"name": "\\ud800"}', 400, "malformed"),
        (b'{"x": ' + b"[" * 60_000, 422, "invalid"),
        (b'{"opening_hours": ' + b"[" * 60_000, 422, "invalid"),
        (b" " * (64 * 1024 + 1), 413, "too_large"),
        (b'{"capacity": ' + b"9" * 10_000 + b"}", 422, "invalid"),
        (b"[]", 422, "invalid"),
        (b"null", 422, "invalid"),
        (b" " * (8 * 1024 * 1024 + 1), 413, "too_large"),
    ],
)
async def test_it_refuses_bodies_that_it_cannot_read(
    client: httpx.AsyncClient, content: bytes, status: int, code: str
) -> None:
    problem(await client.put("/v1/spaces/room", content=content), status, code)


async def test_it_gives_every_answer_an_id_of_its_own_or_the_callers(client: httpx.AsyncClient) -> None:
    first, second = [await client.get(path) for path in ("/healthz", "/nowhere")]
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    for path in ("/healthz", "/nowhere"):
        kept = await client.get(path, headers={"x-request-id": "order-66"})
        assert kept.headers["x-request-id"] == "order-66"
        replaced = await client.get(path, headers={"x-request-id": "a b" * 30})
        assert len(replaced.headers["x-request-id"]) == 36


async def test_it_does_not_say_what_it_is_made_of(client: httpx.AsyncClient) -> None:
    assert "server" not in (await client.get("/healthz")).headers


async def test_it_takes_gzip_everywhere(client: httpx.AsyncClient) -> None:
    content = gzip.compress(b'{"name": "Room"}')
    response = await client.put("/v1/spaces/room", content=content, headers={"content-encoding": "gzip"})
    assert body(response, 201)["name"] == "Room"


async def test_it_gives_up_on_a_body_that_stalls(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "BODY_SECONDS", 0.1)

    async def stalling() -> AsyncIterator[bytes]:
        yield b'{"events": ['
        await asyncio.sleep(60)
        yield b"]}"

    answer = await client.post("/v1/events", content=stalling(), headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")
    assert "did not arrive" in answer.json()["detail"]


async def test_it_bounds_what_all_bodies_underway_take_together(
    client: httpx.AsyncClient, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = app.services.bodies
    monkeypatch.setattr(bodies, "limit", 1_000)
    arrived, may_end = asyncio.Event(), asyncio.Event()

    async def stalling() -> AsyncIterator[bytes]:
        yield b'{"events": [' + b" " * 888
        arrived.set()
        await may_end.wait()
        yield b"]}"

    headers = {"content-type": "application/json"}
    slow = asyncio.create_task(client.post("/v1/events", content=stalling(), headers=headers))
    await arrived.wait()
    assert bodies.held == 900
    too_much = b'{"events": []' + b" " * 200 + b"}"
    for content, packed in ((too_much, {}), (gzip.compress(too_much), {"content-encoding": "gzip"})):
        refused = await client.post("/v1/events", content=content, headers={**headers, **packed})
        assert problem(refused, 503, "unavailable")["detail"].startswith("Too many bodies")
        assert refused.headers["retry-after"] == "1"
        assert bodies.held == 900
    assert body(await client.post("/v1/events", content=b'{"events": []}', headers=headers))["received"] == 0
    may_end.set()
    assert body(await slow)["received"] == 0
    assert bodies.held == 0


async def test_it_refuses_events_when_too_many_wait_and_takes_the_body_off_the_line(
    client: httpx.AsyncClient, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = app.services.writer
    monkeypatch.setattr(writer.intake, "items", writer.settings.max_waiting_events)
    taken = 0

    async def content() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(20):
            yield b" " * 10_000
            taken += 1

    for path in ("/v1/events", "/ingest"):
        taken = 0
        refused = await client.post(path, content=content(), headers={"content-type": "application/json"})
        assert problem(refused, 503, "unavailable")["detail"].startswith("Too many events wait")
        assert refused.headers["retry-after"] == "1"
        assert taken == 20


async def test_of_a_long_accept_header_only_the_beginning_is_read(client: httpx.AsyncClient) -> None:
    """It is read before any token is looked at."""
    long = ",".join([f"a/b{number}" for number in range(5_000)])
    late = await client.get("/v1/spaces", headers={"accept": f"{long},application/msgpack"})
    assert late.headers["content-type"] == "application/json"
    early = await client.get("/v1/spaces", headers={"accept": f"application/msgpack,{long}"})
    assert early.headers["content-type"] == "application/msgpack"


async def test_a_content_type_and_escapes_without_end_are_refused_before_they_are_read(
    client: httpx.AsyncClient,
) -> None:
    """Each would take tens of milliseconds."""
    headers = {"Content-Type": "application/json" + ";" * 60_000}
    answer = await client.put("/v1/spaces/room", content=b"{}", headers=headers)
    assert "256 characters" in problem(answer, 415, "unsupported_media_type")["detail"]
    answer = await client.get("/v1/counts?space=" + "%61" * 5_000)
    assert "4000 escapes" in problem(answer, 422, "invalid")["detail"]
    to = "=" * 15_000 + "@example.org"
    answer = await client.put("/v1/channels/mail", json={"kind": "email", "to": to})
    assert problem(answer, 422, "invalid")["errors"][0]["where"] == "to"
