create or replace function api.get_retention()
returns table (keep_days integer, events_from timestamptz)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select s.keep_days, nullif(s.events_from, '-infinity')
  from core.rollup_state s
$$;
comment on function api.get_retention() is
'How long events are kept, and from when on none has been dropped.

keep_days null: for ever. events_from null: none were dropped. Before events_from only quarter-hours are left:
docs/explanation/counts.md says what that means.';
