-- Running totals of DPUs (core.dpu_total): looking them up, and keeping them.
--
-- They are written by core.refresh_rollups alone, each time in the transaction that says so in rollup_state and takes
-- the marks away: who reads all three in one snapshot sees totals that lack what the marks in it bring.

create or replace function core.get_point(
  day timestamptz,
  at timestamptz
)
returns smallint
language sql immutable
as $$
  -- one below where a quarter-hour begins is all that came before
  select (
    2 * div(extract(epoch from at - day), 900) - (at = public.time_bucket(interval '15 minutes', at))::integer
  )::smallint
$$;
comment on function core.get_point(timestamptz, timestamptz) is
'The latest of the points of core.dpu_total on a day that lies before an instant: the start of a quarter-hour or the
microsecond after it. Inlined by the planner: no search_path of its own.';

create or replace function core.get_day_total(
  points smallint[],
  totals bigint[],
  point smallint
)
returns bigint
language sql immutable
as $$
  select coalesce(totals[width_bucket(point, points)], 0)
$$;
comment on function core.get_day_total(smallint[], bigint[], smallint) is
'What a row of core.dpu_total says of a point: the sum of directions from the start of its day up to there. Inlined by
the planner: no search_path of its own.';

create or replace function core.find_total(
  dpu_id integer,
  at timestamptz
)
returns table (total bigint)
language sql stable
as $$
  select t.before + case
    when t.day = public.time_bucket(interval '1 day', find_total.at)
      then core.get_day_total(t.points, t.totals, core.get_point(t.day, find_total.at))
    else coalesce(t.totals[cardinality(t.totals)], 0) end
  from core.dpu_total t
  where t.dpu_id = find_total.dpu_id and t.day <= public.time_bucket(interval '1 day', find_total.at)
  order by t.day desc
  limit 1
$$;
comment on function core.find_total(integer, timestamptz) is
'Sum of directions of a DPU before an instant: the start of a quarter-hour or the microsecond after it, both no later
than rollup_state.totals_until. No row where the DPU had reported nothing. Inlined by the planner: no search_path of its
own.';

