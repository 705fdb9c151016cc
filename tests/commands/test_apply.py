"""headcount apply."""

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
import pytest
from click.testing import Result

from tests.commands.support import free_port, headcount, serving
from tests.factories import record
from tests.http import problem
from tests.http.guarded import new_token
from tests.http.test_shares import until_waiting

SITE = """
[[spaces]]
id = "hall"
capacity = 40

[[spaces]]
id = "annex"
parent = "hall"

[[doorways]]
id = "front"
sides = ["outside", "hall"]

[[doorways]]
id = "back"
sides = ["", "hall"]

[[doorways]]
id = "inner"
sides = ["hall", "annex"]

[[dpus]]
id = "one"
mac_address = "02:00:00:00:00:01"

[[dpus]]
id = "two"

[[placements]]
dpu = "one"
doorway = "front"
mounted_in = "hall"
from = 2026-03-01T00:00:00Z

[[placements]]
dpu = "two"
doorway = "back"
mounted_in = "outside"
from = "2026-03-01T01:00:00+01:00"
"""


def write(folder: Path, text: str, name: str = "site.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def cells_of(result: Result) -> list[list[str]]:
    """The table of counts. An instant of today or yesterday is left out: it is that of the run, before midnight."""
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in result.stdout.splitlines() if "│" in line]
    days = tuple(f"{datetime.now(UTC) - timedelta(days=ago):%Y-%m-%d}" for ago in (0, 1))
    return [["" if cell.startswith(days) else cell for cell in row] for row in rows]


async def test_it_applies_a_floor_plan_and_says_what_it_made(
    client: httpx.AsyncClient, database_url: str, tmp_path: Path
) -> None:
    result = await headcount("apply", write(tmp_path, SITE), url=database_url)
    assert result.exit_code == 0, result.output
    assert "space hall created" in result.stdout
    assert "created 9, updated 0, unchanged 0" in result.stdout
    assert (await client.get("/v1/doorways/front")).json()["sides"] == [None, "hall"]
    assert (await client.get("/v1/doorways/back")).json()["sides"] == [None, "hall"]
    (placement,) = (await client.get("/v1/dpus/two/placements")).json()["items"]
    assert placement["mounted_in"] is None
    assert placement["from"].startswith("2026-03-01T00:00:00")


async def test_applying_it_again_changes_nothing(
    connection: asyncpg.Connection, database_url: str, tmp_path: Path
) -> None:
    path = write(tmp_path, SITE)
    await headcount("apply", path, url=database_url)
    result = await headcount("apply", path, url=database_url)
    assert result.exit_code == 0
    assert result.stdout == "created 0, updated 0, unchanged 9\n"


async def test_it_takes_json_as_well(client: httpx.AsyncClient, database_url: str, tmp_path: Path) -> None:
    path = write(
        tmp_path,
        '{"spaces": [{"id": "hall", "name": null}], "doorways": [{"id": "front", "sides": [null, "hall"]}]}',
        "site.json",
    )
    result = await headcount("apply", path, url=database_url)
    assert result.exit_code == 0, result.output
    assert (await client.get("/v1/doorways/front")).json()["sides"] == [None, "hall"]


async def test_a_space_named_outside_is_a_space(client: httpx.AsyncClient, database_url: str, tmp_path: Path) -> None:
    site = 'spaces = [{id = "outside"}]\ndoorways = [{id = "front", sides = ["outside", ""]}]\n'
    result = await headcount("apply", write(tmp_path, site), url=database_url)
    assert result.exit_code == 0, result.output
    assert (await client.get("/v1/doorways/front")).json()["sides"] == ["outside", None]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('spaces = [{id = "hall", capcity = 3}]', "spaces[0].capcity"),
        ('places = [{id = "hall"}]', "places"),
        ('spaces = [{id = "hall", parent = "nowhere"}]', "spaces[0].parent"),
        ('spaces = [{id = "a b"}]', "spaces[0].id"),
        (SITE.replace("2026-03-01T00:00:00Z", "2026-03-01T00:00:00"), "placements[0].from"),
        (SITE.replace("2026-03-01T00:00:00Z", "2026-03-01"), "placements[0].from"),
        (SITE.replace('mounted_in = "hall"', 'mounted_in = "annex"'), "placements[0].mounted_in"),
        ("spaces = [", "site.toml"),
        ('{"spaces": [', "site.toml"),
    ],
)
async def test_it_refuses_what_is_wrong_and_says_where(
    connection: asyncpg.Connection, database_url: str, tmp_path: Path, text: str, words: str
) -> None:
    result = await headcount("apply", write(tmp_path, text), url=database_url)
    assert result.exit_code == 1
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert await connection.fetchval("select count(*) from core.space") == 0


