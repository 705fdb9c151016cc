create or replace function api.put_dpu(
  dpu text,
  patch jsonb
)
returns table (
  created boolean,
  id text,
  name text,
  mac_address text,
  state text,
  last_seen timestamptz,
  doorway text,
  mounted_in text,
  from_at timestamptz,
  until_at timestamptz,
  recorded_at timestamptz,
  cumulative_count bigint,
  latest_timestamp timestamptz,
  rejected_last_day bigint,
  clock text,
  retired_at timestamptz,
  offline_after_seconds integer,
  effective_offline_after_seconds integer,
  first_heard timestamptz
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_change text := 'unchanged';
begin
  if not core.is_applied(jsonb_build_object('dpus', jsonb_build_array(patch || jsonb_build_object('id', dpu)))) then
    perform core.lock_plan();
    v_change := core.put_dpu(dpu, patch);
  end if;
  return query
  select v_change = 'created', d.* from core.describe_dpus(array[core.find_dpu(dpu)]) d;
end
$$;
comment on function api.put_dpu(text, jsonb) is
'Registers a DPU, or changes what patch names.

patch: {name, mac_address, offline_after_seconds, retired}. With offline_after_seconds its silence counts from then on.
Returns the DPU as api.get_dpu; created says whether it is new. Errors: PT422 naming the field, also where a token
that is limited to a space sets offline_after_seconds below 60; PT409 for a MAC address that another DPU has.';
