-- Zones, daily resets and the reset a count starts from (model.md sections 3 and 7).

create or replace function core.get_zone_instead(time_zone text)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select z.instead
  from (values
    ('CET', null::interval, 'Europe/Brussels'), ('MET', null, 'Europe/Brussels'),
    ('EET', null, 'Europe/Athens'), ('WET', null, 'Europe/Lisbon'),
    ('EST', interval '-5 hours', 'America/Panama'), ('MST', interval '-7 hours', 'America/Phoenix'),
    ('HST', interval '-10 hours', 'Pacific/Honolulu')
  ) as z (name, always, instead)
  where z.name = time_zone
    and (z.always is null
      -- what abbreviations mean is a setting (timezone_abbreviations)
      or exists (select from pg_timezone_abbrevs a where a.abbrev = z.name and a.utc_offset <> z.always))
$$;
comment on function core.get_zone_instead(text) is
'The zone to take instead of one whose name is an abbreviation too, such as CET: at time zone takes the abbreviation, a fixed offset. Null for all others, also for those that have this very offset all year (UTC, EST).';

create or replace function core.explain_time_zone(
  time_zone text,
  out message text,
  out hint text
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_instead text := core.get_zone_instead(time_zone);
begin
  if v_instead is not null then
    message := format('%s is an abbreviation too: it would be a fixed offset, without summer time.', quote_literal(time_zone));
    hint := format('Use a place, such as %s.', v_instead);
  else
    message := format('%s is not a time zone.', quote_literal(left(time_zone, 80)));
    hint := 'Use an IANA name such as Europe/Berlin.';
  end if;
end
$$;
comment on function core.explain_time_zone(text) is
'Why a text that core.list_time_zones leaves out is no time zone here, and what to take.';

create or replace function core.list_time_zones(names text[])
returns text[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_wanted text[] := array(
    select n.name from (select distinct u.name from unnest(names) as u (name)) n
    where n.name is not null and core.get_zone_instead(n.name) is null);
  v_used text[] := array(select n.name from unnest(v_wanted) as n (name) where exists (select from core.schedule s where s.time_zone = n.name));
begin
  -- pg_timezone_names reads files: a zone that is in use was checked before
  if v_used @> v_wanted then
    return v_used;
  end if;
  return array(
    select n.name from pg_timezone_names n
    where n.name = any (v_wanted) and n.name !~ '^(posix|right)/|^(localtime|posixrules|Factory)$');
end
$$;
comment on function core.list_time_zones(text[]) is
'Those of the names that are IANA names of time zones, each once; without those of core.get_zone_instead.';

create or replace function core.check_time_zone(
  time_zone text,
  place text
)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_reason record;
begin
  if cardinality(core.list_time_zones(array[time_zone])) = 0 then
    v_reason := core.explain_time_zone(time_zone);
    raise exception using errcode = 'PT422', message = v_reason.message, detail = place, hint = v_reason.hint;
  end if;
end
$$;
comment on function core.check_time_zone(text, text) is
'Raises PT422 naming place unless core.list_time_zones has the text.';

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
'The zone and the daily reset that hold for each space: its own, or the nearest above it that says something, else UTC and never.';

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
  v_before interval := ((v_utc - interval '24 hours') at time zone get_scheduled_reset.time_zone) - ((v_utc - interval '24 hours') at time zone 'UTC');
  v_after interval := ((v_utc + interval '24 hours') at time zone get_scheduled_reset.time_zone) - ((v_utc + interval '24 hours') at time zone 'UTC');
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

Where the clock skips that time (spring), the first instant after the gap; where it shows it twice (autumn), the first occurrence.';

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

create or replace function core.list_starts(
  spaces integer[],
  at timestamptz,
  known_at timestamptz default 'infinity'
)
returns table (space_id integer, since timestamptz, base integer)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select
    s.space_id,
    coalesce(greatest(daily.at, explicit.at), '-infinity'),
    case when daily.at > explicit.at then 0 else coalesce(explicit.count, 0) end
  from core.list_schedules(spaces, list_starts.known_at) s
  cross join lateral core.get_latest_scheduled_reset(list_starts.at, s.time_zone, s.reset_at) as daily (at)
  left join lateral (
    select r.at, r.count
    from core.reset r
    where r.space_id = s.space_id
      and r.at <= list_starts.at
      and r.recorded_at <= list_starts.known_at
      and (r.superseded_at is null or r.superseded_at > list_starts.known_at)
    order by r.at desc
    limit 1
  ) explicit on true;
end
$$;
comment on function core.list_starts(integer[], timestamptz, timestamptz) is
'Where the count of each space at an instant starts: its latest reset, explicit or daily, and how many people it held then. -infinity and 0 where it was never reset. Explicit beats daily at one instant.';
