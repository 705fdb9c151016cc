create or replace function api.list_spaces(
  inout parent text default null,
  after text default null,
  max_rows integer default 100,
  retired boolean default false,
  out id text,
  out name text,
  out time_zone text,
  out capacity integer,
  out reset_at text,
  out opening_hours jsonb,
  out effective_time_zone text,
  out effective_reset_at text,
  out offline_after_seconds integer,
  out effective_offline_after_seconds integer,
  out retired_at timestamptz,
  max_hours integer default null
)
returns setof record
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
-- a plan for those of one parent, or one for all
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
  v_parent_id integer := case when parent is not null then core.find_space(parent, 'parent') end;
  v_reach integer[] := core.list_reach();
  v_space record;
  v_spaces integer[] := '{}';
  v_hours integer := 0;
begin
  -- in a loop, so that the hours of those behind the last one are not even read
  for v_space in
    select s.space_id, s.opening_hours
    from core.space s
    where (v_parent_id is null or s.parent_id = v_parent_id)
      and (s.retired_at is not null) = retired
      and (after is null or s.id > after)
      and (v_reach is null or s.space_id = any (v_reach))
    order by s.id
    limit max_rows
  loop
    exit when v_hours >= max_hours;
    v_spaces := v_spaces || v_space.space_id;
    v_hours := v_hours + coalesce(jsonb_array_length(v_space.opening_hours), 0);
  end loop;
  return query
  select s.parent, s.id, s.name, s.time_zone, s.capacity, s.reset_at, s.opening_hours, s.effective_time_zone,
    s.effective_reset_at, s.offline_after_seconds, s.effective_offline_after_seconds, s.retired_at
  from core.describe_spaces(v_spaces) s
  order by s.id;
end
$$;
comment on function api.list_spaces(text, text, integer, boolean, integer) is
'Spaces in order of their ids: all, or those directly in parent.

after: the id behind which to go on. retired: those that are no longer in use, and no others. max_hours: no more spaces
come once those before have so many opening hours together; null: all do. Errors: PT404 for an unknown parent.';
