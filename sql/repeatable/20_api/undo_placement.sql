create or replace function api.undo_placement(
  dpu text,
  from_at timestamptz
)
returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now timestamptz;
  v_dpu_id integer;
begin
  v_now := core.lock_plan();
  v_dpu_id := core.find_dpu(dpu);
  perform core.undo_placement(v_dpu_id, from_at, v_now);
  perform core.rederive_offline_after(array[v_dpu_id]);
  perform core.rederive_changed();
end
$$;
comment on function api.undo_placement(text, timestamptz) is
'Takes back a placement that api.record_placement or api.apply_site recorded from an instant on: the placements that it
trimmed or replaced hold again.

from_at: the from of the placement; of several with the same one, the last that was recorded. A DPU that was taken down
is placed again. Nothing is erased: known_at still answers as before. Errors: PT404 for an unknown DPU, or where no
placement begins then; PT409 if the period was changed again since: take that back first, and as api.record_placement;
PT422 for a bound within a quarter-hour whose events were dropped.';
