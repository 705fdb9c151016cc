"""headcount token."""

import re
from pathlib import Path

import asyncpg
import httpx

from headcount.database import calls
from headcount.http.auth import TOKEN, digest_of
from tests.commands.support import PATIENCE, free_port, headcount, running
from tests.factories import build_house


async def test_it_prints_the_token_alone_and_once(connection: asyncpg.Connection, database_url: str) -> None:
    await build_house(connection)
    made = await headcount(
        *("token", "create", "--scope", "read,ingest", "--space", "room", "--name", "Gateway", "--expires", "90d"),
        *("--events-per-second", "50"),
        url=database_url,
    )
    assert made.exit_code == 0, made.output
    token = made.stdout.removesuffix("\n")
    assert TOKEN.fullmatch(token)
    assert token not in made.stderr
    assert "ingest, read on the space room and all below it" in made.stderr
    row = await connection.fetchrow(
        "select *, expires_at - created_at as lasts from core.token where digest = $1", digest_of(token)
    )
    assert row is not None
    assert (row["name"], row["scopes"], row["events_per_second"]) == ("Gateway", ["ingest", "read"], 50)
    assert row["lasts"].days in (89, 90)
    listed = await headcount("token", "list", url=database_url)
    assert row["id"] in listed.stdout
    assert "Gateway" in listed.stdout
    assert token not in listed.output


async def test_it_revokes(connection: asyncpg.Connection, database_url: str) -> None:
    made = await headcount("token", "create", "--scope", "admin", url=database_url)
    (name,) = re.findall(r"tok_\w+", made.stderr)
    refused = await headcount("token", "revoke", made.stdout.strip(), url=database_url)
    assert refused.exit_code == 2
    assert "give its id" in refused.stderr
    assert "5 seconds" in (await headcount("token", "revoke", name, url=database_url)).stdout
    assert "revoked" in (await headcount("token", "list", url=database_url)).stdout
    unknown = await headcount("token", "revoke", "tok_unknown", url=database_url)
    assert unknown.exit_code == 1
    assert "There is no token" in unknown.stderr
    assert "Look at `headcount token list`" in unknown.stderr


async def test_it_says_with_which_command_a_missing_space_is_made(
    connection: asyncpg.Connection, database_url: str
) -> None:
    refused = await headcount("token", "create", "--scope", "read", "--space", "nowhere", url=database_url)
    assert refused.exit_code == 1
    assert "Create it first with `headcount apply`." in refused.stderr


async def test_it_revokes_what_was_made_with_a_token_unless_told_not_to(
    connection: asyncpg.Connection, database_url: str
) -> None:
    names: list[str] = []
    for name in ("first", "second", "third"):
        async with connection.transaction():
            await connection.execute("select set_config('headcount.token', $1, true)", names[-1] if names else "")
            names.append((await calls.create_token(connection, digest_of(name), ["admin"], name)).id)

    async def revoked() -> list[str]:
        rows = await connection.fetch("select id from core.token where revoked_at is not null order by token_id")
        return [row["id"] for row in rows]

    listed = await headcount("token", "list", url=database_url)
    assert re.search("made +by", listed.stdout)
    assert (await headcount("token", "revoke", "--only", names[0], url=database_url)).exit_code == 0
    assert await revoked() == names[:1]
    assert "all that were made with it" in (await headcount("token", "revoke", names[0], url=database_url)).stdout
    assert await revoked() == names


async def test_it_says_what_is_wrong_with_what_it_is_told(connection: asyncpg.Connection, database_url: str) -> None:
    for arguments, words in (
        ((), "--scope"),
        (("--scope", "root"), "'root' is not a scope"),
        (("--scope", ""), "is not a scope"),
        (("--scope", "read", "--space", "nowhere"), "There is no space 'nowhere'"),
        (("--scope", "read", "--space", "no id"), "must be the id of a space"),
        (("--scope", "read", "--expires", "soon"), "'soon' is neither"),
        (("--scope", "read", "--expires", "2020-01-01T00:00:00Z"), "not in the future"),
        (("--scope", "read", "--events-per-second", "0"), "--events-per-second"),
    ):
        result = await headcount("token", "create", *arguments, url=database_url)
        assert result.exit_code in (1, 2)
        assert words in " ".join(result.stderr.split())
        assert result.stdout == ""
    assert await connection.fetchval("select count(*) from core.token") == 0


async def test_serve_asks_for_tokens_by_default_and_takes_them(
    connection: asyncpg.Connection, database_url: str, tmp_path: Path
) -> None:
    made = await headcount("token", "create", "--scope", "ingest,read,admin", url=database_url)
    port, token = free_port(), made.stdout.strip()
    url = f"http://127.0.0.1:{port}"
    with running(tmp_path, "serve", DATABASE_URL=database_url, HEADCOUNT_PORT=str(port)) as process:
        process.wait_for("Serving on")
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client:
            answer = await client.get("/v1/spaces")
            assert answer.status_code == 401
            assert not re.search(r"[0-9]", answer.headers.get("server", ""))
            assert (await client.get("/healthz")).status_code == 200
            client.headers["Authorization"] = f"Bearer {token}"
            answer = await client.get("/v1/spaces")
            assert answer.json() == {"items": [], "next": None}
            head = await client.head("/v1/spaces")
            assert (head.status_code, head.headers["content-length"]) == (200, str(len(answer.content)))
        options = ("--spaces", "3", "--people", "5", "--days", "1", "--url", url)
        with running(tmp_path, "simulate", *options, HEADCOUNT_TOKEN=token) as simulation:
            assert simulation.process.wait(PATIENCE) == 0, simulation.said
        with running(tmp_path, "simulate", *options) as simulation:
            assert simulation.process.wait(PATIENCE) == 1
        assert "401" in simulation.said
        assert process.end() == 0
    assert '"route":"/v1/spaces"' in process.said
    assert token not in process.said


async def test_it_shows_names_as_they_are(connection: asyncpg.Connection, database_url: str) -> None:
    """Whoever may make tokens may not break the list of them, nor write to somebody's terminal."""
    for name in ("[/x]", "[red]no colour", "\x1b]0;title\x07\x9b31m"):
        await calls.create_token(connection, digest_of(name), ["read"], name)
    listed = await headcount("token", "list", url=database_url)
    assert listed.exit_code == 0, listed.output
    assert "[/x]" in listed.stdout
    assert "[red]no colour" in listed.stdout
    assert not {"\x1b", "\x07", "\x9b"} & set(listed.stdout)
