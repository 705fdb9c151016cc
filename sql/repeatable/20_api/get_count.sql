create or replace function api.get_count(
  inout space text,
  inout at timestamptz default null,
  known_at timestamptz default null,
  out count bigint,
  out raw_count bigint,
  out since timestamptz,
  out capacity integer,
  out utilization double precision,
  out dpus_placed integer,
  out dpus_online integer,
  out counted boolean,
  out counted_since timestamptz
)
returns setof record
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
-- one space: what does not read hypertables need not be planned again
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  return query
  select c.space, c.at, c.count, c.raw_count, c.since, c.capacity, c.utilization, c.dpus_placed, c.dpus_online,
    c.counted, c.counted_since
  from core.describe_counts(array[core.find_space(get_count.space)], get_count.at, get_count.known_at) c;
end
$$;
comment on function api.get_count(text, timestamptz, timestamptz) is
'How many people are in a space at an instant.

at null: now. known_at: from the facts recorded up to then only (null: all). raw_count: people, may be negative where
sensors missed some; count: never below 0. since: the reset it counts from, null where it was never reset. utilization:
count / capacity, null without one. dpus_placed, dpus_online: the DPUs above its outer doorways at that instant, and
those of them that were online then. counted: whether anything counts for it yet; counted_since: its earliest event with
a sign, or explicit reset; null: nothing does. Errors: PT404; PT422 for an instant in the future, or for one that needs
dropped events (before events_from of api.get_retention only quarter-hours can be asked for, without known_at).';
