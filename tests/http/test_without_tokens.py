"""HEADCOUNT_AUTH=off: what keeps pages of other sites out, which a browser of this machine may have open."""

from typing import Any

import asyncpg
import httpx
import pytest
from litestar.routes import HTTPRoute

from headcount.http.asgi import App
from tests.http import body, problem
from tests.http.guarded import guarded
from tests.http.test_server import exchange, served

FOREIGN = [
    "evil.example",
    "evil.example:8000",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "10.0.0.1",
    "[::2]:80",
]
NO_HOSTS = [
    *("", ":8000", "localhost:x", "localhost, evil.example"),
    *("[::1%evil.com]", "::1%1", "127.0.0.1]", "[127.0.0.1]"),
]
OWN = ["127.0.0.1", "127.0.0.1:8000", "localhost", "LOCALHOST:8523", "[::1]", "[::1]:8000", "127.0.0.2:1"]


@pytest.mark.parametrize(
    "host",
    [
        *FOREIGN,
        "",
        ":8000",
        "localhost:x",
        "localhost, evil.example",
        "[::1%evil.com]",
        "::1%1",
        "127.0.0.1]",
        "[127.0.0.1]",
    ],
)
async def test_it_answers_nothing_by_another_name(
    client: httpx.AsyncClient, connection: asyncpg.Connection, host: str
) -> None:
    """Its owner can have a name stand for this machine at any time: the page is then of the same origin."""
    headers = {"Host": host, "Sec-Fetch-Site": "same-origin"}
    for method, path in (
        *(("GET", "/v1/counts"), ("PUT", "/v1/spaces/room"), ("POST", "/v1/tokens"), ("GET", "/trigger_report")),
        *(("GET", "/"), ("GET", "/healthz"), ("GET", "/schema"), ("OPTIONS", "/v1/spaces"), ("GET", "/nothing")),
    ):
        answer = problem(await client.request(method, path, headers=headers), 421, "misdirected")
        assert "localhost" in answer["detail"]
    assert (await client.head("/v1/counts", headers=headers)).status_code == 421
    assert await connection.fetchval("select count(*) from core.space") == 0


async def test_the_host_of_the_target_is_what_counts(app: App) -> None:
    """RFC 9112, 3.2.2: the field is not looked at where the target is a whole address."""
    async with served(app) as (port, _):
        for target, host, is_answered in (
            *((b"/", b"localhost", True), (b"http://localhost/", b"localhost", True)),
            *((b"http://127.0.0.1:80/healthz?x", b"evil.example", True), (b"http://[::1]/", b"localhost", True)),
            *((b"http://evil.example/", b"localhost", False), (b"http://evil.example:80/", b"localhost", False)),
            *((b"http://localhost@evil.example/", b"localhost", False), (b"/", b"evil.example", False)),
        ):
            head = b"GET %b HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % (target, host)
            assert (b" 421 " not in (await exchange(port, head)).partition(b"\r\n")[0]) is is_answered, target


async def test_it_answers_nothing_that_names_no_host(app: App, connection: asyncpg.Connection) -> None:
    """Every browser names one; so does every program that speaks HTTP/1.1."""

    async def bare(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "headers": [field for field in scope["headers"] if field[0] != b"host"]}, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(bare), base_url="http://localhost") as client:
        for method, path in (("GET", "/v1/counts"), ("PUT", "/v1/spaces/room"), ("GET", "/healthz")):
            problem(await client.request(method, path, json={}), 421, "misdirected")
    assert await connection.fetchval("select count(*) from core.space") == 0


async def test_a_field_that_comes_twice_has_to_be_right_each_time(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    for name, own, foreign in (
        ("Sec-Fetch-Site", "same-origin", "cross-site"),
        ("Origin", "http://localhost", "http://evil.example"),
        ("Referer", "http://localhost/", "http://evil.example/"),
    ):
        for values in ((own, foreign), (foreign, own)):
            twice = [(name, value) for value in values]
            problem(await client.put("/v1/spaces/room", json={}, headers=twice), 403, "forbidden")
        answer = await client.put("/v1/spaces/room", json={}, headers=[(name, own), (name, own)])
        assert answer.status_code in (200, 201)


@pytest.mark.parametrize("host", OWN)
async def test_it_answers_by_the_names_of_this_machine(client: httpx.AsyncClient, host: str) -> None:
    body(await client.get("/v1/counts", headers={"Host": host}))
    assert (await client.put("/v1/spaces/room", json={}, headers={"Host": host})).status_code in (200, 201)


async def test_where_tokens_are_asked_for_any_name_will_do(connection: asyncpg.Connection, database_url: str) -> None:
    async with guarded(database_url) as client:
        body(await client.get("/healthz", headers={"Host": "counts.example"}))


def changing(app: App) -> list[tuple[str, str]]:
    """All that changes or triggers something: each method but GET, and those GETs."""
    found = {
        (str(method), route.path.replace(":str}", "}"))
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for method in route.methods
        if method in ("POST", "PUT", "DELETE")
    }
    return sorted(found | {("GET", "/trigger_report"), ("GET", "/heartbeat")})


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://localhost:1"},
        {"Origin": "https://localhost"},
        {"Origin": "null"},
        {"Referer": "http://evil.example/page"},
        {"Referer": "https://localhost/"},
        {"Referer": "http://localhost.evil.example/"},
    ],
)
async def test_a_page_of_another_site_changes_and_triggers_nothing(
    app: App, client: httpx.AsyncClient, connection: asyncpg.Connection, headers: dict[str, str]
) -> None:
    for method, path in changing(app):
        problem(await client.request(method, path.replace("{", "").replace("}", ""), headers=headers), 403, "forbidden")
        if method == "GET":  # as an image or a link could
            assert (await client.head(path, headers=headers)).status_code == 403
    assert await connection.fetchval("select count(*) from core.report") == 0
    body(await client.get("/v1/spaces", headers=headers))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://localhost"},
        {"Referer": "http://localhost/sensors?x=/"},
    ],
)
async def test_its_own_pages_and_programs_change_what_they_like(
    client: httpx.AsyncClient, connection: asyncpg.Connection, headers: dict[str, str]
) -> None:
    assert (await client.put("/v1/spaces/room", json={}, headers=headers)).status_code == 201
    body(await client.get("/trigger_report", headers=headers))
