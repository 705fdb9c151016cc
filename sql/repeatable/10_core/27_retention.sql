-- Dropping old events (docs/explanation/counts.md). Of the time before rollup_state.events_from the rollups
-- are left, and core.kept_event: the events of quarter-hours within which a placement begins or ends or a reset falls.
--
-- events_from moves first, and chunks are dropped long after: a reader whose snapshot is older finds them still there.
-- No late mark ever stands before it, and no refresh reaches there: it would delete rollups whose events are gone.

create or replace function core.find_dropped(
  dpus integer[],
  froms timestamptz[],
  untils timestamptz[],
  out dpu text,
  out bucket timestamptz
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
declare
  v_low timestamptz := (select min(f) from unnest(froms) f) - interval '15 minutes';
  v_high timestamptz := least((select s.events_from from core.rollup_state s), (select max(u) from unnest(untils) u));
begin
  select d.id, f.bucket into dpu, bucket
  from unnest(dpus, froms, untils) as p (dpu_id, from_at, until_at)
  join core.dpu_flow_15m_v1 f on f.dpu_id = p.dpu_id and f.bucket > p.from_at - interval '15 minutes' and f.bucket < p.until_at
  join core.dpu d on d.dpu_id = p.dpu_id
  where f.dpu_id = any (dpus) and f.bucket > v_low and f.bucket < v_high
    and not exists (
      select from core.kept_event k
      where k.dpu_id = f.dpu_id and k.time >= f.bucket and k.time < f.bucket + interval '15 minutes')
  limit 1;
end
$$;
comment on function core.find_dropped(integer[], timestamptz[], timestamptz[]) is
'A quarter-hour that overlaps one of the ranges [from, until) of DPUs, given as parallel arrays, and whose events were dropped; nulls if all that there were are left.';

create or replace function core.check_kept(
  dpus integer[],
  froms timestamptz[],
  untils timestamptz[],
  place text
)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_dropped record := core.find_dropped(dpus, froms, untils);
begin
  if v_dropped.dpu is null then
    return;
  end if;
  raise exception using errcode = 'PT422', message = core.explain_dropped(v_dropped.dpu, v_dropped.bucket), detail = coalesce(place, ''),
    hint = case place
      when 'known_at' then 'What is left of that time does not say when events came: leave known_at out.'
      when 'at' then format('Of that time only quarter-hours are left: ask for one, such as %s, that is not cut by a reset or a move.', core.format_second(v_dropped.bucket + interval '15 minutes'))
      when 'from' then 'A reset or a move cuts that quarter-hour: ask for a range after the next reset.'
      when 'bucket' then 'A reset or a move cuts that quarter-hour: filter on bucket or space.'
      else 'The count of a space now would need them: record a reset of it first.'
    end;
end
$$;
comment on function core.check_kept(integer[], timestamptz[], timestamptz[], text) is
'Errors: PT422 naming place where events in the ranges of core.find_dropped were dropped. place: the parameter that asks for them; null where the current count of a space would need them.';

create or replace function core.check_cut(
  dpus integer[],
  at timestamptz,
  place text
)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_dropped record;
begin
  if at is null or at = public.time_bucket(interval '15 minutes', at) or at >= (select s.events_from from core.rollup_state s) then
    return;
  end if;
  v_dropped := core.find_dropped(dpus, array_fill(at, array[cardinality(dpus)]), array_fill(at + interval '1 microsecond', array[cardinality(dpus)]));
  if v_dropped.dpu is not null then
    raise exception using errcode = 'PT422', message = core.explain_dropped(v_dropped.dpu, v_dropped.bucket), detail = place,
      hint = format('Of that time only quarter-hours are left: give one, such as %s.', core.format_second(v_dropped.bucket + interval '15 minutes'));
  end if;
end
$$;
comment on function core.check_cut(integer[], timestamptz, text) is
'Errors: PT422 naming place for an instant (null: none) within a quarter-hour of one of the DPUs whose events were dropped: it cannot be cut any more.';

create or replace function core.check_listed(
  dpus integer[],
  from_at timestamptz,
  to_at timestamptz
)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_events_from timestamptz := (select s.events_from from core.rollup_state s);
begin
  if (from_at < v_events_from or to_at <= v_events_from) and exists (
    select from core.dpu_state s
    where s.dpu_id = any (dpus) and s.first_time < v_events_from and (to_at is null or s.first_time < to_at)
  ) then
    raise exception using errcode = 'PT422', message = format('Events before %s were dropped (retention).', core.format_second(v_events_from)),
      detail = case when from_at < v_events_from then 'from' else 'to' end, hint = 'Ask for later ones, or for counts at quarter-hours.';
  end if;
end
$$;
comment on function core.check_listed(integer[], timestamptz, timestamptz) is
'Errors: PT422 naming from or to where events of the DPUs are asked for that were dropped. Bounds that are left out ask for what there is.';

create or replace function core.explain_dropped(
  dpu text,
  bucket timestamptz
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format('Events before %s were dropped (retention), and this needs those of %s from %s to %s.',
    core.format_second(s.events_from), quote_literal(dpu), core.format_second(bucket), core.format_second(bucket + interval '15 minutes'))
  from core.rollup_state s
$$;
comment on function core.explain_dropped(text, timestamptz) is
'Which events are missing, for people.';

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
    cross join generate_series((low at time zone 'UTC')::date - 2, (high at time zone 'UTC')::date + 2, interval '1 day') as g (day)
    cross join lateral core.get_scheduled_reset(g.day::date, s.time_zone, s.reset_at::time) as d (at)
    where d.at >= low and d.at < high and d.at <> public.time_bucket(interval '15 minutes', d.at)
  ),
  reset as (
    select d.space_id, public.time_bucket(interval '15 minutes', d.at) as bucket
    from (select unnest(d.spaces) as space_id, d.at from daily d) d
    union
    select r.space_id, public.time_bucket(interval '15 minutes', r.at)
    from core.reset r
    where r.superseded_at is null and r.at >= low and r.at < high and r.at <> public.time_bucket(interval '15 minutes', r.at)
  )
  select p.dpu_id, public.time_bucket(interval '15 minutes', e.at)
  from core.placement p
  cross join lateral (values (lower(p.during)), (upper(p.during))) as e (at)
  where p.superseded_at is null and e.at >= low and e.at < high and e.at <> public.time_bucket(interval '15 minutes', e.at)
  union
  select p.dpu_id, r.bucket
  from reset r
  join core.boundary b on b.space_id = r.space_id
  join core.placement p on p.doorway_id = b.doorway_id
  where p.superseded_at is null and p.during && tstzrange(r.bucket, r.bucket + interval '15 minutes')
$$;
comment on function core.list_split_quarters(timestamptz, timestamptz) is
'Quarter-hours of DPUs in [low, high), whole ones, for which a rollup does not do: a placement begins or ends within, or a reset of a space for which the DPU counts falls within.';

create or replace function core.retire_events_until(until_at timestamptz)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
declare
  v_from timestamptz;
  v_low timestamptz;
  v_until timestamptz;
begin
  -- nobody stores events or changes the floor plan meanwhile
  perform core.lock_plan();
  select s.events_from, public.time_bucket(interval '1 day', least(until_at, s.materialized_until, (select min(m.bucket) from core.late_mark m)))
  into v_from, v_until
  from core.rollup_state s;
  if v_until <= v_from then
    return;
  end if;
  v_low := greatest(v_from, least(v_until, (
    select min(c.range_start) from timescaledb_information.chunks c
    where c.hypertable_schema = 'core' and c.hypertable_name = 'event' and c.range_end > v_from)));

  insert into core.kept_event (time, lag_ms, dpu_id, direction, sequence)
  select e.time, e.lag_ms, e.dpu_id, e.direction, e.sequence
  from core.list_split_quarters(v_low, v_until) q
  join core.event e on e.dpu_id = q.dpu_id and e.time >= q.bucket and e.time < q.bucket + interval '15 minutes'
  where e.time >= v_low and e.time < v_until;

  update core.rollup_state s set events_from = v_until, retired_at = clock_timestamp();
end
$$;
comment on function core.retire_events_until(timestamptz) is
'Moves rollup_state.events_from up to the midnight (UTC) at or before an instant, but never beyond what the rollups hold right, and keeps the events before it that rollups cannot stand for. Holds core.lock_plan until the transaction ends.';

create or replace procedure core.retire_events(until_at timestamptz)
language plpgsql
as $$
declare
  v_end timestamptz;
  v_is_blocked boolean := false;
begin
  -- a day at a time: nobody stores events meanwhile
  for v_end in
    select c.range_end
    from timescaledb_information.chunks c
    where c.hypertable_schema = 'core' and c.hypertable_name = 'event' and c.range_end < until_at
      and c.range_end > (select s.events_from from core.rollup_state s)
    union all
    select until_at
    order by 1
  loop
    begin
      -- who waits for this lock holds up whoever comes after: better come again
      perform set_config('lock_timeout', '500ms', true);
      perform core.retire_events_until(v_end);
    exception when lock_not_available or deadlock_detected then
      v_is_blocked := true;
    end;
    commit;
    exit when v_is_blocked;
  end loop;
end
$$;
comment on procedure core.retire_events(timestamptz) is
'core.retire_events_until in short transactions, as far as it goes without waiting long for others. Call it on its own, outside of a transaction.';

create or replace procedure core.retire_due()
language plpgsql
as $$
declare
  v_until timestamptz;
begin
  select public.time_bucket(interval '1 day', clock_timestamp() - s.keep_days * interval '24 hours') into v_until
  from core.rollup_state s;
  if v_until > (select s.events_from from core.rollup_state s) then
    call core.retire_events(v_until);
  end if;
end
$$;
comment on procedure core.retire_due() is
'Retires the events that are older than api.set_retention wants them. Call it on its own, outside of a transaction.';

create or replace procedure core.drop_retired_chunks()
language plpgsql
as $$
declare
  v_chunk record;
  v_is_blocked boolean := false;
begin
  for v_chunk in
    select c.range_start, c.range_end
    from timescaledb_information.chunks c
    cross join core.rollup_state s
    where c.hypertable_schema = 'core' and c.hypertable_name = 'event' and c.range_end <= s.events_from
      -- by then no reader is left that took its snapshot before
      and s.retired_at < clock_timestamp() - interval '1 hour'
    order by c.range_start
  loop
    begin
      perform set_config('lock_timeout', '500ms', true);
      perform public.drop_chunks('core.event', older_than => v_chunk.range_end, newer_than => v_chunk.range_start);
    exception when lock_not_available or deadlock_detected then
      v_is_blocked := true;
    end;
    commit;
    exit when v_is_blocked;
  end loop;
end
$$;
comment on procedure core.drop_retired_chunks() is
'Drops the chunks of events that nobody reads any more. Rollups stay. Call it on its own, outside of a transaction.';
