-- Limits that several files read.

create or replace function core.get_oldest_time()
returns timestamptz
language sql immutable
as $$ select timestamptz '2000-01-01 00:00:00+00' $$;
comment on function core.get_oldest_time() is
'Events before this instant are refused as too_old. Inlined by the planner: no search_path of its own.';

create or replace function core.get_latest_time(received_at timestamptz)
returns timestamptz
language sql immutable
as $$ select received_at + interval '5 minutes' $$;
comment on function core.get_latest_time(timestamptz) is
'Events after this instant are refused as in_future. Inlined by the planner: no search_path of its own.';

create or replace function core.get_offline_after()
returns interval
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select interval '10 minutes' $$;
comment on function core.get_offline_after() is
'A DPU is offline from this long after it was last heard from.';
