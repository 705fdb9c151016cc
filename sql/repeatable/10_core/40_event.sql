-- Storing what DPUs report.

create or replace function core.list_dpu_ids(dpus text[])
returns integer[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(d.dpu_id order by n.ordinal), '{}')
  from unnest(dpus) with ordinality as n (id, ordinal)
  left join core.dpu d on d.id = n.id
$$;
comment on function core.list_dpu_ids(text[]) is
'The dpu_id of each DPU, in the order given; null for one that is not registered.';

create or replace function core.explain_verdict(
  verdict text,
  stored_direction integer default null
)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case verdict
    when 'duplicate' then 'This event is stored already.'
    when 'conflict' then format('An event of this DPU, timestamp and sequence is stored with direction %s; the first one stands. Events at one instant need different sequences.', stored_direction)
    when 'in_future' then 'The timestamp is more than 5 minutes ahead of the service. Set the clock of the device.'
    when 'too_old' then format('The timestamp is before %s. Set the clock of the device.', to_char(core.get_oldest_time() at time zone 'UTC', 'YYYY-MM-DD'))
    when 'unknown_dpu' then 'This DPU is not registered, and registration by events is switched off. Register it with PUT /v1/dpus/{id}.'
  end
$$;
comment on function core.explain_verdict(text, integer) is
'What a verdict means and what to do about it.';

create or replace function core.judge_event(
  dpu_id integer,
  event_time timestamptz,
  received_at timestamptz
)
returns text
language sql stable
as $$
  select case
    when dpu_id is null then 'unknown_dpu'
    when event_time > core.get_latest_time(received_at) then 'in_future'
    when event_time < core.get_oldest_time() then 'too_old'
  end
$$;
comment on function core.judge_event(integer, timestamptz, timestamptz) is
'Why an event cannot be stored, or null. Inlined by the planner: no search_path of its own.';

create or replace function core.register_dpus(dpus text[])
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  with added as (
    insert into core.dpu (id)
    select distinct n.id from unnest(dpus) as n (id) order by n.id
    on conflict (id) do nothing
    returning dpu_id
  )
  insert into core.dpu_state (dpu_id) select a.dpu_id from added a;
$$;
comment on function core.register_dpus(text[]) is
'Adds the DPUs that are not there yet, unplaced. In order of their ids, so that two transactions never wait for each other.';

