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
start of a quarter-hour or the microsecond after it. Where marks do not say what is missing, core.list_void does.';

create or replace function core.list_void(
  dpus integer[],
  froms timestamptz[],
  untils timestamptz[],
  totals_until timestamptz
)
returns table (part bigint, dpu_id integer, from_at timestamptz, until_at timestamptz, net bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_custom_plan
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
    join core.late_mark m on m.dpu_id = s.dpu_id
      and m.bucket >= public.time_bucket(interval '15 minutes', s.from_at) and m.bucket < s.until_at
    where m.net is null
      or (m.bucket >= list_void.totals_until and exists (
        select from core.void_mark v where v.dpu_id = m.dpu_id and v.bucket = m.bucket))
  ) m
  left join core.dpu_total t on t.dpu_id = m.dpu_id and t.day = m.day and m.from_at < list_void.totals_until;
end
$$;
comment on function core.list_void(integer[], timestamptz[], timestamptz[], timestamptz) is
'The quarter-hours within ranges, given as parallel arrays, of which no mark says what running totals lack, or, from
totals_until on, quarter-hours: what core.sum_totals took for them, which is void, and from when until when events have
to be read instead.';

create or replace function core.list_day_points(
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
      where f.bucket >= low and f.bucket < high and e.net <> 0
    ) p
  ) s
  group by s.dpu_id, s.day;
end
$$;
comment on function core.list_day_points(timestamptz, timestamptz) is
'points and totals of core.dpu_total from the quarter-hours in [low, high) alone, of all DPUs. Days on which nothing
changes are left out.';

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
  from core.list_day_points(low, high) d
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

