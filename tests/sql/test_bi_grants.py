"""What headcount_bi may do, tried out as that role."""

import asyncio
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from headcount.database.migrate import LOCK_KEY, migrate
from tests.factories import NOON, build_house, heard, listen, record, seconds, tick
from tests.sql.test_locks import bi_login, open_transaction, session, until

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
VIEWS = [
    "doorways",
    "dpu_flips",
    "dpus",
    "events",
    "incidents",
    "placements",
    "rejected_events",
    "resets",
    "space_counts_15m",
    "space_counts_now",
    "space_flows_15m",
    "spaces",
    "uptime_reports",
]
DENIED = [
    "select * from core.event",
    "select * from core.space_flow_15m",
    "select core.count_quarters(1, now(), now())",
    "select * from core.list_bi_blocks(now(), now())",
    "select * from api.get_count(space => 'house')",
    "select * from api.list_counts()",
    "select * from meta.migration",
    "create table bi.mine ()",
    "create view bi.mine as select 1 as one",
    "create table public.mine ()",
    "insert into bi.dpus (dpu) values ('mine')",
    "update bi.spaces set name = 'mine'",
    "delete from bi.resets",
    "truncate core.event",
]


@asynccontextmanager
async def analyst(connection: asyncpg.Connection) -> AsyncIterator[asyncpg.Connection]:
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("set local role headcount_bi")
    try:
        yield connection
    finally:
        await transaction.rollback()


async def test_the_views_of_bi_are_those_named_here(connection: asyncpg.Connection) -> None:
    rows = await connection.fetch("select viewname from pg_views where schemaname = 'bi' order by 1")
    assert [row[0] for row in rows] == VIEWS


@pytest.mark.parametrize("view", VIEWS)
async def test_bi_can_read_every_view(connection: asyncpg.Connection, view: str) -> None:
    await build_house(connection)
    await heard(connection, ("front", NOON))
    await listen(connection, NOON, NOON + seconds(600))
    await tick(connection, NOON + seconds(602))
    await tick(connection, NOON + seconds(604))
    await record(connection, [("front", NOON, 1), ("inner", NOON - seconds(90), 2), ("front", NOON - seconds(4e6), 1)])
    async with analyst(connection) as reader:
        found = await reader.fetch(f"select * from bi.{view}")
    assert (len(found) == 0) == (view in ("rejected_events", "resets", "uptime_reports"))


async def test_bi_can_read_what_comes_from_late_quarters_and_from_rollups(connection: asyncpg.Connection) -> None:
    await build_house(connection)
    await record(connection, [("front", NOON, 3)])
    await connection.execute("call core.refresh_rollups()")
    await record(connection, [("front", NOON + seconds(1), 4)])
    async with analyst(connection) as reader:
        flow = await reader.fetchrow("select * from bi.space_flows_15m")
        count = await reader.fetchval(
            "select raw_count from bi.space_counts_15m where space = 'house' and bucket = $1", NOON
        )
    assert dict(flow or {}) == {"space": "house", "bucket": NOON, "entries": 7, "exits": 0, "net": 7}
    assert count == 7


@pytest.mark.parametrize("statement", DENIED)
async def test_bi_can_do_nothing_else(connection: asyncpg.Connection, statement: str) -> None:
    async with analyst(connection) as reader:
        # the second: of views over several tables PostgreSQL says first that nobody can write to them
        with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.ObjectNotInPrerequisiteStateError)):
            await reader.execute(statement)


async def test_a_session_of_bi_is_read_only_and_bounded(connection: asyncpg.Connection) -> None:
    rows = await connection.fetch(
        "select unnest(setconfig) from pg_db_role_setting where setrole = 'headcount_bi'::regrole and setdatabase = 0"
    )
    names = {row[0].split("=")[0] for row in rows}
    assert names >= {"default_transaction_read_only", "statement_timeout", "idle_in_transaction_session_timeout", "jit"}


# What PostgreSQL lets everybody do, and a login of BI must not, whatever it sets for itself

