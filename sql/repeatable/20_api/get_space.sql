create or replace function api.get_space(space text)
returns table (
  id text,
  name text,
  parent text,
  time_zone text,
  capacity integer,
  reset_at text,
  opening_hours jsonb,
  effective_time_zone text,
  effective_reset_at text,
  offline_after_seconds integer,
  effective_offline_after_seconds integer,
  retired_at timestamptz
)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select s.* from core.describe_spaces(array[core.find_space(space)]) s
$$;
comment on function api.get_space(text) is
'One space.

time_zone and reset_at are its own (null: those of its parent); the effective ones are those that hold. Errors: PT404.';
