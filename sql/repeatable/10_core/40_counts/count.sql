-- The count of spaces at any instant (docs/explanation/counts.md).

create or replace function core.count_sensors(
  spaces integer[],
  ats timestamptz[],
  known_at timestamptz default 'infinity'
)
returns table (ordinal bigint, placed integer, online integer)
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- from each DPU to its few outages, whatever the planner thinks of reading all
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  return query
  select p.ordinal, pg_catalog.count(*)::integer, pg_catalog.count(*) filter (where p.is_online)::integer
  from (
    select
      a.ordinal,
      exists (
        select from core.first_sign f
        where f.dpu_id = p.dpu_id and f.at <= a.at and f.recorded_at <= count_sensors.known_at)
      and not exists (
        select from core.outage o
        where o.dpu_id = p.dpu_id and o.offline_at <= a.at
          and (o.back_at is null or o.back_at > a.at)
          and o.recorded_at <= count_sensors.known_at
          and (o.superseded_at is null or o.superseded_at > count_sensors.known_at)
      ) as is_online
    from unnest(spaces, ats) with ordinality as a (space_id, at, ordinal)
    -- a fence: else the planner takes few placements to hold the instant, and reads all of them by that
    join (select * from core.list_outer_placements(spaces, count_sensors.known_at) offset 0) p
      on p.space_id = a.space_id and p.during @> a.at
    where not exists (
      select from core.retirement r
      where r.dpu_id = p.dpu_id and r.from_at <= least(a.at, count_sensors.known_at)
        and (r.until_at is null or r.until_at > least(a.at, count_sensors.known_at)))
  ) p
  group by p.ordinal;
end
$$;
comment on function core.count_sensors(integer[], timestamptz[], timestamptz) is
'How many DPUs are placed above the outer doorways of each space at the instant beside it, from parallel arrays, and how
many of them were online: heard before and not offline (quiet ones count as online). Retired DPUs and spaces without
DPUs are left out. ordinal: from 1.

known_at: by the outages that were recorded then. Thresholds and heartbeats have no history of their own: whether
silence counted was decided when an outage was recorded.';

create or replace function core.list_parts(
  spaces integer[],
  sinces timestamptz[],
  ats timestamptz[],
  known_at timestamptz default 'infinity'
)
returns table (ordinal bigint, dpu_id integer, sign smallint, from_at timestamptz, until_at timestamptz)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  -- an event counts if since < time <= at and lower(during) <= time < upper(during)
  return query
  select s.ordinal, p.dpu_id, p.sign, c.from_at, c.until_at
  from unnest(spaces, sinces, ats) with ordinality as s (space_id, since, at, ordinal)
  join core.list_outer_placements(spaces, list_parts.known_at) p on p.space_id = s.space_id
  join core.dpu_state d on d.dpu_id = p.dpu_id and d.first_time <= s.at
  cross join lateral (
    select
      greatest(
        lower(p.during), s.since + interval '1 microsecond',
        -- before that there are no events
        public.time_bucket(interval '15 minutes', d.first_time)) as from_at,
      least(upper(p.during), s.at + interval '1 microsecond') as until_at
  ) c
  where c.from_at < c.until_at;
end
$$;
comment on function core.list_parts(integer[], timestamptz[], timestamptz[], timestamptz) is
'What the count of each space at the instant beside it, from parallel arrays, is made of: the events of each DPU in
[from_at, until_at), with their sign. sinces: the reset each counts from, as core.list_starts has it. DPUs that had not
reported yet are left out. ordinal: from 1.';

create or replace function core.sum_spaces(
  spaces integer[],
  ats timestamptz[],
  known_at timestamptz default 'infinity',
  place text default 'at'
)
returns table (ordinal bigint, raw_count bigint, since timestamptz)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_known_at timestamptz := known_at;
  v_ordinals bigint[];
  v_spaces integer[];   -- and what follows: beside v_ordinals
  v_ats timestamptz[];
  v_sinces timestamptz[];
  v_bases integer[];
  v_owners bigint[];    -- where in v_ordinals; beside it the parts
  v_dpus integer[];
  v_signs smallint[];
  v_froms timestamptz[];
  v_untils timestamptz[];
begin
  select array_agg(s.ordinal), array_agg(s.space_id), array_agg(ats[s.ordinal]), array_agg(s.since), array_agg(s.base)
  into v_ordinals, v_spaces, v_ats, v_sinces, v_bases
  from core.list_starts(spaces, ats, v_known_at) s;
  select array_agg(p.ordinal), array_agg(p.dpu_id), array_agg(p.sign), array_agg(p.from_at), array_agg(p.until_at)
  into v_owners, v_dpus, v_signs, v_froms, v_untils
  from core.list_parts(v_spaces, v_sinces, v_ats, v_known_at) p;

  return query
  with flow as (
    select p.owner, sum(p.sign * n.net) as net
    from core.sum_parts(v_dpus, v_froms, v_untils, v_known_at, place) n
    join unnest(v_owners, v_signs) with ordinality as p (owner, sign, part) on p.part = n.part
    group by p.owner
  )
  select s.ordinal, (s.base + coalesce(f.net, 0))::bigint, nullif(s.since, '-infinity')
  from unnest(v_ordinals, v_sinces, v_bases) with ordinality as s (ordinal, since, base, owner)
  left join flow f on f.owner = s.owner;
