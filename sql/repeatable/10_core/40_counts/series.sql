-- Series: the count as a step function over buckets of local time (docs/explanation/counts.md).

create or replace function core.list_buckets(
  from_at timestamptz,
  to_at timestamptz,
  grain text,
  time_zone text
)
returns table (start_at timestamptz, end_at timestamptz)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_first date := (from_at at time zone list_buckets.time_zone)::date - 1;
  v_last date := (to_at at time zone list_buckets.time_zone)::date + 1;
  v_step interval := case grain when '1d' then interval '1 day' when '1w' then interval '7 days' when '1mo' then interval '1 month' end;
  v_minutes integer := case grain when '15m' then 15 when '30m' then 30 when '1h' then 60 end;
begin
  if v_step is not null then
    v_first := date_trunc(case grain when '1w' then 'week' when '1mo' then 'month' else 'day' end, v_first::timestamp)::date;
    return query
    select e.start_at, e.end_at
    from (
      select d.start_at, lead(d.start_at) over (order by d.start_at) as end_at
      from (
        -- the day that a clock skips has no bucket
        select distinct core.get_scheduled_reset(s.day::date, time_zone, time '00:00') as start_at
        from generate_series(v_first::timestamp, (v_last + v_step)::timestamp, v_step) as s (day)
      ) d
    ) e
    where e.start_at < to_at and e.end_at > from_at
    order by e.start_at;
  else
    -- A bucket begins wherever the clock shows a multiple of its length, and where the clock jumps over one.
    return query
    select e.start_at, e.end_at
    from (
      select q.at as start_at, lead(q.at) over (order by q.at) as end_at
      from (
        select
          q.at,
          extract(epoch from q.at at time zone list_buckets.time_zone)::bigint / 60 as minute,
          extract(epoch from (q.at - interval '15 minutes') at time zone list_buckets.time_zone)::bigint / 60 as minute_before
        from generate_series(
          public.time_bucket(interval '15 minutes', from_at) - interval '3 hours',
          to_at + interval '3 hours', interval '15 minutes') as q (at)
      ) q
      where q.minute % v_minutes = 0 or q.minute / v_minutes <> q.minute_before / v_minutes
    ) e
    where e.start_at < to_at and e.end_at > from_at
    order by e.start_at;
  end if;
end
$$;
comment on function core.list_buckets(timestamptz, timestamptz, text, text) is
'The buckets [start_at, end_at) of local time that overlap [from_at, to_at). grain: 15m, 30m, 1h, 1d, 1w (from Monday) or 1mo.

Hours that repeat are buckets of their own; days have 23 and 25 hours where they have; an hour that is cut short or prolonged by half an hour is one bucket.';

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
  select s.time_zone, s.reset_at into v_time_zone, v_reset_at from core.list_schedules(array[list_space_resets.space_id]) s;
  return query
  select r.at, r.count
  from core.reset r
  where r.space_id = list_space_resets.space_id and r.superseded_at is null and r.at >= from_at and r.at < to_at;
  if v_reset_at <> 'never' then
    return query
    select distinct d.at, 0
    from generate_series(
      (from_at at time zone v_time_zone)::date - 1, (to_at at time zone v_time_zone)::date + 1, interval '1 day') as s (day)
    cross join lateral core.get_scheduled_reset(s.day::date, v_time_zone, v_reset_at::time) as d (at)
    where d.at >= from_at and d.at < to_at
      and not exists (
        select from core.reset r
        where r.space_id = list_space_resets.space_id and r.superseded_at is null and r.at = d.at);
  end if;
end
$$;
comment on function core.list_space_resets(integer, timestamptz, timestamptz) is
'All resets of a space in [from_at, to_at), explicit and daily, in no order; an explicit one stands for a daily one at the same instant.';

