"""What all answers have in common: headers for safety, HEAD, CORS; and what the log says of a request."""

import asyncio
import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import httpx
import pytest
from litestar import get
from litestar.response import ServerSentEvent

from headcount import logs
from headcount.http.asgi import App
from headcount.logs import AccessLog, LogThrottle, configure_logs
from headcount.wire.problems import Problem
from tests.commands.support import until
from tests.http import body, problem
from tests.http.guarded import guarded, new_token, token_id
from tests.http.test_auth import addresses


async def test_every_answer_has_headers_for_safety_errors_too(client: httpx.AsyncClient) -> None:
    for method, path in (
        ("GET", "/healthz"),
        ("GET", "/nowhere"),
        ("PATCH", "/v1/spaces"),
        ("GET", "/v1/spaces/none"),
        ("OPTIONS", "/v1/spaces"),
        ("GET", "/v1/counts"),
        ("GET", "/schema"),
    ):
        answer = await client.request(method, path)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert answer.headers["x-request-id"]
        assert not {"server", "x-powered-by", "strict-transport-security"} & set(answer.headers)


async def test_the_page_may_run_its_own_scripts_and_no_others(client: httpx.AsyncClient) -> None:
    answer = await client.get("/")
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["connect-src"] == "'self'"
    for kind in ("script", "style"):
        assert re.fullmatch(r"'self'( 'sha256-[A-Za-z0-9+/]{43}=')*", policy[f"{kind}-src"])
        inline = re.findall(rf"<{kind}(?![^>]*src=)[^>]*>", answer.text)
        assert policy[f"{kind}-src"].count("sha256") == len(inline)
    assert not re.search(r"""\son\w+=|\sstyle=|javascript:|https?://(?!www\.w3\.org)""", answer.text)


async def test_head_is_answered_wherever_get_is_as_get_without_the_body(app: App, client: httpx.AsyncClient) -> None:
    for method, path in addresses(app):
        path = re.sub(r"\{\w+\}", "room", path)
        # streams, and what goes on by itself: the report that GET /trigger_report asked for
        has_length = path not in ("/v1/counts", "/v1/live", "/metrics", "/v1/reports")
        if method == "GET":
            got, head = await client.get(path), await client.head(path)
            assert head.status_code == got.status_code
            assert head.content == b""
            assert head.headers.get("content-length") == str(len(got.content)) or not has_length
            assert head.headers["content-type"] == got.headers["content-type"]
    refused = await client.head("/v1/site")
    assert refused.status_code == 405
    assert refused.content == b""


