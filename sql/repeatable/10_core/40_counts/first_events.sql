-- The earliest event of each placement.
--
-- An event has a sign for the spaces whose outer doorway its DPU was placed above. So core.first_event holds the
-- earliest event of each placement: it does not change with doorways and the tree. Whoever stores an event sees by
-- dpu_state.first_from, at no cost, that it is not the first of its placement.

create or replace function core.find_first_event(
  dpu_id integer,
  from_at timestamptz,
  until_at timestamptz
)
returns timestamptz
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
declare
  v_until timestamptz := coalesce(until_at, 'infinity');
  v_first timestamptz;
  v_latest timestamptz;
  v_materialized_until timestamptz;
  v_events_from timestamptz;
  v_bucket timestamptz := public.time_bucket(interval '15 minutes', from_at);
  v_low timestamptz;
  v_high timestamptz;
  v_found timestamptz;
begin
  select s.first_time, s.latest_time into v_first, v_latest from core.dpu_state s
  where s.dpu_id = find_first_event.dpu_id;
  if v_first is null or v_first >= v_until or v_latest < from_at then
    return null;
  end if;
  if v_first >= from_at then
    return v_first;
  end if;
  v_latest := least(v_latest + interval '1 microsecond', v_until);
  select s.materialized_until, s.events_from into v_materialized_until, v_events_from from core.rollup_state s;
  loop
    -- the next quarter-hour with an event: it may lie outside at both ends
    v_high := least(v_latest, v_materialized_until);
    select least(
      (
        select f.bucket from core.dpu_flow_15m_v1 f
        where f.dpu_id = find_first_event.dpu_id and f.bucket >= v_bucket and f.bucket < v_high
        order by f.bucket
        limit 1),
      (
        select min(m.bucket) from core.late_mark m
        where m.dpu_id = find_first_event.dpu_id and m.bucket >= v_bucket and m.bucket < v_high))
    into v_bucket;
    exit when v_bucket is null;
    v_low := greatest(v_bucket, from_at);
    v_high := least(v_bucket + interval '15 minutes', v_until);
    if v_bucket >= v_events_from then
      select e.time into v_found
      from core.event e
      where e.dpu_id = find_first_event.dpu_id and e.time >= v_low and e.time < v_high
      order by e.time
      limit 1;
    else
      v_found := core.find_first_kept_event(find_first_event.dpu_id, v_bucket, v_low, v_high);
    end if;
    if v_found is not null then
      return v_found;
    end if;
    v_bucket := v_bucket + interval '15 minutes';
  end loop;
  v_low := greatest(from_at, v_materialized_until);
  select e.time into v_found
  from core.event e
  where e.dpu_id = find_first_event.dpu_id and e.time >= v_low and e.time < v_latest
  order by e.time
  limit 1;
  return v_found;
end
$$;
comment on function core.find_first_event(integer, timestamptz, timestamptz) is
'The earliest event of a DPU in [from_at, until_at), until_at null: open; null where there is none. Of a quarter-hour
whose events were dropped it may be the start.';

create or replace function core.find_first_kept_event(
  dpu_id integer,
  bucket timestamptz,
  low timestamptz,
  high timestamptz
)
returns timestamptz
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when exists (
      select from core.kept_event k
      where k.dpu_id = find_first_kept_event.dpu_id and k.time >= bucket and k.time < bucket + interval '15 minutes')
    then (
      select min(k.time) from core.kept_event k
      where k.dpu_id = find_first_kept_event.dpu_id and k.time >= low and k.time < high)
    else coalesce(
      -- what was the first of a placement that had begun before is the first of the quarter-hour
      (
        select min(f.at)
        from core.placement p
        join core.first_event f on f.placement_id = p.placement_id
        where p.dpu_id = find_first_kept_event.dpu_id and lower(p.during) <= bucket and f.at >= bucket and f.at < high),
      low)
  end
$$;
comment on function core.find_first_kept_event(integer, timestamptz, timestamptz, timestamptz) is
'The earliest event of a DPU in [low, high), which lies in a quarter-hour before rollup_state.events_from that has
events; null where all are outside the range. Where the events were dropped: the earliest if it is still known, else
low.';

create or replace function core.derive_first_events(spaces integer[] default null)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- from a few spaces to their placements, whatever the planner thinks of reading all
set enable_seqscan = off
as $$
declare
  v_placements integer[];
  v_dpus integer[];
begin
  if spaces is null then
    v_placements := array(
      select p.placement_id from core.placement p
      where not exists (select from core.first_event f where f.placement_id = p.placement_id));
  else
    v_placements := array(
      select distinct p.placement_id
      from core.boundary b
      join core.placement p on p.doorway_id = b.doorway_id
      where b.space_id = any (spaces) and p.superseded_at is null
        and not exists (select from core.first_event f where f.placement_id = p.placement_id));
  end if;
  if cardinality(v_placements) = 0 then
    return;
  end if;
  with missing as materialized (
    select p.placement_id, p.dpu_id, p.during, p.recorded_at
    from core.placement p
    where p.placement_id = any (v_placements)
  ),
  added as (
    insert into core.first_event (placement_id, at, recorded_at)
    select m.placement_id, e.at, case when spaces is null
      then greatest(m.recorded_at, core.find_received_at(m.dpu_id, e.at)) else m.recorded_at end
    from missing m
    join core.dpu_state s on s.dpu_id = m.dpu_id
    cross join lateral (select coalesce(
      case when s.first_time is not null then core.find_first_event(m.dpu_id, lower(m.during), upper(m.during)) end,
      'infinity') as at offset 0) e
  )
  select array_agg(distinct m.dpu_id) into v_dpus from missing m;
  perform core.rederive_first_from(v_dpus);
