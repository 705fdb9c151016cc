-- Locks: a table for each purpose. It holds nothing, and only its owner can lock it: the functions of api, and the
-- jobs. Not advisory locks: those are numbers, and every login could hold one for as long as it likes.
--
-- core.lock_plan      exclusive: changes the floor plan. Row share: keeps it as it is
-- (core.lock_plan, core.share_plan).
--                     Share update exclusive: a dry run; whoever holds it in row share need not wait.
-- core.lock_outage    exclusive: writes core.listening and looks for outages (core.lock_outage).
-- core.lock_capacity  exclusive: looks for full spaces.
-- core.lock_rollup    not a lock but a row, since a refresh commits in between (core.begin_rollup).
--
-- Neither exclusive nor row share blocks a reader of the table (pg_dump). Vacuum and analyze take turns with exclusive:
-- on an empty table that is over at once. A lock is released when its transaction ends. What only reads takes no lock:
-- a replica could not.

create or replace function core.try_lock(purpose regclass)
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  execute format('lock table %s in exclusive mode nowait', purpose);
  return true;
exception when lock_not_available then
  return false;
end
$$;
comment on function core.try_lock(regclass) is
'Locks one of the tables of 10_core/10_limits/locks.sql until the transaction ends, if nobody holds it; says whether it
did. Never waits.';

create or replace function core.lock_outage()
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  lock table core.lock_outage in exclusive mode;
end
$$;
comment on function core.lock_outage() is
'Waits until no other transaction looks for outages or says that the service listens; holds the lock until this one
ends.';

create or replace function core.begin_rollup()
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  lock table core.lock_rollup in exclusive mode;
  perform pg_stat_clear_snapshot();
  if exists (
    select
    from core.lock_rollup l
    join pg_stat_activity a on a.pid = l.pid and a.pid <> pg_backend_pid()
    -- of somebody else's session all this may be hidden (null): it counts as being at it,
    -- unless the server was started since
    where coalesce(a.backend_start = l.session_from, l.session_from >= pg_postmaster_start_time(), true)
      and not coalesce(a.backend_type = 'client backend' and a.state like 'idle%', false))
  then
    return false;
  end if;
  delete from core.lock_rollup;
  insert into core.lock_rollup (pid, session_from)
  select pg_backend_pid(), (select a.backend_start from pg_stat_activity a where a.pid = pg_backend_pid());
  return true;
end
$$;
comment on function core.begin_rollup() is
'Begins a refresh of the rollups, unless another session is refreshing them; says whether it did. Commit at once; end
with core.end_rollup.

A session that has ended, or that idles because its refresh failed, does not count.';

create or replace function core.end_rollup()
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  delete from core.lock_rollup l where l.pid = pg_backend_pid()
$$;
comment on function core.end_rollup() is
'Lets others refresh the rollups again.';
