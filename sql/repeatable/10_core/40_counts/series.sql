-- Series: the count as a step function over buckets of local time (docs/explanation/counts.md).

create or replace function core.list_space_resets(
  space_id integer,
  from_at timestamptz,
  to_at timestamptz
)
returns table (at timestamptz, count integer)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_time_zone text;
  v_reset_at text;
begin
  select s.time_zone, s.reset_at into v_time_zone, v_reset_at
  from core.list_schedules(array[list_space_resets.space_id]) s;
  return query
  select r.at, r.count
  from core.reset r
  where r.space_id = list_space_resets.space_id and r.superseded_at is null and r.at >= from_at and r.at < to_at;
  if v_reset_at <> 'never' then
    return query
    select distinct d.at, 0
    from generate_series(
      (from_at at time zone v_time_zone)::date - 1, (to_at at time zone v_time_zone)::date + 1,
      interval '1 day') as s (day)
    cross join lateral core.get_scheduled_reset(s.day::date, v_time_zone, v_reset_at::time) as d (at)
    where d.at >= from_at and d.at < to_at
      and not exists (
        select from core.reset r
        where r.space_id = list_space_resets.space_id and r.superseded_at is null and r.at = d.at);
  end if;
end
$$;
comment on function core.list_space_resets(integer, timestamptz, timestamptz) is
'All resets of a space in [from_at, to_at), explicit and daily, in no order; an explicit one stands for a daily one at
the same instant.';

create or replace function core.cut_flows(
  dpus integer[],
  signs smallint[],
  froms timestamptz[],
  untils timestamptz[],
  rolled_until timestamptz,
  split timestamptz[]
)
returns table (dpu_id integer, sign smallint, from_at timestamptz, until_at timestamptz)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  -- before the first whole quarter-hour of a placement, and behind the last one
  select p.dpu_id, p.sign, p.from_at, least(p.until_at, q.quarter_from)
  from unnest(dpus, signs, froms, untils) as p (dpu_id, sign, from_at, until_at)
  cross join lateral (
    select public.time_bucket(interval '15 minutes', p.from_at + interval '15 minutes' - interval '1 microsecond')
  ) as q (quarter_from)
  union all
  select
    p.dpu_id, p.sign,
    greatest(p.from_at, q.quarter_from, public.time_bucket(interval '15 minutes', least(p.until_at, rolled_until))),
    p.until_at
  from unnest(dpus, signs, froms, untils) as p (dpu_id, sign, from_at, until_at)
  cross join lateral (
    select public.time_bucket(interval '15 minutes', p.from_at + interval '15 minutes' - interval '1 microsecond')
  ) as q (quarter_from)
  union all
  -- whole quarter-hours that have a void mark or a reset within
  select distinct p.dpu_id, p.sign, b.bucket, b.bucket + interval '15 minutes'
  from unnest(dpus, signs, froms, untils) as p (dpu_id, sign, from_at, until_at)
  cross join lateral (
    select m.bucket from core.void_mark m where m.dpu_id = p.dpu_id and m.bucket >= p.from_at and m.bucket < p.until_at
    union
    select unnest(split)
  ) b
  where b.bucket >= p.from_at and b.bucket + interval '15 minutes' <= p.until_at and b.bucket < rolled_until;
end
$$;
comment on function core.cut_flows(integer[], smallint[], timestamptz[], timestamptz[], timestamptz, timestamptz[]) is
'The pieces of placements, given as parallel arrays, for which the quarter-hours before rolled_until do not do:
core.list_flows takes them from events. split: quarter-hours with a reset within. Pieces may be empty (until_at not
after from_at).';

create or replace function core.list_flows(
  space_id integer,
  from_at timestamptz,
  to_at timestamptz,
  resets timestamptz[],
  place text
)
returns table ("time" timestamptz, net bigint, net_at_start bigint, entries bigint, exits bigint, moment numeric)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
  v_from timestamptz := from_at;
  v_to timestamptz := to_at;
  v_until timestamptz;
  v_events_from timestamptz;
  v_is_marked boolean;
  v_is_void boolean;
  v_split timestamptz[];   -- quarter-hours with a reset within: one at their start leaves them whole
  v_dpus integer[];
  v_signs smallint[];
  v_froms timestamptz[];
  v_untils timestamptz[];
  v_piece record;
