"""The migrator, on folders of its own and on the real one."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import asyncpg
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from headcount.database import migrate as migrator
from headcount.database.dump import FROZEN, dump_schema, freeze
from headcount.database.migrate import MigrationReport, check_server, migrate
from headcount.database.schema import POLICIES, SQL_DIR, MigrationRefused, check_schema, compare_schema, expected_schema
from headcount.wire.problems import SchemaMismatch
from tests.lanes import Lane

pytestmark = pytest.mark.slow

GET_SCHEMA = """
create or replace function api.get_schema() returns table (number integer, sha256 text, breaking boolean)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select number, sha256, breaking from meta.migration
  union all
  select 0, sha256, false from meta.repeatable where name = 'repeatable'
$$;
"""


# By no extension, and not by TimescaleDB on its own.
MADE = """
select relname::text from pg_class where relnamespace = 'public'::regnamespace and oid >= 16384 and not exists (
  select from pg_depend where objid = pg_class.oid and deptype = 'e')
union all
select nspname::text from pg_namespace where nspname !~ '^(pg_|_?timescaledb|information_schema$|public$)'
"""


class SqlFolder:
    """A `sql` folder that makes the schemas and the table core.visit, and what a test adds to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.migration("0001_start.sql", "create schema core; create schema api; create schema bi;")
        self.migration("0002_visit.sql", "create table core.visit (id integer primary key, people integer);")

    def migration(self, name: str, text: str) -> Path:
        return self._write("migrations", name, text)

    def repeatable(self, name: str, text: str) -> Path:
        return self._write("repeatable", name, text)

    def function(self, name: str, text: str = "() returns integer language sql return 1") -> Path:
        folder = "20_api" if name.startswith("api.") else "10_core"
        return self.repeatable(f"{folder}/{name.split('.')[1]}.sql", f"create or replace function {name}{text};")

    def view(self, name: str, query: str) -> Path:
        return self.repeatable(f"30_bi/{name}.sql", f"create or replace view bi.{name} as {query};")

    def _write(self, kind: str, name: str, text: str) -> Path:
        path = self.path / kind / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path


@pytest.fixture
def folder(tmp_path: Path) -> SqlFolder:
    return SqlFolder(tmp_path / "sql")


@pytest.fixture(scope="module")
def one_database_url(lane: Lane) -> Iterator[str]:
    """A database for all tests of a folder of their own."""
    with lane.database(migrated=False) as url:
        yield url


@pytest.fixture
def empty_database_url(one_database_url: str) -> str:
    """It again, without what the test before made there."""
    fetch(one_database_url, "drop schema if exists meta, core, api, bi cascade; drop extension if exists btree_gist")
    fetch(one_database_url, "drop type if exists public.gbtreekey4")
    assert fetch(one_database_url, MADE) == []
    return one_database_url


