create or replace function api.get_device(device text)
returns table (latest_timestamp timestamptz, cumulative_count bigint)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  -- before the query: in a condition it would not be asked where there are no rows
  v_dpu_id integer := core.find_dpu(device, 'device');
begin
  return query
  select s.latest_time, s.cumulative_count
  from core.sum_dpus(array[v_dpu_id]) s;
end
$$;
comment on function api.get_device(text) is
'The instant of the latest reading of a device (a DPU), and the sum of all its readings.

Errors: PT404 for an unknown device.';
