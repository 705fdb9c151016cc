"""One shape of errors at every address, and one table of what becomes what, which docs/reference/errors.md shows."""

import asyncio
import json
import re
import uuid
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from litestar.routes import HTTPRoute

from headcount.http.asgi import App
from headcount.http.errors import make_id
from headcount.wire import problems
from headcount.wire.problems import PROBLEM_TYPES, SQLSTATES, Problem, SchemaMismatch, in_words, problem_of
from tests.http import problem

DOCS = Path(__file__).parent.parent.parent / "docs/reference/errors.md"


def addresses(app: App) -> list[tuple[str, str, bool]]:
    """Method and path of everything that the app answers, with `room` for every id, and whether it takes a body."""
    paths = json.loads(app.services.document.get(app)[0])["paths"]
    return sorted(
        (str(method), re.sub(r"\{\w+(:\w+)?\}", "room", route.path), has_body(paths, route.path, str(method)))
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for method in route.methods
        if method != "OPTIONS"
    )


def has_body(paths: dict[str, Any], path: str, method: str) -> bool:
    template = re.sub(r"\{(\w+):\w+\}", r"{\1}", path)
    return "requestBody" in paths.get(template, {}).get(method.lower(), {})


async def test_it_tells_errors_in_one_shape_at_every_address(app: App, client: httpx.AsyncClient) -> None:
    found = addresses(app)
    assert len(found) > 20
    assert any(method == "POST" and not takes_body for method, _, takes_body in found)
    for method, path, takes_body in found:
        if path not in ("/", "/reports", "/docs"):  # pages, which read their own addresses
            problem(await client.request(method, f"{path}?no_such_parameter=1"), 422, "invalid", "no_such_parameter")
        response = await client.request("PATCH", path)
        problem(response, 405, "method_not_allowed")
        assert method in response.headers["allow"]
        problem(await client.request(method, f"{path}/no/such/address"), 404, "not_found")
        if takes_body:
            problem(await client.request(method, path, content=b"{"), 400, "malformed")
            problem(await client.request(method, path, content=b"[]"), 422, "invalid")
            for headers, status, code in (
                ({"content-type": "image/png"}, 415, "unsupported_media_type"),
                ({"content-length": "99999999999"}, 413, "too_large"),
            ):
                problem(await client.request(method, path, content=b"{}", headers=headers), status, code)


