-- The events that are kept where rollups do not do: see dropped.sql.

create or replace function core.sum_kept_events(
  parts bigint[],
  dpus integer[],
  froms timestamptz[],
  untils timestamptz[],
  known_at timestamptz,
  place text
)
returns table (part bigint, net bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  perform core.check_kept(dpus, froms, untils, place);
  return query
  select s.part, n.net
  from unnest(parts, dpus, froms, untils) as s (part, dpu_id, from_at, until_at)
  cross join lateral (
    select sum(k.direction) as net
    from core.kept_event k
    where k.dpu_id = s.dpu_id and k.time >= s.from_at and k.time < s.until_at
      and core.get_received_at(k.time, k.lag_ms) <= sum_kept_events.known_at
  ) n
  where n.net <> 0;
end
$$;
comment on function core.sum_kept_events(bigint[], integer[], timestamptz[], timestamptz[], timestamptz, text) is
'As core.sum_events, of the time before rollup_state.events_from. Errors: PT422, as core.check_kept.';

create or replace function core.list_signed_kept_events(
  dpus integer[],
  signs smallint[],
  froms timestamptz[],
  untils timestamptz[],
  place text
)
returns table ("time" timestamptz, net bigint, net_at_start bigint, entries bigint, exits bigint, moment numeric)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform core.check_kept(dpus, froms, untils, place);
  return query
  select
    k.time, p.sign * k.direction::bigint, p.sign * k.direction::bigint,
    greatest(p.sign * k.direction::bigint, 0), greatest(-p.sign * k.direction::bigint, 0), 0::numeric
  from unnest(dpus, signs, froms, untils) as p (dpu_id, sign, from_at, until_at)
  join core.kept_event k on k.dpu_id = p.dpu_id and k.time >= p.from_at and k.time < p.until_at;
end
$$;
comment on function core.list_signed_kept_events(integer[], smallint[], timestamptz[], timestamptz[], text) is
'As core.list_signed_events, of the time before rollup_state.events_from. Errors: PT422, as core.check_kept.';

create or replace function core.list_split_quarters(
  low timestamptz,
  high timestamptz
)
returns table (dpu_id integer, bucket timestamptz)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with schedule as (
    select h.time_zone, h.reset_at, array_agg(h.space_id) as spaces
    from core.list_schedules(array(select s.space_id from core.space s)) h
    where h.reset_at <> 'never'
    group by h.time_zone, h.reset_at
  ),
  daily as (
    -- once for all spaces of one schedule, and few of these are not on the quarter-hour
    select distinct s.spaces, d.at
    from schedule s
    cross join generate_series((low at time zone 'UTC')::date - 2, (high at time zone 'UTC')::date + 2,
      interval '1 day') as g (day)
    cross join lateral core.get_scheduled_reset(g.day::date, s.time_zone, s.reset_at::time) as d (at)
    where d.at >= low and d.at < high and d.at <> public.time_bucket(interval '15 minutes', d.at)
  ),
  reset as (
    select d.space_id, public.time_bucket(interval '15 minutes', d.at) as bucket
    from (select unnest(d.spaces) as space_id, d.at from daily d) d
    union
    select r.space_id, public.time_bucket(interval '15 minutes', r.at)
    from core.reset r
    where r.superseded_at is null and r.at >= low and r.at < high
      and r.at <> public.time_bucket(interval '15 minutes', r.at)
  )
  select p.dpu_id, public.time_bucket(interval '15 minutes', e.at)
  from core.placement p
  cross join lateral (values (lower(p.during)), (upper(p.during))) as e (at)
  where p.superseded_at is null and e.at >= low and e.at < high
    and e.at <> public.time_bucket(interval '15 minutes', e.at)
  union
  select p.dpu_id, r.bucket
  from reset r
  join core.boundary b on b.space_id = r.space_id
  join core.placement p on p.doorway_id = b.doorway_id
  where p.superseded_at is null and p.during && tstzrange(r.bucket, r.bucket + interval '15 minutes')
$$;
comment on function core.list_split_quarters(timestamptz, timestamptz) is
'Quarter-hours of DPUs in [low, high) that a rollup cannot stand for: a placement begins or ends within, or a reset
falls within of a space for which the DPU counts.';