end
$$;
comment on function core.sum_spaces(integer[], timestamptz[], timestamptz, text) is
'The raw count of each space at the instant beside it, from parallel arrays, over the facts recorded at or before
known_at. ordinal: from 1. What all of them need is read together.

raw_count: people; base of the latest reset plus the signed sum of directions over the outer doorways in (since, at].
since: null where it was never reset. Errors: PT422 naming place where it would need events that were dropped.';

create or replace function core.count_spaces(
  spaces integer[],
  ats timestamptz[],
  known_at timestamptz default 'infinity'
)
returns table (ordinal bigint, raw_count bigint, since timestamptz, dpus_placed integer, dpus_online integer,
  counted_since timestamptz)
-- few, as a rule: what is joined to them is found by its index
language plpgsql stable rows 10
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select
    c.ordinal, c.raw_count, c.since, coalesce(n.placed, 0), coalesce(n.online, 0), b.counted_since
  from core.sum_spaces(spaces, ats, count_spaces.known_at) c
  left join core.count_sensors(spaces, ats, count_spaces.known_at) n on n.ordinal = c.ordinal
  left join core.list_counted_since(array(select distinct unnest(spaces)), count_spaces.known_at) b
    on b.space_id = spaces[c.ordinal];
end
$$;
comment on function core.count_spaces(integer[], timestamptz[], timestamptz) is
'core.sum_spaces, with how many DPUs were online and since when anything counts for the space (null: nothing does).
dpus_placed: DPUs above outer doorways at that instant; dpus_online: those of them that were online then.';

create or replace function core.describe_counts_at(
  spaces integer[],
  ats timestamptz[],
  known_at timestamptz,
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
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select
    s.id, ats[c.ordinal], greatest(c.raw_count, 0), c.raw_count, c.since, s.capacity,
    greatest(c.raw_count, 0)::double precision / nullif(s.capacity, 0), c.dpus_placed, c.dpus_online,
    coalesce(c.counted_since <= ats[c.ordinal], false), c.counted_since
  from core.count_spaces(spaces, ats, describe_counts_at.known_at) c
  join core.space s on s.space_id = spaces[c.ordinal]
  order by c.ordinal;
end
$$;
comment on function core.describe_counts_at(integer[], timestamptz[], timestamptz) is
'Counts as api.get_count gives them, of each space at the instant beside it, from parallel arrays and in their order.
They come from rollups and events. Errors: PT422 for an instant that needs events that were dropped.';

create or replace function core.describe_counts(
  spaces integer[],
  out space text,
  inout at timestamptz,
  known_at timestamptz,
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
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_is_now boolean := describe_counts.at is null and known_at is null;
  v_at timestamptz := core.check_count_instant(describe_counts.at);
begin
  -- of two statements, since a plan for either would prepare for both
  if v_is_now then
    return query
    select
      s.id, v_at, greatest(c.raw_count, 0), c.raw_count, c.since, s.capacity,
      greatest(c.raw_count, 0)::double precision / nullif(s.capacity, 0), c.dpus_placed, c.dpus_online,
      coalesce(c.counted_since <= v_at, false), c.counted_since
    from core.count_live(spaces, v_at) c
    join core.space s on s.space_id = c.space_id
    join generate_series(1, cardinality(spaces)) as n (place) on spaces[n.place] = c.space_id
    order by n.place;
  else
    return query
    select c.space, c.at, c.count, c.raw_count, c.since, c.capacity, c.utilization, c.dpus_placed, c.dpus_online,
      c.counted, c.counted_since
    from core.describe_counts_at(
      spaces, array_fill(v_at, array[cardinality(spaces)]), coalesce(known_at, 'infinity')) c;
  end if;
end
$$;
comment on function core.describe_counts(integer[], timestamptz, timestamptz) is
'Counts as api.get_count and api.list_counts give them, in the order of spaces. The counts of now come from live rows,
those of other instants from rollups and events. Errors: PT422 for an instant in the future, or for one that needs
events that were dropped.';

create or replace function core.check_count_instant(at timestamptz)
returns timestamptz
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now timestamptz := clock_timestamp();
begin
  if at > v_now then
    perform core.refuse(
      422,
      format('at lies in the future: it is %s now.',
        to_char(v_now at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')),
      'at', 'Leave it out for the count now.');
  end if;
  return coalesce(at, v_now);
end
$$;
comment on function core.check_count_instant(timestamptz) is
'The instant to count at: now for null. Errors: PT422 for one in the future.';
