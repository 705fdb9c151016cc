-- Uptime of sites: see business_times.sql.

create or replace function core.check_uptime_range(
  from_at timestamptz,
  to_at timestamptz
)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if to_at <= from_at then
    perform core.refuse(422, 'to is not after from.', 'to', 'Give a later instant.');
  end if;
  if to_at > clock_timestamp() + interval '366 days' then
    perform core.refuse(422, 'to is more than 366 days in the future.', 'to', 'Give an earlier instant.');
  end if;
end
$$;
comment on function core.check_uptime_range(timestamptz, timestamptz) is
'Errors: PT422 naming to for a range that is empty, or ends more than 366 days from now.';

create or replace function core.list_observations(
  spaces integer[],
  businesses tstzmultirange[],
  low timestamptz,
  now_at timestamptz
)
returns table (space_id integer, "time" timestamptz, is_active boolean)
language sql stable
as $$
  -- polls of one instant are one observation, inactive if they disagree
  select distinct on (p.space_id, p.time) p.space_id, p.time, p.is_active
  from unnest(spaces, businesses) as n (space_id, business)
  join core.poll p on p.space_id = n.space_id
  where p.space_id = any (spaces) and p.time >= low and p.time <= now_at and n.business @> p.time
  order by p.space_id, p.time, p.is_active
$$;
comment on function core.list_observations(integer[], tstzmultirange[], timestamptz, timestamptz) is
'Observations of sites in [low, now_at], given as parallel arrays with their business time: the polls that lie in it.
Inlined by the planner, so that they come in the order of the index: no search_path of its own.';

create or replace function core.list_earlier_observations(
  spaces integer[],
  time_zones text[],
  weeks tsmultirange[],
  low timestamptz
)
returns table (space_id integer, "time" timestamptz, is_active boolean)
language sql stable
as $$
  select n.space_id, e.time, e.is_active
  from unnest(spaces, time_zones, weeks) as n (space_id, time_zone, week)
  cross join lateral (
    select p.time, p.is_active
    from core.poll p
    where p.space_id = n.space_id and p.time < low and n.week @> core.get_week_clock(p.time, n.time_zone)
    order by p.time desc, p.is_active
    limit 1
  ) e
$$;
comment on function core.list_earlier_observations(integer[], text[], tsmultirange[], timestamptz) is
'The latest observation of each site before low, however old: only that one can be nearest to a later instant. Sites are
given as parallel arrays with what core.list_business_times says of them. Inlined by the planner: no search_path of its
own.';

create or replace function core.get_middle(
  earlier timestamptz,
  later timestamptz
)
returns timestamptz
language sql stable
as $$
  select earlier + div(extract(epoch from later - earlier) * 1000000, 2)::double precision * interval '1 microsecond'
$$;
comment on function core.get_middle(timestamptz, timestamptz) is
'The cut between two neighbouring observations: (earlier + later) // 2 in microseconds. Inlined by the planner: no
search_path of its own.';

create or replace function core.list_up_times(
  spaces integer[],
  time_zones text[],
  weeks tsmultirange[],
  businesses tstzmultirange[],
  low timestamptz,
  now_at timestamptz
)
returns table (space_id integer, up tstzmultirange)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
begin
  return query
  with observation as (
    select
      o.space_id, o.time, o.is_active,
      lag(o.time) over w as earlier_time,
      lag(o.is_active) over w as earlier_active
    from core.list_observations(spaces, businesses, low, now_at) o
    window w as (partition by o.space_id order by o.time)
  ),
  kept as (
    -- those that agree with the one before them cut nothing; the first of a site is always here
    select o.space_id, o.time, o.is_active, o.earlier_time
    from observation o
    where o.is_active is distinct from o.earlier_active
    union all
    select e.space_id, e.time, e.is_active, null
    from core.list_earlier_observations(spaces, time_zones, weeks, low) e
  ),
  neighbour as (
    select k.space_id, k.time, k.is_active, coalesce(k.earlier_time, lag(k.time) over w) as earlier_time
    from kept k
    window w as (partition by k.space_id order by k.time)
  ),
  run as (
    select n.space_id, n.is_active, c.from_at,
      lead(c.from_at, 1, 'infinity') over (partition by n.space_id order by n.time) as until_at
    from neighbour n
    cross join lateral (
      select case when n.earlier_time is null then '-infinity'
        else core.get_middle(n.earlier_time, n.time) end as from_at
    ) c
  )
  select r.space_id, range_agg(tstzrange(r.from_at, r.until_at))
  from run r
  where r.is_active
  group by r.space_id;
end
$$;
comment on function core.list_up_times(integer[], text[], tsmultirange[], tstzmultirange[], timestamptz, timestamptz) is
'When each site was up from low on, business time or not: every instant has the status of the nearest observation; the
first and the last extend without limit. A site that never was is left out. Sites are given as parallel arrays with what
core.list_business_times says of [low, now_at].';

create or replace function core.measure(during tstzmultirange)
returns bigint
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- differences of instants are whole days and microseconds: nothing is rounded
  return coalesce((select (extract(epoch from sum(upper(r) - lower(r))) * 1000000)::bigint from unnest(during) as r),
    0);
end
$$;
comment on function core.measure(tstzmultirange) is
'How long the ranges are together, in microseconds.';

create or replace function core.sum_uptimes(
  spaces integer[],
  froms timestamptz[],
  untils timestamptz[],
  now_at timestamptz
)
returns table (space_id integer, "window" bigint, up bigint, down bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_low timestamptz := (select min(f) from unnest(froms) as f);
  v_spaces integer[];
  v_zones text[];
  v_weeks tsmultirange[];
  v_businesses tstzmultirange[];
begin
  -- a poll at now_at itself may be an observation
  select array_agg(b.space_id), array_agg(b.time_zone), array_agg(b.week), array_agg(b.business)
  into v_spaces, v_zones, v_weeks, v_businesses
  from core.list_business_times(spaces, v_low, now_at + interval '1 microsecond') b;
  return query
  select m.space_id, m.place, m.up, m.business - m.up
  from (
    select b.space_id, w.place, coalesce((extract(epoch from s.business) * 1000000)::bigint, 0) as business,
      coalesce((extract(epoch from s.up) * 1000000)::bigint, 0) as up
    from (
      select b.space_id, b.business, b.business * u.up as up
      from unnest(v_spaces, v_businesses) as b (space_id, business)
      left join core.list_up_times(v_spaces, v_zones, v_weeks, v_businesses, v_low, now_at) u
        on u.space_id = b.space_id
      offset 0  -- once for all windows
    ) b
    cross join (
      select w.place, tstzmultirange(tstzrange(w.from_at, w.until_at)) as during
      from unnest(froms, untils) with ordinality as w (from_at, until_at, place)
    ) w
    -- core.measure of both, without a call for each: there are tens of thousands
    cross join lateral (
      select sum(upper(r.business) - lower(r.business)) as business, sum(upper(r.up) - lower(r.up)) as up
      from rows from (unnest(b.business * w.during), unnest(b.up * w.during)) as r (business, up)
    ) s
  ) m;
end
$$;
comment on function core.sum_uptimes(integer[], timestamptz[], timestamptz[], timestamptz) is
'Active and other business time of sites in windows [from, until), given as parallel arrays and none beyond now_at: a
row for each site and window (from 1), in microseconds; up + down is the business time, exactly. A site without any
observation was down.';
