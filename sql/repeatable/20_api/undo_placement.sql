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
  perform core.rebase_offline_after(array[v_dpu_id]);
  perform core.rebase_changed();
end
$$;
comment on function api.undo_placement(text, timestamptz) is
'Takes back what api.record_placement, or a floor plan, told of a DPU from an instant on: what it trimmed or replaced holds again.

from_at: the placement''s own from; of several from one instant the one that was told last. A DPU that was taken down hangs again. Nothing is erased: known_at still answers what was believed. Errors: PT404 for an unknown DPU, or where nothing was told from then on; PT409 if something else was told of that period since: take that back first; PT422 for a bound within a quarter-hour whose events were dropped.';