create or replace function core.list_flows(
  space_id integer,
  from_at timestamptz,
  to_at timestamptz,
  is_exact boolean,
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
  v_split timestamptz[];   -- quarter-hours with a reset within: one at their start leaves them whole
  v_dpus integer[];
  v_signs smallint[];
  v_froms timestamptz[];
  v_untils timestamptz[];
  v_piece record;
begin
  select
    array_agg(p.dpu_id), array_agg(p.sign),
    array_agg(greatest(lower(p.during), v_from)), array_agg(least(upper(p.during), v_to))
  into v_dpus, v_signs, v_froms, v_untils
  from core.list_outer_placements(array[list_flows.space_id]) p
  where p.during && tstzrange(v_from, v_to);
  if v_dpus is null then
    return;
  end if;

  if is_exact then
    return query
    select e.* from core.list_signed_events(v_dpus, v_signs, v_froms, v_untils, v_from, v_to) e;
    return;
  end if;

  select s.materialized_until, s.events_from into v_until, v_events_from from core.rollup_state s;
  v_is_marked := exists (select from core.late_mark m where m.dpu_id = any (v_dpus));
  v_split := array(
    select distinct public.time_bucket(interval '15 minutes', r) from unnest(resets) r
    where r <> public.time_bucket(interval '15 minutes', r));
  -- whole quarter-hours of a placement, before materialized_until, unmarked and without a reset within
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
    and (not v_is_marked or not exists (select from core.late_mark m where m.dpu_id = f.dpu_id and m.bucket = f.bucket))
    and f.bucket <> all (v_split)
  group by f.bucket;
  -- everything else from events, a day's pieces together
  for v_piece in
    select
      array_agg(c.dpu_id) as dpus, array_agg(c.sign) as signs, array_agg(c.from_at) as froms, array_agg(c.until_at) as untils,
      min(c.from_at) as low, max(c.until_at) as high
    from (
      -- before the first whole quarter-hour of a placement, and behind the last one
      select p.dpu_id, p.sign, p.from_at, least(p.until_at, q.quarter_from) as until_at
      from unnest(v_dpus, v_signs, v_froms, v_untils) as p (dpu_id, sign, from_at, until_at)
      cross join lateral (select public.time_bucket(interval '15 minutes', p.from_at + interval '15 minutes' - interval '1 microsecond')) as q (quarter_from)
      union all
      select p.dpu_id, p.sign, greatest(p.from_at, q.quarter_from, public.time_bucket(interval '15 minutes', least(p.until_at, v_until))), p.until_at
      from unnest(v_dpus, v_signs, v_froms, v_untils) as p (dpu_id, sign, from_at, until_at)
      cross join lateral (select public.time_bucket(interval '15 minutes', p.from_at + interval '15 minutes' - interval '1 microsecond')) as q (quarter_from)
      union all
      -- whole quarter-hours that are marked or have a reset within
      select distinct p.dpu_id, p.sign, b.bucket, b.bucket + interval '15 minutes'
      from unnest(v_dpus, v_signs, v_froms, v_untils) as p (dpu_id, sign, from_at, until_at)
      cross join lateral (
        select m.bucket from core.late_mark m where m.dpu_id = p.dpu_id and m.bucket >= p.from_at and m.bucket < p.until_at
        union
        select unnest(v_split)
      ) b
      where b.bucket >= p.from_at and b.bucket + interval '15 minutes' <= p.until_at and b.bucket < v_until
    ) c
    where c.from_at < c.until_at
    group by public.time_bucket(interval '1 day', c.from_at)
  loop
    if v_piece.low < v_events_from then
      return query
      select e.* from core.list_signed_kept_events(v_piece.dpus, v_piece.signs, v_piece.froms, v_piece.untils, place) e;
      v_piece.low := v_events_from;
    end if;
    return query
    select e.* from core.list_signed_events(v_piece.dpus, v_piece.signs, v_piece.froms, v_piece.untils, v_piece.low, v_piece.high) e;
  end loop;
end
$$;
comment on function core.list_flows(integer, timestamptz, timestamptz, boolean, timestamptz[], text) is
'What passed the outer doorways of a space in [from_at, to_at): quarter-hours and, where a quarter-hour cannot be taken whole, single events; is_exact: single events only, which needs a range after rollup_state.events_from. resets: those of the range, ascending.

time: start of the quarter-hour, or instant of the event. net_at_start: the part of net exactly then, which a reset at that instant makes void. moment: sum of people times microseconds after time. Errors: PT422 naming place where it would need events that were dropped.';

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
comment on function core.list_signed_events(integer[], smallint[], timestamptz[], timestamptz[], timestamptz, timestamptz) is
'Events of DPUs in [from, until) each, from parallel arrays, in people into the space; all within [low, high). Columns as core.list_flows.';
