-- The count (model.md section 3).

create or replace function core.get_offline_after()
returns interval
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select interval '10 minutes' $$;
comment on function core.get_offline_after() is
'A DPU is offline from this long after it was last heard from.';

create or replace function core.list_outer_placements(
  spaces integer[],
  known_at timestamptz default 'infinity'
)
returns table (space_id integer, dpu_id integer, sign smallint, during tstzrange)
language sql stable
as $$
  select b.space_id, p.dpu_id, (case when p.mounted_side = b.inner_side then 1 else -1 end)::smallint, p.during
  from core.boundary b
  join core.placement p on p.doorway_id = b.doorway_id
  where b.space_id = any (spaces)
    and p.recorded_at <= known_at
    and (p.superseded_at is null or p.superseded_at > known_at)
$$;
comment on function core.list_outer_placements(integer[], timestamptz) is
'Which DPUs count for each space, when, and with which sign: +1 where a person who walks towards the DPU enters the space. Inlined by the planner: no search_path of its own.';

create or replace function core.count_spaces(
  spaces integer[],
  at timestamptz,
  known_at timestamptz default 'infinity'
)
returns table (space_id integer, raw_count bigint, since timestamptz, dpus_placed integer, dpus_online integer)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
  v_at timestamptz := at;
  v_spaces integer[];
  v_since timestamptz[];
  v_base integer[];
  -- bounds of all windows as constants: chunks outside of them are not even planned
  v_low timestamptz;
  v_high timestamptz := v_at + interval '1 microsecond';
begin
  select array_agg(s.space_id), array_agg(s.since), array_agg(s.base), min(s.since)
  into v_spaces, v_since, v_base, v_low
  from core.list_starts(spaces, v_at, count_spaces.known_at) s;

  return query
  with start as (
    select * from unnest(v_spaces, v_since, v_base) as s (space_id, since, base)
  ),
  part as (
    -- an event counts if since < time <= at and lower(during) <= time < upper(during)
    select
      p.space_id,
      p.dpu_id,
      p.sign,
      greatest(lower(p.during), s.since + interval '1 microsecond') as from_at,
      least(upper(p.during), v_high) as until_at
    from start s
    join core.list_outer_placements(v_spaces, count_spaces.known_at) p on p.space_id = s.space_id
    where p.during && tstzrange(s.since, v_at, '(]')
  ),
  flow as (
    select p.space_id, sum(p.sign * n.net) as net
    from part p
    cross join lateral (
      select sum(e.direction) as net
      from core.event e
      where e.dpu_id = p.dpu_id
        and e.time >= p.from_at and e.time < p.until_at
        and e.time > v_low and e.time < v_high
        and e.received_at <= count_spaces.known_at
    ) n
    group by p.space_id
  ),
  sensor as (
    select p.space_id, count(*) as placed, count(*) filter (where heard.at is not null) as online
    from core.list_outer_placements(v_spaces, count_spaces.known_at) p
    left join lateral (
      select e.time as at
      from core.event e
      where e.dpu_id = p.dpu_id
        and e.time > v_at - core.get_offline_after() and e.time <= v_at
        and e.received_at <= count_spaces.known_at
      limit 1
    ) heard on true
    where p.during @> v_at
    group by p.space_id
  )
  select
    s.space_id,
    (s.base + coalesce(f.net, 0))::bigint,
    nullif(s.since, '-infinity'),
    coalesce(n.placed, 0)::integer,
    coalesce(n.online, 0)::integer
  from start s
  left join flow f on f.space_id = s.space_id
  left join sensor n on n.space_id = s.space_id;
end
$$;
comment on function core.count_spaces(integer[], timestamptz, timestamptz) is
'The raw count of each space at an instant, over the facts recorded at or before known_at.

raw_count: people; base of the latest reset plus the signed sum of directions over the outer doorways in (since, at]. since: null where it was never reset. dpus_placed: DPUs above outer doorways at that instant; dpus_online: those of them that were heard from within core.get_offline_after() before it.';

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
  out dpus_online integer
)
returns setof record
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select
    s.id,
    describe_counts.at,
    greatest(c.raw_count, 0),
    c.raw_count,
    c.since,
    s.capacity,
    greatest(c.raw_count, 0)::double precision / nullif(s.capacity, 0),
    c.dpus_placed,
    c.dpus_online
  from core.count_spaces(describe_counts.spaces, describe_counts.at, coalesce(describe_counts.known_at, 'infinity')) c
  join core.space s on s.space_id = c.space_id
  order by array_position(describe_counts.spaces, c.space_id)
$$;
comment on function core.describe_counts(integer[], timestamptz, timestamptz) is
'Counts as api.get_count and api.list_counts give them, in the order of spaces.';

create or replace function core.check_count_instant(at timestamptz)
returns timestamptz
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now timestamptz := clock_timestamp();
begin
  if at > v_now then
    raise exception using errcode = 'PT422', message = format('at lies in the future: it is %s now.', to_char(v_now at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')),
      detail = 'at', hint = 'Leave it out for the count now.';
  end if;
  return coalesce(at, v_now);
end
$$;
comment on function core.check_count_instant(timestamptz) is
'The instant to count at: now for null. Errors: PT422 for one in the future.';