create or replace function core.sum_totals(
  dpus integer[],
  froms timestamptz[],
  untils timestamptz[]
)
returns table (part bigint, net bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- from each DPU to two of its rows, whatever the planner thinks of reading all
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  return query
  select s.part, coalesce(u.total, 0) - coalesce(f.total, 0)
  from unnest(dpus, froms, untils) with ordinality as s (dpu_id, from_at, until_at, part)
  left join lateral core.find_total(s.dpu_id, s.from_at) f on true
  left join lateral core.find_total(s.dpu_id, s.until_at) u on true
  where s.from_at < s.until_at;
end
$$;
comment on function core.sum_totals(integer[], timestamptz[], timestamptz[]) is
'Sums of directions by core.dpu_total in [from, until) each, from parallel arrays; nulls are left out. Each bound is the
start of a quarter-hour or the microsecond after it. Those with a void mark are as wrong in it as core.list_void says.';

create or replace function core.list_void(
  dpus integer[],
  froms timestamptz[],
  untils timestamptz[],
  totals_until timestamptz
)
returns table (part bigint, dpu_id integer, from_at timestamptz, until_at timestamptz, net bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select
    m.part, m.dpu_id, m.from_at, m.until_at,
    coalesce(
      core.get_day_total(t.points, t.totals, core.get_point(m.day, m.until_at))
      - core.get_day_total(t.points, t.totals, core.get_point(m.day, m.from_at)), 0)
  from (
    select distinct
      s.part, s.dpu_id, public.time_bucket(interval '1 day', m.bucket) as day,
      greatest(s.from_at, m.bucket) as from_at, least(s.until_at, m.bucket + interval '15 minutes') as until_at
    from unnest(dpus, froms, untils) with ordinality as s (dpu_id, from_at, until_at, part)
    join core.void_mark m on m.dpu_id = s.dpu_id
      and m.bucket >= public.time_bucket(interval '15 minutes', s.from_at) and m.bucket < s.until_at
  ) m
  left join core.dpu_total t on t.dpu_id = m.dpu_id and t.day = m.day and m.from_at < list_void.totals_until;
end
$$;
comment on function core.list_void(integer[], timestamptz[], timestamptz[], timestamptz) is
'The quarter-hours with void marks within ranges, given as parallel arrays: what core.sum_totals took for them up to
totals_until, which is void, and from when until when events have to be read instead.';

create or replace function core.list_day_points(
  dpus integer[],
  low timestamptz,
  high timestamptz
)
returns table (dpu_id integer, day timestamptz, points smallint[], totals bigint[])
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
begin
  return query
  select s.dpu_id, s.day, array_agg(s.point order by s.point), array_agg(s.total order by s.point)
  from (
    select p.dpu_id, p.day, p.point, (sum(p.net) over (partition by p.dpu_id, p.day order by p.point))::bigint as total
    from (
      select
        f.dpu_id, d.day, (2 * div(extract(epoch from f.bucket - d.day), 900) + e.point)::smallint as point, e.net
      from core.dpu_flow_15m_v1 f
      cross join lateral (select public.time_bucket(interval '1 day', f.bucket)) as d (day)
      cross join lateral (values (0, f.net_at_start), (1, f.net - f.net_at_start)) as e (point, net)
      where f.bucket >= low and f.bucket < high and (dpus is null or f.dpu_id = any (dpus)) and e.net <> 0
    ) p
  ) s
  group by s.dpu_id, s.day;
end
$$;
comment on function core.list_day_points(integer[], timestamptz, timestamptz) is
'points and totals of core.dpu_total from the quarter-hours in [low, high) alone, of some DPUs or of all (null). Days on
which nothing changes are left out.';

create or replace function core.add_totals(
  low timestamptz,
  high timestamptz
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  insert into core.dpu_total as t (dpu_id, day, before, points, totals)
  select
    d.dpu_id, d.day,
    coalesce(e.total, 0)
      + sum(d.totals[cardinality(d.totals)]) over (partition by d.dpu_id order by d.day)
      - d.totals[cardinality(d.totals)],
    d.points, d.totals
  from core.list_day_points(null, low, high) d
  left join lateral core.find_total(d.dpu_id, low) e on true
  on conflict (dpu_id, day) do update set
    points = t.points || excluded.points,
    totals = t.totals || array(
      select coalesce(t.totals[cardinality(t.totals)], 0) + n.total
      from unnest(excluded.totals) with ordinality as n (total, place)
      order by n.place);
end
$$;
comment on function core.add_totals(timestamptz, timestamptz) is
'Adds the quarter-hours in [low, high) to core.dpu_total, of which low is the end.';

create or replace function core.redo_totals(
  dpus integer[],
  days timestamptz[],
  until_at timestamptz
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
  v_block record;
begin
  for v_block in
    -- days near one another are read together
    select array_agg(d.dpu_id) as dpus, array_agg(d.day) as days, min(d.day) as low, max(d.day) as high
    from unnest(dpus, days) as d (dpu_id, day)
    group by public.time_bucket(interval '10 days', d.day)
  loop
    insert into core.dpu_total as t (dpu_id, day, before, points, totals)
    select d.dpu_id, d.day, 0, coalesce(p.points, '{}'), coalesce(p.totals, '{}')
    from unnest(v_block.dpus, v_block.days) as d (dpu_id, day)
    left join core.list_day_points(
      v_block.dpus, v_block.low, least(v_block.high + interval '24 hours', until_at)) p
      on p.dpu_id = d.dpu_id and p.day = d.day
    on conflict (dpu_id, day) do update set points = excluded.points, totals = excluded.totals;
  end loop;

  update core.dpu_total t set before = n.before
  from (
    select t.dpu_id, t.day, coalesce(e.total, 0) + coalesce(sum(t.totals[cardinality(t.totals)]) over (
      partition by t.dpu_id order by t.day rows between unbounded preceding and 1 preceding), 0) as before
    from (select d.dpu_id, min(d.day) as day from unnest(dpus, days) as d (dpu_id, day) group by d.dpu_id) d
    left join lateral (
      select q.before + coalesce(q.totals[cardinality(q.totals)], 0) as total
      from core.dpu_total q
      where q.dpu_id = d.dpu_id and q.day < d.day
      order by q.day desc
      limit 1
    ) e on true
    join core.dpu_total t on t.dpu_id = d.dpu_id and t.day >= d.day
  ) n
  where t.dpu_id = n.dpu_id and t.day = n.day and t.before <> n.before;
end
$$;
comment on function core.redo_totals(integer[], timestamptz[], timestamptz) is
'Makes rows of core.dpu_total anew, of days of DPUs given as parallel arrays, from the quarter-hours before until_at;
and what all later days of these DPUs stand on.';
