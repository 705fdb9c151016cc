"""Every address x {no token, bad, malformed, expired, revoked, each scope, another subtree}."""

import asyncio
import gc
import hashlib
import hmac
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import asyncpg
import httpx
import pytest
from litestar import get
from litestar.routes import HTTPRoute

from headcount.app import create_app
from headcount.database import calls
from headcount.http import auth
from headcount.http.asgi import App
from headcount.http.auth import Tokens, digest_of, make_token
from headcount.settings import Settings
from headcount.wire.messages.tokens import TokenRow
from tests.http import body, event, poll, problem
from tests.http.guarded import LONG_AGO, Headers, bearer, build_site, guarded, leaks, new_token, token_id
from tests.notices.support import make_channel, tell


class Try(NamedTuple):
    """A request beyond the reach of a token that is limited to the space `own`, and what becomes of it."""

    path: str
    status: int
    sent: Any = None


def read(*tries: tuple[str, int]) -> tuple[str, list[Try]]:
    return "read", [Try(*found) for found in tries]


HOOK = {"kind": "webhook", "url": "https://93.184.216.34/hook"}
PLACED = {"doorway": "own-inner", "mounted_in": "own"}
EVERY_ADDRESS: dict[str, tuple[str | None, Sequence[Try]]] = {
    "GET /": (None, []),
    "GET /reports": (None, []),
    "GET /docs": (None, []),
    "GET /web/{file}": (None, []),
    "GET /healthz": (None, []),
    "GET /readyz": (None, []),
    "GET /schema": (None, []),
    "GET /metrics": read(("/metrics", 403)),  # sums over everybody
    "GET /v1/spaces": read(("/v1/spaces", 200), ("/v1/spaces?parent=secret-b", 404)),
    "GET /v1/spaces/{space}": read(("/v1/spaces/secret-b", 404), ("/v1/spaces/own", 200)),
    "PUT /v1/spaces/{space}": (
        "admin",
        [
            Try("/v1/spaces/secret-b", 404, {"name": "mine"}),
            Try("/v1/spaces/secret-b", 404, {"parent": "own"}),
            Try("/v1/spaces/own-new", 422, {"parent": "secret-b"}),
            Try("/v1/spaces/own-new", 403, {"parent": None}),
            Try("/v1/spaces/own-room", 422, {"parent": "secret-b"}),
            Try("/v1/spaces/own-room", 403, {"parent": None}),
            Try("/v1/spaces/own", 422, {"parent": "secret-b"}),
        ],
    ),
    "DELETE /v1/spaces/{space}": ("admin", [Try("/v1/spaces/secret-room", 404), Try("/v1/spaces/own", 409)]),
    "GET /v1/spaces/{space}/count": read(("/v1/spaces/secret-b/count", 404)),
    "GET /v1/spaces/{space}/counts": read(("/v1/spaces/secret-b/counts", 404)),
    "GET /v1/counts": read(
        ("/v1/counts", 200),
        ("/v1/counts?space=own&space=secret-b", 404),
        ("/v1/counts?under=secret-campus", 404),
    ),
    "GET /v1/live": read(
        ("/v1/live", 200),
        ("/v1/live?under=own-room", 200),
        ("/v1/live?space=own&space=secret-b", 404),
        ("/v1/live?under=secret-campus", 404),
        ("/v1/live?under=nowhere", 404),
    ),
    "POST /v1/spaces/{space}/resets": ("admin", [Try("/v1/spaces/secret-b/resets", 404, {"count": 1})]),
    "GET /v1/spaces/{space}/resets": read(("/v1/spaces/secret-b/resets", 404)),
    "GET /v1/doorways": read(("/v1/doorways", 200)),
    "GET /v1/doorways/{doorway}": read(("/v1/doorways/secret-inner", 404), ("/v1/doorways/own-front", 200)),
    "PUT /v1/doorways/{doorway}": (
        "admin",
        [
            Try("/v1/doorways/secret-inner", 404, {"name": "mine"}),
            Try("/v1/doorways/own-front", 403, {"name": "mine"}),
            Try("/v1/doorways/own-new", 422, {"sides": ["own", "secret-b"]}),
        ],
    ),
    "GET /v1/dpus": read(("/v1/dpus", 200), ("/v1/dpus?space=secret-b", 404), ("/v1/dpus?placed=false", 200)),
    "GET /v1/dpus/{dpu}": read(
        ("/v1/dpus/secret-inner", 404), ("/v1/dpus/secret-loose", 404), ("/v1/dpus/own-front", 200)
    ),
    "PUT /v1/dpus/{dpu}": (
        "admin",
        [
            Try("/v1/dpus/secret-inner", 404, {"name": "mine"}),
            Try("/v1/dpus/secret-loose", 404, {"name": "mine"}),
            Try("/v1/dpus/quite-new", 404, {}),
            Try("/v1/dpus/own-front", 403, {"name": "mine"}),
        ],
    ),
    "GET /v1/dpus/{dpu}/placements": read(
        ("/v1/dpus/secret-inner/placements", 404),
        ("/v1/dpus/moved/placements", 200),
        ("/v1/dpus/own-front/placements", 200),
    ),
    "POST /v1/dpus/{dpu}/placements": (
        "admin",
        [
            Try("/v1/dpus/secret-inner/placements", 404, PLACED),
            Try("/v1/dpus/secret-loose/placements", 404, PLACED),
            Try("/v1/dpus/own-inner/placements", 422, {"doorway": "secret-inner", "mounted_in": "secret-b"}),
            Try("/v1/dpus/own-inner/placements", 403, {"doorway": "own-front", "mounted_in": "own"}),
            Try("/v1/dpus/own-front/placements", 403, PLACED),
            Try("/v1/dpus/own-front/placements", 403, {"doorway": None}),
            # a time at which it was theirs
            Try("/v1/dpus/moved/placements", 403, {**PLACED, "from": "2026-01-01T00:00:00Z"}),
            # a time at which it was nobody's
            Try(
                "/v1/dpus/own-inner/placements",
                403,
                {**PLACED, "mounted_in": "own-room", "from": "2019-01-01T00:00:00Z"},
            ),
        ],
    ),
    "PUT /v1/site": (
        "admin",
        [
            Try("/v1/site", 404, {"spaces": [{"id": "secret-b", "name": "mine"}]}),
            Try("/v1/site", 422, {"spaces": [{"id": "own-new", "parent": "secret-b"}]}),
            Try("/v1/site", 404, {"doorways": [{"id": "secret-inner", "name": "mine"}]}),
            Try("/v1/site", 404, {"dpus": [{"id": "quite-new"}]}),
            Try("/v1/site", 404, {"dpus": [{"id": "secret-loose"}]}),
            Try("/v1/site", 422, {"placements": [{"dpu": "secret-loose", "from": "2026-01-01T00:00:00Z", **PLACED}]}),
            Try(
                "/v1/site",
                403,
                {"placements": [{"dpu": "moved", "doorway": None, "from": "2026-01-01T00:00:00Z"}]},
            ),
        ],
    ),
    "POST /v1/events": (
        "ingest",
        [
            Try("/v1/events", 200, {"events": [event("secret-inner")]}),
            Try("/v1/events", 200, {"events": [event("secret-loose")]}),
            Try("/v1/events", 200, {"events": [event("quite-new")]}),
            Try("/v1/events", 200, {"events": [event("moved", "2026-01-01T00:00:00Z")]}),
            # the same identity as one that is stored of there: not even a conflict
            Try("/v1/events", 200, {"events": [event("moved", "2026-03-04T11:00:00Z")]}),
        ],
    ),
    "POST /v1/polls": (
        "ingest",
        [
            Try("/v1/polls", 200, {"polls": [poll("secret-b")]}),
            Try("/v1/polls", 200, {"polls": [poll("quite-new")]}),
        ],
    ),
    "GET /v1/events": read(
        ("/v1/events?space=secret-b", 404),
        ("/v1/events?dpu=secret-inner", 404),
        ("/v1/events?dpu=moved", 200),
        ("/v1/events?space=own", 200),
    ),
    "GET /v1/rejected": read(("/v1/rejected", 200), ("/v1/rejected?dpu=secret-inner", 200)),
    "POST /v1/rejected/rerun": (
        "admin",
        [Try("/v1/rejected/rerun", 200, {"dpu": "secret-inner"}), Try("/v1/rejected/rerun", 200, {"ids": ["1"]})],
    ),
    "DELETE /v1/dpus/{dpu}/placements": (
        "admin",
        [
            Try(f"/v1/dpus/secret-inner/placements?from={LONG_AGO}", 404),
            Try(f"/v1/dpus/secret-loose/placements?from={LONG_AGO}", 404),
            # its beginnings are those of a part that is theirs
            Try(f"/v1/dpus/own-front/placements?from={LONG_AGO}", 403),
        ],
    ),
    "DELETE /v1/doorways/{doorway}": (
        "admin",
        [Try("/v1/doorways/secret-inner", 404), Try("/v1/doorways/own-front", 403)],
    ),
    "DELETE /v1/dpus/{dpu}": (
        "admin",
        [Try("/v1/dpus/secret-inner", 404), Try("/v1/dpus/secret-loose", 404), Try("/v1/dpus/own-front", 403)],
    ),
    "DELETE /v1/spaces/{space}/resets": ("admin", [Try(f"/v1/spaces/secret-b/resets?at={LONG_AGO}", 404)]),
    "POST /ingest": (
        "ingest",
        [
            Try(
                "/ingest", 200, {"id": "secret-inner", "readings": [{"timestamp": "2026-03-04T12:00:00Z", "count": 1}]}
            ),
            Try("/ingest", 200, {"id": "quite-new", "readings": [{"timestamp": "2026-03-04T12:00:00Z", "count": 1}]}),
        ],
    ),
    "POST /v1/heartbeats": (
        "ingest",
        [
            Try("/v1/heartbeats", 200, {"heartbeats": [{"dpu": "secret-inner"}]}),
            Try("/v1/heartbeats", 200, {"heartbeats": [{"dpu": "secret-loose"}]}),
            Try("/v1/heartbeats", 200, {"heartbeats": [{"dpu": "quite-new"}]}),
            Try("/v1/heartbeats", 200, {"heartbeats": [{"mac_address": "02:00:00:00:00:01"}]}),
            Try("/v1/heartbeats", 200, {"heartbeats": [{"dpu": "moved", "timestamp": "2026-01-01T00:00:00Z"}]}),
        ],
    ),
    "POST /heartbeat": (
        "ingest",
        [Try("/heartbeat", 404, {"dpu": "secret-inner"}), Try("/heartbeat", 404, {"mac_address": "02:00:00:00:00:01"})],
    ),
    "GET /heartbeat": ("ingest", [Try("/heartbeat?dpu=secret-inner", 404), Try("/heartbeat?dpu=quite-new", 404)]),
    "GET /sensors": read(
        ("/sensors", 200), ("/sensors?space=own", 200), ("/sensors?space=secret-b", 404), ("/sensors?state=online", 200)
    ),
    "GET /v1/incidents": read(("/v1/incidents", 200), ("/v1/incidents?open=true", 200)),
    "GET /v1/dpus/{dpu}/availability": read(
        ("/v1/dpus/secret-inner/availability", 404), ("/v1/dpus/moved/availability", 200)
    ),
    "GET /devices/{device}": read(("/devices/secret-inner", 404), ("/devices/moved", 200)),
    "GET /devices/{device}/latest_timestamp": read(("/devices/secret-inner/latest_timestamp", 404)),
    "GET /devices/{device}/cumulative_count": read(
        ("/devices/secret-inner/cumulative_count", 404), ("/devices/moved/cumulative_count", 200)
    ),
    "GET /v1/channels": ("admin", [Try("/v1/channels", 200)]),
    "GET /v1/channels/{channel}": ("admin", [Try("/v1/channels/secret-channel", 404)]),
    "PUT /v1/channels/{channel}": (
        "admin",
        [
            Try("/v1/channels/secret-channel", 404, {}),
            Try("/v1/channels/secret-channel", 404, {"under": "own"}),
            Try("/v1/channels/own-new", 422, {**HOOK, "under": "secret-b"}),
        ],
    ),
    "DELETE /v1/channels/{channel}": ("admin", [Try("/v1/channels/secret-channel", 404)]),
    "POST /v1/channels/{channel}/test": ("admin", [Try("/v1/channels/secret-channel/test", 404)]),
    "GET /v1/deliveries": read(("/v1/deliveries", 200), ("/v1/deliveries?channel=secret-channel", 404)),
    "POST /v1/deliveries/{delivery}/replay": ("admin", [Try("/v1/deliveries/1/replay", 404)]),
    "GET /trigger_report": read(("/trigger_report?under=secret-b", 404)),
    "POST /trigger_report": ("read", [Try("/trigger_report", 404, {"under": "secret-b"})]),
    "GET /get_report": read(("/get_report?report_id=secret-report", 404)),
    "POST /v1/reports": ("read", [Try("/v1/reports", 404, {"under": "secret-b"})]),
    "GET /v1/reports": read(("/v1/reports", 200)),
    "GET /v1/reports/{report}": read(("/v1/reports/secret-report", 404)),
    "GET /v1/reports/{report}/rows": read(("/v1/reports/secret-report/rows", 404)),
    "GET /v1/reports/{report}/csv": read(("/v1/reports/secret-report/csv", 404)),
    "GET /v1/spaces/{space}/uptime": read(("/v1/spaces/secret-b/uptime", 404), ("/v1/spaces/own/uptime", 200)),
    "GET /v1/spaces/{space}/uptime/timeline": read(
        ("/v1/spaces/secret-b/uptime/timeline", 404), ("/v1/spaces/own/uptime/timeline", 200)
    ),
    "POST /v1/tokens": (
        "admin",
        [
            Try("/v1/tokens", 422, {"scopes": ["read"], "space": "secret-b"}),
            Try("/v1/tokens", 403, {"scopes": ["read", "ingest"]}),
        ],
    ),
    "GET /v1/tokens": ("admin", [Try("/v1/tokens", 200)]),
    "DELETE /v1/tokens/{token}": ("admin", [Try("/v1/tokens/secret-token", 404)]),
}


