-- Uptime within opening hours (docs/explanation/uptime.md), one function for each step of the rule:
-- opening hours -> core.list_weeks -> core.list_business_times -> core.list_observations -> core.list_up_times ->
-- core.sum_uptimes. Here the first two; the others are in uptimes.sql.

create or replace function core.list_weeks(opening_hours jsonb[])
returns table (place bigint, week tsmultirange)
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_monday constant timestamp := '2001-01-01';
  v_week constant tsrange := tsrange(v_monday, v_monday + interval '7 days');
begin
  return query
  select n.place, case when coalesce(jsonb_array_length(n.rows), 0) = 0 then tsmultirange(v_week) else w.week end
  from unnest(opening_hours) with ordinality as n (rows, place)
  left join (
    select h.place, range_agg(v_week * tsrange(h.midnight + h.opens + e.shift, h.midnight + h.closes + e.shift)) as week
    from (
      select
        n.place,
        v_monday + r.day * interval '1 day' as midnight,
        r.open as opens,
        -- 23:59:59 means 24:00; what closes no later than it opens does so on the next day
        case when r.close = '23:59:59' then '24:00' when r.close <= r.open then r.close + interval '24 hours'
          else r.close end as closes
      from unnest(opening_hours) with ordinality as n (rows, place)
      cross join lateral jsonb_to_recordset(n.rows) as r (day integer, open interval, close interval)
    ) h
    -- what of Sunday's hours lies after midnight is on the Monday that begins the week
    cross join (values (interval '0'), (interval '-7 days')) as e (shift)
    group by h.place
  ) w on w.place = n.place;
end
$$;
comment on function core.list_weeks(jsonb[]) is
'Opening hours as clock times of the week of Monday 2001-01-01, with their places in the array, from 1. Rows that
overlap are united; a day without a row is closed; without any row the site is always open.';

create or replace function core.get_week(opening_hours jsonb)
returns tsmultirange
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (select w.week from core.list_weeks(array[opening_hours]) w);
end
$$;
comment on function core.get_week(jsonb) is
'core.list_weeks of one.';

create or replace function core.get_week_clock(
  at timestamptz,
  time_zone text
)
returns timestamp
language sql immutable
as $$
  select timestamp '2001-01-01' + ((at at time zone time_zone) - date_trunc('week', at at time zone time_zone))
$$;
comment on function core.get_week_clock(timestamptz, text) is
'What a wall clock shows at an instant, as a time of the week of core.list_weeks. Inlined by the planner: no search_path
of its own.';

create or replace function core.get_offset(
  at timestamptz,
  time_zone text
)
returns interval
language sql immutable
as $$ select (at at time zone time_zone) - (at at time zone 'UTC') $$;
comment on function core.get_offset(timestamptz, text) is
'How far the clocks of a zone are ahead of UTC at an instant. Inlined by the planner: no search_path of its own.';

create or replace function core.list_offsets(
  time_zone text,
  low timestamptz,
  high timestamptz
)
returns table (from_at timestamptz, until_at timestamptz, ahead interval)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_low timestamptz;
  v_high timestamptz;
  v_middle timestamptz;
  v_ahead interval;
begin
  from_at := low;
  -- no zone ever changed its clocks twice within an hour
  for v_low, v_high in
    select h.at, h.next
    from (select g.at, least(g.at + interval '1 hour', high) as next
      from generate_series(low, high, interval '1 hour') as g (at)) h
    where core.get_offset(h.at, list_offsets.time_zone) <> core.get_offset(h.next, list_offsets.time_zone)
    order by h.at
  loop
    -- and always on a whole second
    v_ahead := core.get_offset(v_low, list_offsets.time_zone);
    v_low := date_trunc('second', v_low);
    v_high := date_trunc('second', v_high);
    while v_high - v_low > interval '1 second' loop
      v_middle := v_low + make_interval(secs => floor(extract(epoch from v_high - v_low) / 2)::double precision);
      if core.get_offset(v_middle, list_offsets.time_zone) = v_ahead then
        v_low := v_middle;
      else
        v_high := v_middle;
      end if;
    end loop;
    until_at := v_high;
    ahead := v_ahead;
    return next;
    from_at := v_high;
  end loop;
  until_at := high;
  ahead := core.get_offset(from_at, list_offsets.time_zone);
  if from_at < until_at then
    return next;
  end if;
end
$$;
comment on function core.list_offsets(text, timestamptz, timestamptz) is
'The periods of [low, high) in which the clocks of a zone are ahead of UTC by the same interval, by PostgreSQL''s own
rules. Within one period, clock time is the instant plus that interval.';

create or replace function core.list_turns(
  time_zone text,
  low timestamptz,
  high timestamptz
)
returns table (during tstzrange, shift interval)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select
    tstzrange(o.from_at, o.until_at),
    -- in seconds alone: a day of an interval is dear to add, and as long in UTC
    make_interval(secs => extract(epoch from m.monday - o.ahead - timestamp '2001-01-01')::double precision)
  from core.list_offsets(time_zone, low, high) o
  cross join lateral generate_series(date_trunc('week', (o.from_at at time zone 'UTC') + o.ahead),
    (o.until_at at time zone 'UTC') + o.ahead, interval '7 days') as m (monday);
end
$$;
comment on function core.list_turns(text, timestamptz, timestamptz) is
'The weeks on the wall clock that lie in [low, high), once for each period of core.list_offsets: between which instants,
and what to add to a time of the week of core.list_weeks to have the instant in UTC.';

create or replace function core.list_business_times(
  spaces integer[],
  low timestamptz,
  high timestamptz
)
returns table (space_id integer, time_zone text, week tsmultirange, business tstzmultirange)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  with alike as materialized (
    select h.time_zone, s.opening_hours, array_agg(s.space_id) as spaces, row_number() over () as place
    from core.space s
    join core.list_schedules(spaces) h on h.space_id = s.space_id
    where s.space_id = any (spaces)
    group by h.time_zone, s.opening_hours
  ),
  -- once for all sites with the same hours in the same zone
  week as materialized (
    select a.place, a.time_zone, a.spaces, w.week
    from core.list_weeks(array(select a.opening_hours from alike a order by a.place)) w
    join alike a on a.place = w.place
  ),
  turn as materialized (
    select z.time_zone, t.during, t.shift
    from (select distinct a.time_zone from alike a) z
    cross join lateral core.list_turns(z.time_zone, low, high) t
  ),
  business as (
    select w.place, range_agg(t.during * tstzrange((lower(r) + t.shift) at time zone 'UTC',
      (upper(r) + t.shift) at time zone 'UTC')) as business
    from week w
    join turn t on t.time_zone = w.time_zone
    cross join lateral unnest(w.week) as r
    group by w.place
  )
  select s.space_id, w.time_zone, w.week, coalesce(b.business, '{}')
  from week w
  left join business b on b.place = w.place
  cross join lateral unnest(w.spaces) as s (space_id);
end
$$;
comment on function core.list_business_times(integer[], timestamptz, timestamptz) is
'The business time of each site in [low, high), the instants at which its wall clock shows a time of its week
(core.list_weeks), with what core.list_earlier_observations has to know for what was before. Clock times that a change
of clocks skips never come, those that it shows twice count twice.';
