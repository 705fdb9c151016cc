-- Uptime within opening hours (docs/explanation/uptime.md), one function for each step of the rule:
-- opening hours -> core.get_week -> core.list_business_times -> core.list_observations -> core.list_up_times ->
-- core.sum_uptimes. Here the first two; the others are in uptimes.sql.

create or replace function core.get_week(opening_hours jsonb)
returns tsmultirange
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_monday constant timestamp := '2001-01-01';
  v_week constant tsrange := tsrange(v_monday, v_monday + interval '7 days');
begin
  if coalesce(jsonb_array_length(opening_hours), 0) = 0 then
    return tsmultirange(v_week);
  end if;
  return (
    select range_agg(v_week * tsrange(h.midnight + h.opens + e.shift, h.midnight + h.closes + e.shift))
    from (
      select
        v_monday + r.day * interval '1 day' as midnight,
        r.open as opens,
        -- 23:59:59 means 24:00; what closes no later than it opens does so on the next day
        case when r.close = '23:59:59' then '24:00' when r.close <= r.open then r.close + interval '24 hours'
          else r.close end as closes
      from jsonb_to_recordset(opening_hours) as r (day integer, open interval, close interval)
    ) h
    -- what of Sunday's hours lies after midnight is on the Monday that begins the week
    cross join (values (interval '0'), (interval '-7 days')) as e (shift));
end
$$;
comment on function core.get_week(jsonb) is
'Opening hours as clock times of the week of Monday 2001-01-01. Rows that overlap are united; a day without a row is
closed; without any row the site is always open.';

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
'What a wall clock shows at an instant, as a time of the week of core.get_week. Inlined by the planner: no search_path
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

create or replace function core.get_business_time(
  week tsmultirange,
  clocks tsrange[],
  aheads interval[]
)
returns tstzmultirange
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return coalesce((
    select range_agg(tstzrange((lower(o.clock) - o.ahead) at time zone 'UTC',
      (upper(o.clock) - o.ahead) at time zone 'UTC'))
    from (
      select p.ahead, p.clock * tsrange(m.monday + (lower(w) - timestamp '2001-01-01'),
        m.monday + (upper(w) - timestamp '2001-01-01')) as clock
      from unnest(clocks, aheads) as p (clock, ahead)
      cross join lateral generate_series(date_trunc('week', lower(p.clock)), upper(p.clock),
        interval '7 days') as m (monday)
      cross join lateral unnest(week) as w
    ) o
    where not isempty(o.clock)), '{}');
end
$$;
comment on function core.get_business_time(tsmultirange, tsrange[], interval[]) is
'Business time: the instants at which the wall clock of a site shows a time of its week (core.get_week), from what its
clock shows in each period of core.list_offsets and how far it is ahead then. Clock times that a change of clocks skips
never come, those that it shows twice count twice.';

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
    select h.time_zone, s.opening_hours, array_agg(s.space_id) as spaces
    from core.space s
    join core.list_schedules(spaces) h on h.space_id = s.space_id
    where s.space_id = any (spaces)
    group by h.time_zone, s.opening_hours
  ),
  period as materialized (
    select
      z.time_zone,
      array_agg(tsrange((o.from_at at time zone 'UTC') + o.ahead, (o.until_at at time zone 'UTC') + o.ahead)) as clocks,
      array_agg(o.ahead) as aheads
    from (select distinct a.time_zone from alike a) z
    cross join lateral core.list_offsets(z.time_zone, low, high) o
    group by z.time_zone
  )
  select s.space_id, b.time_zone, b.week, b.business
  from (
    select a.spaces, a.time_zone, w.week, core.get_business_time(w.week, p.clocks, p.aheads) as business
    from alike a
    join period p on p.time_zone = a.time_zone
    cross join lateral core.get_week(a.opening_hours) as w (week)
    offset 0  -- once for all sites with the same hours in the same zone
  ) b
  cross join lateral unnest(b.spaces) as s (space_id);
end
$$;
comment on function core.list_business_times(integer[], timestamptz, timestamptz) is
'The business time of each site in [low, high), with what core.list_observations has to know for what was before.';
