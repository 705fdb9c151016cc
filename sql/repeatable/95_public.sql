-- What PostgreSQL lets everybody do in a database, and a login of BI must not: lock numbers, make temporary tables and
-- large objects, write to the log. It is taken from PUBLIC, for this database alone. docs/bi.md says how an
-- administrator does it where the role that migrates may not, and what cannot be forbidden.
do $$
declare
  v_function record;
  v_left text;
begin
  begin
    execute format('revoke temporary on database %I from public', current_database());
  exception when insufficient_privilege then
    null;  -- told below
  end;
  for v_function in
    select p.oid::regprocedure as name, p.proname ~ '^pg_(try_)?advisory' as is_lock
    from pg_catalog.pg_proc p
    where p.pronamespace = 'pg_catalog'::regnamespace
      -- what unlocks stays: pools call it when a session is given back
      and p.proname ~ '^(pg_(try_)?advisory_(xact_)?lock|lo_|loread$|lowrite$|pg_logical_emit_message$)'
      and exists (
        select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a where a.grantee = 0 and a.privilege_type = 'EXECUTE')
  loop
    begin
      execute format('revoke execute on function pg_catalog.%s from public', v_function.name);
      if v_function.is_lock then
        -- `headcount import` locks the file that it imports
        execute format('grant execute on function pg_catalog.%s to headcount_service', v_function.name);
      end if;
    exception when insufficient_privilege then
      exit;  -- then it may not for any of them
    end;
  end loop;

  select string_agg(w.what, ', ') into v_left
  from (
    select 'make temporary tables' as what where has_database_privilege('headcount_bi', current_database(), 'temporary')
    union all
    select n.what
    from (values
      ('hold advisory locks', 'pg_advisory_lock'), ('make large objects', 'lo_from_bytea'), ('write to the WAL', 'pg_logical_emit_message')
    ) as n (what, name)
    where exists (
      select from pg_catalog.pg_proc p
      where p.pronamespace = 'pg_catalog'::regnamespace and p.proname = n.name and has_function_privilege('headcount_bi', p.oid, 'execute'))
    union all
    select 'open any number of connections' from pg_catalog.pg_roles r where r.rolname = 'headcount_bi' and r.rolconnlimit < 0
  ) w;
  if v_left is not null then
    raise warning 'headcount_bi may still %.', v_left
      using errcode = '01HC0', hint = 'Let a superuser run what docs/bi.md says under "What a login can and cannot do".';
  end if;
end
$$;
