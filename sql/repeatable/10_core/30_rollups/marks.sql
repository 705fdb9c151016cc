-- Marks of late events: what they bring is added to the rollups until these have been refreshed.

create or replace view core.void_mark as
select m.dpu_id, m.bucket
from core.late_mark m
where m.net is null
union all
select m.dpu_id, m.bucket
from core.rollup_state s
join core.late_mark m on m.bucket >= s.refreshing_from and m.bucket < s.refreshing_until
where m.net is not null;
comment on view core.void_mark is
'Quarter-hours of DPUs, several rows each, of which nobody knows how much of what came late the rollups hold: they are
read from events. All other marks bring what is missing.';

create or replace view core.added_flow as
select m.dpu_id, m.bucket, m.net, m.net_at_start, m.towards, m.away, m.moment
from core.late_mark m
where m.net is not null
  and (
    m.bucket < (select s.refreshing_from from core.rollup_state s)
    or m.bucket >= (select s.refreshing_until from core.rollup_state s))
  and not exists (
    select from core.late_mark v
    where v.net is null and v.dpu_id = m.dpu_id and v.bucket = m.bucket);
comment on view core.added_flow is
'What late events add to the quarter-hours of core.dpu_flow_15m_v1, several rows each; none for those of
core.void_mark.';

create or replace function core.sum_added(
  parts bigint[],
  dpus integer[],
  froms timestamptz[],
  untils timestamptz[]
)
returns table (part bigint, net bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  c_instant constant interval := interval '1 microsecond';
begin
  return query
  select
    s.part,
    sum(case
      when a.bucket < s.from_at then a.net - a.net_at_start
      when a.bucket = s.until_at - c_instant then a.net_at_start
      else a.net
    end)::bigint
  from unnest(parts, dpus, froms, untils) as s (part, dpu_id, from_at, until_at)
  join core.added_flow a on a.dpu_id = s.dpu_id and a.bucket >= s.from_at - c_instant and a.bucket < s.until_at
  group by s.part;
end
$$;
comment on function core.sum_added(bigint[], integer[], timestamptz[], timestamptz[]) is
'As core.sum_flow_15m, over what core.added_flow adds to the quarter-hours. Its cost follows the number of marks, not
that of the days that they are on.';

create or replace function core.begin_range(
  low timestamptz,
  high timestamptz
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- what a refresh that failed may have taken in
  update core.late_mark m set net = null
  from core.rollup_state s
  where m.bucket >= s.refreshing_from and m.bucket < s.refreshing_until and m.net is not null;
  update core.rollup_state s set refreshing_from = low, refreshing_until = high;
end
$$;
comment on function core.begin_range(timestamptz, timestamptz) is
'Says that the rollups of [low, high) are refreshed from the next commit on: marks there are void.';

create or replace function core.end_range(
  snapshot pg_snapshot,
  low timestamptz,
  high timestamptz,
  totals_until timestamptz
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_dpus integer[];
  v_days timestamptz[];
begin
  -- A mark that we see, though by its number it cannot have been committed yet, is from another server: it was there
  -- when its dump was restored.
  with gone as (
    delete from core.late_mark m
    where m.bucket >= low and m.bucket < high
      and (pg_visible_in_snapshot(m.xid, snapshot) or not pg_visible_in_snapshot(m.xid, pg_current_snapshot()))
    returning m.dpu_id, m.bucket
  )
  select array_agg(d.dpu_id), array_agg(d.day) into v_dpus, v_days
  from (
    select distinct g.dpu_id, public.time_bucket(interval '1 day', g.bucket) as day
    from gone g
    where g.bucket < end_range.totals_until
  ) d;
  if v_dpus is not null then
    perform core.redo_totals(v_dpus, v_days, end_range.totals_until);
  end if;
  update core.rollup_state s set refreshing_from = '-infinity', refreshing_until = '-infinity';
end
$$;
comment on function core.end_range(pg_snapshot, timestamptz, timestamptz, timestamptz) is
'Takes away the marks in [low, high) that snapshot sees, which was taken before the rollups were refreshed there, brings
core.dpu_total in line with it, and says that this is over.

totals_until: where core.dpu_total ended when snapshot was taken: what lies behind is not made anew.';
