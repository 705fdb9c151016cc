create or replace function api.put_space(
  space text,
  patch jsonb
)
returns table (
  created boolean,
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
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_spaces jsonb := jsonb_build_array(patch || jsonb_build_object('id', space));
  v_now timestamptz;
  v_change text := 'unchanged';
begin
  if not core.is_applied(jsonb_build_object('spaces', v_spaces)) then
    perform core.check_spaces(v_spaces, '');
    v_now := core.lock_plan();
    perform core.check_room(v_spaces, '');
    v_change := core.put_space(space, patch, v_now);
    perform core.rederive_changed();
  end if;
  return query
  select v_change = 'created', s.* from core.describe_spaces(array[core.find_space(space)]) s;
end
$$;
comment on function api.put_space(text, jsonb) is
'Creates a space, or changes what patch names: null clears, absent leaves as is.

patch: {name, parent, time_zone, capacity, reset_at, opening_hours, offline_after_seconds, retired}. A new parent
applies to the whole history. So does a new zone or reset time, but known_at still answers by the one before. Returns
the space; created says whether it is new. Errors: PT422 naming the field, also where a token that is limited to a space
sets offline_after_seconds below 60; PT409 where it would have more than 2,000 spaces.';