end
$$;
comment on function core.derive_first_events(integer[]) is
'Finds the earliest event of each placement that core.first_event lacks: placements in force at the outer doorways of
some spaces, or all there ever were (null). The caller holds core.lock_plan.

For a placement that was recorded just now all stored events were received before, so one row is the whole history. For
older ones (null) the row says when the event was received that is the earliest as known now.';

create or replace function core.find_received_at(
  dpu_id integer,
  at timestamptz
)
returns timestamptz
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
declare
  v_at timestamptz := at;
  v_found timestamptz;
begin
  -- not time = v_at: with a constant that crashes the server where the chunk is compressed (seen on 2.28.3)
  select min(core.get_received_at(e.time, e.lag_ms)) into v_found
  from core.event e
  where e.dpu_id = find_received_at.dpu_id and e.time >= v_at and e.time <= v_at;
  return coalesce(v_found, (
    select min(core.get_received_at(k.time, k.lag_ms))
    from core.kept_event k
    where k.dpu_id = find_received_at.dpu_id and k.time = v_at));
end
$$;
comment on function core.find_received_at(integer, timestamptz) is
'When the service took in the event of a DPU at an instant; null where there is none, or it was dropped.';

create or replace function core.rederive_first_from(dpus integer[])
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
begin
  update core.dpu_state s set first_from = n.first_from
  from (
    select d.dpu_id, coalesce((
      -- beyond its end an event of a placement cannot be
      select max(least(f.at, upper(p.during)))
      from core.placement p
      cross join lateral (select coalesce(min(e.at), 'infinity') as at from core.first_event e
        where e.placement_id = p.placement_id) f
      where p.dpu_id = d.dpu_id and p.superseded_at is null), '-infinity') as first_from
    from (select distinct unnest(dpus) as dpu_id) d
    offset 0  -- once for the condition and the value
  ) n
  where s.dpu_id = n.dpu_id and s.first_from <> n.first_from;
end
$$;
comment on function core.rederive_first_from(integer[]) is
'Derives dpu_state.first_from of some DPUs anew. The caller holds these rows, or core.lock_plan.';

create or replace function core.note_first_events(
  dpus integer[],
  times timestamptz[],
  received_at timestamptz
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
declare
  v_spaces integer[];
  v_sinces timestamptz[];
begin
  with event as (
    select distinct p.placement_id, p.doorway_id, n.time as at,
      core.get_received_at(n.time, core.get_lag_ms(n.time, note_first_events.received_at)) as recorded_at
    from unnest(dpus, times) as n (dpu_id, time)
    join core.placement p on p.dpu_id = n.dpu_id and p.superseded_at is null and p.during @> n.time
    where n.time < coalesce((select min(f.at) from core.first_event f where f.placement_id = p.placement_id),
      'infinity')
  ),
  first as (
    -- times of receipt are rounded one by one: a later event may be known a moment earlier
    select e.*, min(e.recorded_at) over (partition by e.placement_id order by e.at rows between unbounded preceding
      and 1 preceding) as known_at
    from event e
  ),
  added as (
    insert into core.first_event (placement_id, at, recorded_at)
    select f.placement_id, f.at, f.recorded_at
    from first f
    where f.known_at is null or f.recorded_at < f.known_at
  )
  select array_agg(c.space_id), array_agg(c.at) into v_spaces, v_sinces
  from (
    select b.space_id, min(f.at) as at
    from first f
    join core.boundary b on b.doorway_id = f.doorway_id
    group by b.space_id
  ) c
  join core.live_space l on l.space_id = c.space_id and (l.counted_since is null or l.counted_since > c.at);

  if v_spaces is not null then
    -- one row after the other: two transactions never wait for each other
    perform from core.live_space l where l.space_id = any (v_spaces) order by l.space_id for no key update;
    update core.live_space l set counted_since = n.at
    from unnest(v_spaces, v_sinces) as n (space_id, at)
    where l.space_id = n.space_id and (l.counted_since is null or l.counted_since > n.at);
    perform core.note_change(spaces => v_spaces);
  end if;
  perform core.rederive_first_from(dpus);
end
$$;
comment on function core.note_first_events(integer[], timestamptz[], timestamptz) is
'Takes in events, given as parallel arrays, that may be the first of their placements: keeps core.first_event,
live_space.counted_since and dpu_state.first_from. The caller has stored them, and holds the rows of these DPUs in
core.dpu_state and, shared, the lock of the floor plan.';
