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
  with turned as (
    select d.id, s.last_seen_at, s.offline_at, s.steady_from, h.mounted_id, h.other_id
    from core.dpu d
    join core.dpu_state s on s.dpu_id = d.dpu_id
    left join core.list_hung(v_now) h on h.dpu_id = d.dpu_id
    where d.id = any (dpus) and core.is_dpu_seen(d.dpu_id)
  )
  select
    t.id, core.get_dpu_state(t.last_seen_at, t.offline_at), t.last_seen_at, coalesce(t.offline_at, t.steady_from), m.id, o.id,
    array(select distinct s.id from core.list_above(array[t.mounted_id, t.other_id]) a join core.space s on s.space_id = a.above_id)
  from turned t
  left join core.space m on m.space_id = t.mounted_id
  left join core.space o on o.space_id = t.other_id;
end
$$;
comment on function api.list_turned_dpus(text[]) is
'The state of DPUs that api.list_changes named, in no order.

at: from when on it has been in this state. mounted_in, other_side: the spaces on both sides of its doorway (null: outside; both: it hangs nowhere). spaces: those two and all above them.';