begin
  select p.dpus, p.signs, p.froms, p.untils into v_dpus, v_signs, v_froms, v_untils
  from core.clip_outer_placements(list_flows.space_id, v_from, v_to) p;
  if v_dpus is null then
    return;
  end if;

  return query select t.* from core.list_turned(v_dpus, v_froms, v_untils) t;
  select s.materialized_until, s.events_from into v_until, v_events_from from core.rollup_state s;
  v_is_marked := exists (select from core.late_mark m where m.dpu_id = any (v_dpus));
  v_is_void := v_is_marked and exists (select from core.void_mark m where m.dpu_id = any (v_dpus));
  v_split := array(
    select distinct public.time_bucket(interval '15 minutes', r) from unnest(resets) r
    where r <> public.time_bucket(interval '15 minutes', r));
  -- whole quarter-hours of a placement, before materialized_until, without a void mark and a reset within
  return query
  select
    f.bucket,
    sum(case when p.sign > 0 then f.net else -f.net end)::bigint,
    sum(case when p.sign > 0 then f.net_at_start else -f.net_at_start end)::bigint,
    sum(case when p.sign > 0 then f.towards else f.away end)::bigint,
    sum(case when p.sign > 0 then f.away else f.towards end)::bigint,
    sum(case when p.sign > 0 then f.moment else -f.moment end)
      + sum(case when p.sign > 0 then f.moment_carry else -f.moment_carry end) * 1000000000000000000::numeric
  from unnest(v_dpus, v_signs, v_froms, v_untils) as p (dpu_id, sign, from_at, until_at)
  join core.dpu_flow_15m_v1 f
    on f.dpu_id = p.dpu_id and f.bucket >= p.from_at and f.bucket + interval '15 minutes' <= p.until_at
  where f.dpu_id = any (v_dpus) and f.bucket >= v_from and f.bucket < v_to and f.bucket < v_until
    and (not v_is_void or not exists (select from core.void_mark m where m.dpu_id = f.dpu_id and m.bucket = f.bucket))
    and f.bucket <> all (v_split)
  group by f.bucket;
  if v_is_marked then
    return query
    select a."time", a.net, a.net_at_start, a.entries, a.exits, a.moment
    from core.list_added_flows(v_dpus, v_signs, v_froms, v_untils, least(v_to, v_until), v_split) a;
  end if;
  -- everything else from events, a day's pieces together
  for v_piece in
    select
      array_agg(c.dpu_id) as dpus, array_agg(c.sign) as signs, array_agg(c.from_at) as froms,
      array_agg(c.until_at) as untils,
      min(c.from_at) as low, max(c.until_at) as high
    from core.cut_flows(v_dpus, v_signs, v_froms, v_untils, v_until, v_split) c
    where c.from_at < c.until_at
    group by public.time_bucket(interval '1 day', c.from_at)
  loop
    if v_piece.low < v_events_from then
      return query
      select e.* from core.list_signed_kept_events(v_piece.dpus, v_piece.signs, v_piece.froms, v_piece.untils, place) e;
      v_piece.low := v_events_from;
    end if;
    return query
    select e.* from core.list_signed_events(v_piece.dpus, v_piece.signs, v_piece.froms, v_piece.untils, v_piece.low,
      v_piece.high) e;
  end loop;
end
$$;
comment on function core.list_flows(integer, timestamptz, timestamptz, timestamptz[], text) is
'What passed the outer doorways of a space in [from_at, to_at): quarter-hours and, where a quarter-hour cannot be taken
whole, single events. resets: those of the range, ascending.

time: start of the quarter-hour, or instant of the event. net_at_start: the part of net exactly then, which a reset at
that instant makes void. entries, exits: by flow (core.turned_event), so either may be negative. moment: sum of people
times microseconds after time. Errors: PT422 naming place where it would need events that were dropped.';

create or replace function core.list_added_flows(
  dpus integer[],
  signs smallint[],
  froms timestamptz[],
  untils timestamptz[],
  high timestamptz,
  split timestamptz[]
)
returns table ("time" timestamptz, net bigint, net_at_start bigint, entries bigint, exits bigint, moment numeric)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select
    a.bucket, p.sign * a.net, p.sign * a.net_at_start, case when p.sign > 0 then a.towards else a.away end,
    case when p.sign > 0 then a.away else a.towards end, p.sign * a.moment
  from unnest(dpus, signs, froms, untils) as p (dpu_id, sign, from_at, until_at)
  join core.added_flow a
    on a.dpu_id = p.dpu_id and a.bucket >= p.from_at and a.bucket <= p.until_at - interval '15 minutes'
  where a.bucket < high and a.bucket <> all (split);
end
$$;
comment on function core.list_added_flows(integer[], smallint[], timestamptz[], timestamptz[], timestamptz,
  timestamptz[]) is
'What core.added_flow adds to the quarter-hours that core.list_flows takes whole: those before high that are in none of
split. Columns as core.list_flows.';

