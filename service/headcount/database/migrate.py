"""The migrator: numbered files run once, repeatable files run whenever one of them changed (sql/README.md).

`migrate` brings a database to the schema of a `sql` folder; many processes may call it at once.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from headcount.addresses import UNREADABLE
from headcount.database.schema import POLICIES, SQL_DIR, Migration, MigrationRefused, SchemaVersion, expected_schema
from headcount.settings import SettingsRefused

EXTENSIONS = ("timescaledb", "btree_gist")
MINIMUM_POSTGRESQL = 15
MINIMUM_TIMESCALEDB = (2, 23)
LOCK_KEY = 0x68656164636F756E  # "headcoun": one migrator at a time in one database
# Waiting longer for a table would make everybody who wants to read it queue behind us.
SETTINGS = """
set search_path = public; set timezone = 'UTC'; set statement_timeout = 0; set local lock_timeout = '10s';
set local idle_in_transaction_session_timeout = '60s'
"""
# With this code an SQL file warns of what the administrator has to know or do.
TO_BE_TOLD = "01HC0"
# Not to be had with `create or replace`: 42P13 other result or parameter names, 42P16 other columns of a
# view, 42809 function <-> procedure.
CANNOT_REPLACE = {"42P13", "42P16", "42809"}
# Runs every time: a new version of TimescaleDB brings functions that everybody may call, with no file changed.
ALWAYS = "95_public.sql"

LEDGER = """
create schema if not exists meta;
create table if not exists meta.migration (
    number     integer     not null constraint migration_pkey primary key,
    name       text        not null,
    sha256     text        not null,
    breaking   boolean     not null,
    applied_at timestamptz not null default now()
);
create table if not exists meta.repeatable (
    name       text        not null constraint repeatable_pkey primary key,
    sha256     text        not null,
    applied_at timestamptz not null default now()
);
comment on table meta.migration is 'Numbered files that ran here.';
comment on table meta.repeatable is 'Hashes of the repeatable files that ran last: policies, and all others.';
"""

# What no file creates any more. `create or replace` writes a new version of the catalog row, so whatever
# carries another transaction's xmin was not in the files. Functions of core that a table, trigger or
# rollup stands on stay: they cannot be dropped under it.
STALE_VIEWS = """
select format('%%I.%%I', n.nspname, c.relname)
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'bi' and c.relkind = 'v' and (%(all)s or not exists (
    select from pg_catalog.pg_rewrite r
    where r.ev_class = c.oid and r.xmin = pg_catalog.pg_current_xact_id()::xid))
