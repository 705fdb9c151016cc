"""HEADCOUNT_AUTH=off: what keeps pages of other sites out, which a browser of this machine may have open."""

import asyncpg
import httpx
import pytest
from litestar.routes import HTTPRoute

from headcount.http.asgi import App
from tests.http import body, problem
from tests.http.guarded import guarded

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
