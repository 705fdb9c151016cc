"""From older releases to this one: nothing is lost, and while both are running both are right."""

import asyncio
import json
import re
import subprocess
import sys
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import httpx
import psycopg
import pytest

from headcount.app import create_app
from headcount.database import calls
from headcount.database.migrate import migrate
from headcount.database.schema import expected_schema
from headcount.settings import Settings
from tests.commands.support import PATIENCE, environment, free_port, headcount, running, serving
from tests.deploy import drill
from tests.deploy.apps import living
from tests.deploy.releases import BEFORE_MARKS, BEFORE_TABLE_LOCKS, FIRST, LAST, Release, source, unpack
from tests.factories import LONG_AGO, NOON, apply_site, build_house
from tests.http import body, problem
from tests.http.wire import Wire, until_ready
from tests.load.test_crash import Clients, check
from tests.notices.support import make_channel, tell
from tests.sql.test_locks import until

DOCUMENT = Path(__file__).parents[2] / "docs" / "sql-api.md"


def speak(code: Path, url: str, requests: list[tuple[str, str, Any]]) -> list[Any]:
    """What an older release answers, on a database that it migrates."""
    script = Path(__file__).with_name("speak.py")
    done = subprocess.run(
        [sys.executable, script, url],
        cwd=code,
        env=environment(PYTHONPATH=source(code)),
        input=json.dumps(requests),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    told: list[Any] = json.loads(done.stdout)
    return told


FILLING: list[tuple[str, str, Any]] = [
    ("PUT", "/v1/site", drill.SITE),
    ("POST", "/v1/events", {"events": drill.EVENTS}),
    ("POST", "/v1/spaces/hall/resets", {"count": 3, "at": drill.ago(days=2)}),
]
COMPRESSED = "select count(*) > 3 from timescaledb_information.chunks where hypertable_name = 'event' and is_compressed"


def build(release: Release, code: Path, url: str, has_jobs: bool) -> dict[str, Any]:
    """A database as that release leaves it, used for weeks; and what it says of it."""
    unpack(release, code)
    speak(code, url, [])
    if has_jobs:  # which would run when they like
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("select _timescaledb_functions.stop_background_workers()")
    assert {status for status, _ in speak(code, url, FILLING)} <= {200, 201}
    drill.upkeep(url, f"select api.set_retention({drill.KEPT_DAYS})")
    late: tuple[str, str, Any] = ("POST", "/v1/events", {"events": drill.LATE})
    asked = [late, *(("GET", path, None) for path in drill.PATHS_OF_COUNTS)]
    (_, told), *answers = speak(code, url, asked)
    assert told["accepted"] == len(drill.LATE)
    assert {status for status, _ in answers} == {200}
    with psycopg.connect(url) as connection:
        assert connection.execute(COMPRESSED).fetchone() == (True,)
    return dict(zip(drill.PATHS_OF_COUNTS, answers, strict=True))


def within(old: Any, new: Any, *, apart_from: str = "") -> bool:
    """Whether new says all that old does: it may say more."""
    match old:
        case dict():
            return isinstance(new, dict) and all(
                name == apart_from or (name in new and within(value, new[name], apart_from=apart_from))
                for name, value in old.items()
            )
        case list():
            return (
                isinstance(new, list)
                and len(old) == len(new)
                and all(within(*both, apart_from=apart_from) for both in zip(old, new, strict=True))
            )
    return bool(old == new)


@pytest.mark.parametrize(
    "release",
    [
        pytest.param(FIRST, id="first", marks=pytest.mark.concurrency),
        pytest.param(BEFORE_TABLE_LOCKS, id="0.1.0", marks=pytest.mark.concurrency),
        pytest.param(BEFORE_MARKS, id="0.1.2", marks=pytest.mark.concurrency),
        pytest.param(LAST, id="last"),
    ],
)
async def test_a_database_of_an_older_release_is_migrated_and_counts_as_before(
    fresh_database_url: str, tmp_path: Path, is_embedded: bool, release: Release
) -> None:
    url = fresh_database_url
    before = await asyncio.to_thread(build, release, tmp_path / "code", url, not is_embedded)
    newest = expected_schema().newest
    if newest > release.newest:
        refused = await headcount("verify", url=url)
        assert refused.exit_code == 1
        assert "headcount migrate" in refused.output
    report = migrate(url)
    assert [int(name[:4]) for name in report.applied if name[:4].isdecimal() and name[4] == "_"] == list(
        range(release.newest + 1, newest + 1)
    )
    after = await drill.answers_of(url, drill.PATHS_OF_COUNTS)
    for path, told in before.items():
        # before 0007 a sensor was silent at once, also while nobody listened
        assert within(told, list(after[path]), apart_from="online" if release.newest < 7 else ""), path
    verified = await headcount("verify", url=url)
    assert verified.exit_code == 0, verified.output
    drill.upkeep(url)
    assert (await headcount("verify", url=url)).exit_code == 0


async def test_no_table_is_written_anew(fresh_database_url: str, tmp_path: Path, is_embedded: bool) -> None:
    """To statements that began before it would be empty."""
    url = fresh_database_url
    await asyncio.to_thread(build, LAST, tmp_path / "code", url, not is_embedded)
    files = """
        select c.oid::regclass::text, pg_relation_filenode(c.oid) from pg_class c
        where c.relkind = 'r' and c.relnamespace = 'core'::regnamespace
        """
    with psycopg.connect(url, autocommit=True) as connection:
        before: dict[str, int] = dict(connection.execute(files).fetchall())
        migrate(url)
        after: dict[str, int] = dict(connection.execute(files).fetchall())
    assert [name for name in before if after.get(name, before[name]) != before[name]] == []


@pytest.mark.concurrency
async def test_a_transaction_that_began_before_sees_the_late_events(fresh_database_url: str, tmp_path: Path) -> None:
    url = fresh_database_url
    await asyncio.to_thread(build, BEFORE_MARKS, tmp_path / "code", url, True)
    count = "select raw_count from api.get_count('hall', now() - interval '1 hour')"
    older = await asyncpg.connect(url, server_settings={"timezone": "UTC"})
    try:
        async with older.transaction(isolation="repeatable_read"):
            await older.execute("select 1 from pg_class limit 1")
            report = migrate(url)
            assert any(name.startswith("0033") for name in report.applied)
            seen = await older.fetchval(count)
        assert seen == await older.fetchval(count)
        assert await older.fetchval("select count(*) from core.late_mark where net is null") > 0
    finally:
        await older.close()


async def test_what_an_older_release_recorded_can_be_taken_back(fresh_database_url: str, tmp_path: Path) -> None:
    """Which placements and resets took the place of which is found out."""
    url, code = fresh_database_url, unpack(BEFORE_TABLE_LOCKS, tmp_path / "code")
    place = "/v1/dpus/a/placements"
    one, two, three = (drill.ago(days=days) for days in (5, 4, 3))
    moved = {"doorway": "inner", "mounted_in": "room", "from": one, "until": three}
    asked: list[tuple[str, str, Any]] = [
        ("PUT", "/v1/site", drill.SITE),
        ("GET", place, None),
        ("POST", place, moved),
        ("GET", place, None),
        ("POST", place, {"doorway": None, "from": two}),
        *(("POST", "/v1/spaces/hall/resets", {"count": count, "at": two}) for count in (3, 4)),
    ]
    told = [answer for _, answer in await asyncio.to_thread(speak, code, url, asked)]
    migrate(url)

    def periods(answer: dict[str, Any]) -> list[tuple[Any, ...]]:
        return [tuple(item[name] for name in ("doorway", "mounted_in", "from", "until")) for item in answer["items"]]

    async with living(create_app(Settings(database_url=url, auth="off"))) as client:
        for start, before in ((two, told[3]), (one, told[1])):
            assert (await client.delete(place, params={"from": start})).status_code == 204
            assert periods(body(await client.get(place))) == periods(before)
        for count in (3, None):
            assert (await client.delete("/v1/spaces/hall/resets", params={"at": two})).status_code == 204
            resets = body(await client.get("/v1/spaces/hall/resets"))["items"]
            assert [reset["count"] for reset in resets] == ([] if count is None else [count])


async def test_spaces_with_a_zone_that_was_counted_as_a_fixed_offset_are_mended(
    fresh_database_url: str, tmp_path: Path
) -> None:
    """CET and the like. Their daily resets came an hour late in summer, and so did their days."""
    url, code = fresh_database_url, unpack(BEFORE_TABLE_LOCKS, tmp_path / "code")
    place = {"doorway": "door", "mounted_in": "room", "from": "2026-01-01T00:00:00Z"}
    events = [("01:30", 4), ("02:30", 1)]
    noon = "/v1/spaces/room/count?at=2026-07-15T12:00:00Z"
    asked: list[tuple[str, str, Any]] = [
        ("PUT", "/v1/spaces/house", {"time_zone": "CET", "reset_at": "04:00"}),
        ("PUT", "/v1/spaces/room", {"parent": "house"}),
        ("PUT", "/v1/spaces/tent", {"time_zone": "EST"}),
        ("PUT", "/v1/doorways/door", {"sides": [None, "room"]}),
        ("PUT", "/v1/dpus/a", {}),
        ("POST", "/v1/dpus/a/placements", place),
        *(
            ("POST", "/v1/events", {"events": [{"dpu": "a", "timestamp": f"2026-07-15T{at}:00Z", "direction": by}]})
            for at, by in events
        ),
        ("GET", noon, None),
    ]
    told = [answer for _, answer in await asyncio.to_thread(speak, code, url, asked)]
    assert told[-1]["since"] == "2026-07-15T03:00:00Z", "by a fixed offset"
    with psycopg.connect(url) as connection:  # as if today was in summer
        connection.execute("update core.live_space set since = since + interval '1 hour'")
        connection.commit()
        (known_at,) = connection.execute("select clock_timestamp()").fetchone() or (None,)
    (warning,) = migrate(url).warnings
    assert "CET (now Europe/Brussels)" in warning
    assert "EST" not in warning
    with psycopg.connect(url) as connection:
        assert connection.execute("select * from api.list_differences()").fetchall() == []
    async with living(create_app(Settings(database_url=url, auth="off"))) as client:
        zones = {space["id"]: space["time_zone"] for space in body(await client.get("/v1/spaces"))["items"]}
        assert zones == {"house": "Europe/Brussels", "room": None, "tent": "EST"}
        after = body(await client.get(noon))
        assert (after["since"], after["raw_count"]) == ("2026-07-15T02:00:00Z", 1)
        believed = body(await client.get(f"{noon}&known_at={drill.written(known_at)}"))
        assert believed["since"] == "2026-07-15T03:00:00Z", "what was told stays what was told"
    assert not migrate(url).warnings


# Rolling upgrades


@pytest.mark.concurrency
async def test_what_is_under_way_while_the_locks_change_is_waited_for(fresh_database_url: str, tmp_path: Path) -> None:
    """0014_locks.sql: who locked a number and who locks a table never work at the same time."""
    url = fresh_database_url
    migrate(url, sql_dir=unpack(BEFORE_TABLE_LOCKS, tmp_path / "code") / "sql")
    sessions = [await asyncpg.connect(url, server_settings={"timezone": "UTC"}) for _ in range(4)]
    storing, storing_later, planning, refreshing = sessions
    await storing.execute("select _timescaledb_functions.stop_background_workers()")
    # as a refresh of the release before in its midst, between two of its transactions
    run = asyncio.create_task(refreshing.execute("select pg_advisory_lock(4742002), pg_sleep(600)"))
    migration: asyncio.Task[Any] | None = None
    try:
        await build_house(storing)
        # as a service of that release does it
        recorded = (
            "select * from api.record_events(array['front'], array[$1::timestamptz], array[1], array[0::smallint])"
        )
        assert not await storing.fetch(recorded, NOON)
        await until(planning, "select exists (select from pg_locks where locktype = 'advisory' and objid = 4742002)")
        await storing.execute("begin")
        await storing.execute("select core.share_plan()")
        migration = asyncio.create_task(asyncio.to_thread(migrate, url))
        await until(planning, "select to_regclass('core.lock_plan') is not null")
        # in between all lock both
        await storing_later.execute("begin")
        await storing_later.execute("select core.share_plan()")
        held = """
            select count(*) from pg_locks
            where pid = $1 and (locktype = 'advisory' or relation = 'core.lock_plan'::regclass)
            """
        assert await planning.fetchval(held, storing.get_server_pid()) == 1
        assert await planning.fetchval(held, storing_later.get_server_pid()) == 2
        await storing_later.execute("commit")
        await planning.execute("set lock_timeout = '300ms'")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await planning.execute("select core.lock_plan()")
        assert not migration.done()
        await storing.execute("commit")
        await asyncio.wait_for(migration, PATIENCE)

        # now by tables; the refresh is known, and no other one begins
        assert await planning.fetchval("select pid from core.lock_rollup") == refreshing.get_server_pid()
        before = await planning.fetchval("select refreshed_at from core.rollup_state")
        await planning.execute("call core.refresh_rollups()")
        assert await planning.fetchval("select refreshed_at from core.rollup_state") == before
        await planning.execute("select pg_terminate_backend($1, 10000)", refreshing.get_server_pid())
        await planning.execute("call core.refresh_rollups()")
        assert await planning.fetchval("select refreshed_at from core.rollup_state") != before
        await planning.execute("begin")
        await planning.execute("select core.lock_plan(), core.lock_outage()")
        assert await planning.fetchval(held, planning.get_server_pid()) == 1
    finally:
        for session in sessions:
            session.terminate()
        assert await asyncio.gather(run, return_exceptions=True)
        if migration is not None:
            await asyncio.wait([migration])


def test_a_release_with_other_functions_has_another_number() -> None:
    """Else services of the last release would refuse to start beside it, and take turns with it in replacing them."""
    expected = expected_schema()
    assert expected.newest > LAST.newest or expected.repeatable_sha256 == LAST.repeatable_sha256, (
        "functions of schema api changed since the last release: add a numbered file (sql/README.md)"
    )


class Signature(NamedTuple):
    """The types of a function's parameters, those that may be left out, and what it returns, a line a column."""

    parameters: dict[str, str]
    optional: set[str]
    columns: list[str]


PARAMETER = re.compile(r'(?P<mode>INOUT |OUT |)"?(?P<name>\w+)"? (?P<kind>.*?)(?P<default> default .*?)?,?')


def signatures(document: Path) -> dict[str, Signature]:
    """Of all functions of schema api, as docs/sql-api.md has them from the catalog."""
    found = {}
    functions = r"```sql\napi\.(\w+)\((.*?)\n?\) returns (.*?)\n```"
    for name, parameters, result in re.findall(functions, document.read_text(), re.DOTALL):
        lines = result.splitlines()[1:-1] if result.startswith("table(") else [] if "record" in result else [result]
        columns = [line.strip().rstrip(",") for line in lines]
        taken, optional = {}, set()
        for match in map(PARAMETER.fullmatch, filter(None, map(str.strip, parameters.splitlines()))):
            assert match, parameters
            if match["mode"] != "OUT ":
                taken[match["name"]] = match["kind"]
            if match["default"]:
                optional.add(match["name"])
            if match["mode"]:
                columns.append(f"{match['name']} {match['kind']}")
        found[name] = Signature(taken, optional, columns)
    return found


def calls_of(code: Path) -> dict[str, tuple[str, bool]]:
    """The statement of each call of a release, and whether it takes the columns as they come."""
    script = Path(__file__).with_name("statements.py")
    done = subprocess.run(
        [sys.executable, script], env=environment(PYTHONPATH=source(code)), capture_output=True, check=True, text=True
    )
    return {name: (statement, in_order) for name, statement, in_order in json.loads(done.stdout)}


async def test_every_call_of_the_last_release_finds_its_function(
    connection: asyncpg.Connection, tmp_path: Path
) -> None:
    code = unpack(LAST, tmp_path)
    old, new = signatures(code / "docs/sql-api.md"), signatures(DOCUMENT)
    calls = calls_of(code)
    # what it kept for the release before itself it does not call
    assert set(calls) == set(old) - {path.stem for path in code.glob("sql/repeatable/20_api/deprecated/*.sql")}
    for name, (statement, takes_as_they_come) in calls.items():
        await connection.prepare(statement)
        was, now = old[name], new[name]
        assert was.parameters.items() <= now.parameters.items(), f"{name}: a parameter is another now"
        assert now.parameters.keys() - was.parameters.keys() <= now.optional, f"{name}: a new parameter has no default"
        # of a call without a result nobody looks at one
        columns = now.columns if was.columns == ["void"] else was.columns
        assert columns == now.columns[: len(columns)], f"{name}: columns are others now, or in another order"
        assert columns == now.columns or not takes_as_they_come, f"{name}: a column more than its call can take"


async def test_silence_goes_on_counting_where_it_means_something(fresh_database_url: str, tmp_path: Path) -> None:
    """By the last release everybody's silence counts. Who sends only events, and was offline, is quiet."""
    url = fresh_database_url
    migrate(url, sql_dir=unpack(BEFORE_TABLE_LOCKS, tmp_path / "code") / "sql")
    connection = await asyncpg.connect(url)
    await connection.execute("""
        select api.put_space('site', '{"offline_after_seconds": 60}');
        select api.put_doorway('gate', '{"sides": ["site", null]}');
        select api.record_events(
          array['only-events', 'placed', 'was-back'], array_fill(now() - interval '1 day', array[3]),
          '{1,1,1}', '{0,0,0}');
        select api.record_placement('placed', 'gate', 'site', now() - interval '2 days', null);
        select api.record_heartbeats(array['beating'], array[null], array[now()]);
        select core.note_listening(now() - interval '1 day');
        update core.listening set until_at = now();
        select core.turn_offline(now());
        select api.record_events(array['was-back'], array[now()], '{1}', '{0}');
        insert into core.incident (kind, dpu_id, started_at, recorded_at)
          select 'dpu_offline', dpu_id, offline_at, now() from core.outage
          where back_at is null and superseded_at is null;
        update core.outage o set incident_id = i.incident_id, pending = false
          from core.incident i where i.dpu_id = o.dpu_id;
    """)
    states = "select id, state from api.list_sensors() order by id"
    assert [tuple(row) for row in await connection.fetch(states)] == [
        ("beating", "online"),
        ("only-events", "offline"),
        ("placed", "offline"),
        ("was-back", "online"),
    ]
    await connection.close()
    migrate(url)
    connection = await asyncpg.connect(url)
    assert [tuple(row) for row in await connection.fetch(states)] == [
        ("beating", "online"),
        ("only-events", "quiet"),
        ("placed", "offline"),
        ("was-back", "online"),
    ]
    armed = await connection.fetch(
        "select d.id from core.dpu_state s join core.dpu d using (dpu_id) where s.armed_at is not null order by 1"
    )
    assert [row["id"] for row in armed] == ["beating", "placed"]
    await connection.execute("select api.detect_outages()")
    incidents = await connection.fetch("select dpu, ended_at is null, corrected from bi.incidents order by 1")
    assert [tuple(row) for row in incidents] == [("only-events", False, True), ("placed", True, False)]
    flips = await connection.fetch("select dpu, state from bi.dpu_flips order by dpu, at")
    assert [tuple(row) for row in flips] == [("placed", "offline"), ("was-back", "offline"), ("was-back", "online")]
    assert await connection.fetch("select * from api.list_differences()") == []
    await connection.close()


async def test_this_service_answers_nothing_before_the_schema_of_the_last_release_is_migrated(
    fresh_database_url: str, tmp_path: Path
) -> None:
    url = fresh_database_url
    migrate(url, sql_dir=unpack(LAST, tmp_path / "code") / "sql")
    variables = {"DATABASE_URL": url, "HEADCOUNT_AUTH": "off", "HEADCOUNT_PORT": str(free_port())}
    with running(tmp_path, "serve", **variables) as process:
        assert process.process.wait(PATIENCE) == 1
        assert re.search(r"The database lacks \d{4}_\w+\.sql(, \d{4}_\w+\.sql)*: run headcount migrate\.", process.said)

    # nor where it started while the database was away; then it goes on by itself
    wire = Wire(url)
    await wire.mend()
    await wire.cut()
    async with living(drill.service_on(wire.url)) as client:
        await wire.mend()
        events = {"events": drill.EVENTS[:1]}
        for answer in (
            await until_ready(client, 503, "headcount migrate"),
            await client.post("/v1/events", json=events),
            await client.get("/v1/spaces"),
        ):
            assert "headcount migrate" in problem(answer, 503, "unavailable")["detail"]
        migrate(url)
        assert body(await client.post("/v1/events", json=events))["accepted"] == 1
        assert body(await until_ready(client, 200)) == {"status": "ok"}
    await wire.cut()


async def test_the_last_release_passes_on_what_this_one_refuses(own_database_url: str, tmp_path: Path) -> None:
    code = unpack(LAST, tmp_path / "code")
    now, ahead = drill.ago(), drill.written(datetime.now(UTC) + timedelta(hours=1))
    unset = "2000-01-01T00:14:31Z"
    connection = await asyncpg.connect(own_database_url)
    # the clocks of sensors that are placed speak for ours
    await apply_site(
        connection,
        spaces=[{"id": "hall"}],
        doorways=[{"id": dpu, "sides": [None, "hall"]} for dpu in "abc"],
        dpus=[{"id": dpu} for dpu in "abc"],
        placements=[{"dpu": dpu, "doorway": dpu, "mounted_in": "hall", "from": LONG_AGO.isoformat()} for dpu in "abc"],
    )
    await connection.close()
    of_three = [[{"dpu": dpu, "timestamp": at, "direction": 1} for dpu in ("a", "b", "c")] for at in (now, ahead)]
    asked: list[tuple[str, str, Any]] = [
        ("POST", "/v1/events", {"events": [{"dpu": "a", "timestamp": unset, "direction": 1}, "?" * 2000]}),
        ("POST", "/v1/heartbeats", {"heartbeats": [{"dpu": "a", "timestamp": unset}]}),
        ("POST", "/v1/polls", {"polls": [{"space": "s", "timestamp": unset, "status": "active"}]}),
        ("GET", "/v1/dpus/a", None),
        ("GET", "/sensors", None),
        *(("POST", "/v1/events", {"events": events}) for events in of_three),
    ]
    *told, (status, problem_told) = await asyncio.to_thread(speak, code, own_database_url, asked)
    assert [status for status, _ in told] == [200] * 6
    codes = [[item["code"] for item in answer["rejected"]] for _, answer in told[:3]]
    assert codes == [["clock_unset", "invalid"], ["clock_unset"], ["clock_unset"]]
    assert (status, problem_told["code"]) == (503, "clock_suspect")
    connection = await asyncpg.connect(own_database_url)
    assert await connection.fetchval("select max(length(body)) from core.rejected_event") < 1100
    await connection.close()


async def test_the_last_release_passes_on_that_a_dpu_is_retired(own_database_url: str, tmp_path: Path) -> None:
    code = unpack(LAST, tmp_path / "code")
    connection = await asyncpg.connect(own_database_url)
    await build_house(connection)
    await connection.execute("select api.delete_dpu('inner'), api.delete_space('room')")
    await connection.close()
    asked: list[tuple[str, str, Any]] = [
        ("GET", "/v1/dpus/inner", None),
        ("GET", "/v1/dpus", None),
        ("GET", "/v1/spaces", None),
        ("DELETE", "/v1/spaces/room", None),
    ]
    (_, dpu), (_, dpus), (_, spaces), (status, _) = await asyncio.to_thread(speak, code, own_database_url, asked)
    assert dpu["state"] == "retired"
    assert [item["id"] for item in dpus["items"]] == ["front"]
    assert [item["id"] for item in spaces["items"]] == ["house"]
    assert status == 200


async def test_the_last_release_passes_on_that_a_channel_is_out_of_reach(own_database_url: str, tmp_path: Path) -> None:
    code = unpack(LAST, tmp_path / "code")
    connection = await asyncpg.connect(own_database_url)
    await build_house(connection)
    token = await calls.create_token(connection, b"x" * 32, ["admin"], space="room")
    async with connection.transaction():
        await connection.execute("select set_config('headcount.token', $1, true)", token.id)
        await make_channel(connection)
    await tell(connection, "offline", 1, "room")
    await connection.execute("update core.delivery_rate set deliveries = 1000")
    await tell(connection, "offline", 3, "room")
    await connection.execute("update core.delivery_rate set deliveries = 1")
    await calls.revoke_token(connection, token.id)
    assert await calls.claim_deliveries(connection, 10) == []
    await tell(connection, "offline", 2, "room")
    await connection.close()
    asked: list[tuple[str, str, Any]] = [
        ("GET", "/v1/deliveries", None),
        ("GET", "/v1/channels/hook", None),
        ("POST", "/v1/channels/hook/test", None),
        ("POST", "/v1/deliveries/1/replay", None),
        ("PUT", "/v1/channels/hook", {"only_in_opening_hours": False}),
    ]
    (_, deliveries), (status, channel), *refused, (put, _) = await asyncio.to_thread(
        speak, code, own_database_url, asked
    )
    assert [(item["state"], item["reason"]) for item in deliveries["items"]] == [
        ("suppressed", "out_of_reach"),
        ("suppressed", "too_many"),
        ("cancelled", "out_of_reach"),
    ]
    assert (status, channel["id"], put) == (200, "hook", 200)
    assert [(status, told["code"]) for status, told in refused] == [(409, "conflict")] * 2


@pytest.mark.concurrency
async def test_both_releases_serve_while_one_takes_the_place_of_the_other(
    fresh_database_url: str, tmp_path: Path
) -> None:
    url = fresh_database_url
    code = unpack(LAST, tmp_path / "code")
    migrate(url, sql_dir=code / "sql")
    old_port, new_port = free_port(), free_port()
    clients = Clients(old_port)
    with ExitStack() as stack:
        old = stack.enter_context(serving(tmp_path, url, old_port, PYTHONPATH=source(code)))
        async with httpx.AsyncClient(timeout=PATIENCE) as client:
            at_old, at_new = (f"http://127.0.0.1:{port}" for port in (old_port, new_port))
            assert (await client.put(f"{at_old}/v1/site", json=SITE)).status_code == 200
            tasks = [asyncio.create_task(clients.run(1 if number % 4 else 50)) for number in range(8)]
            await clients.get_on(100, tasks)
            moving = asyncio.create_task(asyncio.to_thread(migrate, url))
            while not moving.done():
                assert (await client.get(f"{at_old}/readyz")).status_code == 200
                await asyncio.sleep(0.01)
            assert (await moving).repeatable
            await clients.get_on(100, tasks)

            with running(tmp_path, "migrate", DATABASE_URL=url, PYTHONPATH=source(code)) as again:
                assert await asyncio.to_thread(again.process.wait, PATIENCE) == 0, again.said
                assert f"The database is ahead of this release by {LAST.newest + 1:04}" in again.said

            stack.enter_context(serving(tmp_path, url, new_port))
            clients.urls.append(f"{at_new}/v1/events")
            await clients.get_on(200, tasks)
            await ask_both(client, at_old, at_new)

            old.kill()  # a service of the last release that ends must be able to start again
            old = await asyncio.to_thread(
                lambda: stack.enter_context(serving(tmp_path, url, old_port, PYTHONPATH=source(code)))
            )
            await clients.get_on(200, tasks)
            await ask_both(client, at_old, at_new)

            del clients.urls[0]
            assert await asyncio.to_thread(old.end) == 0, old.said
            await clients.get_on(100, tasks)
        clients.stop.set()
        await asyncio.gather(*tasks)
    await check(url, clients)


SITE = {
    "spaces": [{"id": "hall"}],
    "doorways": [{"id": "door", "sides": [None, "hall"]}],
    "dpus": [{"id": "dpu-0"}, {"id": "still"}],
    "placements": [
        {"dpu": dpu, "doorway": "door", "mounted_in": "hall", "from": "2026-01-01T00:00:00Z"}
        for dpu in ("dpu-0", "still")
    ],
}


async def ask_both(client: httpx.AsyncClient, *services: str) -> None:
    """What one of them is told, both answer. Events go on coming, so of the past, and of what nobody counts."""
    for number, service in enumerate(services):
        polls = {"polls": [{"space": f"shop-{number}", "timestamp": drill.ago(hours=1), "status": "active"}]}
        told = body(await client.post(f"{service}/v1/polls", json=polls))
        assert told["accepted"] + told["duplicates"] == 1
        assert body(await client.get(f"{service}/heartbeat?dpu=still"))["dpu"] == "still"
        reset = {"count": number, "at": drill.ago(hours=20)}
        assert (await client.post(f"{service}/v1/spaces/hall/resets", json=reset)).status_code == 201
        assert (await client.get(f"{service}/")).headers["content-type"].startswith("text/html")
        assert (await client.get(f"{service}/readyz")).status_code == 200
        async with client.stream("GET", f"{service}/v1/live?space=hall") as stream:
            async for line in stream.aiter_lines():
                if line == "event: count":
                    break
    past = {"heartbeats": [{"dpu": "calm", "timestamp": drill.ago(days=1)}]}
    assert (await client.post(f"{services[-1]}/v1/heartbeats?backfill=true", json=past)).status_code == 200
    for service in services:
        sensors = {sensor["id"]: sensor["state"] for sensor in body(await client.get(f"{service}/sensors"))}
        assert sensors["calm"] == "quiet", "a state that the last release does not know"
    for path in (
        f"/v1/spaces/hall/count?at={drill.ago(hours=10)}",
        f"/v1/spaces/hall/counts?interval=15m&from={drill.ago(hours=20)}&to={drill.ago(hours=8)}",
        "/v1/spaces/hall/resets",
        "/v1/spaces",
        "/v1/dpus/still",
        "/v1/dpus/calm",
        "/v1/reports",
        f"/v1/spaces/shop-0/uptime?to={drill.ago()}",
    ):
        first, second = [body(await client.get(f"{service}{path}")) for service in services]
        assert within(first, second), path
