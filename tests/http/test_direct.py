"""Handlers that are called directly answer as they would by Litestar's way."""

import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest

from headcount.app import create_app
from headcount.http.asgi import App
from headcount.http.direct import Direct
from headcount.settings import Settings
from tests.http import event
from tests.http.guarded import build_site, new_token

AT = "2026-03-04T12:00:00Z"
EVENTS = json.dumps({"events": [event(dpu="own-front", timestamp=AT), event(dpu="own-front", timestamp="never")]})
JSON = {"content-type": "application/json"}
COUNT = "/v1/spaces/own/count"

REQUESTS: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", f"{COUNT}?at={AT}", {}),
    ("GET", f"{COUNT}?at={AT}&known_at=2026-01-01T00:00:00Z", {}),
    ("GET", f"{COUNT}?at={AT}", {"headers": {"accept": "application/msgpack"}}),
    ("GET", f"{COUNT}?at={AT}", {"headers": {"origin": "https://elsewhere.example"}}),
    ("GET", f"{COUNT}?at={AT}&max_staleness=5", {}),
    ("GET", f"{COUNT}?at=yesterday", {}),
    ("GET", f"{COUNT}?since=2026-01-01T00:00:00Z", {}),
    ("GET", f"{COUNT}?at={AT}&at={AT}", {}),
    ("GET", f"{COUNT}?at={AT}", {"headers": {"authorization": ""}}),
    ("GET", f"{COUNT}?at={AT}", {"headers": {"authorization": "Bearer hc_unknown"}}),
    ("GET", f"/v1/spaces/{'x' * 65}/count", {}),
    ("GET", "/v1/spaces/nowhere/count", {}),
    ("GET", "/v1/spaces/secret-b/count", {}),
    ("GET", "/v1/spaces/o%77n/count", {}),
    ("GET", "/v1/spaces/.../count", {}),
    ("GET", f"{COUNT}/", {}),
    ("HEAD", f"{COUNT}?at={AT}", {}),
    ("OPTIONS", COUNT, {}),
    ("PUT", COUNT, {"content": "{}", "headers": JSON}),
    ("DELETE", "/v1/events", {}),
    ("HEAD", "/v1/events?dpu=own-front&from=2026-03-04T00:00:00Z&to=2026-03-05T00:00:00Z", {}),
    ("GET", "/v1/events?dpu=own-front&from=2026-03-04T00:00:00Z&to=2026-03-05T00:00:00Z", {}),
    ("POST", "/v1/events", {"content": EVENTS, "headers": JSON}),
    ("POST", "/v1/events", {"content": EVENTS, "headers": JSON | {"accept": "application/msgpack"}}),
    ("POST", "/v1/events?backfill=true", {"content": EVENTS, "headers": JSON}),
    ("POST", "/v1/events?backfill=perhaps", {"content": EVENTS, "headers": JSON}),
    ("POST", "/v1/events", {"content": gzip.compress(EVENTS.encode()), "headers": JSON | {"content-encoding": "gzip"}}),
    ("POST", "/v1/events", {"content": EVENTS, "headers": JSON | {"content-encoding": "br"}}),
    ("POST", "/v1/events", {"content": EVENTS, "headers": JSON | {"origin": "https://elsewhere.example"}}),
    ("POST", "/v1/events", {"content": EVENTS, "headers": {"content-type": "text/plain"}}),
    ("POST", "/v1/events", {"content": "{", "headers": JSON}),
    ("POST", "/v1/events", {"content": "", "headers": JSON}),
    ("POST", "/v1/events", {"content": EVENTS, "headers": JSON | {"content-length": "99999999"}}),
    ("POST", "/v1/events", {"content": EVENTS, "headers": JSON | {"authorization": ""}}),
    (
        "POST",
        "/v1/events",
        {
            "content": msgspec.msgpack.encode({"events": [event(dpu="own-front", timestamp=AT)]}),
            "headers": {"content-type": "application/msgpack"},
        },
    ),
]


@asynccontextmanager
async def client_of(app: App, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with app.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://t", headers=headers) as client:
        yield client


def seen(answer: httpx.Response) -> tuple[int, list[tuple[str, str]], bytes]:
    own = ("x-request-id", "x-data-as-of")
    headers = [(name, "" if name in own else value) for name, value in answer.headers.items()]
    return answer.status_code, sorted(headers), answer.content


async def test_every_answer_is_the_same(
    connection: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await build_site(connection)
    token = await new_token(connection, "read", "ingest", space="own")
    settings = Settings(database_url=database_url, jobs=False, cors_origins=("https://elsewhere.example",))
    called: list[str] = []
    run = Direct.run

    async def noted(direct: Direct, *arguments: Any) -> None:
        called.append(direct.template)
        await run(direct, *arguments)

    monkeypatch.setattr(Direct, "run", noted)
    direct, other = create_app(settings), create_app(settings)
    other.direct.of_path.clear()
    other.direct.others.clear()
    async with client_of(direct, **token) as one, client_of(other, **token) as two:
        await one.post("/v1/events", content=EVENTS, headers=JSON)
        called.clear()
        for method, address, fields in REQUESTS:
            answers = [await client.request(method, address, **fields) for client in (one, two)]
            assert seen(answers[0]) == seen(answers[1]), (method, address, fields)
    assert {*called} == {"/v1/spaces/{space}/count", "/v1/events"}
    assert len(called) > len(REQUESTS) // 2


async def test_the_metrics_and_the_log_name_the_same_route(
    connection: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await build_site(connection)
    token = await new_token(connection, "read", "ingest")
    lines: list[Any] = []
    monkeypatch.setattr("headcount.logs.AccessLog.logger", lambda **fields: lines.append(fields["route"]))
    async with client_of(create_app(Settings(database_url=database_url, jobs=False)), **token) as client:
        await client.get(COUNT)
        await client.head(COUNT)
        await client.post("/v1/events", content=EVENTS, headers=JSON)
        await client.post("/v1/events", content=EVENTS, headers=JSON | {"origin": "https://x.example"})
        metrics = (await client.get("/metrics")).text
    assert lines[:4] == ["/v1/spaces/{space}/count"] * 2 + ["/v1/events"] * 2
    assert 'route="/v1/spaces/{space}/count"' in metrics
