create or replace function api.list_differences()
returns table ("check" text, item text, stored text, recomputed text)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  with recomputed as (
    select e.dpu_id, sum(e.direction) as net, max(e.time) as latest, max(least(e.time, e.received_at)) as heard
    from core.event e
    group by e.dpu_id
  )
  select
    'dpu_state', coalesce(d.id, 'dpu_id ' || coalesce(s.dpu_id, r.dpu_id)),
    format('cumulative_count %s, latest_time %s, last_seen_at %s', s.cumulative_count, s.latest_time, s.last_seen_at),
    format('cumulative_count %s, latest_time %s, last_seen_at %s', coalesce(r.net, 0), r.latest, r.heard)
  from core.dpu_state s
  full join recomputed r on r.dpu_id = s.dpu_id
  left join core.dpu d on d.dpu_id = coalesce(s.dpu_id, r.dpu_id)
  where (s.cumulative_count, s.latest_time, s.last_seen_at) is distinct from (coalesce(r.net, 0), r.latest, r.heard)
  union all
  select
    'boundary', format('space %s, doorway %s', s.id, w.id),
    coalesce('inner_side ' || b.inner_side, 'none'), coalesce('inner_side ' || r.inner_side, 'none')
  from core.boundary b
  full join core.derive_boundary() r on r.space_id = b.space_id and r.doorway_id = b.doorway_id
  join core.space s on s.space_id = coalesce(b.space_id, r.space_id)
  join core.doorway w on w.doorway_id = coalesce(b.doorway_id, r.doorway_id)
  where b.inner_side is distinct from r.inner_side
  order by 1, 2
$$;
comment on function api.list_differences() is
'Recomputes everything that is derived from the facts, and returns where what is stored differs: nothing, if all is well.

Reads every event: takes its time on a long history.';
