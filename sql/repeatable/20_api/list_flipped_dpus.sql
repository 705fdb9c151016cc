create or replace function api.list_flipped_dpus(
  dpus text[],
  tokens text[] default '{}'
)
returns table (
  dpu text,
  state text,
  last_seen timestamptz,
  at timestamptz,
  mounted_in text,
  other_side text,
  spaces text[],
  seen_by text[],
  seen_at text[],
  seen_from timestamptz[]
)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_now timestamptz := clock_timestamp();   -- called in its place, core.list_placed could not be inlined
begin
  return query
  with placed as materialized (
    select d.dpu_id, d.id, h.mounted_id, h.other_id
    from core.dpu d
    left join core.list_placed(v_now) h on h.dpu_id = d.dpu_id
    where d.id = any (dpus) and core.is_dpu_seen(d.dpu_id)
  ),
  above as materialized (
    select a.space_id, a.above_id
    from core.list_above(array(select h.mounted_id from placed h union select h.other_id from placed h)) a
  ),
  seen as (
    -- of the two sides the first that the token reaches
    select distinct on (h.dpu_id, r.token) h.dpu_id, r.token, r.space_id as reach_id, s.id as space
    from core.list_reaches(tokens) r
    join above a on a.above_id = r.space_id
    join placed h on a.space_id in (h.mounted_id, h.other_id)
    join core.space s on s.space_id = a.space_id
    order by h.dpu_id, r.token, a.space_id = h.mounted_id desc nulls last
  ),
  -- also of the doorways above which they were before
  past as materialized (
    select p.dpu_id, p.during, side.space_id
    from core.placement p
    join core.doorway w on w.doorway_id = p.doorway_id
    cross join unnest(array[w.side_a_id, w.side_b_id]) as side (space_id)
    where p.dpu_id = any (array(select distinct n.dpu_id from seen n)) and p.superseded_at is null
      and lower(p.during) <= v_now and side.space_id is not null
  ),
  span as materialized (
    select p.dpu_id, a.above_id as reach_id, range_agg(p.during) as during
    from past p
    join core.list_above(array(select distinct b.space_id from past b)) a on a.space_id = p.space_id
    where a.above_id = any (array(select distinct n.reach_id from seen n))
    group by p.dpu_id, a.above_id
  )
  select
    h.id, n.state, s.last_seen_at,
    core.get_state_since(n.state, s.last_seen_at, s.offline_at, s.steady_from,
      coalesce(s.offline_after_seconds, core.get_offline_after())), m.id, o.id,
    array(select distinct u.id from above a join core.space u on u.space_id = a.above_id
      where a.space_id in (h.mounted_id, h.other_id)),
    array(select n.token from seen n where n.dpu_id = h.dpu_id order by n.token),
    array(select n.space from seen n where n.dpu_id = h.dpu_id order by n.token),
    array(
      select (select lower(r) from unnest(e.during) as r where r @> v_now)
      from seen n
      left join span e on e.dpu_id = n.dpu_id and e.reach_id = n.reach_id
      where n.dpu_id = h.dpu_id
      order by n.token)
  from placed h
  join core.dpu_state s on s.dpu_id = h.dpu_id
  cross join lateral (
    select core.get_dpu_state(s.last_seen_at, s.offline_at, s.armed_at,
      coalesce(s.offline_after_seconds, core.get_offline_after()), v_now, s.retired_at) as state
  ) n
  left join core.space m on m.space_id = h.mounted_id
  left join core.space o on o.space_id = h.other_id;
end
$$;
comment on function api.list_flipped_dpus(text[], text[]) is
'The state of DPUs that api.list_changes named, in no order.

at: from when on it has been in this state. mounted_in, other_side: the spaces on both sides of its doorway (null:
outside; both: it is placed nowhere). spaces: those two and all above them. seen_by: which of these limited tokens reach
one of its sides, and beside it in seen_at the side that they see: that in which it is mounted, if they reach both; and
in seen_from since when it has been within their reach, of before which they are told nothing.';