DENIED_THOUGH_NOT_READ_ONLY = [
    "create temp table mine ()",
    "select lo_from_bytea(0, 'x')",
    "select lo_create(0)",
    "select lo_creat(-1)",
    "select lo_put(1, 0, 'x')",
    "select pg_advisory_lock(4742001)",
    "select pg_advisory_lock_shared(1, 2)",
    f"select pg_advisory_xact_lock({LOCK_KEY})",  # of headcount migrate
    f"select pg_try_advisory_lock({LOCK_KEY + 1})",
    "select pg_advisory_xact_lock(hashtextextended('events.csv', 0))",  # of headcount import
    "select pg_try_advisory_lock(1)",
    "select pg_try_advisory_xact_lock_shared(1)",
    "select pg_logical_emit_message(false, 'x', 'x')",
    "select pg_export_snapshot()",
    "set temp_file_limit = -1",
    "alter role headcount_bi connection limit -1",
    "alter system set work_mem = '1GB'",
    "create schema mine",
    "set role headcount_service",
    "vacuum full core.event",
]


@pytest.mark.concurrency
async def test_a_login_of_bi_can_fill_nothing_and_lock_nothing(
    connection: asyncpg.Connection, database_url: str
) -> None:
    async with bi_login(connection, database_url) as reader:
        # what a role can lift itself
        await reader.execute("set default_transaction_read_only = off; set statement_timeout = 0")
        for statement in DENIED_THOUGH_NOT_READ_ONLY:
            try:
                await reader.execute(statement)
            except asyncpg.InsufficientPrivilegeError:
                continue
            pytest.fail(f"allowed: {statement}")
        # pools say this when a session is given back
        await reader.execute("select pg_advisory_unlock_all()")
        await reader.execute("discard all")
        assert await reader.fetchval("select count(*) from bi.spaces") == 0


async def test_there_is_no_way_for_bi_to_hold_an_advisory_lock(connection: asyncpg.Connection) -> None:
    """Whatever functions for that this PostgreSQL has."""
    found = await connection.fetch(
        """
        select p.oid::regprocedure::text as name, has_function_privilege('headcount_bi', p.oid, 'execute') as may
        from pg_proc p
        where p.pronamespace = 'pg_catalog'::regnamespace and p.proname ~ 'advisory' and p.proname !~ 'unlock'
        """
    )
    assert len(found) >= 16
    assert [row["name"] for row in found if row["may"]] == []


async def test_the_role_of_bi_has_bounds_that_it_cannot_lift(connection: asyncpg.Connection) -> None:
    limit = await connection.fetchval("select rolconnlimit from pg_roles where rolname = 'headcount_bi'")
    assert limit == 10
    context = await connection.fetchval("select context from pg_settings where name = 'temp_file_limit'")
    assert context == "superuser"
    found = await connection.fetchval(
        "select s.setconfig from pg_db_role_setting s where setrole = 'headcount_bi'::regrole and setdatabase = 0"
    )
    assert "temp_file_limit=5GB" in found


@pytest.mark.concurrency
async def test_what_a_login_of_bi_reads_for_too_long_is_ended_whatever_it_has_set(
    connection: asyncpg.Connection, database_url: str
) -> None:
    code = await connection.fetchval("select pg_get_functiondef('core.end_long_reads'::regproc)")
    assert "interval '15 minutes'" in code
    async with (
        bi_login(connection, database_url) as reader,
        bi_login(connection, database_url) as idle,
        open_transaction(database_url) as other,
    ):
        await reader.execute("set idle_in_transaction_session_timeout = 0; begin")
        await reader.fetch("select * from bi.spaces")
        await connection.execute("select core.end_long_reads()")
        assert await reader.fetchval("select 1") == 1, "it may take its time"
        await connection.execute(code.replace("interval '15 minutes'", "interval '0'"))
        try:
            await connection.execute("select core.end_long_reads()")
        finally:
            await connection.execute(code)
        gone = f"select not exists (select from pg_stat_activity where pid = {reader.get_server_pid()})"
        await until(connection, gone)
        assert await idle.fetchval("select 1") == await other.fetchval("select 1") == 1