def fetch(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(query)
        return cursor.fetchall() if cursor.description else []


def steps(url: str, folder: SqlFolder) -> list[str]:
    names: list[str] = []
    migrate(url, sql_dir=folder.path, on_step=names.append)
    return names


def routines(url: str) -> list[str]:
    query = """
        select p.oid::regprocedure::text from pg_proc p
        where pronamespace in ('api'::regnamespace, 'core'::regnamespace) order by 1"""
    return [name for (name,) in fetch(url, query)]


def refusal(url: str, folder: SqlFolder) -> MigrationRefused:
    with pytest.raises(MigrationRefused) as caught:
        migrate(url, sql_dir=folder.path)
    return caught.value


# Numbered files


def test_it_runs_numbered_files_in_order_and_once(empty_database_url: str, folder: SqlFolder) -> None:
    report = migrate(empty_database_url, sql_dir=folder.path)
    assert report.applied == ("0001_start.sql", "0002_visit.sql")
    assert report.warnings == ()
    assert fetch(empty_database_url, "select number, name, breaking from meta.migration order by number") == [
        (1, "0001_start.sql", False),
        (2, "0002_visit.sql", False),
    ]
    assert migrate(empty_database_url, sql_dir=folder.path) == MigrationReport((), False, False, ())


def test_it_keeps_the_hash_and_the_breaking_mark(empty_database_url: str, folder: SqlFolder) -> None:
    folder.migration("0003_rename.sql", "-- headcount: breaking\nalter table core.visit rename people to persons;")
    migrate(empty_database_url, sql_dir=folder.path)
    expected = expected_schema(folder.path).migrations[3]
    assert fetch(empty_database_url, "select sha256, breaking from meta.migration where number = 3") == [
        (expected.sha256, True)
    ]


def test_it_runs_only_what_is_new(empty_database_url: str, folder: SqlFolder) -> None:
    migrate(empty_database_url, sql_dir=folder.path)
    folder.migration("0003_note.sql", "alter table core.visit add note text;")
    assert migrate(empty_database_url, sql_dir=folder.path).applied == ("0003_note.sql",)


def test_it_refuses_a_file_that_was_edited_after_it_ran(empty_database_url: str, folder: SqlFolder) -> None:
    migrate(empty_database_url, sql_dir=folder.path)
    folder.migration("0002_visit.sql", "create table core.visit (id bigint primary key);")
    refused = refusal(empty_database_url, folder)
    assert "0002_visit.sql was changed after it ran" in refused.message
    assert "Restore it" in refused.remedy
    assert "number 0003" in refused.remedy


def test_it_takes_line_ends_of_any_kind_for_the_same_file(empty_database_url: str, folder: SqlFolder) -> None:
    path = folder.migration("0003_note.sql", "alter table core.visit\nadd note text;\n")
    migrate(empty_database_url, sql_dir=folder.path)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert migrate(empty_database_url, sql_dir=folder.path).applied == ()


def test_it_leaves_no_trace_of_a_file_that_fails(empty_database_url: str, folder: SqlFolder) -> None:
    folder.migration("0003_bad.sql", "create table core.half ();\n\nalter table core.nowhere add x int;\n")
    refused = refusal(empty_database_url, folder)
    assert "0003_bad.sql" in refused.message
    assert '42P01: relation "core.nowhere" does not exist' in refused.message
    assert "rolled back" in refused.remedy
    assert fetch(empty_database_url, "select to_regclass('core.half')") == [(None,)]
    assert fetch(empty_database_url, "select max(number) from meta.migration") == [(2,)]

    folder.migration("0003_bad.sql", "create table core.half ();")
    assert migrate(empty_database_url, sql_dir=folder.path).applied == ("0003_bad.sql",)


def test_it_names_the_line_of_a_mistake(empty_database_url: str, folder: SqlFolder) -> None:
    folder.migration("0003_bad.sql", "-- line 1\n\ncreate tabel core.half ();\n")
    assert "0003_bad.sql line 3 failed with 42601: syntax error" in refusal(empty_database_url, folder).message


@pytest.mark.parametrize(
    ("name", "text", "message", "remedy"),
    [
        ("0004_x.sql", "select 1;", "0004_x.sql leaves a gap: there is no 0003", "without gaps"),
        ("0002_x.sql", "select 1;", "0002_visit.sql and 0002_x.sql have the same number", "the number 0003"),
        ("3_x.sql", "select 1;", "3_x.sql is not named like a migration", "NNNN_name.sql"),
        ("0003_x.sql", "-- headcount: braking\nselect 1;", "unknown header word 'braking'", "breaking"),
        (
            "0003_x.sql",
            "-- headcount: no-transaction\nselect 1;\nselect 2;",
            "0003_x.sql is marked no-transaction but holds 2 statements",
            "a file of its own",
        ),
        ("0003_x.sql", "-- headcount: no-transaction\n-- nothing", "holds 0 statements", "a file of its own"),
        ("0003_x.sql", "select 1; commit; select 2;", "begins or ends a transaction", "Leave that out"),
    ],
)
def test_it_refuses_a_folder_that_breaks_the_rules(
    folder: SqlFolder, name: str, text: str, message: str, remedy: str
) -> None:
    folder.migration(name, text)
    with pytest.raises(MigrationRefused) as caught:
        expected_schema(folder.path)
    assert message in caught.value.message
    assert remedy in caught.value.remedy
    assert str(caught.value) == f"{caught.value.message}\n{caught.value.remedy}"


@pytest.mark.parametrize(
    "statement",
    [
        "select ';' || $$a;b$$ || $x$;$$;$x$ /* ; */ -- ;\n || E'\\';';",
        'select 1 as "a;b"',
        "do $$ begin perform 1; end $$;",
    ],
)
def test_it_knows_a_semicolon_that_ends_no_statement(folder: SqlFolder, statement: str) -> None:
    folder.migration("0003_x.sql", f"-- headcount: no-transaction\n{statement}")
    assert not expected_schema(folder.path).migrations[3].transaction


def test_it_reads_header_words_only_at_the_top(folder: SqlFolder) -> None:
    folder.migration("0003_x.sql", "-- About this.\n\n-- headcount: breaking\nselect 1;")
    folder.migration("0004_x.sql", "select 1;\n-- headcount: breaking\n")
    migrations = expected_schema(folder.path).migrations
    assert [migrations[3].breaking, migrations[4].breaking] == [True, False]


def test_it_runs_a_marked_file_outside_a_transaction_and_once(empty_database_url: str, folder: SqlFolder) -> None:
    folder.migration("0003_vacuum.sql", "vacuum core.visit;")
    assert "VACUUM cannot run inside a transaction block" in refusal(empty_database_url, folder).message
    folder.migration("0003_vacuum.sql", "-- headcount: no-transaction\nvacuum core.visit;")
    assert migrate(empty_database_url, sql_dir=folder.path).applied == ("0003_vacuum.sql",)
    assert migrate(empty_database_url, sql_dir=folder.path).applied == ()


# Repeatable files


def test_it_runs_repeatable_files_in_path_order_and_only_when_one_changed(
    empty_database_url: str, folder: SqlFolder
) -> None:
    folder.function("api.count")
    folder.function("core.help")
    folder.repeatable("90_grants.sql", "revoke all on all functions in schema api from public;")
    names = ["10_core/help.sql", "20_api/count.sql", "90_grants.sql"]
    assert steps(empty_database_url, folder) == ["0001_start.sql", "0002_visit.sql", *names]
    assert steps(empty_database_url, folder) == []
    folder.function("core.help", "() returns integer language sql return 2")
    assert steps(empty_database_url, folder) == names
    assert fetch(empty_database_url, "select core.help()") == [(2,)]


def test_it_runs_repeatable_files_after_a_numbered_one(empty_database_url: str, folder: SqlFolder) -> None:
    folder.view("visits", "select id, people from core.visit")
    migrate(empty_database_url, sql_dir=folder.path)
    folder.migration("0003_x.sql", "drop view bi.visits; alter table core.visit alter people type bigint;")
    assert steps(empty_database_url, folder) == ["0003_x.sql", "30_bi/visits.sql"]
    assert fetch(empty_database_url, "select * from bi.visits") == []


def test_it_changes_all_repeatable_files_or_none(empty_database_url: str, folder: SqlFolder) -> None:
    folder.function("api.count")
    migrate(empty_database_url, sql_dir=folder.path)
    folder.function("api.count", "() returns integer language sql return 2")
    bad = folder.function("api.more", "() returns integer language sql return nonsense")
    assert "repeatable/20_api/more.sql line 1 failed with 42703" in refusal(empty_database_url, folder).message
    assert fetch(empty_database_url, "select api.count()") == [(1,)]
    bad.unlink()
    assert migrate(empty_database_url, sql_dir=folder.path).repeatable
    assert fetch(empty_database_url, "select api.count()") == [(2,)]


def test_it_drops_what_no_file_creates_any_more(empty_database_url: str, folder: SqlFolder) -> None:
    gone = [
        folder.function("api.old"),
        folder.function("core.old"),
        folder.view("old", "select id from core.visit"),
        folder.view("older", "select core.old() as one, id from bi.old"),
    ]
    folder.function("api.kept")
    folder.view("kept", "select id from core.visit")
    folder.repeatable("90_grants.sql", "revoke all on all functions in schema api, core from public;")
    migrate(empty_database_url, sql_dir=folder.path)
    for path in gone:
        path.unlink()
    migrate(empty_database_url, sql_dir=folder.path)
    assert routines(empty_database_url) == ["api.kept()"]
    assert fetch(empty_database_url, "select viewname from pg_views where schemaname = 'bi'") == [("kept",)]


def test_it_leaves_no_overload_when_parameters_change(empty_database_url: str, folder: SqlFolder) -> None:
    folder.function("api.count", "(a integer) returns integer language sql return a")
    migrate(empty_database_url, sql_dir=folder.path)
    folder.function("api.count", "(a text, b text default '') returns text language sql return a || b")
    migrate(empty_database_url, sql_dir=folder.path)
    assert routines(empty_database_url) == ["api.count(text,text)"]


@pytest.mark.parametrize(
    "changed",
    [
        "(a integer) returns text language sql return a::text",
        "(b integer) returns integer language sql return b",
        "(a integer, out b integer) language sql return a",
    ],
)
def test_it_changes_results_and_parameter_names(empty_database_url: str, folder: SqlFolder, changed: str) -> None:
    for name in ("api.count", "core.help"):
        folder.function(name, "(a integer) returns integer language sql return a")
    folder.view("visits", "select core.help(id) as id, people from core.visit")
    migrate(empty_database_url, sql_dir=folder.path)
    for name in ("api.count", "core.help"):
        folder.function(name, changed)
    assert migrate(empty_database_url, sql_dir=folder.path).repeatable
    assert routines(empty_database_url) == ["api.count(integer)", "core.help(integer)"]


def test_it_changes_the_columns_of_a_view(empty_database_url: str, folder: SqlFolder) -> None:
    folder.view("visits", "select id, people from core.visit")
    migrate(empty_database_url, sql_dir=folder.path)
    folder.view("visits", "select people::text from core.visit")
    assert migrate(empty_database_url, sql_dir=folder.path).repeatable


def test_it_refuses_to_drop_a_view_under_a_view_of_others(empty_database_url: str, folder: SqlFolder) -> None:
    path = folder.view("visits", "select id, people from core.visit")
    migrate(empty_database_url, sql_dir=folder.path)
    fetch(empty_database_url, "create view public.mine as select * from bi.visits")
    path.unlink()
    refused = refusal(empty_database_url, folder)
    assert "cannot drop view bi.visits" in refused.message
    assert "view mine depends on view bi.visits" in refused.message
    assert fetch(empty_database_url, "select * from public.mine") == []


def test_it_keeps_a_function_in_place_while_others_use_it(empty_database_url: str, folder: SqlFolder) -> None:
    folder.function("api.count")
    migrate(empty_database_url, sql_dir=folder.path)
    before = fetch(empty_database_url, "select 'api.count'::regproc::oid")
    folder.function("api.count", "() returns integer language sql return 2")
    migrate(empty_database_url, sql_dir=folder.path)
    assert fetch(empty_database_url, "select 'api.count'::regproc::oid") == before


def test_it_keeps_a_core_function_that_a_table_stands_on(empty_database_url: str, folder: SqlFolder) -> None:
    folder.migration(
        "0003_check.sql",
        "create function core.is_good(people integer) returns boolean immutable return people > 0;"
        "alter table core.visit add constraint visit_people_check check (core.is_good(people));",
    )
    path = folder.function("core.help")
    migrate(empty_database_url, sql_dir=folder.path)
    path.unlink()
    migrate(empty_database_url, sql_dir=folder.path)
    assert routines(empty_database_url) == ["core.is_good(integer)"]


def test_it_runs_policies_only_when_they_change(empty_database_url: str, folder: SqlFolder) -> None:
    folder.function("core.help")
    folder.repeatable(POLICIES, "select core.help();")
    folder.repeatable("90_grants.sql", "select 1;")
    names = ["10_core/help.sql", POLICIES, "90_grants.sql"]
    assert steps(empty_database_url, folder)[2:] == names
    folder.repeatable("90_grants.sql", "select 2;")
    assert steps(empty_database_url, folder) == ["10_core/help.sql", "90_grants.sql"]
    folder.repeatable(POLICIES, "select core.help() + 1;")
    assert steps(empty_database_url, folder) == [POLICIES]
    folder.repeatable(POLICIES, "select core.help() + 2;")
    folder.repeatable("90_grants.sql", "select 3;")
    assert steps(empty_database_url, folder) == names


# Many at once


def _migrate_at_once(executor: Executor, url: str, folder: SqlFolder, alone: str) -> None:
    folder.migration("0003_slow.sql", "select pg_sleep(1); create table core.once ();")
    folder.migration("0004_alone.sql", f"-- headcount: no-transaction\n{alone}")
    folder.migration("0005_last.sql", "create table core.last ();")
    folder.function("api.count")
    with executor:
        futures = [executor.submit(migrate, url, sql_dir=folder.path) for _ in range(20)]
        reports = [future.result() for future in futures]
    applied = {name for report in reports for name in report.applied}
    assert applied == {path.name for path in (folder.path / "migrations").iterdir()}
    assert sum(report.repeatable for report in reports) == 1
    assert fetch(url, "select count(*), max(number) from meta.migration") == [(5, 5)]


def test_it_may_be_run_by_twenty_threads_at_once(empty_database_url: str, folder: SqlFolder) -> None:
    _migrate_at_once(ThreadPoolExecutor(20), empty_database_url, folder, "vacuum core.visit;")


@pytest.mark.concurrency
def test_it_may_be_run_by_twenty_processes_at_once(empty_database_url: str, folder: SqlFolder) -> None:
    processes = ProcessPoolExecutor(20, mp_context=multiprocessing.get_context("spawn"))
    folder.migration(
        "0002_visit.sql", "create table core.visit as select i as id, i as people from generate_series(1, 300000) i;"
    )
    # Waits for every transaction that has a snapshot: none may wait for it in turn. Without "if not
    # exists", a second run would fail.
    alone = "create index concurrently visit_people_idx on core.visit (people);"
    _migrate_at_once(processes, empty_database_url, folder, alone)


# What it refuses to run on


def test_it_refuses_a_database_that_is_ahead_by_a_breaking_file(empty_database_url: str, folder: SqlFolder) -> None:
    newest = folder.migration("0003_drop.sql", "-- headcount: breaking\nalter table core.visit drop people;")
    migrate(empty_database_url, sql_dir=folder.path)
    newest.unlink()
    refused = refusal(empty_database_url, folder)
    assert "ahead: 0003_drop.sql ran here and is marked breaking" in refused.message
    assert "the newest file of this release is 0002" in refused.message
    assert "Use the release that holds that file" in refused.remedy


def test_it_leaves_a_database_alone_that_is_ahead_otherwise(empty_database_url: str, folder: SqlFolder) -> None:
    newest = folder.migration("0003_note.sql", "alter table core.visit add note text;")
    folder.function("api.count", "() returns integer language sql return 3")
    migrate(empty_database_url, sql_dir=folder.path)
    newest.unlink()
    folder.function("api.count", "() returns integer language sql return 2")
    report = migrate(empty_database_url, sql_dir=folder.path)
    assert report.warnings == ("The database is ahead of this release by 0003_note.sql.",)
    assert not report.repeatable
    assert fetch(empty_database_url, "select api.count()") == [(3,)]


@pytest.mark.parametrize(
    ("server", "message", "remedy"),
    [
        ((14, "2.23.0", "timescale"), "PostgreSQL 14 is too old", "PostgreSQL 15 or newer"),
        ((15, "2.22.1", "timescale"), "TimescaleDB 2.22.1 is too old", "TimescaleDB 2.23 or newer"),
        ((17, "2.28.3", "apache"), "timescaledb.license = 'apache'", "community edition"),
        ((17, "2.28.3", None), "timescaledb.license = None", "community edition"),
    ],
)
def test_it_refuses_a_server_it_cannot_run_on(server: tuple[int, str, str | None], message: str, remedy: str) -> None:
    with pytest.raises(MigrationRefused) as caught:
        check_server(*server)
    assert message in caught.value.message
    assert remedy in caught.value.remedy


@pytest.mark.parametrize("timescaledb", ["2.23.0", "2.23.0-dev", "2.28.3", "3.0.0"])
def test_it_accepts_the_versions_it_was_made_for(timescaledb: str) -> None:
    check_server(15, timescaledb, "timescale")


def test_it_asks_the_server_for_its_version(
    empty_database_url: str, folder: SqlFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrator, "MINIMUM_TIMESCALEDB", (99, 0))
    assert "is too old" in refusal(empty_database_url, folder).message
    monkeypatch.setattr(migrator, "MINIMUM_POSTGRESQL", 99)
    assert "Use PostgreSQL 99 or newer" in refusal(empty_database_url, folder).remedy
    assert fetch(empty_database_url, "select to_regclass('meta.migration')") == [(None,)]


def test_it_refuses_a_server_without_an_extension(
    empty_database_url: str, folder: SqlFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrator, "EXTENSIONS", ("timescaledb", "btree_gist", "no_such_extension"))
    refused = refusal(empty_database_url, folder)
    assert refused.message == "The extension no_such_extension is not installed on the database server."
    assert "Install it there" in refused.remedy


def test_it_says_who_can_create_an_extension(empty_database_url: str, folder: SqlFolder) -> None:
    fetch(empty_database_url, "create type public.gbtreekey4 as (in_the_way integer)")
    refused = refusal(empty_database_url, folder)
    assert refused.message == ('The extension btree_gist could not be created: type "gbtreekey4" already exists')
    assert "Let a superuser run `create extension btree_gist;`" in refused.remedy


def test_it_warns_of_a_lock_table_that_is_too_small(
    empty_database_url: str, folder: SqlFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrator, "LOCKS", migrator.LOCKS.partition("where version()")[0])
    with psycopg.connect(empty_database_url) as connection:
        (locks,) = connection.execute(migrator.LOCKS).fetchone() or (0,)
    monkeypatch.setattr(migrator, "LEAST_LOCKS", locks)
    assert migrate(empty_database_url, sql_dir=folder.path).warnings == ()
    monkeypatch.setattr(migrator, "LEAST_LOCKS", locks + 1)
    (warning,) = migrate(empty_database_url, sql_dir=folder.path).warnings
    assert f"room for about {locks:,} locks" in warning
    assert "max_locks_per_transaction to 512" in warning


def test_it_takes_a_url_with_the_host_in_the_query(empty_database_url: str, folder: SqlFolder) -> None:
    given = conninfo_to_dict(empty_database_url)
    database = given.pop("dbname")
    url = f"postgresql:///{database}?{urlencode(given)}"
    assert migrate(url, sql_dir=folder.path).applied


# What the service asks


def _ledger(folder: SqlFolder) -> list[tuple[int, str, bool]]:
    return [(m.number, m.sha256, m.breaking) for m in expected_schema(folder.path).migrations.values()]


def test_it_speaks_to_its_own_schema(folder: SqlFolder) -> None:
    expected = expected_schema(folder.path)
    compare_schema(_ledger(folder), expected.repeatable_sha256, expected)


def test_it_refuses_to_serve_a_database_that_is_behind(folder: SqlFolder) -> None:
    expected = expected_schema(folder.path)
    with pytest.raises(SchemaMismatch, match=r"lacks 0002_visit.sql: run headcount migrate"):
        compare_schema(_ledger(folder)[:1], expected.repeatable_sha256, expected)


def test_it_refuses_to_serve_another_releases_functions(folder: SqlFolder) -> None:
    with pytest.raises(SchemaMismatch, match=r"functions .* another release: run headcount migrate"):
        compare_schema(_ledger(folder), "other", expected_schema(folder.path))


def test_it_refuses_to_serve_a_schema_made_from_other_files(folder: SqlFolder) -> None:
    rows = [(number, "other", breaking) for number, _, breaking in _ledger(folder)]
    with pytest.raises(SchemaMismatch, match=r"0001_start.sql is not the file that ran"):
        compare_schema(rows, None, expected_schema(folder.path))


def test_it_serves_a_newer_schema_unless_that_is_breaking(folder: SqlFolder) -> None:
    expected = expected_schema(folder.path)
    compare_schema([*_ledger(folder), (3, "new", False)], "newer", expected)
    with pytest.raises(SchemaMismatch, match=r"ahead by migration 0003"):
        compare_schema([*_ledger(folder), (3, "new", True)], "newer", expected)


async def test_it_checks_the_schema_through_the_api(empty_database_url: str, folder: SqlFolder) -> None:
    connection = await asyncpg.connect(empty_database_url)
    try:
        with pytest.raises(SchemaMismatch, match="no headcount schema: run headcount migrate"):
            await check_schema(connection, folder.path)
        folder.repeatable("20_api/get_schema.sql", GET_SCHEMA)
        migrate(empty_database_url, sql_dir=folder.path)
        await check_schema(connection, folder.path)
        folder.function("api.count")
        with pytest.raises(SchemaMismatch, match="run headcount migrate"):
            await check_schema(connection, folder.path)
    finally:
        await connection.close()


# The real folder


def test_it_migrates_the_real_folder_and_finds_nothing_to_do_after(fresh_database_url: str) -> None:
    report = migrate(fresh_database_url)
    assert len(report.applied) == len(list((SQL_DIR / "migrations").glob("*.sql")))
    before = dump_schema(fresh_database_url)
    assert migrate(fresh_database_url) == MigrationReport((), False, False, ())
    assert dump_schema(fresh_database_url) == before


def test_it_can_run_every_repeatable_file_again(fresh_database_url: str) -> None:
    migrate(fresh_database_url)
    before = dump_schema(fresh_database_url)
    fetch(fresh_database_url, "delete from meta.repeatable")
    assert migrate(fresh_database_url) == MigrationReport((), True, True, ())
    assert dump_schema(fresh_database_url) == before


def test_it_has_frozen_every_numbered_file() -> None:
    lines = FROZEN.read_text().splitlines() if FROZEN.exists() else []
    found = [f"{m.sha256}  {m.name}" for m in expected_schema().migrations.values()]
    assert found == lines, (
        "A numbered file that was merged never changes: put the change into a new file. "
        "For a new file run `python -m headcount.database.dump frozen`."
    )


def test_it_freezes_new_files_and_no_others(folder: SqlFolder, tmp_path: Path) -> None:
    frozen = tmp_path / "frozen.txt"
    assert freeze(folder.path, frozen) == ["0001_start.sql", "0002_visit.sql"]
    before = frozen.read_text()
    folder.migration("0002_visit.sql", "create table core.visit ();")
    folder.migration("0003_note.sql", "alter table core.visit add note text;")
    assert freeze(folder.path, frozen) == ["0003_note.sql"]
    assert frozen.read_text().startswith(before)
