create or replace function api.list_counts_at(
  spaces text[],
  ats timestamptz[],
  out space text,
  out at timestamptz,
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
-- what does not read hypertables need not be planned again
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  v_reached integer[];
  v_spaces integer[];
  v_ats timestamptz[];
begin
  if cardinality(spaces) is distinct from cardinality(ats) then
    perform core.refuse_lengths('spaces, ats', 'count');
  end if;
  perform core.check_count_instant(max(a)) from unnest(ats) as a;
  v_reached := core.list_requested_spaces(spaces, null, true);
  select array_agg(s.space_id order by n.ordinal), array_agg(n.at order by n.ordinal)
  into v_spaces, v_ats
  from unnest(spaces, ats) with ordinality as n (space, at, ordinal)
  join core.space s on s.id = n.space
  where s.space_id = any (v_reached);
  return query
  select c.space, c.at, c.count, c.raw_count, c.since, c.capacity, c.utilization, c.dpus_placed, c.dpus_online,
    c.counted, c.counted_since
  from core.describe_counts_at(v_spaces, v_ats, 'infinity') c;
end
$$;
comment on function api.list_counts_at(text[], timestamptz[]) is
'Counts of spaces, each at the instant beside it, from parallel arrays and in their order: what api.get_count gives, for
many at once and from one snapshot. A space may come again, with another instant.

Columns as api.get_count. Spaces that are unknown or outside the token''s space are left out. Errors: PT422 for arrays
of different lengths, and where one of the instants lies in the future or needs dropped events.';
