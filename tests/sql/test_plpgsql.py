"""What plpgsql_check finds in the functions, where the server of the tests has it (postgresql-NN-plpgsql-check)."""

import asyncpg
import pytest

# What it says of functions that are right.
EXPECTED = {
    # `'{}'` as a default, `case` of literals: cast once in each call
    "target type is different type than source type",
    # what procedures get as jobs of TimescaleDB
    'unused parameter "job_id"',
    'unused parameter "config"',
    # a column of the result of core.sum_uptimes
    'name of parameter "window" is reserved keyword',
}
CHECK = """
    select p.oid::regprocedure::text as function, c.lineno, c.level, c.message
    from pg_proc p
    join pg_language l on l.oid = p.prolang and l.lanname = 'plpgsql'
    cross join lateral plpgsql_check_function_tb(
      p.oid, fatal_errors => false, other_warnings => true, extra_warnings => true, performance_warnings => false) c
    where p.pronamespace in ('core'::regnamespace, 'api'::regnamespace)
      and p.prorettype not in ('event_trigger'::regtype, 'trigger'::regtype)
      and c.message not like 'unmodified OUT variable %'
    order by 1, 2, 4
    """


async def test_it_finds_no_mistake_in_any_function(own_database_url: str) -> None:
    connection = await asyncpg.connect(own_database_url)
    try:
        try:
            await connection.execute("create extension if not exists plpgsql_check")
        except (asyncpg.FeatureNotSupportedError, asyncpg.UndefinedFileError, asyncpg.InsufficientPrivilegeError):
            pytest.skip("plpgsql_check is not installed on the server of the tests")
        await connection.execute("select set_config('headcount.token', '', false)")
        found = [
            f"{row['function']} line {row['lineno']}: {row['level']}: {row['message']}"
            for row in await connection.fetch(CHECK)
            if row["message"] not in EXPECTED
        ]
        assert found == []
    finally:
        await connection.close()


# Of those that a setting must not reach: they read nothing.
GETTERS = {"core.get_offline_after", "core.may_turn"}


async def test_settings_against_hash_joins_end_before_anything_else_is_called(connection: asyncpg.Connection) -> None:
    """They hold for all that is called within, where a join of two lists becomes a loop over both."""
    rows = await connection.fetch("""
        select p.oid::regproc::text as name, regexp_matches(p.prosrc, '\\m(core\\.\\w+)\\(', 'g') as called
        from pg_proc p
        where 'enable_hashjoin=off' = any (p.proconfig)
          and p.pronamespace in ('core'::regnamespace, 'api'::regnamespace)
    """)
    called = {(row["name"], row["called"][0]) for row in rows if row["called"][0] not in GETTERS}
    # it claims a few deliveries at a time, whatever there is
    assert {name for name, _ in called} == {"api.claim_deliveries"}