create or replace function core.list_signed_events(
  dpus integer[],
  signs smallint[],
  froms timestamptz[],
  untils timestamptz[],
  low timestamptz,
  high timestamptz
)
returns table ("time" timestamptz, net bigint, net_at_start bigint, entries bigint, exits bigint, moment numeric)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
begin
  return query
  select
    e.time, p.sign * e.direction::bigint, p.sign * e.direction::bigint,
    greatest(p.sign * e.direction::bigint, 0), greatest(-p.sign * e.direction::bigint, 0), 0::numeric
  from unnest(dpus, signs, froms, untils) as p (dpu_id, sign, from_at, until_at)
  join core.event e on e.dpu_id = p.dpu_id and e.time >= p.from_at and e.time < p.until_at
  where e.dpu_id = any (dpus) and e.time >= low and e.time < high;
end
$$;
comment on function core.list_signed_events(integer[], smallint[], timestamptz[], timestamptz[], timestamptz,
  timestamptz) is
'Events of DPUs in [from, until) each, from parallel arrays, in people into the space; all within [low, high). Columns
as core.list_flows.';

create or replace function core.cut_buckets(
  starts timestamptz[],
  resets timestamptz[],
  bases integer[],
  high timestamptz,
  out cuts timestamptz[],
  out nexts timestamptz[],
  out buckets bigint[],
  out legs bigint[],
  out are_resets boolean[]
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  select
    array_agg(p.at order by p.at), array_agg(p.next order by p.at), array_agg(p.bucket order by p.at),
    array_agg(p.leg order by p.at), array_agg(p.base is not null order by p.at)
  into cuts, nexts, buckets, legs, are_resets
  from (
    select
      p.at, p.base, lead(p.at, 1, high) over (order by p.at) as next,
      sum(p.is_start) over (order by p.at) as bucket, count(p.base) over (order by p.at) as leg
    from (
      select e.at, max(e.base) as base, max(e.is_start) as is_start
      from (
        select s.at, null::integer as base, 1 as is_start from unnest(starts) as s (at)
        union all
        select r.at, r.base, 0 from unnest(resets, bases) as r (at, base)
      ) e
      group by e.at
    ) p
  ) p;
end
$$;
comment on function core.cut_buckets(timestamptz[], timestamptz[], integer[], timestamptz) is
'Cuts a range that ends at high wherever a bucket begins or a reset falls: between two cuts the count moves by events
only.

starts: of the buckets; resets, bases: when the count was set, and to what. The result lies beside each other,
ascending: each cut and the next one, which bucket it is in (from 1), how many resets are behind it, and whether a reset
falls on it.';

create or replace function core.list_gains(
  space_id integer,
  from_at timestamptz,
  to_at timestamptz,
  resets timestamptz[]
)
returns table (at timestamptz, net bigint, at_start bigint, low bigint, high bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
  v_from timestamptz := from_at;
  v_to timestamptz := to_at;
  v_split timestamptz[] := array(
    select r from unnest(resets) as r where r <> public.time_bucket(interval '15 minutes', r) order by r);
  v_is_split boolean := cardinality(v_split) > 0;
  v_dpus integer[];
  v_signs smallint[];
  v_froms timestamptz[];
  v_untils timestamptz[];
begin
  select p.dpus, p.signs, p.froms, p.untils into v_dpus, v_signs, v_froms, v_untils
  from core.clip_outer_placements(list_gains.space_id, v_from, v_to) p;
  if v_dpus is null then
    return;
  end if;
  return query
  select
    g.at, sum(g.net)::bigint, (max(g.gain) filter (where g.time = g.at))::bigint, min(g.gain)::bigint,
    max(g.gain)::bigint
  from (
    -- what comes at one instant has no order: all of it moves the sum at once
    select e.time, n.net, sum(n.net) over (order by e.time) as gain, case when v_is_split
      then greatest(public.time_bucket(interval '15 minutes', e.time), v_split[width_bucket(e.time, v_split)])
      else public.time_bucket(interval '15 minutes', e.time) end as at
    from unnest(v_dpus, v_signs, v_froms, v_untils) as p (dpu_id, sign, from_at, until_at)
    join core.event e on e.dpu_id = p.dpu_id and e.time >= p.from_at and e.time < p.until_at
    cross join lateral (select p.sign * e.direction::bigint) as n (net)
    where e.dpu_id = any (v_dpus) and e.time >= v_from and e.time < v_to
  ) g
  group by g.at;
end
$$;
comment on function core.list_gains(integer, timestamptz, timestamptz, timestamptz[]) is
'How far the events of each quarter-hour in [from_at, to_at) took the count of a space: needs a range after
rollup_state.events_from. A quarter-hour with one of the resets within has a row up to the first of them and one behind
each. Those without events are left out.

at: where it begins. net: what it gained. low, high: the least and the most that was gained since from_at, at each
instant of it that has an event; at_start: that at its first instant, null where it has no event.';

create or replace function core.list_extremes(
  space_id integer,
  from_at timestamptz,
  to_at timestamptz,
  resets timestamptz[],
  cuts timestamptz[],
  legs bigint[],
  are_resets boolean[]
)
returns table (cut integer, low numeric, high numeric, moves_at_once boolean)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  with gain as (
    select g.*, width_bucket(g.at, cuts) as cut, sum(g.net) over (order by g.at) - g.net as before
    from core.list_gains(list_extremes.space_id, from_at, to_at, resets) g
  ),
  leg as (
    -- since the reset it begins with, if any; with what came exactly then, which is void
    select g.*, first_value(case when legs[g.cut] = 0 then 0
      when g.at = cuts[g.cut] and are_resets[g.cut] then coalesce(g.at_start, g.before)
      else g.before end) over (partition by legs[g.cut] order by g.at) as since
    from gain g
  )
  select
    l.cut, min(l.low - l.since), max(l.high - l.since),
    bool_or(l.at = cuts[l.cut] and l.at_start is not null and not are_resets[l.cut])
  from leg l
  group by l.cut;
end
$$;
comment on function core.list_extremes(integer, timestamptz, timestamptz, timestamptz[], timestamptz[], bigint[],
  boolean[]) is
'The least and the most that a space gained since the latest reset, exactly, between the cuts of core.cut_buckets; cuts
without events are left out. Columns as core.sum_cuts. Needs a range after rollup_state.events_from.';

create or replace function core.sum_cuts(
  space_id integer,
  from_at timestamptz,
  to_at timestamptz,
  is_exact boolean,
  resets timestamptz[],
  cuts timestamptz[],
  nexts timestamptz[],
  legs bigint[],
  are_resets boolean[]
)
returns table (
  cut integer,
  net numeric,
  entries numeric,
  exits numeric,
  area numeric,
  low numeric,
  high numeric,
  moves_at_once boolean
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  with flow as (
    select
      f.cut,
      public.time_bucket(interval '15 minutes', f.time) as at,
      sum(f.net) as net,
      sum(f.entries) as entries,
      sum(f.exits) as exits,
      sum(f.net * extract(epoch from nexts[f.cut] - f.time) - f.moment * 0.000001) as area
    from (
      -- an event exactly at a reset belongs to before it: it passed a door, and moves no count after it
      select c.cut, f.time, f.entries, f.exits, f.moment, case when f.time = cuts[c.cut] and are_resets[c.cut]
        then f.net - f.net_at_start else f.net end as net
      from core.list_flows(sum_cuts.space_id, from_at, to_at, resets, 'from') f
      cross join lateral (select width_bucket(f.time, cuts)) as c (cut)
    ) f
    group by 1, 2
  ),
  moved as (
    select f.*, sum(f.net) over (partition by legs[f.cut] order by f.cut, f.at) as since_leg
    from flow f
  ),
  summed as (
    select
      m.cut, sum(m.net) as net, sum(m.entries) as entries, sum(m.exits) as exits, sum(m.area) as area,
      min(m.since_leg) as low, max(m.since_leg) as high
    from moved m
    group by m.cut
  )
  select
    s.cut, s.net, s.entries, s.exits, s.area, case when is_exact then e.low else s.low end,
    case when is_exact then e.high else s.high end, coalesce(e.moves_at_once, false)
  from summed s
  left join (
    select e.*
    from core.list_extremes(sum_cuts.space_id, from_at, to_at, resets, cuts, legs, are_resets) e
    where is_exact
    offset 0  -- pulled up, the condition would be one of the join, and the events be read all the same
  ) e on e.cut = s.cut;
end
$$;
comment on function core.sum_cuts(integer, timestamptz, timestamptz, boolean, timestamptz[], timestamptz[],
  timestamptz[], bigint[], boolean[]) is
'What core.list_flows brings between the cuts of core.cut_buckets; cuts without any are left out.

area: sum over time of what the count gained since the cut, in people times seconds. low, high: the least and the most
that it gained since the latest reset, at the ends of quarter-hours, or with is_exact at every instant
(core.list_extremes). moves_at_once: whether then an event falls on the cut itself. Errors: PT422 naming from, as
core.list_flows.';

create or replace function core.check_count_range(
  from_at timestamptz,
  to_at timestamptz,
  now_at timestamptz
)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if from_at >= now_at then
    perform core.refuse(422, 'from lies in the future.', 'from', 'Give an instant in the past.');
  end if;
  if to_at <= from_at then
    perform core.refuse(422, 'to is not after from.', 'to', 'Give a later instant.');
  end if;
end
$$;
comment on function core.check_count_range(timestamptz, timestamptz, timestamptz) is
'Errors: PT422 naming from or to for a range that is empty, or begins in the future.';