async def test_a_dry_run_shows_the_counts_that_a_move_would_change_and_changes_nothing(
    client: httpx.AsyncClient, database_url: str, tmp_path: Path
) -> None:
    await headcount("apply", write(tmp_path, SITE), url=database_url)
    events = [
        {"dpu": "one", "timestamp": f"2026-03-0{day}T10:00:00Z", "direction": direction}
        for day, direction in ((2, 1), (3, 1), (4, 1), (5, -1))
    ]
    await client.post("/v1/events", json={"events": events})
    moved = (
        SITE + '\n[[placements]]\ndpu = "one"\ndoorway = "inner"\nmounted_in = "annex"\nfrom = 2026-03-03T00:00:00Z\n'
    )
    path = write(tmp_path, moved)
    result = await headcount("apply", path, "--dry-run", url=database_url)
    assert result.exit_code == 0, result.output
    assert cells_of(result) == [
        ["annex", "2026-03-03T10:00:00Z", "", "2026-03-04T10:00:00Z", "0", "2"],
        ["hall", "2026-03-03T10:00:00Z", "", "2026-03-04T10:00:00Z", "3", "1"],
    ]
    assert "Nothing was changed" in result.stdout

    async def raw_counts() -> dict[str, int]:
        counts = (await client.get("/v1/counts")).json()["counts"]
        return {count["space"]: count["raw_count"] for count in counts}

    assert await raw_counts() == {"hall": 2, "annex": 0}
    assert len((await client.get("/v1/dpus/one/placements")).json()["items"]) == 1
    await headcount("apply", path, url=database_url)
    assert await raw_counts() == {"hall": 1, "annex": 1}


async def test_a_dry_run_shows_counts_of_the_past_that_would_change(
    client: httpx.AsyncClient, database_url: str, tmp_path: Path
) -> None:
    """The daily reset has hidden the difference since."""
    await headcount("apply", write(tmp_path, SITE), url=database_url)
    await client.put("/v1/spaces/hall", json={"reset_at": "00:00"})
    event = {"dpu": "one", "timestamp": "2026-03-02T01:00:00Z", "direction": 1}
    await client.post("/v1/events", json={"events": [event]})
    turned = '\n[[placements]]\ndpu = "one"\ndoorway = "front"\nmounted_in = ""\n'
    period = "from = 2026-03-02T00:00:00Z\nuntil = 2026-03-04T00:00:00Z\n"
    result = await headcount("apply", write(tmp_path, SITE + turned + period), "--dry-run", url=database_url)
    assert cells_of(result) == [
        ["hall", "2026-03-02T01:00:00Z", "2026-03-02T23:59:59.999999Z", "2026-03-02T01:00:00Z", "1", "-1"]
    ]


async def test_a_dry_run_on_an_empty_database_leaves_it_empty(
    connection: asyncpg.Connection, database_url: str, tmp_path: Path
) -> None:
    result = await headcount("apply", "--dry-run", write(tmp_path, SITE), url=database_url)
    assert "space hall would be created" in result.stdout
    assert "No count would change, at any instant up to now." in result.stdout
    assert await connection.fetchval("select count(*) from core.space") == 0


async def test_it_takes_what_it_is_given_at_an_instant_with_an_offset(
    client: httpx.AsyncClient, database_url: str, tmp_path: Path
) -> None:
    site = SITE.replace("2026-03-01T00:00:00Z", "2026-03-01T01:30:00.25+01:30")
    await headcount("apply", write(tmp_path, site), url=database_url)
    (placement,) = (await client.get("/v1/dpus/one/placements")).json()["items"]
    assert datetime.fromisoformat(placement["from"]) == datetime(2026, 3, 1, 0, 0, 0, 250_000, UTC)