@pytest.mark.concurrency
async def test_who_waits_for_a_strong_lock_is_ended_and_others_of_bi_are_not(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build_house(connection)
    await record(connection, [("front", NOON, 1)])
    (chunk,) = await chunks(connection)
    async with (
        bi_login(connection, database_url) as reader,
        bi_login(connection, database_url) as idle,
        bi_login(connection, database_url) as waiter,
    ):
        await reader.execute("begin")
        assert await reader.fetchval("select count(*) from bi.events") == 1
        # rights are asked for only when the lock is there, and no trigger sees it
        await waiter.execute("set default_transaction_read_only = off; set statement_timeout = 0; set lock_timeout = 0")
        truncate = asyncio.create_task(waiter.execute(f"truncate {chunk}"))
        pid = waiter.get_server_pid()
        long = "waitstart < clock_timestamp() - interval '1 second'"
        try:
            await until(
                connection, f"select exists (select from pg_locks where pid = {pid} and not granted and {long})"
            )
        except TimeoutError:
            if truncate.done():
                pytest.fail(f"it does not wait: {truncate.exception()}")
            raise
        # as the job does it: from whatever database of the server
        async with asyncio.timeout(30):
            other = await session(urlsplit(database_url)._replace(path="/postgres").geturl())
            try:
                code = await connection.fetchval(
                    "select prosrc from pg_proc where oid = 'core.end_long_reads'::regproc"
                )
                await other.execute(f"do $code$ {code} $code$")
            finally:
                await other.close()
            with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
                await truncate
        await until(connection, f"select not exists (select from pg_stat_activity where pid = {pid})")
        assert await record(connection, [("front", NOON + seconds(1), 1)]) == []
        assert await reader.fetchval("select 1") == await idle.fetchval("select 1") == 1


async def test_long_reads_are_looked_for_by_a_job_of_its_own_every_two_seconds(connection: asyncpg.Connection) -> None:
    job = await connection.fetchrow(
        """
        select schedule_interval, retry_period, job_id
        from timescaledb_information.jobs where proc_schema = 'core' and proc_name = 'end_long_reads'
        """
    )
    assert job is not None
    assert job["schedule_interval"] == job["retry_period"] == timedelta(seconds=2)
    await connection.execute(f"call public.run_job({job['job_id']})")


# What TimescaleDB lets everybody do


async def chunks(connection: asyncpg.Connection) -> list[str]:
    rows = await connection.fetch(
        """
        select format('%I.%I', chunk_schema, chunk_name)
        from timescaledb_information.chunks where hypertable_name = 'event' order by 1
        """
    )
    return [row[0] for row in rows]


HARMFUL = [
    "select _timescaledb_functions.drop_chunk('{chunk}')",
    "select _timescaledb_internal.drop_chunk('{chunk}')",
    "select _timescaledb_functions.freeze_chunk('{chunk}')",
    "select _timescaledb_functions.unfreeze_chunk('{chunk}')",
    "select _timescaledb_functions.stop_background_workers()",
    "select public.drop_chunks('{table}', older_than => now())",
    "select public.compress_chunk('{chunk}')",
    "call public.split_chunk('{chunk}')",
    "call public.detach_chunk('{chunk}')",
    "call public.merge_chunks('{chunk}', '{chunk}')",
    "select public.add_job(0, interval '1 second')",
    "select public.delete_job(1000)",
    "call public.run_job(1000)",
]


@pytest.mark.parametrize("role", ["headcount_bi", "headcount_service"])
async def test_no_login_can_call_what_drops_or_locks_chunks(connection: asyncpg.Connection, role: str) -> None:
    await build_house(connection)
    await record(connection, [("front", NOON, 1)])
    (chunk,) = await chunks(connection)
    for statement in HARMFUL:
        transaction = connection.transaction()
        await transaction.start()
        try:
            # chunks can be named by number, without usage on a schema
            for name, relation in (("chunk", chunk), ("table", "core.event")):
                number = await connection.fetchval("select $1::text::regclass::oid::int", relation)
                statement = statement.replace(f"'{{{name}}}'", f"{number}::oid::regclass")
            await connection.execute(f"set local role {role}; set transaction read only")
            await connection.execute(statement)
        except asyncpg.InsufficientPrivilegeError as error:
            said = str(error)
            if not re.match("permission denied for (function|procedure)", said):
                pytest.fail(f"{statement} is refused too late: {said}")
            continue
        except asyncpg.UndefinedFunctionError:
            continue  # not in this version
        finally:
            await transaction.rollback()
        pytest.fail(f"allowed: {statement}")
    assert await connection.fetchval("select count(*) from core.event") == 1


async def test_what_everybody_may_call_of_timescaledb_is_known(connection: asyncpg.Connection) -> None:
    """Of what is volatile. A new version may bring more: then look whether it does harm."""
    rows = await connection.fetch(
        """
        select distinct p.proname
        from pg_proc p
        join pg_depend d on d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e'
        join pg_extension e on e.oid = d.refobjid and e.extname = 'timescaledb'
        where p.provolatile = 'v' and has_function_privilege('public', p.oid, 'execute')
          and p.prorettype <> all ('{trigger, event_trigger}'::regtype[])
        """
    )
    needed = {"time_bucket_gapfill", "locf", "interpolate", "generate_uuidv7", "to_uuidv7", "extension_state"}
    assert {row[0] for row in rows} - needed - {"tsl_loaded"} == set()


async def test_what_a_new_version_of_timescaledb_brings_is_taken_by_the_next_migration(own_database_url: str) -> None:
    connection = await asyncpg.connect(own_database_url)
    may = "select has_function_privilege('headcount_bi', '_timescaledb_functions.freeze_chunk(regclass)', 'execute')"
    try:
        await connection.execute("grant execute on function _timescaledb_functions.freeze_chunk(regclass) to public")
        assert await connection.fetchval(may)
        await connection.close()
        report = await asyncio.to_thread(migrate, own_database_url)
        assert not report.repeatable
        connection = await asyncpg.connect(own_database_url)
        assert not await connection.fetchval(may)
    finally:
        await connection.close()


@pytest.mark.concurrency
async def test_a_login_of_bi_reads_its_views_and_what_timescaledb_says_of_itself(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build_house(connection)
    await record(connection, [("front", NOON, 1)])
    await connection.execute("call core.run_upkeep()")
    names = await connection.fetch(
        """
        select format('%I.%I', schemaname, viewname)
        from pg_views where schemaname in ('bi', 'timescaledb_information')
        """
    )
    async with bi_login(connection, database_url) as reader:
        for (name,) in names:
            try:
                await reader.fetch(f"select * from {name}")
            except asyncpg.InsufficientPrivilegeError as error:
                # some look up our tables by name
                if name.startswith("bi.") or str(error) != "permission denied for schema core":
                    raise
        await reader.fetch(
            "select public.time_bucket_gapfill('1 day', time, now() - interval '2 days', now()) from bi.events"
        )


REFUSED_BEFORE_IT_LOCKS = [
    "create rule mine as on insert to _timescaledb_catalog.chunk do nothing",
    "create rule mine as on insert to pg_catalog.pg_class do nothing",
    "create rule mine as on insert to {chunk} do nothing",
    "comment on table {chunk} is 'mine'",
    "create trigger mine after insert on {chunk} execute function mine()",
    "drop rule if exists mine on {chunk}",
    "create statistics mine on time, dpu_id from {chunk}",
    "alter table {chunk} rename to mine",
]


@pytest.mark.concurrency
async def test_ddl_of_a_login_of_bi_is_refused_before_it_waits_for_a_lock(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await build_house(connection)
    await record(connection, [("front", NOON, 1)])
    (chunk,) = await chunks(connection)
    async with bi_login(connection, database_url) as reader, bi_login(connection, database_url) as attacker:
        await reader.execute("begin; lock table bi.events, _timescaledb_catalog.chunk in access share mode")
        await attacker.execute("set default_transaction_read_only = off; set lock_timeout = '5s'")
        for statement in REFUSED_BEFORE_IT_LOCKS:
            try:
                await attacker.execute(statement.format(chunk=chunk))
            except asyncpg.InsufficientPrivilegeError as error:
                if "whoever logs in with the rights of headcount_bi only reads" not in str(error):
                    pytest.fail(f"{statement} is refused too late: {error}")
                continue
            pytest.fail(f"allowed: {statement}")


async def test_the_owner_and_the_service_are_not_refused_ddl(connection: asyncpg.Connection) -> None:
    await connection.execute("create table core.mine (); comment on table core.mine is 'mine'; drop table core.mine")


@pytest.mark.concurrency
async def test_a_migration_names_other_databases_that_bi_may_connect_to(
    connection: asyncpg.Connection, own_database_url: str
) -> None:
    """Once somebody can log in with its rights."""
    said = "headcount_bi may also connect to other databases of this server: "
    async with bi_login(connection, own_database_url):
        report = await asyncio.to_thread(migrate, own_database_url)
    (warning,) = [warning for warning in report.warnings if warning.startswith(said)]
    names = warning.removeprefix(said).partition(". Let")[0].split(", ")
    own = urlsplit(own_database_url).path[1:]
    assert "postgres" in names
    assert own not in names


@pytest.mark.concurrency
async def test_logins_have_no_business_in_other_databases(connection: asyncpg.Connection, database_url: str) -> None:
    """The statement of deploy/logins.sh, on a database of this test's own."""
    statement = "revoke connect on database postgres, template1 from public;"
    assert statement in (ROOT / "deploy/logins.sh").read_text()
    assert statement in (ROOT / "docs/how-to/bi-tools.md").read_text()
    name = f"headcount_test_{secrets.token_hex(4)}"
    await connection.execute(f"create database {name}")
    try:
        elsewhere = urlsplit(database_url)._replace(path=f"/{name}").geturl()
        await connection.execute(statement.replace("postgres, template1", name))
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied for database"):
            async with bi_login(connection, elsewhere):
                pass
    finally:
        await connection.execute(f"drop database {name} with (force)")


async def test_a_superuser_can_take_away_what_the_one_that_migrates_may_not(connection: asyncpg.Connection) -> None:
    """The block of docs/how-to/bi-tools.md does what 95_public.sql does."""
    (block,) = re.findall(r"```sql\n(do .*?)```", (ROOT / "docs/how-to/bi-tools.md").read_text(), re.DOTALL)
    denied = """
        select count(*) from core.list_risky_routines() p (oid)
        where not has_function_privilege('headcount_bi', oid, 'execute')
        """
    found = await connection.fetchval(denied)
    transaction = connection.transaction()
    await transaction.start()
    try:
        for schema in (
            "pg_catalog",
            "public",
            "_timescaledb_functions",
            "_timescaledb_internal",
            "timescaledb_experimental",
        ):
            await connection.execute(f"grant execute on all routines in schema {schema} to public")
        await connection.execute("drop event trigger headcount_refuse_ddl")
        assert await connection.fetchval(denied) == 0
        await connection.execute(block)
        assert 30 < await connection.fetchval(denied) == found
        assert await connection.fetchval(
            "select evtenabled from pg_event_trigger where evtname = 'headcount_refuse_ddl'"
        )
        assert await connection.fetchval(
            "select has_function_privilege('headcount_service', 'pg_advisory_xact_lock(bigint)', 'execute')"
        )
    finally:
        await transaction.rollback()


@pytest.mark.parametrize(
    "statement",
    [
        "select 'AA=='::_timescaledb_internal.compressed_data",
        "select array_in('{AA==}', (select t.oid from pg_type t where t.typname = 'compressed_data'), -1)",
    ],
)
async def test_made_up_compressed_data_are_not_read(connection: asyncpg.Connection, statement: str) -> None:
    """Read by TimescaleDB 2.28.3, they end the whole server. No right is asked for."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute("set local role headcount_bi")
        with pytest.raises(asyncpg.FeatureNotSupportedError, match="cannot accept a value of type"):
            await connection.execute(statement)
    finally:
        await transaction.rollback()