def addresses(app: App) -> list[tuple[str, str]]:
    return [
        (str(method), route.path_format)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for method in route.methods
        if method != "OPTIONS"
    ]


def test_every_address_is_in_the_matrix(app: App) -> None:
    assert {f"{method} {path}" for method, path in addresses(app)} == set(EVERY_ADDRESS)


async def test_the_description_says_which_scope_each_address_asks_for(client: httpx.AsyncClient) -> None:
    document = body(await client.get("/schema"))
    found = {
        f"{method.upper()} {path}": operation["security"]
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    wanted = {address: [{"token": [scope]}] if scope else [] for address, (scope, _) in EVERY_ADDRESS.items()}
    assert found == wanted
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"


async def ask(client: httpx.AsyncClient, address: str, headers: Headers) -> httpx.Response:
    """About nothing that exists, so that who may ask gets 404 or 422 at worst."""
    method, path = address.replace("{file}", "page.css").split()
    for name in ("space", "doorway", "dpu", "device", "token", "channel", "delivery"):
        path = path.replace(f"{{{name}}}", "no-such-thing")
    if address.startswith(("DELETE /v1/tokens", "DELETE /v1/channels")):
        return await client.delete(path, headers=headers)
    return await client.request(method, path, headers=headers, content=b"{}" if method in ("PUT", "POST") else None)


async def test_no_address_answers_without_a_good_token_of_the_right_scope(
    connection: asyncpg.Connection, database_url: str
) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    expired = await new_token(connection, expires_at=soon)
    revoked = await new_token(connection)
    await calls.revoke_token(connection, await token_id(connection, revoked))
    good = await new_token(connection)
    malformed: list[Headers] = [
        {"Authorization": text}
        for text in (
            "",
            "Bearer",
            "Bearer ",
            "hc_",
            good["Authorization"].removeprefix("Bearer "),
            good["Authorization"].replace("Bearer", "Basic"),
            f"{good['Authorization']} more",
            f"{good['Authorization']}x",
            good["Authorization"][:-1],
            "Bearer " + "x" * 10_000,
            "Bearer hc_'; drop table core.token; --",
        )
    ]
    await connection.execute(
        "update core.token set expires_at = now() - interval '1 second' where expires_at is not null"
    )
    scoped = {scope: await new_token(connection, scope) for scope in ("ingest", "read", "admin")}
    async with guarded(database_url) as client:
        for address, (wanted, _) in EVERY_ADDRESS.items():
            if wanted is None:
                assert (await ask(client, address, {})).status_code == 200
                continue
            for headers in ({}, bearer(make_token()), expired, revoked, *malformed):
                answer = await ask(client, address, headers)
                problem(answer, 401, "unauthorized")
                assert answer.headers["www-authenticate"].startswith('Bearer realm="headcount"')
            for scope, headers in scoped.items():
                answer = await ask(client, address, headers)
                if scope == wanted or (scope, wanted) == ("admin", "read"):
                    assert answer.status_code in (200, 201, 202, 204, 404, 422), f"{address} {answer.text}"
                else:
                    detail = problem(answer, 403, "forbidden")["detail"]
                    assert f"lacks the scope `{wanted}`" in detail
                    assert detail.endswith(f"headcount token create --scope {wanted}")
                    assert f'scope="{wanted}"' in answer.headers["www-authenticate"]


async def test_a_token_of_a_space_gets_nothing_from_beyond_it_and_changes_nothing_there(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build_site(connection)
    await connection.execute("insert into core.space (id) values ('secret-empty')")
    await calls.create_token(connection, digest_of(make_token()), ["read"], "secret token", "secret-b")
    await make_channel(connection, "secret-channel")
    await tell(connection, "offline", 1, "secret-b", dpus=["secret-inner"])
    for state, space in (("complete", "null"), ("failed", "(select space_id from core.space where id = 'secret-b')")):
        await connection.execute(
            "insert into core.report (id, space_id, format, state, created_at) "
            f"values ('secret-report{'' if space == 'null' else '-b'}', {space}, 'csv', '{state}', now())"
        )
    # each with the one scope that the address asks for
    tokens = {scope: await new_token(connection, scope, space="own") for scope in ("ingest", "read", "admin")}
    all_scopes = await new_token(connection)
    before = await everything(connection)
    async with guarded(database_url) as client:
        for address, (scope, tries) in EVERY_ADDRESS.items():
            if scope is None:
                continue
            assert tries, f"{address} lacks a try"
            for path, status, sent in tries:
                method = address.split()[0]
                answer = await client.request(method, path, json=sent, headers=tokens[scope])
                assert answer.status_code == status, f"{method} {path} {sent}: {answer.text}"
                if method == "POST" and status == 200:
                    assert body(answer)["accepted"] == body(answer)["duplicates"] == 0
                    # of those that were refused before, it reaches none
                    expected = ([],) if path == "/v1/rejected/rerun" else (["unknown_dpu"], ["unknown_space"])
                    assert [found["code"] for found in body(answer)["rejected"]] in expected
                if status == 200:
                    assert not leaks(answer.text), f"{method} {path}: {answer.text}"
        body(await client.get("/v1/spaces/secret-b", headers=all_scopes))
    assert await everything(connection) == before


async def everything(connection: asyncpg.Connection) -> list[str]:
    tables = (
        "space",
        "schedule",
        "doorway",
        "dpu",
        "placement",
        "event",
        "reset",
        "dpu_state",
        "first_sign",
        "outage",
        "boundary",
        "live_flow",
        "poll",
        "site",
        "report",
    )
    found = [
        row[0]
        for table in tables
        for row in await connection.fetch(f"select to_jsonb(t)::text from core.{table} t order by 1")
    ]
    found += [row[0] for row in await connection.fetch("select id from core.channel order by 1")]
    found += [row[0] for row in await connection.fetch("select state from core.delivery order by 1")]
    return found + [row[0] for row in await connection.fetch("select id from core.token order by 1")]


async def test_an_address_that_names_no_scope_asks_for_admin(
    connection: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @get("/forgotten")
    async def forgotten() -> str:
        return "everything"

    monkeypatch.setattr("headcount.app.HANDLERS", [forgotten])
    reader, admin = await new_token(connection, "read"), await new_token(connection, "admin")
    async with guarded(database_url) as client:
        problem(await client.get("/forgotten"), 401, "unauthorized")
        problem(await client.get("/forgotten", headers=reader), 403, "forbidden")
        assert (await client.get("/forgotten", headers=admin)).text == "everything"


async def test_an_open_address_cannot_reach_the_data(
    connection: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headcount.http.requests import HttpRequest
    from headcount.http.sessions import database

    @get("/careless", opt={"scope": auth.OPEN})
    async def careless(request: HttpRequest) -> str:
        return str(await calls.list_spaces(database(request)))

    monkeypatch.setattr("headcount.app.HANDLERS", [careless])
    async with guarded(database_url) as client:
        problem(await client.get("/careless"), 500, "internal")


async def test_revocation_holds_within_five_seconds_in_every_process(
    connection: asyncpg.Connection, database_url: str
) -> None:
    token, admin = await new_token(connection, "read"), await new_token(connection, "admin")
    async with guarded(database_url) as one, guarded(database_url) as other:
        for client in (one, other):
            body(await client.get("/v1/counts", headers=token))
        answer = await one.delete(f"/v1/tokens/{await token_id(connection, token)}", headers=admin)
        assert answer.status_code == 204
        revoked_at = time.monotonic()
        problem(await one.get("/v1/counts", headers=token), 401, "unauthorized")
        while True:
            sent_at = time.monotonic()
            if (await other.get("/v1/counts", headers=token)).status_code != 200:
                break
            assert sent_at - revoked_at < 5
            await asyncio.sleep(0.05)
        problem(await other.get("/v1/counts", headers=token), 401, "unauthorized")


async def test_a_token_expires_to_the_instant_although_it_is_remembered(
    connection: asyncpg.Connection, database_url: str
) -> None:
    token = await new_token(connection, "read", expires_at=datetime.now(UTC) + timedelta(hours=1))
    expires_at = await connection.fetchval(
        "update core.token set expires_at = now() + interval '1 second' returning expires_at"
    )
    async with guarded(database_url) as client:
        while True:
            sent_at = datetime.now(UTC)
            answer = await client.get("/v1/counts", headers=token)
            if answer.status_code == 401:
                assert datetime.now(UTC) >= expires_at
                break
            assert sent_at < expires_at
            await asyncio.sleep(0.01)


class Counting:
    """A database of tokens that counts what it is asked."""

    def __init__(self, *good: str) -> None:
        self.good = {digest_of(token): token for token in good}
        self.asked: list[Sequence[bytes]] = []

    async def find(self, _session: object, digests: Sequence[bytes]) -> list[TokenRow]:
        self.asked.append(digests)
        await asyncio.sleep(0)
        return [
            TokenRow(d, f"tok_{d.hex()[:12]}", ["read"], False, None, None, None) for d in digests if d in self.good
        ]


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    found = Counting(make_token())
    monkeypatch.setattr("headcount.database.calls.find_tokens", found.find)
    return found


async def test_a_flood_of_unknown_tokens_costs_few_looks_and_no_memory(
    connection: asyncpg.Connection, counting: Counting
) -> None:
    tokens = Tokens(connection)
    begun = time.monotonic()
    for _ in range(20):
        found = await asyncio.gather(
            *(tokens.find(digest_of(make_token())) for _ in range(2 * auth.MAX_UNKNOWN)), return_exceptions=True
        )
        assert sum(access is None for access in found) == auth.MAX_UNKNOWN
        refused = [error for error in found if error is not None]
        assert {type(error).__name__ for error in refused} == {"Problem"}
    elapsed = time.monotonic() - begun
    assert len(counting.asked) <= elapsed / auth.PAUSE_SECONDS + 1
    assert max(map(len, counting.asked)) <= auth.MAX_UNKNOWN
    assert not tokens.known
    assert tokens.next is None


async def test_a_known_token_costs_one_look_in_a_while_however_often_it_comes(
    connection: asyncpg.Connection, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "FRESH_SECONDS", 3600.0)
    tokens = Tokens(connection)
    (digest,) = counting.good
    for _ in range(5):
        assert all(await asyncio.gather(*(tokens.find(digest) for _ in range(100))))
    assert len(counting.asked) == 1


async def test_it_remembers_a_bounded_number_of_tokens(
    connection: asyncpg.Connection, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "MAX_KNOWN", 3)
    tokens = Tokens(connection)
    counting.good = {digest_of(token): token for token in (make_token() for _ in range(10))}
    for digest in counting.good:
        assert await tokens.find(digest)
        assert len(tokens.known) <= 3
    assert list(tokens.known) == list(counting.good)[-3:]


async def test_who_gives_up_waiting_leaves_the_look_to_the_others(
    connection: asyncpg.Connection, counting: Counting
) -> None:
    tokens = Tokens(connection)
    (digest,) = counting.good
    one, other = (asyncio.create_task(tokens.find(digest)) for _ in range(2))
    await asyncio.sleep(0)
    one.cancel()
    found = await other
    assert found is not None
    assert found.digest == digest


async def test_nobody_is_let_in_on_a_remembered_answer_when_the_database_is_away(
    connection: asyncpg.Connection, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = Tokens(connection)
    (digest,) = counting.good
    assert await tokens.find(digest)

    async def away(*_: object) -> list[TokenRow]:
        raise OSError("away")

    monkeypatch.setattr("headcount.database.calls.find_tokens", away)
    monkeypatch.setattr(auth, "FRESH_SECONDS", 0.0)
    with pytest.raises(OSError, match="away"):
        await tokens.find(digest)


async def test_only_digests_are_compared_and_in_constant_time(
    connection: asyncpg.Connection, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is looked up is a SHA-256: how long that takes tells nothing of the token, every bit of which changes it."""
    monkeypatch.setattr(auth, "FRESH_SECONDS", 3600.0)
    tokens = Tokens(connection)
    ((digest, token),) = counting.good.items()
    assert digest_of(token) == hashlib.sha256(token.encode()).digest()
    compared = []
    compare_digest = hmac.compare_digest

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return compare_digest(a, b)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    for _ in range(2):  # asked of the database, and remembered
        assert await tokens.find(digest)
    assert compared == [(digest, digest)] * 2
    # whatever the lookup says, it is the comparison that decides
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: False)
    assert await tokens.find(digest) is None
    assert all(len(asked) == 32 and token.encode() not in asked for asked in counting.asked[0])


async def test_nothing_secret_of_a_token_is_stored(connection: asyncpg.Connection, database_url: str) -> None:
    admin = await new_token(connection, "admin")
    async with guarded(database_url) as client:
        made = body(await client.post("/v1/tokens", json={"scopes": ["read"]}, headers=admin), 201)
        assert auth.TOKEN.fullmatch(made["token"])
        stored = str([tuple(row) for row in await connection.fetch("select to_jsonb(t)::text from core.token t")])
        listed = (await client.get("/v1/tokens", headers=admin)).text
    for text in (stored, listed):
        assert made["token"] not in text
        assert made["token"].removeprefix("hc_") not in text
    assert digest_of(made["token"]).hex() in stored
    assert digest_of(made["token"]).hex() not in listed


def test_tokens_hold_256_random_bits() -> None:
    tokens = {make_token() for _ in range(1000)}
    assert len(tokens) == 1000
    assert all(auth.TOKEN.fullmatch(token) for token in tokens)


async def test_a_page_of_another_site_cannot_write_to_a_service_without_tokens(client: httpx.AsyncClient) -> None:
    for site in ("cross-site", "same-site"):
        answer = await client.put("/v1/spaces/room", json={}, headers={"Sec-Fetch-Site": site})
        problem(answer, 403, "forbidden")
        # as an image or a link could
        answer = await client.get("/heartbeat", params={"dpu": "dpu-1"}, headers={"Sec-Fetch-Site": site})
        problem(answer, 403, "forbidden")
        assert (await client.get("/v1/spaces", headers={"Sec-Fetch-Site": site})).status_code == 200
    for site in ("same-origin", "none"):
        assert (await client.put("/v1/spaces/room", json={}, headers={"Sec-Fetch-Site": site})).status_code in (
            200,
            201,
        )


async def test_an_answer_that_lasts_can_ask_whether_its_token_is_still_good(
    connection: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "FRESH_SECONDS", 0.0)
    app = create_app(Settings(database_url=database_url, jobs=False))
    token = await new_token(connection, "read")
    async with app.lifespan():
        authenticator: auth.Authenticator = app.services.authenticator
        access = await authenticator.identify(token["Authorization"], "read")
        assert await authenticator.is_still_good(access)
        await calls.revoke_token(connection, await token_id(connection, token))
        assert not await authenticator.is_still_good(access)


async def test_a_look_that_fails_when_nobody_waits_any_more_is_no_error_of_ours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun, may_fail = asyncio.Event(), asyncio.Event()

    class Away:
        async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
            begun.set()
            await may_fail.wait()
            raise OSError("the database went away")

        async def fetchrow(self, query: str, *arguments: object) -> asyncpg.Record | None:
            raise AssertionError

    tokens = Tokens(Away())
    waiting = asyncio.create_task(tokens.find(b"x" * 32))
    await begun.wait()
    (look,) = tokens.looks
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    may_fail.set()
    await asyncio.wait([look])
    del look
    gc.collect()
    assert "never retrieved" not in caplog.text
    assert tokens.looks == set()


async def test_a_look_ends_with_the_service() -> None:
    class Hung:
        async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
            await asyncio.Event().wait()
            raise AssertionError

        async def fetchrow(self, query: str, *arguments: object) -> asyncpg.Record | None:
            raise AssertionError

    tokens = Tokens(Hung())
    async with tokens.lifespan(None):
        waiting = asyncio.create_task(tokens.find(b"x" * 32))
        await asyncio.sleep(0.05)
        (look,) = tokens.looks
    assert look.cancelled()
    await asyncio.gather(waiting, return_exceptions=True)
