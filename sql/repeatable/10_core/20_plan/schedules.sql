-- Daily resets, and the reset that a count starts from (docs/explanation/counts.md).

create or replace function core.list_schedules(
  spaces integer[],
  known_at timestamptz default 'infinity'
)
returns table (space_id integer, time_zone text, reset_at text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select
    c.space_id,
    coalesce((array_agg(h.time_zone order by c.steps) filter (where h.time_zone is not null))[1], 'UTC'),
    coalesce((array_agg(h.reset_at order by c.steps) filter (where h.reset_at is not null))[1], 'never')
  from core.list_above(spaces) c
  left join core.schedule h
    on h.space_id = c.above_id
    and h.recorded_at <= list_schedules.known_at
    and (h.superseded_at is null or h.superseded_at > list_schedules.known_at)
  group by c.space_id;
end
$$;
comment on function core.list_schedules(integer[], timestamptz) is
'The zone and the daily reset that hold for each space: its own, else those of the nearest space above it that has them,
else UTC and never.';

create or replace function core.get_scheduled_reset(
  day date,
  time_zone text,
  reset_at time
)
returns timestamptz
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_clock timestamp := day + reset_at;
  v_utc timestamptz := v_clock at time zone 'UTC';
  -- offsets a day before and a day after: they differ only where the clocks change in between
  v_before interval := ((v_utc - interval '24 hours') at time zone get_scheduled_reset.time_zone)
    - ((v_utc - interval '24 hours') at time zone 'UTC');
  v_after interval := ((v_utc + interval '24 hours') at time zone get_scheduled_reset.time_zone)
    - ((v_utc + interval '24 hours') at time zone 'UTC');
  v_low timestamptz := v_utc - v_after;
  v_high timestamptz := v_utc - v_before;
  v_middle timestamptz;
begin
  -- the clock shows it with the offset from before the change: the only occurrence, or the first of two
  if v_high at time zone get_scheduled_reset.time_zone = v_clock then
    return v_high;
  end if;
  if v_low at time zone get_scheduled_reset.time_zone = v_clock then
    return v_low;
  end if;
  -- the clock skips it: the change itself lies between the two, on a whole second
  while v_high - v_low > interval '1 second' loop
    v_middle := v_low + make_interval(secs => floor(extract(epoch from v_high - v_low) / 2)::double precision);
    if v_middle at time zone get_scheduled_reset.time_zone > v_clock then
      v_high := v_middle;
    else
      v_low := v_middle;
    end if;
  end loop;
  return v_high;
end
$$;
comment on function core.get_scheduled_reset(date, text, time) is
'The instant of the daily reset of a local day: the first at which the local clock shows reset_at.

Where the clock skips that time (spring), the first instant after the gap; where it shows it twice (autumn), the first
occurrence.';

create or replace function core.get_latest_scheduled_reset(
  at timestamptz,
  time_zone text,
  reset_at text
)
returns timestamptz
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_at timestamptz := at;
  v_day date;
  v_reset timestamptz;
begin
  if reset_at = 'never' then
    return null;
  end if;
  v_day := (v_at at time zone get_latest_scheduled_reset.time_zone)::date;
  -- the day after: clocks that go back over midnight show a day's last hour after the next day's first minutes
  for v_step in reverse 1 .. -1 loop
    v_reset := core.get_scheduled_reset(v_day + v_step, time_zone, reset_at::time);
    if v_reset <= v_at then
      return v_reset;
    end if;
  end loop;
  return core.get_scheduled_reset(v_day - 2, time_zone, reset_at::time);
end
$$;
comment on function core.get_latest_scheduled_reset(timestamptz, text, text) is
'The latest daily reset at or before an instant; null where there is none (never).';

create or replace function core.get_next_scheduled_reset(
  at timestamptz,
  time_zone text,
  reset_at text
)
returns timestamptz
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_at timestamptz := at;
  v_day date;
  v_reset timestamptz;
begin
  if reset_at = 'never' then
    return null;
  end if;
  v_day := (v_at at time zone get_next_scheduled_reset.time_zone)::date;
  for v_step in -1 .. 2 loop
    v_reset := core.get_scheduled_reset(v_day + v_step, time_zone, reset_at::time);
    if v_reset > v_at then
      return v_reset;
    end if;
  end loop;
  return core.get_scheduled_reset(v_day + 3, time_zone, reset_at::time);
end
$$;
comment on function core.get_next_scheduled_reset(timestamptz, text, text) is
'The first daily reset after an instant; null where there is none (never).';

create or replace function core.get_next_reset(
  space_id integer,
  at timestamptz,
  time_zone text,
  reset_at text
)
returns timestamptz
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- an explicit one only where it was recorded before the clock was set back
  select least(
    coalesce(core.get_next_scheduled_reset(get_next_reset.at, time_zone, reset_at), 'infinity'),
    (select min(r.at) from core.reset r where r.space_id = get_next_reset.space_id and r.superseded_at is null
      and r.at > get_next_reset.at))
$$;
comment on function core.get_next_reset(integer, timestamptz, text, text) is
'The first reset of a space after an instant, by its zone and its daily reset; infinity where there is none.';

create or replace function core.list_starts(
  spaces integer[],
  ats timestamptz[],
  known_at timestamptz default 'infinity'
)
returns table (ordinal bigint, space_id integer, since timestamptz, base integer)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select
    a.ordinal, a.space_id,
    coalesce(greatest(daily.at, explicit.at), '-infinity'),
    case when daily.at > explicit.at then 0 else coalesce(explicit.count, 0) end
  from unnest(spaces, ats) with ordinality as a (space_id, at, ordinal)
  join core.list_schedules(spaces, list_starts.known_at) s on s.space_id = a.space_id
  cross join lateral core.get_latest_scheduled_reset(a.at, s.time_zone, s.reset_at) as daily (at)
  left join lateral (
    select r.at, r.count
    from core.reset r
    where r.space_id = s.space_id
      and r.at <= a.at
      and r.recorded_at <= list_starts.known_at
      and (r.superseded_at is null or r.superseded_at > list_starts.known_at)
    order by r.at desc
    limit 1
  ) explicit on true;
end
$$;
comment on function core.list_starts(integer[], timestamptz[], timestamptz) is
'Where the count of each space at the instant beside it, from parallel arrays, starts: its latest reset, explicit or
daily, and how many people it held then. -infinity and 0 where it was never reset. Explicit beats daily at one instant.
ordinal: from 1.';
