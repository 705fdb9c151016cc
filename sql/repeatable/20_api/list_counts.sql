create or replace function api.list_counts(
  spaces text[] default null,
  under text default null,
  inout at timestamptz default null,
  known_at timestamptz default null,
  out space text,
  out count bigint,
  out raw_count bigint,
  out since timestamptz,
  out capacity integer,
  out utilization double precision,
  out dpus_placed integer,
  out dpus_online integer,
  out counted boolean,
  out counted_since timestamptz,
  known_only boolean default false
)
returns setof record
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
-- what does not read hypertables need not be planned again
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  v_at timestamptz := at;
  v_ids integer[] := core.list_requested_spaces(spaces, under, known_only);
begin
  return query
  select c.at, c.space, c.count, c.raw_count, c.since, c.capacity, c.utilization, c.dpus_placed, c.dpus_online,
    c.counted, c.counted_since
  from core.describe_counts(v_ids, v_at, known_at) c;
end
$$;
comment on function api.list_counts(text[], text, timestamptz, timestamptz, boolean) is
'The counts of several spaces at one instant, from one snapshot: of those named (in that order, each once), or of a
space and all below it, or of all. Retired spaces only where they are named.

Columns as api.get_count. known_only: leave out named spaces that are unknown or outside the token''s space. Errors:
PT404 for an unknown space, unless known_only; PT422 for an instant in the future, for one that needs dropped events
(before events_from of api.get_retention only quarter-hours can be asked for, without known_at), or for both spaces and
under.';