order by 1
"""
STALE_ROUTINES = """
select p.oid::regprocedure::text
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname in ('api', 'core') and (%(all)s or p.xmin <> pg_catalog.pg_current_xact_id()::xid)
  and not exists (select from pg_catalog.pg_depend d
                  where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
  and not (n.nspname = 'core' and exists (
    select from pg_catalog.pg_depend d
    where d.refclassid = 'pg_proc'::regclass and d.refobjid = p.oid and d.classid <> 'pg_proc'::regclass))
order by 1
"""

log = logging.getLogger("headcount.migrate")


# For whoever reads sixteen years, the time that events can be of by default, and two others beside.
LEAST_LOCKS = 40_000
LOCKS = """
select current_setting('max_locks_per_transaction')::bigint
  * (current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint)
where version() !~* 'emscripten|emcc|wasm'
"""


@dataclass(frozen=True)
class MigrationReport:
    """What one run did; all empty and False when the database was current."""

    applied: tuple[str, ...]
    repeatable: bool
    policies: bool
    warnings: tuple[str, ...]


Connection = psycopg.Connection[tuple[Any, ...]]


@contextmanager
def _locked(connection: Connection) -> Iterator[None]:
    """One transaction, one migrator: the lock goes with the transaction, so nothing can leave it behind."""
    with connection.transaction():
        connection.execute("select pg_catalog.pg_advisory_xact_lock(%s)", [LOCK_KEY])
        connection.execute(SETTINGS)
        yield


def _run(connection: Connection, name: str, text: str) -> None:
    try:
        connection.execute(text)
    except psycopg.Error as error:
        position = error.diag.statement_position
        line = f" line {text.count(chr(10), 0, int(position) - 1) + 1}" if position else ""
        detail = f" ({error.diag.message_detail})" if error.diag.message_detail else ""
        raise MigrationRefused(
            f"{name}{line} failed with {error.sqlstate}: {error.diag.message_primary or error}{detail}",
            "Its transaction was rolled back; files before it stay applied. Correct the cause and run again.",
        ) from error


def check_server(postgresql: int, timescaledb: str | None, license_name: str | None) -> None:
    """Refuses what headcount cannot run on: `postgresql` is the major version, the others as SHOWn."""
    if postgresql < MINIMUM_POSTGRESQL:
        raise MigrationRefused(f"PostgreSQL {postgresql} is too old.", f"Use PostgreSQL {MINIMUM_POSTGRESQL} or newer.")
    if timescaledb is None:
        return
    minimum = ".".join(map(str, MINIMUM_TIMESCALEDB))
    if tuple(int(part) for part in re.findall(r"\d+", timescaledb)[:2]) < MINIMUM_TIMESCALEDB:
        raise MigrationRefused(
            f"TimescaleDB {timescaledb} is too old.",
            f"Install TimescaleDB {minimum} or newer, then `alter extension timescaledb update` in psql -X.",
        )
    if license_name != "timescale":
        raise MigrationRefused(
            f"TimescaleDB runs with timescaledb.license = {license_name!r}: without continuous aggregates.",
            "Use the community edition (timescale/timescaledb images, package timescaledb-2-postgresql-NN) "
            "and set timescaledb.license = 'timescale' in postgresql.conf.",
        )


def _ensure_extension(connection: Connection, name: str) -> None:
    installed = connection.execute("select from pg_catalog.pg_extension where extname = %s", [name])
    if installed.fetchone() is not None:
        return
    available = connection.execute("select from pg_catalog.pg_available_extensions where name = %s", [name])
    if available.fetchone() is None:
        package = "timescaledb-2-postgresql-NN" if name == "timescaledb" else "postgresql-contrib"
        raise MigrationRefused(
            f"The extension {name} is not installed on the database server.",
            f"Install it there (package {package}) or use an image that holds it.",
        )
    try:
        with _locked(connection):
            connection.execute(f"create extension if not exists {name}")
    except psycopg.Error as error:
        raise MigrationRefused(
            f"The extension {name} could not be created: {error.diag.message_primary or error}",
            f"Let a superuser run `create extension {name};` in this database"
            + (", with timescaledb in shared_preload_libraries." if name == "timescaledb" else "."),
        ) from error


def _prepare(connection: Connection) -> None:
    postgresql = connection.info.server_version // 10_000
    check_server(postgresql, None, None)
    for name in EXTENSIONS:
        _ensure_extension(connection, name)
    version = connection.execute(
        "select extversion, pg_catalog.current_setting('timescaledb.license', true)"
        " from pg_catalog.pg_extension where extname = 'timescaledb'"
    ).fetchone()
    assert version is not None
    check_server(postgresql, version[0], version[1])
    with _locked(connection):
        (missing,) = connection.execute("select to_regclass('meta.repeatable') is null").fetchone() or (True,)
        if missing:
            connection.execute(LEDGER)


def _ledger(connection: Connection, expected: SchemaVersion) -> dict[int, str]:
    """Number and name of what ran here; raises MigrationRefused when that does not fit the files."""
    rows = connection.execute("select number, name, sha256, breaking from meta.migration order by number").fetchall()
    for number, name, sha256, breaking in rows:
        mine = expected.migrations.get(number)
        if mine is not None and mine.sha256 != sha256:
            raise MigrationRefused(
                f"{mine.name} was changed after it ran on this database (as {name}).",
                f"Restore it as it was; put the change into a new file, number {expected.newest + 1:04}.",
            )
        if mine is None and breaking:
            raise MigrationRefused(
                f"The database is ahead: {name} ran here and is marked breaking; "
                f"the newest file of this release is {expected.newest:04}.",
                "Use the release that holds that file, or a newer one.",
            )
    return {number: name for number, name, _, _ in rows}


def _record(connection: Connection, migration: Migration) -> None:
    inserted = connection.execute(
        "insert into meta.migration (number, name, sha256, breaking) values (%s, %s, %s, %s) on conflict do nothing",
        [migration.number, migration.name, migration.sha256, migration.breaking],
    )
    # What it dropped or created may need a function, view or grant again. Whoever comes second changes nothing:
    # the embedded database grants the lock around a file without transaction to everybody.
    if inserted.rowcount:
        connection.execute("delete from meta.repeatable where name = 'repeatable'")


def _run_next(connection: Connection, expected: SchemaVersion, on_step: Callable[[str], None]) -> bool:
    """Runs the first numbered file that is not in the ledger; False when there is none."""
    with _locked(connection):
        ledger = _ledger(connection, expected)
        pending = next((m for number, m in expected.migrations.items() if number not in ledger), None)
        if pending is None or pending.transaction:
            if pending is not None:
                on_step(pending.name)
                _run(connection, pending.name, pending.text)
                _record(connection, pending)
            return pending is not None
    # Polled, since a session that waits inside pg_advisory_lock() holds a snapshot, for which
    # `create index concurrently` would wait in turn.
    while connection.execute("select where pg_try_advisory_lock(%s)", [LOCK_KEY + 1]).fetchone() is None:
        time.sleep(0.05)
    try:
        done = connection.execute("select from meta.migration where number = %s", [pending.number])
        if done.fetchone() is None:
            on_step(pending.name)
            _run(connection, pending.name, pending.text)
            _record(connection, pending)
    finally:
        connection.execute("select pg_advisory_unlock(%s)", [LOCK_KEY + 1])
    return True


def _drop_stale(connection: Connection, *, everything: bool) -> None:
    for kind, query in (("view", STALE_VIEWS), ("routine", STALE_ROUTINES)):
        names = [str(row[0]) for row in connection.execute(query, {"all": everything})]
        if names:
            _run(connection, "Dropping what no file creates:", f"drop {kind} {', '.join(names)}")


def _run_repeatable(
    connection: Connection,
    expected: SchemaVersion,
    on_step: Callable[[str], None],
    *,
    drop_first: bool = False,
) -> tuple[bool, bool]:
    """Runs the repeatable files after a numbered one and when their hash differs from the ledger's, the
    policies when theirs does, and the one of what everybody may do always.

    Everything is replaced in place, so that callers never meet a missing function; only when PostgreSQL
    says that something cannot be replaced is it all done again with a drop first. Either way others see
    the change at once, on commit.
    """
    try:
        with _locked(connection):
            if max(_ledger(connection, expected), default=0) > expected.newest:
                return False, False  # those of the newer release stand
            ran: dict[str, str] = dict(connection.execute("select name, sha256 from meta.repeatable").fetchall())
            todo = {
                name: sha256
                for name, sha256 in (
                    ("repeatable", expected.repeatable_sha256),
                    ("policies", expected.policies_sha256),
                )
                if ran.get(name) != sha256
            }
            stale = "repeatable" in todo
            if stale and drop_first:
                _drop_stale(connection, everything=True)
            for path, text in expected.repeatable:
                if stale and path >= POLICIES:
                    _drop_stale(connection, everything=False)
                    stale = False
                is_due = ("policies" if path == POLICIES else "repeatable") in todo
                if is_due:
                    on_step(path)
                if is_due or path == ALWAYS:
                    _run(connection, f"repeatable/{path}", text)
            if stale:
                _drop_stale(connection, everything=False)
            for name, sha256 in todo.items():
                connection.execute(
                    "insert into meta.repeatable (name, sha256) values (%s, %s)"
                    " on conflict (name) do update set sha256 = excluded.sha256, applied_at = now()",
                    [name, sha256],
                )
            return "repeatable" in todo, "policies" in todo
    except MigrationRefused as refused:
        cause = refused.__cause__
        if drop_first or not isinstance(cause, psycopg.Error) or cause.sqlstate not in CANNOT_REPLACE:
            raise
    return _run_repeatable(connection, expected, on_step, drop_first=True)


def _find_few_locks(connection: Connection) -> list[str]:
    """What to say of a lock table that is full once the whole history is read. The embedded database has one session,
    and cannot be told."""
    found = connection.execute(LOCKS).fetchone()
    if not found or found[0] >= LEAST_LOCKS:
        return []
    return [
        f"The database has room for about {found[0]:,} locks, and whoever reads many years at once takes some for each "
        "day. Set max_locks_per_transaction to 512 (docs/how-to/tune.md)."
    ]


def _connect(url: str) -> Connection:
    try:
        return psycopg.connect(url, autocommit=True, prepare_threshold=None)
    except (psycopg.ProgrammingError, ValueError):
        raise SettingsRefused(UNREADABLE) from None  # its words quote the password


def migrate(url: str, *, sql_dir: Path = SQL_DIR, on_step: Callable[[str], None] = log.info) -> MigrationReport:
    """Brings the database at `url` to the schema of `sql_dir`; `on_step` gets each file's name as it starts.

    Raises MigrationRefused, with the database as it was, for a server that will not do, files that do not fit
    the ledger, or a file that fails (numbered files before it stay applied); SettingsRefused for a `url` that
    cannot be read; psycopg.OperationalError when there is no database at `url`.
    """
    expected = expected_schema(sql_dir)
    with _connect(url) as connection:
        told: list[str] = []

        def hear(diag: psycopg.errors.Diagnostic) -> None:
            if diag.sqlstate == TO_BE_TOLD:
                told.append(" ".join(filter(None, (diag.message_primary, diag.message_hint))))

        connection.add_notice_handler(hear)
        _prepare(connection)
        applied: list[str] = []

        def start(name: str) -> None:
            applied.append(name)
            on_step(name)

        while _run_next(connection, expected, start):
            pass
        repeatable, policies = _run_repeatable(connection, expected, on_step)
        ahead = [name for number, name in _ledger(connection, expected).items() if number > expected.newest]
        few_locks = _find_few_locks(connection)
    warnings = [f"The database is ahead of this release by {', '.join(ahead)}."] if ahead else []
    warnings += few_locks
    warnings += dict.fromkeys(told)  # once, though the files may run twice
    for warning in warnings:
        log.warning(warning)
    return MigrationReport(tuple(applied), repeatable, policies, tuple(warnings))
