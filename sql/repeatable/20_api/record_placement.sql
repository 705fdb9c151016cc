create or replace function api.record_placement(
  dpu text,
  inout doorway text,
  inout mounted_in text,
  inout from_at timestamptz default null,
  inout until_at timestamptz default null,
  out recorded_at timestamptz
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_dpu_id integer;
begin
  if core.is_applied(jsonb_build_object('placements', jsonb_build_array(jsonb_build_object(
    'dpu', dpu, 'doorway', doorway, 'mounted_in', mounted_in, 'from', from_at, 'until', until_at)))) then
    recorded_at := clock_timestamp();
    from_at := coalesce(from_at, recorded_at);
    return;
  end if;
  recorded_at := core.lock_plan();
  v_dpu_id := core.find_dpu(dpu);
  from_at := coalesce(from_at, recorded_at);
  if core.place_dpu(v_dpu_id, doorway, mounted_in, from_at, until_at, recorded_at) <> 'unchanged' then
    perform core.rederive_offline_after(array[v_dpu_id]);
  end if;
  perform core.rederive_changed();
end
$$;
comment on function api.record_placement(text, text, text, timestamptz, timestamptz) is
'Records where a DPU is placed during [from_at, until_at), which may lie in the past: its events in this period count
there.

from_at null: now; until_at null: until further notice. Null doorway: it is taken down. Earlier placements are
superseded for this period and stay outside it. Errors: PT404 for an unknown DPU; PT422 if mounted_in is not a side of
the doorway, if until_at is not after from_at, or if either lies within a quarter-hour whose events were dropped; PT409
where a token that is limited to a space would cut the time of the DPU into more than 1,000 placements.';
