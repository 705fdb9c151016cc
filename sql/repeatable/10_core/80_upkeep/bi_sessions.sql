-- Sessions of BI: what they must not call, what they are refused, and when they are ended (docs/how-to/bi-tools.md).

create or replace function core.list_risky_routines()
returns setof oid
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select p.oid
  from pg_proc p
  where p.pronamespace = 'pg_catalog'::regnamespace
    -- what unlocks stays: pools call it when a session is given back
    and p.proname ~
      '^(pg_(try_)?advisory_(xact_)?lock|lo_|loread$|lowrite$|pg_logical_emit_message$|pg_export_snapshot$)'
  union all
  select p.oid
  from pg_extension e
  join pg_depend d
    on d.refclassid = 'pg_extension'::regclass and d.refobjid = e.oid and d.classid = 'pg_proc'::regclass
      and d.deptype = 'e'
  join pg_proc p on p.oid = d.objid
  join pg_namespace n on n.oid = p.pronamespace
  where e.extname = 'timescaledb' and p.provolatile = 'v'
    -- what plain queries and the extension itself need
    and p.prorettype <> all ('{trigger, event_trigger}'::regtype[])
    and p.proname !~ case when n.nspname = 'public' then '^(time_bucket|locf$|interpolate$)|uuidv7$'
      else '^(extension_state|tsl_loaded)$' end
$$;
comment on function core.list_risky_routines() is
'Routines that PostgreSQL and TimescaleDB let every login call, and that can lock, fill or drop something.

Of TimescaleDB: all volatile ones of any version, except those that plain queries need. The others only read and
compute.';

create or replace function core.refuse_ddl()
returns event_trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (select from pg_roles r where r.rolname = 'headcount_bi' and pg_has_role(session_user, r.oid, 'member'))
    and not pg_has_role(session_user, (select n.nspowner from pg_namespace n where n.nspname = 'core'), 'member')
  then
    raise exception '% refused: whoever logs in with the rights of headcount_bi only reads.', tg_tag
      using errcode = 'insufficient_privilege', hint = 'Log in as the owner of the database.';
  end if;
end
$$;
comment on function core.refuse_ddl() is
'Refuses DDL to logins of BI before it waits for a lock. PostgreSQL and TimescaleDB may lock first and ask for rights
afterwards.

The function of the event trigger headcount_refuse_ddl. Superusers and the owner of core are not refused. Not seen by
it: truncate, and what TimescaleDB locks first when a chunk is dropped; core.end_long_reads is there for these. Errors:
42501.';

create or replace function core.end_long_reads(
  job_id integer default null,
  config jsonb default null
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_pid integer;
begin
  for v_pid in
    select a.pid
    from pg_stat_activity a
    where a.backend_type = 'client backend'
      and pg_has_role(a.usesysid, 'headcount_bi', 'member')
      and not pg_has_role(a.usesysid, 'headcount_service', 'member')
      and (
        a.xact_start < clock_timestamp() - interval '15 minutes'
        or exists (
          select from pg_locks l
          where l.pid = a.pid and not l.granted and l.mode <> 'AccessShareLock'
            and l.waitstart < clock_timestamp() - interval '1 second'))
  loop
    begin
      perform pg_terminate_backend(v_pid);
    exception when insufficient_privilege then
      null;  -- a login of BI whose role is not ours to end
    end;
  end loop;
end
$$;
comment on function core.end_long_reads(integer, jsonb) is
'Ends sessions of BI whose transaction is more than 15 minutes old, since it keeps old rows and chunks in place. Ends
those too that have waited more than a second for a lock stronger than a reader needs, since others wait behind them.

A job of its own, every 2 seconds, that reads no table of ours, so that it waits for nobody. It sees all databases of
the server. The time-outs of a role can be lifted by the role itself; this one cannot. It concerns headcount_bi and,
where the owner is a superuser, every role that is a member of it and not of headcount_service.';
