"""Who may do what, as a matrix."""

import asyncpg


async def allowed(connection: asyncpg.Connection, role: str) -> set[str]:
    """Everything of ours that a role may do, besides what it owns."""
    rows = await connection.fetch(
        """
        select format('execute function %s', n.nspname)
        from pg_proc p join pg_namespace n on n.oid = p.pronamespace
        where n.nspname in ('core', 'api', 'bi', 'meta') and has_function_privilege($1, p.oid, 'execute')
          and has_schema_privilege($1, n.oid, 'usage')
        union
        select format('%s table %s', w.may, n.nspname)
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        cross join unnest(array['select', 'insert', 'update', 'delete', 'truncate']) as w (may)
        where n.nspname in ('core', 'api', 'bi', 'meta') and c.relkind in ('r', 'v', 'p', 'm')
          and has_table_privilege($1, c.oid, w.may)
        union
        select format('%s schema %s', w.may, n.nspname)
        from pg_namespace n cross join unnest(array['usage', 'create']) as w (may)
        where n.nspname in ('core', 'api', 'bi', 'meta') and has_schema_privilege($1, n.oid, w.may)
        """,
        role,
    )
    return {row[0] for row in rows}


async def test_the_service_may_only_execute_api(connection: asyncpg.Connection) -> None:
    assert await allowed(connection, "headcount_service") == {"usage schema api", "execute function api"}


async def test_what_the_service_is_refused_is_not_in_the_log_of_the_server(connection: asyncpg.Connection) -> None:
    """Its errors are not; what is slow or waits for locks is (messages of the level LOG)."""
    found = await connection.fetchval(
        "select setconfig from pg_db_role_setting where setrole = 'headcount_service'::regrole and setdatabase = 0"
    )
    assert "log_min_messages=log" in found
    assert await connection.fetchval("select context from pg_settings where name = 'log_min_messages'") == "superuser"


async def test_bi_may_only_read_bi(connection: asyncpg.Connection) -> None:
    assert await allowed(connection, "headcount_bi") <= {"usage schema bi", "select table bi"}
    assert "usage schema bi" in await allowed(connection, "headcount_bi")


async def test_nobody_else_may_do_anything(connection: asyncpg.Connection) -> None:
    await connection.execute("drop role if exists headcount_test_stranger")
    await connection.execute("create role headcount_test_stranger")
    try:
        assert await allowed(connection, "headcount_test_stranger") == set()
    finally:
        await connection.execute("drop role headcount_test_stranger")


async def test_every_function_that_acts_for_its_caller_has_a_fixed_search_path(
    connection: asyncpg.Connection,
) -> None:
    rows = await connection.fetch(
        """
        select p.oid::regprocedure::text from pg_proc p
        where p.pronamespace = 'api'::regnamespace
          and not (p.prosecdef and 'search_path=pg_catalog, pg_temp' = any (coalesce(p.proconfig, '{}')))
        """
    )
    assert [row[0] for row in rows] == []


async def test_what_the_jobs_call_is_for_nobody_else(connection: asyncpg.Connection) -> None:
    rows = await connection.fetch(
        """
        select p.oid::regprocedure::text
        from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
        where p.prokind = 'p' and p.pronamespace = 'core'::regnamespace and a.grantee = 0
        """
    )
    assert [row[0] for row in rows] == []
