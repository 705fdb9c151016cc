-- The lock of the floor plan, and dry runs.

create or replace function core.is_dry_run()
returns boolean
language sql stable
as $$
  select coalesce(current_setting('headcount.dry_run', true) = pg_current_xact_id_if_assigned()::text, false)
$$;
comment on function core.is_dry_run() is
'Whether what is done now will be rolled back (core.begin_dry_run). Then nothing may be written or locked for which a
transaction that stores events would wait: live rows, states of DPUs, outages. Inlined by the planner: no search_path of
its own.';

create or replace function core.begin_dry_run()
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- the number of this transaction, so that it says nothing in another one
  perform set_config('headcount.dry_run', pg_current_xact_id()::text, true);
end
$$;
comment on function core.begin_dry_run() is
'Begins a dry run: what follows will be rolled back. Call it first in a block that ends with an error; the dry run ends
with that block.';

create or replace function core.lock_plan()
returns timestamptz
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    perform core.refuse(
      422, 'The floor plan can only be changed in a READ COMMITTED transaction.', 'transaction_isolation',
      'Begin one with this isolation level.');
  end if;
  if core.is_dry_run() then
    lock table core.lock_plan in share update exclusive mode;
  else
    lock table core.lock_plan in exclusive mode;
  end if;
  return clock_timestamp();
end
$$;
comment on function core.lock_plan() is
'Waits until no other transaction changes the floor plan, and returns the instant to record the change with.

In a dry run others go on storing events; only changes wait for it. Call it in a statement of its own before the first
one that reads, so that what is read is fresh. Held until the transaction ends.';

create or replace function core.share_plan()
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  lock table core.lock_plan in row share mode;
end
$$;
comment on function core.share_plan() is
'Waits until no other transaction changes the floor plan, and keeps all from changing it until this one ends. Many can
hold it at once.';
