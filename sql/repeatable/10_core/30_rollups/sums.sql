-- Sums over any range of a DPU's history, exact at every moment and at a cost that does not grow with its age.
--
-- [from, until) is cut into 30 days, days and quarter-hours, which come from the rollups, and raw events at both
-- ends. Rollups count only before rollup_state.materialized_until, and only where no late_mark stands: a marked
-- quarter-hour comes from raw events, the rest of its day from quarter-hours, the rest of its 30 days from days.
-- Raw events from before rollup_state.events_from are those of core.kept_event (35_retention/).
-- Each function that reads a hypertable has its bounds as variables and plans anew each time, so that chunks
-- outside of them are not even planned.

create or replace function core.sum_events(
  parts bigint[],
  dpus integer[],
  froms timestamptz[],
  untils timestamptz[],
  low timestamptz,
  high timestamptz,
  known_at timestamptz
)
returns table (part bigint, net bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
begin
  return query
  select s.part, n.net
  from unnest(parts, dpus, froms, untils) as s (part, dpu_id, from_at, until_at)
  cross join lateral (
    select sum(e.direction) as net
    from core.event e
    where e.dpu_id = s.dpu_id and e.time >= s.from_at and e.time < s.until_at and e.time >= low and e.time < high
      and (sum_events.known_at = 'infinity' or core.get_received_at(e.time, e.lag_ms) <= sum_events.known_at)
  ) n
  where n.net <> 0;
end
$$;
comment on function core.sum_events(bigint[], integer[], timestamptz[], timestamptz[], timestamptz,
  timestamptz, timestamptz) is
'Sums of directions over raw events in [from, until) each, from parallel arrays; all within [low, high). Parts that sum
to 0 are left out.';

create or replace function core.sum_flow_15m(
  parts bigint[],
  dpus integer[],
  froms timestamptz[],
  untils timestamptz[],
  low timestamptz,
  high timestamptz,
  is_marked boolean
)
returns table (part bigint, net bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
declare
  v_low timestamptz := low - interval '1 microsecond';
begin
  return query
  select s.part, n.net
  from unnest(parts, dpus, froms, untils) as s (part, dpu_id, from_at, until_at)
  cross join lateral (
    select sum(
      case
        when f.bucket < s.from_at then f.net - f.net_at_start
        when f.bucket = s.until_at - interval '1 microsecond' then f.net_at_start
        else f.net
      end
    )::bigint as net
    from core.dpu_flow_15m_v1 f
    where f.dpu_id = s.dpu_id and f.bucket >= s.from_at - interval '1 microsecond' and f.bucket < s.until_at
      and f.bucket >= v_low and f.bucket < high
      and (not is_marked or not exists (
        select from core.late_mark m where m.dpu_id = s.dpu_id and m.bucket = f.bucket))
  ) n
  where n.net <> 0;
end
$$;
comment on function core.sum_flow_15m(bigint[], integer[], timestamptz[], timestamptz[], timestamptz,
  timestamptz, boolean) is
'As core.sum_events, over quarter-hours. Each bound is the start of a quarter-hour or the microsecond after it: a count
begins just after a reset, and includes the instant that it is asked for. is_marked: leave out those under a late
mark.';

create or replace function core.sum_flow_1d(
  parts bigint[],
  dpus integer[],
  froms timestamptz[],
  untils timestamptz[],
  low timestamptz,
  high timestamptz,
  is_marked boolean
)
returns table (part bigint, net bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
begin
  return query
  select s.part, n.net
  from unnest(parts, dpus, froms, untils) as s (part, dpu_id, from_at, until_at)
  cross join lateral (
    select sum(f.net)::bigint as net
    from core.dpu_flow_1d_v1 f
    where f.dpu_id = s.dpu_id and f.bucket >= s.from_at and f.bucket < s.until_at and f.bucket >= low
      and f.bucket < high
      and (not is_marked or not exists (
        select from core.late_mark m
        where m.dpu_id = s.dpu_id and m.bucket >= f.bucket and m.bucket < f.bucket + interval '24 hours'))
  ) n
  where n.net <> 0;
end
$$;
comment on function core.sum_flow_1d(bigint[], integer[], timestamptz[], timestamptz[], timestamptz,
  timestamptz, boolean) is
'As core.sum_events, over whole UTC days; is_marked: leave out those with a late mark in them.';

create or replace function core.sum_flow_30d(
  parts bigint[],
  dpus integer[],
  froms timestamptz[],
  untils timestamptz[],
  low timestamptz,
  high timestamptz,
  is_marked boolean
)
returns table (part bigint, net bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
begin
  return query
  select s.part, n.net
  from unnest(parts, dpus, froms, untils) as s (part, dpu_id, from_at, until_at)
  cross join lateral (
    select sum(f.net)::bigint as net
    from core.dpu_flow_30d_v1 f
    where f.dpu_id = s.dpu_id and f.bucket >= s.from_at and f.bucket < s.until_at and f.bucket >= low
      and f.bucket < high
      and (not is_marked or not exists (
        select from core.late_mark m
        where m.dpu_id = s.dpu_id and m.bucket >= f.bucket and m.bucket < f.bucket + interval '720 hours'))
  ) n
  where n.net <> 0;
end
$$;
comment on function core.sum_flow_30d(bigint[], integer[], timestamptz[], timestamptz[], timestamptz,
  timestamptz, boolean) is
'As core.sum_events, over whole 30 days; is_marked: leave out those with a late mark in them.';

create or replace function core.cut_parts(
  dpus integer[],
  froms timestamptz[],
  untils timestamptz[],
  materialized_until timestamptz,
  is_marked boolean
)
returns table (part bigint, dpu_id integer, grain text, from_at timestamptz, until_at timestamptz)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  c_instant constant interval := interval '1 microsecond';
begin
  return query
  with whole as (
    -- the rollups say what happened exactly at the start of a quarter-hour: the microsecond behind it will do as well
    select
      p.part, p.dpu_id, p.from_at, p.until_at,
      case when p.from_at = c.after_from then c.after_from
        else public.time_bucket(interval '15 minutes',
        p.from_at + interval '15 minutes' - c_instant) end as quarter_from,
      case when p.until_at = c.after_until and p.until_at <= cut_parts.materialized_until then c.after_until
        else public.time_bucket(interval '15 minutes',
          least(p.until_at, cut_parts.materialized_until)) end as quarter_until
    from unnest(dpus, froms, untils) with ordinality as p (dpu_id, from_at, until_at, part)
    cross join lateral (
      select
        public.time_bucket(interval '15 minutes', p.from_at) + c_instant as after_from,
        public.time_bucket(interval '15 minutes', p.until_at) + c_instant as after_until
    ) c
  ),
  quartered as (
    select
      w.*,
      public.time_bucket(interval '1 day', w.quarter_from + interval '24 hours' - c_instant) as day_from,
      public.time_bucket(interval '1 day', w.quarter_until) as day_until
    from whole w
    where w.quarter_from < w.quarter_until
  ),
  dayed as (
    select
      q.*,
      public.time_bucket(interval '30 days', q.day_from + interval '720 hours' - c_instant) as month_from,
      public.time_bucket(interval '30 days', q.day_until) as month_until
    from quartered q
    where q.day_from < q.day_until
  ),
  mark as (
    select distinct q.part, q.dpu_id, q.from_at, q.until_at, m.bucket, q.day_from, q.day_until
    from quartered q
    join core.late_mark m on m.dpu_id = q.dpu_id and m.bucket >= q.quarter_from - c_instant
      and m.bucket < q.quarter_until
    where is_marked
  ),
  marked_day as (
    select distinct m.part, m.dpu_id, public.time_bucket(interval '1 day', m.bucket) as bucket
    from mark m
    where m.bucket >= m.day_from and m.bucket < m.day_until
  ),
  marked_month as (
    select distinct m.part, m.dpu_id, public.time_bucket(interval '30 days', m.bucket) as bucket
    from marked_day m
    join dayed d on d.part = m.part
    where m.bucket >= d.month_from and m.bucket < d.month_until
  )
  select s.part, s.dpu_id, s.grain, s.from_at, s.until_at
  from (
    select w.part, w.dpu_id, 'event' as grain, w.from_at, w.until_at from whole w
    where w.quarter_from >= w.quarter_until
    union all
    select q.part, q.dpu_id, 'event', q.from_at, q.quarter_from from quartered q
    union all
    select q.part, q.dpu_id, 'event', q.quarter_until, q.until_at from quartered q
    union all
    select m.part, m.dpu_id, 'event', greatest(m.bucket, m.from_at), least(m.bucket + interval '15 minutes', m.until_at)
    from mark m
    union all
    select q.part, q.dpu_id, '15m', q.quarter_from, least(q.day_from, q.quarter_until) from quartered q
    union all
    select q.part, q.dpu_id, '15m', greatest(q.day_until, q.quarter_from), q.quarter_until from quartered q
    where q.day_from <= q.day_until
    union all
    select m.part, m.dpu_id, '15m', m.bucket, m.bucket + interval '24 hours' from marked_day m
    union all
    select d.part, d.dpu_id, '1d', d.day_from, least(d.month_from, d.day_until) from dayed d
    union all
    select d.part, d.dpu_id, '1d', greatest(d.month_until, d.day_from), d.day_until from dayed d
    where d.month_from <= d.month_until
    union all
    select m.part, m.dpu_id, '1d', m.bucket, m.bucket + interval '720 hours' from marked_month m
    union all
    select d.part, d.dpu_id, '30d', d.month_from, d.month_until from dayed d
  ) s
  where s.from_at < s.until_at;
end
$$;
comment on function core.cut_parts(integer[], timestamptz[], timestamptz[], timestamptz, boolean) is
'Cuts the range of each part into pieces. grain: what a piece is read from, event, 15m, 1d or 30d. A piece of a rollup
leaves out its marked buckets; they are pieces of the next finer grain. is_marked: whether any of the DPUs has a late
mark.';

create or replace function core.sum_parts(
  dpus integer[],
  froms timestamptz[],
  untils timestamptz[],
  known_at timestamptz default 'infinity',
  place text default null
)
returns table (part bigint, net bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_until timestamptz;
  v_events_from timestamptz;
  v_is_marked boolean;
  v_parts bigint[];
  v_low timestamptz;
  v_piece record;
begin
  if cardinality(dpus) is null or cardinality(dpus) = 0 then
    return;
  end if;
  select s.materialized_until, s.events_from into v_until, v_events_from from core.rollup_state s;
  if known_at < 'infinity' then
    v_parts := array(select generate_series(1::bigint, cardinality(dpus)));
    v_low := (select min(f) from unnest(froms) f);
    if v_low < v_events_from then
      return query select s.part, s.net from core.sum_kept_events(v_parts, dpus, froms, untils, known_at, 'known_at') s;
      v_low := v_events_from;
    end if;
    return query
    select s.part, s.net
    from core.sum_events(v_parts, dpus, froms, untils, v_low, (select max(u) from unnest(untils) u), known_at) s;
    return;
  end if;
  v_is_marked := exists (select from core.late_mark m where m.dpu_id = any (dpus));
  for v_piece in
    select
      c.grain, array_agg(c.part) as parts, array_agg(c.dpu_id) as dpus, array_agg(c.from_at) as froms,
      array_agg(c.until_at) as untils,
      min(c.from_at) as low, max(c.until_at) as high
    from core.cut_parts(dpus, froms, untils, v_until, v_is_marked) c
    -- pieces that lie near one another are read together
    group by c.grain, case c.grain
      when 'event' then public.time_bucket(interval '1 day', c.from_at)
      when '15m' then public.time_bucket(interval '10 days', c.from_at)
      when '1d' then public.time_bucket(interval '180 days', c.from_at)
    end
  loop
    case v_piece.grain
      when 'event' then
        if v_piece.low < v_events_from then
          return query select s.part, s.net
          from core.sum_kept_events(v_piece.parts, v_piece.dpus, v_piece.froms, v_piece.untils, 'infinity', place) s;
          v_piece.low := v_events_from;
        end if;
        return query select s.part, s.net
        from core.sum_events(v_piece.parts, v_piece.dpus, v_piece.froms, v_piece.untils, v_piece.low, v_piece.high,
        'infinity') s;
      when '15m' then
        return query select s.part, s.net
        from core.sum_flow_15m(v_piece.parts, v_piece.dpus, v_piece.froms, v_piece.untils, v_piece.low, v_piece.high,
        v_is_marked) s;
      when '1d' then
        return query select s.part, s.net
        from core.sum_flow_1d(v_piece.parts, v_piece.dpus, v_piece.froms, v_piece.untils, v_piece.low, v_piece.high,
        v_is_marked) s;
      else
        return query select s.part, s.net
        from core.sum_flow_30d(v_piece.parts, v_piece.dpus, v_piece.froms, v_piece.untils, v_piece.low, v_piece.high,
        v_is_marked) s;
    end case;
  end loop;
end
$$;
comment on function core.sum_parts(integer[], timestamptz[], timestamptz[], timestamptz, text) is
'Sums of directions of DPUs over [from, until) each, from parallel arrays: several rows a part, to be added up, none
where the sum is 0. part: ordinal, from 1. With known_at only raw events are read, since rollups do not tell when an
event was received. Errors: PT422 naming place, as core.check_kept.';

-- TimescaleDB 2.27 and later refreshes bucket by bucket unless told otherwise; before, it cannot be told.
do $do$
begin
  execute format($create$
    create or replace procedure core.refresh_rollup(
      rollup regclass,
      low timestamptz,
      high timestamptz
    )
    language plpgsql
    as $$
    begin
      call public.refresh_continuous_aggregate(rollup, low, high%s);
    end
    $$
  $create$, (
    select case when 'options' = any (p.proargnames) then $options$, options => '{"buckets_per_batch": 0}'$options$
      else '' end
    from pg_proc p
    where p.proname = 'refresh_continuous_aggregate' and p.pronamespace = 'public'::regnamespace
  ));
end
$do$;
comment on procedure core.refresh_rollup(regclass, timestamptz, timestamptz) is
'Refreshes one rollup over [low, high), whole buckets, in one pass.';
