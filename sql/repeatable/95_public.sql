-- What everybody may do in a database, and a login of BI must not. PostgreSQL lets everybody lock numbers, make
-- temporary tables and large objects, write to the log, export snapshots. TimescaleDB lets everybody call its own
-- functions, and some drop a chunk without asking whose it is. It is taken from PUBLIC, for this database alone. Runs
-- with every migration, changed or not: a new version of TimescaleDB brings functions that everybody may call.
-- docs/how-to/bi-tools.md says how an administrator does it where the role that migrates may not, and what cannot be
-- forbidden.
do $$
declare
  v_function record;
  v_owner name;  -- of our functions: it calls what is taken from the others
  v_left text;
begin
  select r.rolname into v_owner
  from pg_catalog.pg_namespace n
  join pg_catalog.pg_roles r on r.oid = n.nspowner
  where n.nspname = 'core' and not r.rolsuper;
  if has_database_privilege('public', current_database(), 'temporary') then
    begin
      execute format('revoke temporary on database %I from public', current_database());
    exception when insufficient_privilege then
      null;  -- told below
    end;
  end if;
  -- A query that compares two columns of a compressed chunk with constants crashes the server (2.28.3, with this on).
  if current_setting('timescaledb.enable_composite_bloom_indexes', true) = 'on' then
    begin
      execute format('alter database %I set timescaledb.enable_composite_bloom_indexes = off', current_database());
    exception when insufficient_privilege or unique_violation or internal_error then
      raise warning 'A query by BI may end the server: timescaledb.enable_composite_bloom_indexes is on.'
        using errcode = '01HC0', hint = format(
          'Let the owner of the database run: alter database %I set timescaledb.enable_composite_bloom_indexes = off;',
          current_database());
    end;
  end if;
  -- These read what anybody writes, before any right is looked at, and the first byte can lead to a function that is
  -- not there: the whole server ends (2.28.3). Only a restore of a plain dump needs them, which goes into a new
  -- database. The columns of compressed chunks are never given as text.
  for v_function in
    select p.oid::regproc as name, format_type(p.proargtypes[0], null) as argument,
      format_type(p.prorettype, null) as result, w.refusing
    from (values ('compressed_data_in', 'pg_node_tree_in'), ('compressed_data_recv', 'pg_node_tree_recv'))
      as w (name, refusing)
    join pg_catalog.pg_proc p on p.proname = w.name and p.prosrc <> w.refusing
    where p.pronamespace = (select n.oid from pg_catalog.pg_namespace n where n.nspname = '_timescaledb_functions')
  loop
    begin
      execute format(
        'create or replace function %s(%s) returns %s language internal immutable strict parallel safe as %L',
        v_function.name, v_function.argument, v_function.result, v_function.refusing);
    exception when insufficient_privilege then
      null;  -- told below
    end;
  end loop;
  for v_function in
    select p.oid::regprocedure as name, p.proname ~ '^pg_(try_)?advisory' as is_lock
    from pg_catalog.pg_proc p
    where p.oid in (select core.list_risky_routines())
      and has_function_privilege('public', p.oid, 'execute')
      and pg_has_role(current_user, p.proowner, 'usage')
  loop
    execute format('revoke execute on routine %s from public', v_function.name);
    if v_function.is_lock then
      -- `headcount import` locks the file that it imports
      execute format('grant execute on routine %s to headcount_service', v_function.name);
    end if;
    if v_owner is not null then
      execute format('grant execute on routine %s to %I', v_function.name, v_owner);
    end if;
  end loop;
  if not exists (select from pg_catalog.pg_event_trigger t where t.evtname = 'headcount_refuse_ddl') then
    begin
      create event trigger headcount_refuse_ddl on ddl_command_start execute function core.refuse_ddl();
    exception when insufficient_privilege then
      null;  -- told below
    end;
  end if;

  select string_agg(w.what, ', ') into v_left
  from (
    select 'make temporary tables' as what where has_database_privilege('headcount_bi', current_database(), 'temporary')
    union all
    select n.what
    from (values
      ('hold advisory locks', '^pg_advisory_lock$'), ('make large objects', '^lo_from_bytea$'),
      ('write to the WAL', '^pg_logical_emit_message$'), ('write files of snapshots', '^pg_export_snapshot$'),
      ('drop chunks', '^(drop|freeze|split|detach)_chunk$')
    ) as n (what, pattern)
    where exists (
      select from pg_catalog.pg_proc p
      where p.oid in (select core.list_risky_routines()) and p.proname ~ n.pattern
        and has_function_privilege('headcount_bi', p.oid, 'execute'))
    union all
    select 'queue for locks of the catalog by DDL'
    where not exists (
      select from pg_catalog.pg_event_trigger t where t.evtname = 'headcount_refuse_ddl' and t.evtenabled in ('O', 'A'))
    union all
    select 'end the server by reading made-up compressed data'
    where exists (select from pg_catalog.pg_proc p where p.proname = 'compressed_data_in'
      and p.prosrc <> 'pg_node_tree_in')
    union all
    select 'open any number of connections' from pg_catalog.pg_roles r where r.rolname = 'headcount_bi'
      and r.rolconnlimit < 0
  ) w;
  if v_left is not null then
    raise warning 'headcount_bi may still %.', v_left
      using errcode = '01HC0',
        hint = 'Let a superuser run what docs/how-to/bi-tools.md says under "What a login can and cannot do".';
  end if;

  -- There it may make temporary tables and large objects. Of no concern while nobody can log in with its rights.
  select string_agg(quote_ident(d.datname), ', ' order by d.datname) into v_left
  from pg_catalog.pg_database d
  where d.datallowconn and d.datname <> current_database() and has_database_privilege('headcount_bi', d.oid, 'connect')
    and exists (
      select from pg_catalog.pg_roles r
      where r.rolcanlogin and not r.rolsuper and pg_has_role(r.oid, 'headcount_bi', 'usage'));
  if v_left is not null then
    raise warning 'headcount_bi may also connect to other databases of this server: %.', v_left
      using errcode = '01HC0', hint = format('Let a superuser run: revoke connect on database %s from public;', v_left);
  end if;
end
$$;
