"""headcount migrate and headcount serve, as processes of their own."""

import asyncio
import signal
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import asyncpg
import httpx
import psycopg
import pytest

from tests.commands.support import PATIENCE, answers, free_port, headcount, running, serving
from tests.http.wire import Wire, until_ready


async def test_serve_refuses_a_database_without_the_schema_and_names_the_remedy(
    fresh_database_url: str, tmp_path: Path
) -> None:
    with running(
        tmp_path, "serve", DATABASE_URL=fresh_database_url, HEADCOUNT_AUTH="off", HEADCOUNT_PORT=str(free_port())
    ) as process:
        assert process.process.wait(PATIENCE) == 1
    assert "headcount migrate" in process.said
    assert len(process.said.splitlines()) == 1


async def test_migrate_makes_the_schema_and_serve_then_starts(fresh_database_url: str, tmp_path: Path) -> None:
    first = await headcount("migrate", url=fresh_database_url)
    assert first.exit_code == 0, first.output
    assert "0001_schemas_and_roles.sql" in first.stdout
    again = await headcount("migrate", url=fresh_database_url)
    assert again.stdout == "The database was current already.\n"
    port = free_port()
    with serving(tmp_path, fresh_database_url, port) as process:
        assert answers(f"http://127.0.0.1:{port}/readyz")
        assert process.end() == 0


async def test_the_horizon_is_what_the_last_to_start_with_it_said(
    connection: asyncpg.Connection, database_url: str, tmp_path: Path
) -> None:
    async def store(port: int, timestamp: str) -> list[str]:
        events = {"events": [{"dpu": "door", "timestamp": timestamp, "direction": 1}]}
        async with httpx.AsyncClient(timeout=PATIENCE) as client:
            answer = await client.post(f"http://127.0.0.1:{port}/v1/events", json=events)
        return [item["code"] for item in answer.json()["rejected"]]

    first, second = free_port(), free_port()
    with (
        serving(tmp_path, database_url, first),
        serving(tmp_path, database_url, second, HEADCOUNT_EVENTS_FROM="2005-01-01"),
    ):
        # whichever of them is asked
        assert await store(first, "2005-07-24T12:00:00Z") == []
        assert await store(second, "2004-12-31T23:59:59Z") == ["too_old"]
    with serving(tmp_path, database_url, first):
        assert await store(first, "2005-07-24T13:00:00Z") == []
    with running(
        tmp_path, "migrate", DATABASE_URL=database_url, HEADCOUNT_EVENTS_FROM="2020-01-01T01:00:00+01:00"
    ) as process:
        assert await asyncio.to_thread(process.process.wait, PATIENCE) == 0, process.said
    assert await connection.fetchval("select horizon_at::text from core.rollup_state") == "2020-01-01 00:00:00+00"
    for command in ("migrate", "serve"):
        variables = {"HEADCOUNT_EVENTS_FROM": "1999-01-01", "HEADCOUNT_AUTH": "off", "HEADCOUNT_PORT": str(first)}
        with running(tmp_path, command, DATABASE_URL=database_url, **variables) as process:
            assert await asyncio.to_thread(process.process.wait, PATIENCE) == 1
        assert "HEADCOUNT_EVENTS_FROM: Events cannot be accepted from 1999-01-01T00:00:00Z on." in process.said
        assert "Traceback" not in process.said


@pytest.mark.parametrize(("auth", "is_told"), [("required", True), ("off", False)])
async def test_serve_says_how_to_make_a_token_where_there_is_none(
    connection: asyncpg.Connection, database_url: str, tmp_path: Path, auth: str, is_told: bool
) -> None:
    for is_first in (True, False):
        variables = {"DATABASE_URL": database_url, "HEADCOUNT_AUTH": auth, "HEADCOUNT_PORT": str(free_port())}
        with running(tmp_path, "serve", **variables) as process:
            process.wait_for("Serving on")
            assert ("headcount token create" in process.said) == (is_told and is_first)
            assert await asyncio.to_thread(process.end) == 0
        await headcount("token", "create", "--scope", "read", url=database_url)


async def test_migrate_refuses_a_database_that_was_made_from_other_files(own_database_url: str) -> None:
    with psycopg.connect(own_database_url, autocommit=True) as connection:
        connection.execute("update meta.migration set sha256 = 'other' where number = 1")
    result = await headcount("migrate", url=own_database_url)
    assert result.exit_code == 1
    assert "was changed after it ran" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_serve_stops_with_exit_code_0_and_answers_what_it_was_asked(
    connection: asyncpg.Connection, database_url: str, tmp_path: Path, number: int
) -> None:
    port = free_port()
    with serving(tmp_path, database_url, port) as process:
        lines = "".join(f"2026-03-01T10:{n // 60:02}:{n % 60:02}Z,1,dpu-{n}\n" for n in range(3000))
        body = ("timestamp,direction,dpu_id\n" + lines).encode()
        answer: list[httpx.Response] = []
        # made before the clock runs: on a busy machine that takes longer than the service lives
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE)

        def ask() -> None:
            # not even taken on, or cut off: then nothing of it is stored
            with client, suppress(httpx.NetworkError, httpx.RemoteProtocolError):
                answer.append(client.post("/v1/events", content=body, headers={"Content-Type": "text/csv"}))

        asking = threading.Thread(target=ask)
        asking.start()
        await asyncio.sleep(0.1)
        code = await asyncio.to_thread(process.end, number)
        await asyncio.to_thread(asking.join)
    assert code == 0, process.said
    assert "Traceback" not in process.said
    assert not answer or answer[0].status_code in (200, 503)
    accepted = answer[0].json().get("accepted", 0) if answer else 0
    assert accepted == await connection.fetchval("select count(*) from core.event")