async def test_it_goes_to_a_service_with_a_token(
    connection: asyncpg.Connection, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the database at hand."""
    path = write(tmp_path, SITE)
    port = free_port()
    with serving(tmp_path, database_url, port, HEADCOUNT_AUTH="required"):
        url = ("--url", f"http://127.0.0.1:{port}")
        refused = await headcount("apply", path, *url, url="")
        assert refused.exit_code == 1
        assert "401" in refused.stderr
        headers = await new_token(connection, "admin")
        monkeypatch.setenv("HEADCOUNT_TOKEN", headers["Authorization"].removeprefix("Bearer "))
        dry = await headcount("apply", path, "--dry-run", *url, url="")
        assert "dpu two would be created" in dry.stdout, dry.output
        assert "No count would change, at any instant up to now." in dry.stdout
        assert await connection.fetchval("select count(*) from core.space") == 0
        done = await headcount("apply", path, *url, url="")
        assert "created 9, updated 0, unchanged 0" in done.stdout, done.output
        await record(connection, [("one", datetime(2026, 3, 2, tzinfo=UTC), 1)])
        turned = write(tmp_path, SITE.replace('mounted_in = "hall"', 'mounted_in = "outside"'))
        dry = await headcount("apply", turned, "--dry-run", *url, url="")
        assert cells_of(dry) == [["hall", "2026-03-02T00:00:00Z", "", "2026-03-02T00:00:00Z", "1", "-1"]]
        heads = next(line for line in dry.stdout.splitlines() if "largest at" in line)
        assert heads.replace("┃", " ").split()[-2:] == ["now", "after"]
        wrong = await headcount("apply", write(tmp_path, 'spaces = [{id = "a", parent = "b"}]'), *url, url="")
        assert "422 spaces[0].parent: There is no space 'b' to refer to" in wrong.stderr


@pytest.mark.concurrency  # the embedded database has no logins
async def test_a_dry_run_needs_no_more_than_the_role_of_the_service(
    connection: asyncpg.Connection, database_url: str, tmp_path: Path
) -> None:
    await connection.execute("drop role if exists headcount_test_planner")
    await connection.execute("create role headcount_test_planner login password 'p' in role headcount_service")
    try:
        login = urlsplit(database_url)
        address = f"headcount_test_planner:p@{login.hostname}:{login.port}"
        url = urlunsplit(login._replace(netloc=address))
        result = await headcount("apply", write(tmp_path, SITE), "--dry-run", url=url)
        assert "space hall would be created" in result.stdout, result.output
    finally:
        await connection.execute("drop role headcount_test_planner")


async def test_a_large_floor_plan_goes_in_parts_that_can_be_applied_again(
    client: httpx.AsyncClient, connection: asyncpg.Connection, database_url: str, tmp_path: Path
) -> None:
    """The parts are in an order in which each finds what it refers to, whatever that of the file is."""
    rooms = range(700)
    site = {
        "spaces": [{"id": f"room-{n}", "parent": f"floor-{n % 7}"} for n in rooms]
        + [{"id": f"floor-{n}", "parent": "house"} for n in range(7)]
        + [{"id": "house"}],
        "doorways": [{"id": f"door-{n}", "sides": [f"room-{n}", None]} for n in rooms],
        "dpus": [{"id": f"dpu-{n}"} for n in rooms],
        "placements": [
            {"dpu": f"dpu-{n}", "doorway": f"door-{n}", "mounted_in": f"room-{n}", "from": f"2020-01-0{day}T00:00:00Z"}
            for day in (1, 2)
            for n in rooms
        ],
    }
    path = write(tmp_path, json.dumps(site), "site.json")
    refused = await client.put("/v1/site", json=site)
    told = re.search(r"has at least ([\d,]+) spaces", problem(refused, 413, "too_large")["detail"])
    assert told
    assert 1_000 < int(told[1].replace(",", "")) <= 3_508
    assert await connection.fetchval("select count(*) from core.space") == 0
    result = await headcount("apply", path, url=database_url)
    assert "created 3508, updated 0, unchanged 0" in result.stdout, result.output
    again = await headcount("apply", path, url=database_url)
    assert again.stdout == "created 0, updated 0, unchanged 3508\n"


# A change takes half a second for each space, so that three are too many at once.
SLOW = """
create function public.wait() returns trigger language plpgsql as 'begin perform pg_sleep(0.5); return new; end';
create trigger wait before update on core.space for each row execute function public.wait()
"""
TEN = {"spaces": [{"id": f"s{number}", "name": "S"} for number in range(10)]}


@pytest.mark.concurrency
@pytest.mark.parametrize("is_remote", [False, True])
async def test_what_takes_too_long_goes_in_smaller_parts(
    connection: asyncpg.Connection,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_remote: bool,
) -> None:
    path = write(tmp_path, json.dumps(TEN))
    await connection.execute(SLOW)
    try:
        if is_remote:
            port = free_port()
            with serving(tmp_path, database_url, port, HEADCOUNT_AUTH="off"):
                result = await headcount("apply", path, "--url", f"http://127.0.0.1:{port}", url="")
        else:
            result = await headcount("apply", path, url=database_url)
    finally:
        await connection.execute("drop function public.wait() cascade")
    assert result.exit_code == 0, result.output
    assert "created 10, updated 0, unchanged 0" in result.stdout
    assert await connection.fetchval("select count(distinct xmin::text) from core.space") >= 4


@pytest.mark.concurrency
async def test_a_single_thing_may_take_longer_where_the_database_is_at_hand(
    connection: asyncpg.Connection, database_url: str, tmp_path: Path
) -> None:
    path = write(tmp_path, json.dumps({"spaces": TEN["spaces"][:1]}))
    await connection.execute(SLOW.replace("0.5", "2.5"))
    try:
        result = await headcount("apply", path, url=database_url)
    finally:
        await connection.execute("drop function public.wait() cascade")
    assert "created 1, updated 0, unchanged 0" in result.stdout, result.output


@pytest.mark.concurrency
async def test_it_lets_pass_who_stores_events_while_it_waits_for_the_floor_plan(
    connection: asyncpg.Connection, database_url: str, tmp_path: Path
) -> None:
    await record(connection, [("one", datetime(2026, 3, 2, tzinfo=UTC), 1)])
    other, onlooker = await asyncpg.connect(database_url), await asyncpg.connect(database_url)
    try:
        async with other.transaction():
            await other.execute("select core.share_plan()")
            run = asyncio.create_task(headcount("apply", write(tmp_path, SITE), url=database_url))
            await until_waiting(onlooker, 1)
            assert await record(connection, [("one", datetime(2026, 3, 2, 1, tzinfo=UTC), 1)]) == []
            assert not run.done(), "it tries again"
        result = await run
    finally:
        await other.close()
        await onlooker.close()
    assert "created 8, updated 1, unchanged 0" in result.stdout, result.output
