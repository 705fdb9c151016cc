-- headcount: no-transaction
-- Tables to lock instead of numbers that anybody can lock (sql/repeatable/10_core/08_lock.sql).
--
-- The release before locks the numbers 4742001 (floor plan), 4742002 (rollups) and 4742003 (outages). A transaction that
-- holds only such a number, and one that holds only a table, would not exclude each other, and counts could come out
-- wrong. So this goes in three steps:
-- 1. The functions that are there are made to lock both, number and table. That commits.
-- 2. This waits until the transactions that locked a number before have ended (up to a minute), and notes whose session
--    is at the rollups. From here on everybody who holds a number holds the table too.
-- 3. The repeatable files put the new functions in their place, which lock tables only.
-- A new database has no functions yet: there it makes the tables and is done. It may run twice.
--
-- And the indexes by which api.claim_deliveries finds what is next of a channel, however much waits behind it.
do $do$
declare
  v_function record;
  v_body text;
  v_olds text[];
  v_deadline timestamptz := clock_timestamp() + interval '60 seconds';
begin
  perform set_config('lock_timeout', '10s', true);
  create table if not exists core.lock_plan ();
  comment on table core.lock_plan is
    'Has no rows: to be locked. Share it (row share) so that the floor plan stays as it is; change the plan under exclusive.';
  create table if not exists core.lock_outage ();
  comment on table core.lock_outage is
    'Has no rows: to be locked (exclusive) while somebody says that the service listens, and looks for outages.';
  create table if not exists core.lock_capacity ();
  comment on table core.lock_capacity is 'Has no rows: to be locked (exclusive) while somebody looks for full spaces.';
  create table if not exists core.lock_rollup (
    pid integer not null,
    session_from timestamptz
  );
  comment on table core.lock_rollup is
    'The session that refreshes the rollups, over all its transactions: one row at most. It counts for as long as that session lives. Locked (exclusive) only to look at it and to change it.';
  comment on column core.lock_rollup.session_from is 'pg_stat_activity.backend_start, since a pid is used again; null: not known.';

  create index if not exists delivery_channel_id_due_at_idx on core.delivery (channel_id, due_at, delivery_id) where state = 'pending';
  create index if not exists delivery_channel_id_subject_pending_idx on core.delivery (channel_id, subject, delivery_id)
    where state = 'pending';
  create index if not exists delivery_channel_id_claimed_idx on core.delivery (channel_id, due_at)
    where state = 'pending' and claim is not null;
  drop index if exists core.delivery_due_at_idx;

  for v_function in
    select p.oid, p.proname
    from pg_catalog.pg_proc p
    where p.pronamespace in ('api'::regnamespace, 'core'::regnamespace) and p.prosrc ~ '474200[123]'
      and p.prosrc !~ 'lock table core\.lock_|into core\.lock_rollup'
  loop
    v_body := pg_get_functiondef(v_function.oid);
    v_body := replace(v_body, 'perform pg_advisory_xact_lock(4742001);',
      'perform pg_advisory_xact_lock(4742001); lock table core.lock_plan in exclusive mode;');
    v_body := replace(v_body, 'perform pg_advisory_xact_lock_shared(4742001);',
      'perform pg_advisory_xact_lock_shared(4742001); lock table core.lock_plan in row share mode;');
    v_body := replace(v_body, 'perform pg_advisory_xact_lock(4742003);',
      'perform pg_advisory_xact_lock(4742003); lock table core.lock_outage in exclusive mode;');
    v_body := regexp_replace(v_body, '(if not pg_try_advisory_xact_lock\(4742003\) then.*?end if;)',
      '\1 lock table core.lock_outage in exclusive mode;'
      || case when v_function.proname = 'detect_over_capacity' then ' lock table core.lock_capacity in exclusive mode;' else '' end);
    v_body := regexp_replace(v_body, '(if not pg_try_advisory_lock\(4742002\) then.*?end if;)',
      '\1 delete from core.lock_rollup; insert into core.lock_rollup select a.pid, a.backend_start from pg_catalog.pg_stat_activity a where a.pid = pg_backend_pid();');
    v_body := replace(v_body, 'perform pg_advisory_unlock(4742002);',
      'perform pg_advisory_unlock(4742002); delete from core.lock_rollup;');
    execute v_body;
  end loop;
  commit;

  v_olds := array(
    select l.pid || ' ' || l.virtualtransaction
    from pg_catalog.pg_locks l
    left join pg_catalog.pg_stat_activity a on a.pid = l.pid
    where l.locktype = 'advisory' and l.classid = 0 and l.objid in (4742001, 4742003)
      and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
      -- whoever cannot call these functions has a number that says nothing
      and coalesce(has_schema_privilege(a.usesysid, 'api', 'usage'), true));
  while exists (
    select from pg_catalog.pg_locks l
    where l.locktype = 'advisory' and l.pid || ' ' || l.virtualtransaction = any (v_olds))
  loop
    if clock_timestamp() > v_deadline then
      raise exception 'Transactions from before this upgrade are still under way.'
        using detail = 'Process ids and transactions: ' || array_to_string(v_olds, ', '),
          hint = 'Wait for them or end them (pg_terminate_backend), then run headcount migrate again.';
    end if;
    perform pg_sleep(0.05);
  end loop;

  lock table core.lock_rollup in exclusive mode;
  insert into core.lock_rollup (pid, session_from)
  select l.pid, a.backend_start
  from pg_catalog.pg_locks l
  left join pg_catalog.pg_stat_activity a on a.pid = l.pid
  where l.locktype = 'advisory' and l.classid = 0 and l.objid = 4742002 and l.granted
    and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
    and coalesce(has_schema_privilege(a.usesysid, 'api', 'usage'), true)
    and not exists (select from core.lock_rollup);
end
$do$;
