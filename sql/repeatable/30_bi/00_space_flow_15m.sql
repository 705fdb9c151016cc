-- What the views of bi stand on (private; the functions of 10_core/30_rollups/sums.sql say the same
-- for their narrower questions).

create or replace function core.list_quarter_events(
  dpu_id integer,
  from_at timestamptz,
  until_at timestamptz
)
returns table (direction integer)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
begin
  if from_at < (select s.events_from from core.rollup_state s) then
    perform core.check_kept(array[list_quarter_events.dpu_id], array[from_at], array[until_at], 'bucket');
    return query
    select k.direction
    from core.kept_event k
    where k.dpu_id = list_quarter_events.dpu_id and k.time >= from_at and k.time < until_at;
    return;
  end if;
  return query
  select e.direction
  from core.event e
  where e.dpu_id = list_quarter_events.dpu_id and e.time >= from_at and e.time < until_at;
end
$$;
comment on function core.list_quarter_events(integer, timestamptz, timestamptz) is
'The directions of the events of a DPU in [from_at, until_at), within a quarter-hour, for a view; only the chunks of
that are planned. Errors: PT422 where they were dropped.';

create or replace view core.split_quarter as
select m.dpu_id, m.bucket
from core.late_mark m
union all
select p.dpu_id, public.time_bucket(interval '15 minutes', lower(p.during))
from core.placement p
where p.superseded_at is null and lower(p.during) <> public.time_bucket(interval '15 minutes', lower(p.during))
union all
select p.dpu_id, public.time_bucket(interval '15 minutes', upper(p.during))
from core.placement p
where p.superseded_at is null and upper(p.during) <> public.time_bucket(interval '15 minutes', upper(p.during));
comment on view core.split_quarter is
'Quarter-hours of DPUs that a rollup cannot answer for: an event came late and is not refreshed yet, or a placement
begins or ends within.';

create or replace view core.outer_placement as
select
  s.id as space, p.dpu_id, (p.mounted_side = b.inner_side) as is_towards,
  lower(p.during) as from_at, coalesce(upper(p.during), 'infinity') as until_at
from core.space s
join core.boundary b on b.space_id = s.space_id
join core.placement p on p.doorway_id = b.doorway_id
where p.superseded_at is null;
comment on view core.outer_placement is
'core.list_outer_placements for views. is_towards: a person who walks towards the DPU enters the space.';

-- Each part has the join with the placements in it: filters on space reach the DPUs of the space only within them.
create or replace view core.space_flow_15m as
select
  p.space, f.bucket,
  case when p.is_towards then f.towards else f.away end as entries,
  case when p.is_towards then f.away else f.towards end as exits
from core.outer_placement p
-- wholly within it: so no other placement of the DPU begins or ends there either
join core.dpu_flow_15m_v1 f on f.dpu_id = p.dpu_id and f.bucket >= p.from_at
  and f.bucket <= p.until_at - interval '15 minutes'
where f.bucket < (select s.materialized_until from core.rollup_state s)
  and not exists (select from core.late_mark m where m.dpu_id = f.dpu_id and m.bucket = f.bucket)
union all
select
  p.space, public.time_bucket(interval '15 minutes', e.time),
  greatest(case when p.is_towards then e.direction::bigint else -e.direction::bigint end, 0),
  greatest(case when p.is_towards then -e.direction::bigint else e.direction::bigint end, 0)
from core.outer_placement p
join core.event e on e.dpu_id = p.dpu_id and e.time >= p.from_at and e.time < p.until_at
where e.time >= (select s.materialized_until from core.rollup_state s)
union all
select
  p.space, q.bucket,
  greatest(case when p.is_towards then e.direction::bigint else -e.direction::bigint end, 0),
  greatest(case when p.is_towards then -e.direction::bigint else e.direction::bigint end, 0)
from (
  select q.dpu_id, q.bucket
  from core.split_quarter q
  where q.bucket < (select s.materialized_until from core.rollup_state s)
  group by q.dpu_id, q.bucket
) q
join core.outer_placement p on p.dpu_id = q.dpu_id and q.bucket < p.until_at
  and q.bucket + interval '15 minutes' > p.from_at
cross join lateral core.list_quarter_events(q.dpu_id, greatest(q.bucket, p.from_at),
  least(q.bucket + interval '15 minutes', p.until_at)) e
union all
-- what is in all of these by the sign of the direction, but belongs to the other flow
select p.space, public.time_bucket(interval '15 minutes', t.time), -t.people, -t.people
from core.outer_placement p
join core.turned_event t on t.dpu_id = p.dpu_id and t.time >= p.from_at and t.time < p.until_at;
comment on view core.space_flow_15m is
'Who passed the outer doorways of the spaces, by quarter-hours and exact at every moment; several rows a quarter-hour,
to be added up: rollups where they can be trusted, single events elsewhere.';
