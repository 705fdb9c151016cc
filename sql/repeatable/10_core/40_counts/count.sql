-- The count of spaces at any instant (docs/explanation/counts.md).

create or replace function core.count_sensors(
  spaces integer[],
  at timestamptz,
  known_at timestamptz default 'infinity'
)
returns table (space_id integer, placed integer, online integer)
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- from each DPU to its few outages, whatever the planner thinks of reading all
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  return query
  select p.space_id, pg_catalog.count(*)::integer, pg_catalog.count(*) filter (where p.is_online)::integer
  from (
    select
      p.space_id,
      exists (
        select from core.first_sign f
        where f.dpu_id = p.dpu_id and f.at <= count_sensors.at and f.recorded_at <= count_sensors.known_at)
      and not exists (
        select from core.outage o
        where o.dpu_id = p.dpu_id and o.offline_at <= count_sensors.at
          and (o.back_at is null or o.back_at > count_sensors.at)
          and o.recorded_at <= count_sensors.known_at
          and (o.superseded_at is null or o.superseded_at > count_sensors.known_at)
      ) as is_online
    -- a fence: else the planner takes few placements to hold the instant, and reads all of them by that
    from (select * from core.list_outer_placements(spaces, count_sensors.known_at) offset 0) p
    where p.during @> count_sensors.at
      and not exists (
        select from core.retirement r
        where r.dpu_id = p.dpu_id and r.from_at <= least(count_sensors.at, count_sensors.known_at)
          and (r.until_at is null or r.until_at > least(count_sensors.at, count_sensors.known_at)))
  ) p
  group by p.space_id;
end
$$;
comment on function core.count_sensors(integer[], timestamptz, timestamptz) is
'How many DPUs are placed above the outer doorways of each space at an instant, and how many of them were online: heard
before and not offline (quiet ones count as online). Retired DPUs and spaces without DPUs are left out.

known_at: by the outages that were recorded then. Thresholds and heartbeats have no history of their own: whether
silence counted was decided when an outage was recorded.';

create or replace function core.list_parts(
  spaces integer[],
  sinces timestamptz[],
  at timestamptz,
  known_at timestamptz default 'infinity'
)
returns table (space_id integer, dpu_id integer, sign smallint, from_at timestamptz, until_at timestamptz)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  -- an event counts if since < time <= at and lower(during) <= time < upper(during)
  return query
  select p.space_id, p.dpu_id, p.sign, c.from_at, c.until_at
  from unnest(spaces, sinces) as s (space_id, since)
  join core.list_outer_placements(spaces, list_parts.known_at) p on p.space_id = s.space_id
  join core.dpu_state d on d.dpu_id = p.dpu_id and d.first_time <= list_parts.at
  cross join lateral (
    select
      greatest(
        lower(p.during), s.since + interval '1 microsecond',
        -- before that there are no events
        public.time_bucket(interval '15 minutes', d.first_time)) as from_at,
      least(upper(p.during), list_parts.at + interval '1 microsecond') as until_at
  ) c
  where c.from_at < c.until_at;
end
$$;
comment on function core.list_parts(integer[], timestamptz[], timestamptz, timestamptz) is
'What the count of each space at an instant is made of: the events of each DPU in [from_at, until_at), with their sign.
sinces: the reset each space counts from, as core.list_starts has it. DPUs that had not reported yet are left out.';

create or replace function core.sum_spaces(
  spaces integer[],
  at timestamptz,
  known_at timestamptz default 'infinity',
  place text default 'at'
)
returns table (space_id integer, raw_count bigint, since timestamptz)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_at timestamptz := at;
  v_known_at timestamptz := known_at;
  v_spaces integer[];
  v_sinces timestamptz[];
  v_bases integer[];
  v_owners integer[];
  v_dpus integer[];
  v_signs smallint[];
  v_froms timestamptz[];
  v_untils timestamptz[];
begin
  select array_agg(s.space_id), array_agg(s.since), array_agg(s.base) into v_spaces, v_sinces, v_bases
  from core.list_starts(spaces, v_at, v_known_at) s;
  select array_agg(p.space_id), array_agg(p.dpu_id), array_agg(p.sign), array_agg(p.from_at), array_agg(p.until_at)
  into v_owners, v_dpus, v_signs, v_froms, v_untils
  from core.list_parts(v_spaces, v_sinces, v_at, v_known_at) p;

  return query
  with flow as (
    select p.space_id, sum(p.sign * n.net) as net
    from core.sum_parts(v_dpus, v_froms, v_untils, v_known_at, place) n
    join unnest(v_owners, v_signs) with ordinality as p (space_id, sign, part) on p.part = n.part
    group by p.space_id
  )
  select s.space_id, (s.base + coalesce(f.net, 0))::bigint, nullif(s.since, '-infinity')
  from unnest(v_spaces, v_sinces, v_bases) as s (space_id, since, base)
  left join flow f on f.space_id = s.space_id;
end
$$;
comment on function core.sum_spaces(integer[], timestamptz, timestamptz, text) is
'The raw count of each space at an instant, over the facts recorded at or before known_at.

raw_count: people; base of the latest reset plus the signed sum of directions over the outer doorways in (since, at].
since: null where it was never reset. Errors: PT422 naming place where it would need events that were dropped.';

create or replace function core.count_spaces(
  spaces integer[],
  at timestamptz,
  known_at timestamptz default 'infinity'
)
returns table (space_id integer, raw_count bigint, since timestamptz, dpus_placed integer, dpus_online integer,
  counted_since timestamptz)
-- few, as a rule: what is joined to them is found by its index
language plpgsql stable rows 10
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select
    c.space_id, c.raw_count, c.since, coalesce(n.placed, 0), coalesce(n.online, 0), b.counted_since
  from core.sum_spaces(spaces, count_spaces.at, count_spaces.known_at) c
  left join core.count_sensors(spaces, count_spaces.at, count_spaces.known_at) n on n.space_id = c.space_id
  left join core.list_counted_since(spaces, count_spaces.known_at) b on b.space_id = c.space_id;
end
$$;
comment on function core.count_spaces(integer[], timestamptz, timestamptz) is
'core.sum_spaces, with how many DPUs were online and since when anything counts for the space (null: nothing does).
dpus_placed: DPUs above outer doorways at that instant; dpus_online: those of them that were online then.';

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
    select
      s.id, v_at, greatest(c.raw_count, 0), c.raw_count, c.since, s.capacity,
      greatest(c.raw_count, 0)::double precision / nullif(s.capacity, 0), c.dpus_placed, c.dpus_online,
      coalesce(c.counted_since <= v_at, false), c.counted_since
    from core.count_spaces(spaces, v_at, coalesce(known_at, 'infinity')) c
    join core.space s on s.space_id = c.space_id
    join generate_series(1, cardinality(spaces)) as n (place) on spaces[n.place] = c.space_id
    order by n.place;
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