async def test_it_hides_its_own_mistakes_and_logs_them_under_the_request_id(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr("headcount.database.calls.get_space", fail)
    response = await client.get("/v1/spaces/room")
    found = problem(response, 500, "internal")
    assert "secret" not in json.dumps(found)
    assert "secret" in caplog.text
    assert response.headers["x-request-id"] in caplog.text
    assert "Traceback" in caplog.text


async def test_it_logs_what_the_database_refuses_by_itself_since_the_database_does_not(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    said = {
        "M": "it is too large",
        "D": "Failing row contains (s3cret).",
        "W": "PL/pgSQL function x()\nline 3 at RAISE",
    }

    async def fail(*_: Any, **__: Any) -> None:
        raise asyncpg.PostgresError.new({"C": "23514", **said})

    async def refuse(*_: Any, **__: Any) -> None:
        raise asyncpg.PostgresError.new({"C": "PT409", **said})

    monkeypatch.setattr("headcount.database.calls.get_space", refuse)
    problem(await client.get("/v1/spaces/room"), 409, "conflict")
    assert not caplog.records, "that is for who asked"
    monkeypatch.setattr("headcount.database.calls.get_space", fail)
    for _ in range(20):
        response = await client.get("/v1/spaces/room")
        assert "too large" not in problem(response, 422, "invalid")["detail"]
    lines = [record.getMessage() for record in caplog.records]
    assert 1 <= len(lines) < 20, "one a second"
    assert "SQLSTATE 23514: it is too large; PL/pgSQL function x() line 3 at RAISE" in lines[0]
    assert "s3cret" not in caplog.text


def test_its_log_names_the_state_of_whatever_the_database_says() -> None:
    unknown = asyncpg.PostgresError.new({"C": "XX999", "M": "m", "D": "secret"})
    assert in_words(unknown) == "UnknownPostgresError, SQLSTATE XX999: m"
    assert in_words(asyncpg.DeadlockDetectedError("m")) == "DeadlockDetectedError, SQLSTATE 40P01: m"
    assert in_words(KeyError("m")) == "KeyError: 'm'"
    made = Problem("unavailable", "words")
    assert in_words(made) == "Problem: words"
    made.__cause__ = unknown
    assert in_words(made) == in_words(unknown)


VANISHING = """
create function public.vanishing() returns integer language plpgsql as 'begin return 1; end';
create function public.holding() returns bigint language plpgsql as
'begin perform pg_advisory_xact_lock(7); return count(*) from core.report; end';  -- at a table it hears of what is gone
create or replace function core.find_space(space text, place text default 'space') returns integer
language plpgsql as 'begin perform public.holding(), public.vanishing(); return 1; end';
select pg_advisory_lock(7)
"""


@pytest.mark.concurrency
async def test_what_a_migration_replaces_while_a_request_uses_it_is_no_mistake_of_ours(
    client: httpx.AsyncClient, connection: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    definition = await connection.fetchval("select pg_get_functiondef('core.find_space'::regproc)")
    await connection.execute(VANISHING)
    try:
        asked = asyncio.create_task(client.get("/v1/spaces/room"))
        async with asyncio.timeout(60):
            while not await connection.fetchval("select exists (select from pg_locks where not granted)"):
                assert not asked.done(), asked.result().text
                await asyncio.sleep(0.02)
        await connection.execute("drop function public.vanishing")
    finally:
        await connection.execute("select pg_advisory_unlock(7)")
        await connection.execute(definition + "; drop function public.holding")
    found = problem(await asked, 503, "unavailable")
    assert "headcount migrate" in found["detail"]
    (line,) = [record for record in caplog.records if record.name == "headcount.errors"]
    assert "cache lookup failed for function" in line.getMessage()
    assert line.exc_info is None


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (asyncpg.PostgresError.new({"C": "PT404", "M": "m"}), "not_found"),
        (asyncpg.PostgresError.new({"C": "PT409", "M": "m"}), "conflict"),
        (asyncpg.PostgresError.new({"C": "PT422", "M": "m"}), "invalid"),
        (asyncpg.PostgresError.new({"C": "PT503", "M": "m"}), "unavailable"),
        (asyncpg.PostgresError.new({"C": "PT999", "M": "m"}), "internal"),
        (asyncpg.UniqueViolationError("m"), "conflict"),
        (asyncpg.ForeignKeyViolationError("m"), "conflict"),
        (asyncpg.ExclusionViolationError("m"), "conflict"),
        (asyncpg.CheckViolationError("m"), "invalid"),
        (asyncpg.NumericValueOutOfRangeError("m"), "invalid"),
        (asyncpg.DeadlockDetectedError("m"), "unavailable"),
        (asyncpg.SerializationError("m"), "unavailable"),
        (asyncpg.LockNotAvailableError("m"), "unavailable"),
        (asyncpg.QueryCanceledError("m"), "unavailable"),
        (asyncpg.TooManyConnectionsError("m"), "unavailable"),
        (asyncpg.AdminShutdownError("m"), "unavailable"),
        (asyncpg.CannotConnectNowError("m"), "unavailable"),
        (asyncpg.ConnectionDoesNotExistError("m"), "unavailable"),
        (asyncpg.InvalidPasswordError("m"), "unavailable"),
        (asyncpg.InterfaceError("m"), "unavailable"),
        (ConnectionResetError("m"), "unavailable"),
        (TimeoutError("m"), "unavailable"),
        (SchemaMismatch("m"), "unavailable"),
        (asyncpg.PostgresError.new({"C": "XX000", "M": "cache lookup failed for function 4711"}), "unavailable"),
        (asyncpg.PostgresError.new({"C": "XX000", "M": "could not open relation with OID 4711"}), "unavailable"),
        (asyncpg.PostgresError.new({"C": "XX000", "M": "tuple concurrently updated"}), "unavailable"),
        (asyncpg.PostgresError.new({"C": "XX000", "M": "unexpected: cache lookup failed for"}), "internal"),
        (asyncpg.InvalidCachedStatementError("m"), "unavailable"),
        (asyncpg.UndefinedTableError("m"), "internal"),
        (asyncpg.InsufficientPrivilegeError("m"), "internal"),
        (KeyError("m"), "internal"),
    ],
)
def test_it_knows_what_an_exception_amounts_to(error: Exception, code: str) -> None:
    found = problem_of(error)
    assert found.kind.code == code
    assert ("Retry-After" in found.headers) == (code == "unavailable")


def test_it_passes_on_the_words_of_our_own_functions_and_no_others() -> None:
    ours = problem_of(
        asyncpg.PostgresError.new({"C": "PT422", "M": "It is wrong.", "D": "spaces[3].parent", "H": "Do so."})
    )
    assert ours.detail == "It is wrong. Do so."
    assert [(item.where, item.code, item.detail) for item in ours.errors] == [
        ("spaces[3].parent", "invalid", "It is wrong.")
    ]
    assert "secret" not in problem_of(asyncpg.UniqueViolationError("secret")).detail


def test_the_docs_show_every_status_code_and_sqlstate_and_no_others() -> None:
    text = DOCS.read_text()
    examples = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL)]
    assert [(found["status"], found["code"], found["title"], found["type"]) for found in examples] == [
        (kind.status, kind.code, kind.title, f"urn:headcount:error:{kind.code}") for kind in PROBLEM_TYPES.values()
    ]
    assert dict(re.findall(r"^\| `(\w+)` \| `(\w+)` \|", text, re.MULTILINE)) == SQLSTATES


def test_every_kind_has_a_status_of_its_own_but_those_that_are_to_be_tried_again() -> None:
    assert len(problems.BY_STATUS) == len(PROBLEM_TYPES) - 1
    assert problems.BY_STATUS[503].code == "unavailable"
    for code, headers in (("unavailable", {"Retry-After": "1"}), ("clock_suspect", {"Retry-After": "10"})):
        assert Problem(code, "x").headers == headers
        assert Problem(code, "x").kind.status == 503


def test_ids_of_requests_are_random_uuids() -> None:
    ids = {make_id() for _ in range(100)}
    assert len(ids) == 100
    assert {(uuid.UUID(id).version, uuid.UUID(id).variant, str(uuid.UUID(id)) == id) for id in ids} == {
        (4, uuid.RFC_4122, True)
    }
