create or replace function api.list_turned_dpus(dpus text[])
returns table (
  dpu text,
  state text,
  last_seen timestamptz,
  at timestamptz,
  mounted_in text,
  other_side text,
  spaces text[]
)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_now timestamptz := clock_timestamp();   -- called in its place, core.list_hung could not be inlined
begin
  return query
  select
    d.id, n.state, s.last_seen_at,
    core.get_state_since(n.state, s.last_seen_at, s.offline_at, s.steady_from, coalesce(s.offline_after_seconds, core.get_offline_after())), m.id, o.id,
    array(select distinct a.id from core.list_above(array[h.mounted_id, h.other_id]) l join core.space a on a.space_id = l.above_id)
  from core.dpu d
  join core.dpu_state s on s.dpu_id = d.dpu_id
  cross join lateral (
    select core.get_dpu_state(s.last_seen_at, s.offline_at, s.armed_at, coalesce(s.offline_after_seconds, core.get_offline_after()), v_now, s.retired_at) as state
  ) n
  left join core.list_hung(v_now) h on h.dpu_id = d.dpu_id
  left join core.space m on m.space_id = h.mounted_id
  left join core.space o on o.space_id = h.other_id
  where d.id = any (dpus) and core.is_dpu_seen(d.dpu_id);
end
$$;
comment on function api.list_turned_dpus(text[]) is
'The state of DPUs that api.list_changes named, in no order.

at: from when on it has been in this state. mounted_in, other_side: the spaces on both sides of its doorway (null: outside; both: it hangs nowhere). spaces: those two and all above them.';