create or replace function core.find_events(
  dpus integer[],
  times timestamptz[],
  sequences smallint[]
)
returns integer[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
declare
  v_from timestamptz;
  v_found integer[] := array_fill(null::integer, array[cardinality(dpus)]);
  v_event record;
begin
  -- a day at a time, with its bounds as constants: only the chunks of that day are planned
  for v_from in
    select distinct date_trunc('day', n.time, 'UTC') from unnest(times) as n (time) order by 1
  loop
    for v_event in
      select n.ordinal, e.direction
      from unnest(dpus, times, sequences) with ordinality as n (dpu_id, time, sequence, ordinal)
      join core.event e on e.dpu_id = n.dpu_id and e.time = n.time and e.sequence = n.sequence
      where n.time >= v_from and n.time < v_from + interval '24 hours'
        and e.time >= v_from and e.time < v_from + interval '24 hours'
    loop
      v_found[v_event.ordinal] := v_event.direction;
    end loop;
  end loop;
  return v_found;
end
$$;
comment on function core.find_events(integer[], timestamptz[], smallint[]) is
'The stored direction of each event named by parallel arrays, in their order; null for one that is not stored.';

create or replace function core.refuse_events(
  received_at timestamptz,
  codes text[],
  details text[],
  dpus text[],
  times timestamptz[],
  directions integer[],
  sequences smallint[],
  bodies text[]
)
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  insert into core.rejected_event (digest, received_at, code, detail, dpu, time, direction, sequence, body)
  select distinct on (digest) r.digest, refuse_events.received_at, r.code, r.detail, r.dpu, r.time, r.direction, r.sequence, r.body
  from (
    select n.*, sha256(convert_to(jsonb_build_array(n.code, n.dpu, extract(epoch from n.time), n.direction, n.sequence, n.body)::text, 'UTF8')) as digest
    from unnest(codes, details, dpus, times, directions, sequences, bodies) as n (code, detail, dpu, time, direction, sequence, body)
  ) r
  order by digest
  on conflict (digest) do nothing
$$;
comment on function core.refuse_events(timestamptz, text[], text[], text[], timestamptz[], integer[], smallint[], text[]) is
'Keeps refused events with their reasons, from parallel arrays; each once, however often it is sent.';

create or replace function core.match_ordinals(
  dpus integer[],
  times timestamptz[],
  sequences smallint[],
  stored_dpus integer[],
  stored_times timestamptz[],
  stored_sequences smallint[],
  wanted bigint[]
)
returns bigint[]
language sql stable
set search_path = pg_catalog, pg_temp
-- the planner takes arrays for short ones
set enable_nestloop = off
as $$
  select coalesce(array_agg(n.ordinal), '{}')
  from (
    select n.dpu_id, n.time, n.sequence, min(n.ordinal) as ordinal
    from unnest(dpus, times, sequences) with ordinality as n (dpu_id, time, sequence, ordinal)
    where wanted is null or n.ordinal in (select unnest(wanted))
    group by n.dpu_id, n.time, n.sequence
  ) n
  join unnest(stored_dpus, stored_times, stored_sequences) as t (dpu_id, time, sequence)
    on t.dpu_id = n.dpu_id and t.time = n.time and t.sequence = n.sequence
$$;
comment on function core.match_ordinals(integer[], timestamptz[], smallint[], integer[], timestamptz[], smallint[], bigint[]) is
'The ordinals (from 1) of the events that were stored; of several with one identity the first. wanted: only these.';

create or replace function core.store_events(
  dpus integer[],
  times timestamptz[],
  directions integer[],
  sequences smallint[],
  received_at timestamptz,
  wanted bigint[] default null
)
returns bigint[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_dpus integer[];
  v_times timestamptz[];
  v_directions integer[];
  v_sequences smallint[];
  -- core.judge_event as two bounds: no function call a row
  v_oldest timestamptz := core.get_oldest_time();
  v_latest timestamptz := core.get_latest_time(store_events.received_at);
begin
  with arrived as (
    select distinct on (n.dpu_id, n.time, n.sequence) n.*
    from unnest(dpus, times, directions, sequences) with ordinality as n (dpu_id, time, direction, sequence, ordinal)
    where n.dpu_id is not null and n.time >= v_oldest and n.time <= v_latest
      and (wanted is null or n.ordinal in (select unnest(wanted)))
    order by n.dpu_id, n.time, n.sequence, n.ordinal
  ),
  stored as (
    insert into core.event (time, received_at, dpu_id, direction, sequence)
    select a.time, store_events.received_at, a.dpu_id, a.direction, a.sequence
    from arrived a
    order by a.dpu_id, a.time, a.sequence
    on conflict do nothing
    returning dpu_id, time, direction, sequence
  )
  select array_agg(t.dpu_id), array_agg(t.time), array_agg(t.direction), array_agg(t.sequence)
  into v_dpus, v_times, v_directions, v_sequences
  from stored t;

  -- an ingest transaction is far shorter than the 15 minutes between this margin and that of core.refresh_rollups
  insert into core.late_mark (dpu_id, bucket)
  select distinct t.dpu_id, public.time_bucket(interval '15 minutes', t.time)
  from unnest(v_dpus, v_times) as t (dpu_id, time)
  where t.time < store_events.received_at - interval '15 minutes';

  update core.live_flow f set net = f.net + n.net
  from (
    select l.space_id, l.dpu_id, l.from_at, sum(t.direction) as net
    from unnest(v_dpus, v_times, v_directions) as t (dpu_id, time, direction)
    join core.live_flow l on l.dpu_id = t.dpu_id and t.time >= l.from_at and t.time < l.until_at
    group by l.space_id, l.dpu_id, l.from_at
  ) n
  where f.space_id = n.space_id and f.dpu_id = n.dpu_id and f.from_at = n.from_at;

  update core.dpu_state s set
    cumulative_count = s.cumulative_count + n.net,
    latest_time = greatest(s.latest_time, n.latest),
    last_seen_at = greatest(s.last_seen_at, least(n.latest, store_events.received_at))
  from (
    select t.dpu_id, sum(t.direction) as net, max(t.time) as latest
    from unnest(v_dpus, v_times, v_directions) as t (dpu_id, time, direction)
    group by t.dpu_id
  ) n
  where s.dpu_id = n.dpu_id;

  perform core.note_change(dpus => v_dpus, latest_at => (select max(t.time) from unnest(v_times) as t (time)));

  if cardinality(v_dpus) = cardinality(dpus) then
    return array(select generate_series(1::bigint, cardinality(dpus)));
  end if;
  return core.match_ordinals(dpus, times, sequences, v_dpus, v_times, v_sequences, wanted);
end
$$;
comment on function core.store_events(integer[], timestamptz[], integer[], smallint[], timestamptz, bigint[]) is
'Stores events that are not there yet, given as parallel arrays, with what they add up to per DPU, and returns the ordinals (from 1) of those it stored. Of several with one identity the first is taken. wanted: only these ordinals. The caller holds the rows of core.dpu_state and, shared, the lock of the floor plan.';
