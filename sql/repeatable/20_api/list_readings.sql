create or replace function api.list_readings(
  device text,
  from_at timestamptz default null,
  to_at timestamptz default null,
  max_rows integer default 10000
)
returns table ("time" timestamptz, count bigint)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
  v_dpu_id integer := core.find_dpu(device, 'device');
  v_low timestamptz := coalesce(from_at, '-infinity');
  v_high timestamptz := coalesce(to_at, 'infinity');
begin
  return query
  select n.time, n.count
  from (
    select e.time, sum(e.direction) as count
    from core.event e
    where e.dpu_id = v_dpu_id and e.time >= v_low and e.time < v_high
    group by e.time
    order by e.time desc
    limit max_rows
  ) n
  order by n.time;
end
$$;
comment on function api.list_readings(text, timestamptz, timestamptz, integer) is
'The newest readings of a device in [from_at, to_at), oldest first; several sequences of one instant are summed.

Errors: PT404 for a device never heard of.';