async def test_serve_stops_although_a_client_stalls_in_the_middle_of_its_request(
    connection: asyncpg.Connection, database_url: str, tmp_path: Path
) -> None:
    port = free_port()
    with serving(tmp_path, database_url, port) as process, socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        await asyncio.sleep(0.5)
        begun = time.monotonic()
        assert await asyncio.to_thread(process.end) == 0, process.said
        assert time.monotonic() - begun < 60  # the body may take 90 seconds
    assert "Traceback" not in process.said


async def test_serve_says_so_when_the_port_is_in_use(database_url: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with running(
            tmp_path, "serve", DATABASE_URL=database_url, HEADCOUNT_AUTH="off", HEADCOUNT_PORT=str(port)
        ) as process:
            assert process.process.wait(PATIENCE) == 1
    assert f"Port {port}" in process.said
    assert "in use" in process.said
    assert len(process.said.splitlines()) == 1


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"DATABASE_URL": "mysql://127.0.0.1/none"}, "DATABASE_URL"),
        ({"DATABASE_URL": "nonsense"}, "DATABASE_URL"),
        ({"HEADCOUNT_AUTH": "optional"}, "HEADCOUNT_AUTH"),
        ({"HEADCOUNT_HOST": "0.0.0.0"}, "HEADCOUNT_HOST"),
        ({"HEADCOUNT_PORT": "eighty"}, "HEADCOUNT_PORT"),
    ],
)
async def test_serve_says_in_one_line_what_keeps_it_from_starting(
    tmp_path: Path, variables: dict[str, str], words: str
) -> None:
    given = {"DATABASE_URL": "postgresql://127.0.0.1:1/none", "HEADCOUNT_AUTH": "off"}
    chosen = given | {"HEADCOUNT_PORT": str(free_port())} | variables
    with running(tmp_path, "serve", **chosen) as process:
        assert process.process.wait(PATIENCE) == 1
    assert words in process.said
    assert "secret" not in process.said
    assert len(process.said.splitlines()) == 1


async def test_serve_starts_while_the_database_is_away_says_so_and_goes_on_by_itself(
    connection: asyncpg.Connection, database_url: str, tmp_path: Path
) -> None:
    wire = Wire(database_url)
    await wire.mend()
    await wire.cut()
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    chosen = {"DATABASE_URL": wire.url, "HEADCOUNT_AUTH": "off", "HEADCOUNT_PORT": str(port)}
    with running(tmp_path, "serve", **chosen) as process:
        await asyncio.to_thread(process.wait_for, "Serving on")
        async with httpx.AsyncClient(base_url=base, timeout=PATIENCE) as client:
            assert (await client.get("/readyz")).status_code == 503
            assert (await client.get("/v1/spaces")).status_code == 503
            assert (await client.get("/healthz")).status_code == 200
            assert (await client.get("/metrics")).status_code == 200
            await wire.mend()
            assert (await until_ready(client, 200)).json() == {"status": "ok"}
            assert (await client.get("/v1/spaces")).status_code == 200
        assert await asyncio.to_thread(process.end) == 0
    await wire.cut()
    assert "There is no database yet" in process.said
    assert "Traceback" not in process.said


async def test_a_client_that_retries_loses_nothing_when_the_service_is_killed(
    connection: asyncpg.Connection, database_url: str, tmp_path: Path
) -> None:
    options = ("--from", "2026-03-02", "--days", 3, "--people", 1500, "--repeat", 0.1, "--late", 0.1)
    made = await headcount("simulate", "--out", tmp_path, *options, url="")
    assert made.exit_code == 0, made.output
    lines = (tmp_path / "events.csv").read_text().splitlines()[1:]
    port = free_port()

    async def stored() -> int:
        return int(await connection.fetchval("select count(*) from core.event"))

    with running(tmp_path, "simulate", "--url", f"http://127.0.0.1:{port}", *options) as client:
        for kill_at in (1, len(set(lines)) // 2):
            with serving(tmp_path, database_url, port) as service:
                while await stored() < kill_at:
                    assert client.process.poll() is None, client.said
                    await asyncio.sleep(0.005)
                service.kill()
        assert await stored() < len(set(lines)), "it was over before the service was killed"
        with serving(tmp_path, database_url, port):
            assert await asyncio.to_thread(client.process.wait, PATIENCE) == 0, client.said
    assert f"sent {len(lines)}," in client.said
    assert "rejected 0" in client.said
    assert await stored() == len(set(lines))
    assert (await headcount("verify", url=database_url)).exit_code == 0
