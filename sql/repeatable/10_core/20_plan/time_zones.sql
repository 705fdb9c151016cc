-- Time zones: which names are taken.

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
'The zone to use instead of one whose name is also an abbreviation, such as CET: PostgreSQL takes the name for the
abbreviation, which is a fixed offset. Null for all others, also for zones with this offset all year (UTC, EST).';

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
    message := format('%s is also an abbreviation: it would be a fixed offset, without summer time.',
      quote_literal(time_zone));
    hint := format('Use the name of a place, such as %s.', v_instead);
  else
    message := format('%s is not a time zone.', quote_literal(left(time_zone, 80)));
    hint := 'Use an IANA name such as Europe/Berlin.';
  end if;
end
$$;
comment on function core.explain_time_zone(text) is
'Why a text that core.list_time_zones leaves out cannot be used as a time zone, and what to use.';

create or replace function core.list_time_zones(names text[])
returns text[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_wanted text[] := array(
    select n.name from (select distinct u.name from unnest(names) as u (name)) n
    where n.name is not null and core.get_zone_instead(n.name) is null);
  v_used text[] := array(select n.name from unnest(v_wanted) as n (name)
    where exists (select from core.schedule s where s.time_zone = n.name));
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
    perform core.refuse(422, v_reason.message, place, v_reason.hint);
  end if;
end
$$;
comment on function core.check_time_zone(text, text) is
'Errors: PT422 naming place unless core.list_time_zones has the text.';