create or replace function core.list_unsaid(
  dpus integer[],
  buckets timestamptz[]
)
returns table (dpu_id integer, bucket timestamptz, net bigint, net_at_start bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  c_instant constant interval := interval '1 microsecond';
  v_count integer := cardinality(dpus);
  v_nowhere timestamptz[] := array_fill(null::timestamptz, array[2 * v_count]);
  v_behind timestamptz[] := array(select b.b + c_instant from unnest(buckets) with ordinality as b (b, o) order by b.o);
  v_ends timestamptz[] := array(
    select b.b + interval '15 minutes' from unnest(buckets) with ordinality as b (b, o) order by b.o);
begin
  return query
  with event as (
    -- parts: the starts of the quarter-hours, and after them the rests
    select (s.part - 1) % v_count + 1 as place, sum(s.net)::bigint as net,
      coalesce(sum(s.net) filter (where s.part <= v_count), 0)::bigint as net_at_start
    from core.sum_edges(dpus || dpus, buckets || v_behind, v_behind || v_ends, v_nowhere, v_nowhere, '{}', '{}', '{}',
      (select s.events_from from core.rollup_state s), null) s
    group by 1
  )
  select
    n.dpu_id, n.bucket,
    coalesce(e.net, 0) - coalesce(m.net, 0)
      - coalesce(core.get_day_total(t.points, t.totals, (p.point + 1)::smallint)
        - core.get_day_total(t.points, t.totals, (p.point - 1)::smallint), 0),
    coalesce(e.net_at_start, 0) - coalesce(m.net_at_start, 0)
      - coalesce(core.get_day_total(t.points, t.totals, p.point)
        - core.get_day_total(t.points, t.totals, (p.point - 1)::smallint), 0)
  from unnest(dpus, buckets) with ordinality as n (dpu_id, bucket, place)
  cross join lateral (
    select d.day, (core.get_point(d.day, n.bucket + c_instant))::smallint as point
    from (select public.time_bucket(interval '1 day', n.bucket) as day) d
  ) p
  left join event e on e.place = n.place
  left join lateral (
    select sum(m.net)::bigint as net, sum(m.net_at_start)::bigint as net_at_start
    from core.late_mark m
    where m.dpu_id = n.dpu_id and m.bucket = n.bucket
  ) m on true
  left join core.dpu_total t on t.dpu_id = n.dpu_id and t.day = p.day;
end
$$;
comment on function core.list_unsaid(integer[], timestamptz[]) is
'What running totals lack in quarter-hours of DPUs, from parallel arrays, beside what marks there add: from events. Each
of them once.';

create or replace function core.add_to_totals(
  dpus integer[],
  buckets timestamptz[],
  nets bigint[],
  nets_at_start bigint[],
  totals_until timestamptz
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
  v_dpus integer[];
  v_buckets timestamptz[];
begin
  select coalesce(array_agg(n.dpu_id), '{}'), coalesce(array_agg(n.bucket), '{}') into v_dpus, v_buckets
  from (
    select distinct n.dpu_id, n.bucket from unnest(dpus, buckets, nets) as n (dpu_id, bucket, net)
    where n.net is null and n.bucket < add_to_totals.totals_until
  ) n;

  with delta as materialized (
    select n.dpu_id, d.day, (2 * div(extract(epoch from n.bucket - d.day), 900) + e.point)::smallint as point,
      sum(e.net) as net
    from (
      select n.dpu_id, n.bucket, n.net, n.net_at_start
      from unnest(dpus, buckets, nets, nets_at_start) as n (dpu_id, bucket, net, net_at_start)
      where n.net is not null and n.bucket < add_to_totals.totals_until
        and not exists (select from unnest(v_dpus, v_buckets) u (dpu_id, bucket)
          where u.dpu_id = n.dpu_id and u.bucket = n.bucket)
      union all
      select u.dpu_id, u.bucket, u.net, u.net_at_start from core.list_unsaid(v_dpus, v_buckets) u
    ) n
    cross join lateral (select public.time_bucket(interval '1 day', n.bucket)) as d (day)
    cross join lateral (values (0, n.net_at_start), (1, n.net - n.net_at_start)) as e (point, net)
    group by 1, 2, 3
  ),
  changed as materialized (
    select distinct d.dpu_id, d.day from delta d
  ),
  merged as (
    select m.dpu_id, m.day, m.point, sum(m.net) as net
    from (
      select d.dpu_id, d.day, d.point, d.net from delta d
      union all
      select t.dpu_id, t.day, n.point, n.total - lag(n.total, 1, 0::bigint) over (partition by t.dpu_id, t.day
        order by n.point)
      from changed c
      join core.dpu_total t on t.dpu_id = c.dpu_id and t.day = c.day
      cross join lateral unnest(t.points, t.totals) as n (point, total)
    ) m
    group by m.dpu_id, m.day, m.point
    having sum(m.net) <> 0
  ),
  made as (
    select s.dpu_id, s.day, array_agg(s.point order by s.point) as points,
      array_agg(s.total order by s.point) as totals
    from (
      select m.dpu_id, m.day, m.point,
        (sum(m.net) over (partition by m.dpu_id, m.day order by m.point))::bigint as total
      from merged m
    ) s
    group by s.dpu_id, s.day
  )
  insert into core.dpu_total as t (dpu_id, day, before, points, totals)
  select c.dpu_id, c.day, 0, coalesce(m.points, '{}'), coalesce(m.totals, '{}')
  from changed c
  left join made m on m.dpu_id = c.dpu_id and m.day = c.day
  on conflict (dpu_id, day) do update set points = excluded.points, totals = excluded.totals;

  perform core.carry_totals(array(
    select distinct n.dpu_id from unnest(dpus, buckets) as n (dpu_id, bucket)
    where n.bucket < add_to_totals.totals_until), (select min(b) from unnest(buckets) b));
end
$$;
comment on function core.add_to_totals(integer[], timestamptz[], bigint[], bigint[], timestamptz) is
'Adds what marks said that are gone, given as parallel arrays, to the rows of core.dpu_total before totals_until. nets
null: the quarter-hour is worked out from events (core.list_unsaid).';

create or replace function core.carry_totals(
  dpus integer[],
  low timestamptz
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
begin
  update core.dpu_total t set before = n.before
  from (
    select t.dpu_id, t.day, coalesce(e.total, 0) + coalesce(sum(t.totals[cardinality(t.totals)]) over (
      partition by t.dpu_id order by t.day rows between unbounded preceding and 1 preceding), 0) as before
    from unnest(dpus) as d (dpu_id)
    left join lateral (
      select q.before + coalesce(q.totals[cardinality(q.totals)], 0) as total
      from core.dpu_total q
      where q.dpu_id = d.dpu_id and q.day < public.time_bucket(interval '1 day', low)
      order by q.day desc
      limit 1
    ) e on true
    join core.dpu_total t on t.dpu_id = d.dpu_id and t.day >= public.time_bucket(interval '1 day', low)
  ) n
  where t.dpu_id = n.dpu_id and t.day = n.day and t.before <> n.before;
end
$$;
comment on function core.carry_totals(integer[], timestamptz) is
'Works out anew core.dpu_total.before of DPUs, from the day of an instant on: days there have changed.';