async def test_head_of_an_answer_without_an_end_comes_to_an_end(
    connection: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forever() -> Any:
        while True:
            yield "more"
            await asyncio.sleep(0.001)

    @get("/stream", opt={"scope": None})
    async def stream() -> ServerSentEvent:
        return ServerSentEvent(forever())

    monkeypatch.setattr("headcount.app.HANDLERS", [stream])
    async with guarded(database_url) as client:
        answer = await client.head("/stream")
        assert (answer.status_code, answer.content) == (200, b"")


async def test_head_needs_a_token_where_get_does(connection: asyncpg.Connection, database_url: str) -> None:
    async with guarded(database_url) as client:
        assert (await client.head("/v1/spaces")).status_code == 401
        assert (await client.head("/v1/spaces", headers=await new_token(connection, "read"))).status_code == 200


async def test_pages_of_other_origins_may_read_nothing_unless_they_are_named(
    connection: asyncpg.Connection, database_url: str
) -> None:
    asked = {"Origin": "https://a.example", "Access-Control-Request-Method": "GET"}
    async with guarded(database_url) as client:
        for answer in (await client.options("/v1/spaces", headers=asked), await client.get("/healthz", headers=asked)):
            assert not [name for name in answer.headers if name.startswith("access-control")]
    token = await new_token(connection, "read")
    async with guarded(database_url, cors_origins=("https://a.example",)) as client:
        allowed = await client.options(
            "/v1/spaces", headers=asked | {"Access-Control-Request-Headers": "authorization"}
        )
        assert allowed.status_code == 204
        assert allowed.headers["access-control-allow-origin"] == "https://a.example"
        assert "authorization" in allowed.headers["access-control-allow-headers"].lower()
        got = await client.get("/v1/spaces", headers=asked | token)
        assert got.headers["access-control-allow-origin"] == "https://a.example"
        assert "access-control-allow-credentials" not in got.headers
        exposed = {name.strip() for name in got.headers["access-control-expose-headers"].split(",")}
        assert exposed >= {"X-Request-Id", "X-Report-Status", "ETag", "Link", "Allow", "Retry-After"}
        refused = await client.get("/v1/spaces", headers={"Origin": "https://b.example"} | token)
        assert refused.headers.get("access-control-allow-origin") != "https://b.example"
        # a page has to be able to read why it was refused
        unknown = await client.get("/v1/spaces", headers={"Origin": "https://a.example"})
        problem(unknown, 401, "unauthorized")
        assert unknown.headers["access-control-allow-origin"] == "https://a.example"


@pytest.fixture
def logged() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Call it for the lines that were logged since the last time."""
    root, ours = logging.getLogger(), logging.getLogger("headcount")
    stream = io.StringIO()
    handlers, levels = root.handlers[:], (root.level, ours.level)

    def lines() -> list[dict[str, Any]]:
        if AccessLog.lines:
            AccessLog.lines.flush()
        text = stream.getvalue()
        stream.truncate(0)
        stream.seek(0)
        return [json.loads(line) for line in text.splitlines()]

    configure_logs(stream=stream)
    yield lines
    root.handlers[:] = handlers
    AccessLog.logger = AccessLog.lines = None
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


async def test_it_logs_a_line_a_request_with_nothing_secret(
    connection: asyncpg.Connection, database_url: str, logged: Callable[[], list[dict[str, Any]]]
) -> None:
    token = await new_token(connection, "read", "ingest")
    secret = token["Authorization"].removeprefix("Bearer ")
    async with guarded(database_url) as client:
        logged()
        client.headers.update(token)
        await client.get("/v1/spaces/my-secret-space/count?at=hc_secret", headers={"X-Request-Id": "order-66"})
        await client.post("/v1/events", content=b"my secret body")
        await client.get(f"/v1/nowhere/{secret}")
        await client.get("/v1/counts", headers={"Authorization": "Bearer hc_wrong"})
        await client.head("/healthz")
        lines = logged()
    assert [(line["method"], line["route"], line["status"]) for line in lines] == [
        ("GET", "/v1/spaces/{space}/count", 422),
        ("POST", "/v1/events", 400),
        ("GET", None, 404),
        ("GET", "/v1/counts", 401),
        ("HEAD", "/healthz", 200),
    ]
    name = await token_id(connection, token)
    assert [line["token"] for line in lines] == [name, name, None, None, None]
    assert lines[0]["request_id"] == "order-66"
    for line in lines:
        assert line["duration_ms"] >= 0
        assert (line["level"], line["logger"], line["event"]) == ("info", "headcount.access", "request")
        assert line["timestamp"].endswith("Z")
        assert set(line) == {
            *("event", "level", "logger", "timestamp"),
            *("method", "route", "status", "duration_ms", "request_id", "token"),
        }
    assert "secret" not in str(lines)
    assert secret not in str(lines)
    assert "hc_" not in str(lines)


async def test_a_mistake_of_ours_is_logged_as_one_line_that_names_the_request(
    connection: asyncpg.Connection,
    database_url: str,
    logged: Callable[[], list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(*_: Any) -> None:
        raise ZeroDivisionError("because")

    monkeypatch.setattr("headcount.database.calls.list_counts", fail)
    token = await new_token(connection, "read")
    async with guarded(database_url) as client:
        answer = await client.get("/v1/counts?under=secret", headers=token)
    problem(answer, 500, "internal")
    error, request = logged()
    assert error["level"] == "error"
    assert "because" in error["exception"]
    assert answer.headers["x-request-id"] in error["event"]
    assert "secret" not in error["event"]
    assert request["status"] == 500


async def test_a_log_that_cannot_be_written_to_costs_no_answer(client: httpx.AsyncClient, logged: Any) -> None:
    stream = io.StringIO()
    configure_logs(stream=stream)
    stream.close()
    body(await client.get("/healthz"))


async def test_nothing_is_logged_of_requests_unless_logs_are_configured(
    client: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    body(await client.get("/healthz"))
    assert capsys.readouterr() == ("", "")


async def test_overload_is_logged_once_a_second_for_each_reason_with_how_often_it_came(
    connection: asyncpg.Connection,
    database_url: str,
    logged: Callable[[], list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [1000.0]
    monkeypatch.setattr("headcount.logs.time.monotonic", lambda: clock[0])
    seldom = LogThrottle()
    assert [seldom.admit(kind) for kind in ("full", "full", "full", "away")] == [0, None, None, 0]
    clock[0] += 1.0
    assert [seldom.admit("full"), seldom.admit("full"), seldom.admit("away")] == [2, None, 0]
    for number in range(1000):
        seldom.admit(str(number))
    assert len(seldom.written) == seldom.max_kinds
    monkeypatch.undo()

    reasons = [Problem("unavailable", "Too many wait."), ConnectionRefusedError("nobody there")]

    async def fail(*_: Any) -> None:
        raise reasons[0]

    monkeypatch.setattr("headcount.database.calls.list_spaces", fail)
    token = await new_token(connection, "read")
    async with guarded(database_url) as client:
        client.headers.update(token)
        logged()
        for _ in range(2):
            answers = [await client.get("/v1/spaces") for _ in range(20)]
            assert {answer.status_code for answer in answers} == {503}
            reasons.reverse()
        lines = [line["event"] for line in logged() if line["event"] != "request"]
    assert 2 <= len(lines) < 10
    assert "Too many wait." in lines[0]
    assert any("nobody there" in line for line in lines)


async def test_lines_of_requests_are_written_together_and_before_what_comes_later(
    client: httpx.AsyncClient, logged: Callable[[], list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "BUFFER_SECONDS", 3600.0)
    stream = io.StringIO()
    configure_logs(stream=stream)
    for _ in range(3):
        body(await client.get("/healthz"))
    assert stream.getvalue() == ""
    logging.getLogger("headcount.x").warning("Later")
    events = [json.loads(line)["event"] for line in stream.getvalue().splitlines()]
    assert events == ["request"] * 3 + ["Later"]
    monkeypatch.setattr(logs, "BUFFER_SECONDS", 0.05)
    body(await client.get("/healthz"))
    await until(lambda: len(stream.getvalue().splitlines()) >= 5)
    assert len(stream.getvalue().splitlines()) == 5
