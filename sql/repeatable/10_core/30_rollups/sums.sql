-- Sums over any range of a DPU's history, exact at every moment and at a cost that does not grow with its age.
--
-- [from, until) is cut where quarter-hours begin: what lies between is the difference of two running totals
-- (core.dpu_total), and both ends come from raw events. Totals count only before rollup_state.materialized_until. What
-- late_marks bring is added to them. Where a mark does not say it, its quarter-hour comes from raw events, too.
-- After an upgrade totals reach only up to rollup_state.totals_until for some time; behind that the quarter-hours
-- themselves are summed.
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
        select from core.void_mark m where m.dpu_id = s.dpu_id and m.bucket = f.bucket))
  ) n
  where n.net <> 0;
end
$$;
comment on function core.sum_flow_15m(bigint[], integer[], timestamptz[], timestamptz[], timestamptz,
  timestamptz, boolean) is
'As core.sum_events, over quarter-hours. Each bound is the start of a quarter-hour or the microsecond after it: a count
begins just after a reset, and includes the instant that it is asked for. is_marked: leave out those under a void
mark.';

create or replace function core.find_whole(
  froms timestamptz[],
  untils timestamptz[],
  materialized_until timestamptz,
  out lows timestamptz[],
  out highs timestamptz[]
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  c_instant constant interval := interval '1 microsecond';
begin
  select
    array_agg(case when w.low < w.high then w.low end order by w.part),
    array_agg(case when w.low < w.high then w.high end order by w.part)
  into lows, highs
  from (
    -- what came exactly at the start of a quarter-hour is known: the microsecond behind it will do as well
    select
      p.part,
      case when p.from_at <= c.from_quarter + c_instant then p.from_at else c.from_quarter + interval '15 minutes' end
        as low,
      case when p.until_at <= find_whole.materialized_until and p.until_at = c.until_quarter + c_instant then p.until_at
        else c.until_quarter end as high
    from unnest(froms, untils) with ordinality as p (from_at, until_at, part)
    cross join lateral (
      select
        public.time_bucket(interval '15 minutes', p.from_at) as from_quarter,
        public.time_bucket(interval '15 minutes', least(p.until_at, find_whole.materialized_until)) as until_quarter
    ) c
  ) w;
end
$$;
comment on function core.find_whole(timestamptz[], timestamptz[], timestamptz) is
'The part of each range [from, until), given as parallel arrays, for which no events are needed: between starts of
quarter-hours or the microseconds after them, and before materialized_until. Nulls where there is none.';

create or replace function core.sum_edges(
  dpus integer[],
  froms timestamptz[],
  untils timestamptz[],
  lows timestamptz[],
  highs timestamptz[],
  void_parts bigint[],
  void_froms timestamptz[],
  void_untils timestamptz[],
  events_from timestamptz,
  place text
)
returns table (part bigint, net bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_piece record;
begin
  for v_piece in
    select
      array_agg(c.part) as parts, array_agg(dpus[c.part]) as dpus, array_agg(c.from_at) as froms,
      array_agg(c.until_at) as untils, min(c.from_at) as low, max(c.until_at) as high
    from (
      select p.part, p.from_at, coalesce(p.low, p.until_at) as until_at
      from unnest(froms, untils, lows) with ordinality as p (from_at, until_at, low, part)
      union all
      select p.part, p.high, p.until_at
      from unnest(untils, highs) with ordinality as p (until_at, high, part)
      union all
      select v.part, v.from_at, v.until_at
      from unnest(void_parts, void_froms, void_untils) as v (part, from_at, until_at)
    ) c
    where c.from_at < c.until_at
    -- a day's pieces together
    group by public.time_bucket(interval '1 day', c.from_at)
  loop
    if v_piece.low < events_from then
      return query select s.part, s.net
      from core.sum_kept_events(v_piece.parts, v_piece.dpus, v_piece.froms, v_piece.untils, 'infinity', place) s;
      v_piece.low := events_from;
    end if;
    return query select s.part, s.net
    from core.sum_events(v_piece.parts, v_piece.dpus, v_piece.froms, v_piece.untils, v_piece.low, v_piece.high,
      'infinity') s;
  end loop;
end
$$;
comment on function core.sum_edges(integer[], timestamptz[], timestamptz[], timestamptz[], timestamptz[], bigint[],
  timestamptz[], timestamptz[], timestamptz, text) is
'Sums of directions over what [from, until), given as parallel arrays, has before low and behind high (core.find_whole),
and over the ranges of core.list_void, by their parts: from events.';

create or replace function core.sum_behind(
  dpus integer[],
  lows timestamptz[],
  highs timestamptz[],
  totals_until timestamptz,
  is_marked boolean
)
returns table (part bigint, net bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_piece record;
begin
  for v_piece in
    select
      array_agg(c.part) as parts, array_agg(c.dpu_id) as dpus, array_agg(c.from_at) as froms,
      array_agg(c.until_at) as untils, min(c.from_at) as low, max(c.until_at) as high
    from (
      select p.part, p.dpu_id, greatest(p.low, sum_behind.totals_until) as from_at, p.high as until_at
      from unnest(dpus, lows, highs) with ordinality as p (dpu_id, low, high, part)
    ) c
    where c.from_at < c.until_at
    group by public.time_bucket(interval '10 days', c.from_at)
  loop
    return query select s.part, s.net
    from core.sum_flow_15m(v_piece.parts, v_piece.dpus, v_piece.froms, v_piece.untils, v_piece.low, v_piece.high,
      is_marked) s;
  end loop;
end
$$;
comment on function core.sum_behind(integer[], timestamptz[], timestamptz[], timestamptz, boolean) is
'Sums of directions over the part of [low, high) each, given as parallel arrays, that is not in core.dpu_total yet: from
quarter-hours. is_marked: as core.sum_flow_15m.';

create or replace function core.sum_known(
  dpus integer[],
  froms timestamptz[],
  untils timestamptz[],
  known_at timestamptz,
  events_from timestamptz
)
returns table (part bigint, net bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_parts bigint[] := array(select generate_series(1::bigint, cardinality(dpus)));
  v_low timestamptz := (select min(f) from unnest(froms) f);
begin
  if v_low < events_from then
    return query select s.part, s.net from core.sum_kept_events(v_parts, dpus, froms, untils, known_at, 'known_at') s;
    v_low := events_from;
  end if;
  return query
  select s.part, s.net
  from core.sum_events(v_parts, dpus, froms, untils, v_low, (select max(u) from unnest(untils) u), known_at) s;
end
$$;
comment on function core.sum_known(integer[], timestamptz[], timestamptz[], timestamptz, timestamptz) is
'As core.sum_parts, over the events that had been received at known_at.';

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
  v_totals_until timestamptz;
  v_events_from timestamptz;
  v_is_marked boolean;
  v_is_void boolean;
  v_lows timestamptz[];
  v_highs timestamptz[];
  v_total_highs timestamptz[];
  v_parts bigint[];     -- of void quarter-hours, and beside them
  v_froms timestamptz[];
  v_untils timestamptz[];
  v_nets bigint[];
begin
  if cardinality(dpus) is null or cardinality(dpus) = 0 then
    return;
  end if;
  select s.materialized_until, least(s.totals_until, s.materialized_until), s.events_from
  into v_until, v_totals_until, v_events_from
  from core.rollup_state s;
  if known_at < 'infinity' then
    return query select s.part, s.net from core.sum_known(dpus, froms, untils, known_at, v_events_from) s;
    return;
  end if;

  select w.lows, w.highs into v_lows, v_highs from core.find_whole(froms, untils, v_until) w;
  v_is_marked := exists (select from core.late_mark m where m.dpu_id = any (dpus));
  v_is_void := v_is_marked and (
    exists (select from core.late_mark m where m.dpu_id = any (dpus) and m.net is null)
    or (v_totals_until < v_until and exists (select from core.void_mark m where m.dpu_id = any (dpus))));
  v_total_highs := v_highs;
  if v_totals_until < v_until then
    v_total_highs := array(
      select least(h, v_totals_until) from unnest(v_highs) with ordinality as h (h, part) order by h.part);
    return query select s.part, s.net from core.sum_behind(dpus, v_lows, v_highs, v_totals_until, v_is_void) s;
  end if;
  return query select s.part, s.net from core.sum_totals(dpus, v_lows, v_total_highs) s;
  if v_is_marked then
    return query select s.part, s.net
    from core.sum_added(
      array(select generate_series(1::bigint, cardinality(dpus))), dpus, v_lows, v_highs, v_is_void, v_totals_until) s;
  end if;
  if v_is_void then
    select array_agg(v.part), array_agg(v.from_at), array_agg(v.until_at), array_agg(-v.net)
    into v_parts, v_froms, v_untils, v_nets
    from core.list_void(dpus, v_lows, v_highs, v_totals_until) v;
    return query select v.part, v.net from unnest(v_parts, v_nets) as v (part, net);
  end if;
  return query select s.part, s.net
  from core.sum_edges(
    dpus, froms, untils, v_lows, v_highs, v_parts, v_froms, v_untils, v_events_from, place) s;
end
$$;
comment on function core.sum_parts(integer[], timestamptz[], timestamptz[], timestamptz, text) is
'Sums of directions of DPUs over [from, until) each, from parallel arrays: several rows a part, to be added up. part:
ordinal, from 1. With known_at only raw events are read, since rollups do not tell when an event was received. Errors:
PT422 naming place, as core.check_kept.';

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
