-- What becomes of an event: accepted, duplicate or refused.

create or replace function core.explain_verdict(
  verdict text,
  stored_direction integer default null,
  oldest timestamptz default null
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case verdict
    when 'duplicate' then 'This event is stored already.'
    when 'conflict' then format(
      'An event with this DPU, timestamp and sequence is stored already, with direction %s. The first one stays. '
      'Give events at one instant different sequences.', stored_direction)
    when 'in_future' then 'The timestamp is more than 5 minutes ahead of the service. Set the clock of the device.'
    when 'clock_unset' then 'The timestamp comes from a clock that was never set. Set the clock of the device.'
    when 'too_old' then case
      when oldest > core.get_horizon()
        then format(
          'The timestamp is before %s, and events older than that are not kept (retention).',
          core.format_second(oldest))
      else format(
        'The timestamp is before %s. Set the clock of the device, or HEADCOUNT_EVENTS_FROM if it is right.',
        core.format_second(core.get_horizon()))
    end
    when 'unknown_dpu' then case
      when core.get_reach() is not null then 'No such DPU was placed at a doorway in this token''s space at that time.'
      else 'This DPU is not registered, and registration by events is switched off. '
        'Register it with PUT /v1/dpus/{id}.'
    end
  end
$$;
comment on function core.explain_verdict(text, integer, timestamptz) is
'The meaning of a verdict, and what to do about it. oldest: events before this instant are refused.';

create or replace function core.judge_event(
  dpu_id integer,
  event_time timestamptz,
  received_at timestamptz,
  oldest timestamptz
)
returns text
language sql stable
as $$
  select case
    when dpu_id is null then 'unknown_dpu'
    when event_time > core.get_latest_time(received_at) then 'in_future'
    when core.is_clock_unset(event_time) then 'clock_unset'
    when event_time < oldest then 'too_old'
  end
$$;
comment on function core.judge_event(integer, timestamptz, timestamptz, timestamptz) is
'Why an event cannot be stored, or null. oldest: events before this instant are refused. Inlined by the planner: no
search_path of its own.';

create or replace function core.find_doubles(
  dpus integer[],
  times timestamptz[],
  sequences smallint[],
  ordinals bigint[],
  out doubles bigint[],
  out stored integer[]
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
-- the bounds leave a chunk or two, and looking for chunks again would cost five times as much as a look
set timescaledb.enable_chunk_append = off
as $$
#variable_conflict use_column
declare
  v_low timestamptz;
  v_high timestamptz;
  v_dpus integer[];
  v_ordinals bigint[];
  v_found bigint[];
  v_stored integer[];
begin
  doubles := '{}';
  stored := '{}';
  -- A day at a time, with its bounds as constants: only the chunks of that day are planned.
  for v_low, v_high, v_dpus, v_ordinals in
    select min(times[o]), max(times[o]), array_agg(distinct dpus[o]), array_agg(o)
    from unnest(ordinals) as o
    group by date_trunc('day', times[o], 'UTC')
    order by 1
  loop
    if v_high >= core.get_compressible_until(clock_timestamp()) then
      select array_agg(o), array_agg(e.direction) into v_found, v_stored
      from unnest(v_ordinals) as o
      -- offset 0: a look for each, whatever is known of how many there are
      cross join lateral (
        select e.direction
        from core.event e
        where e.dpu_id = dpus[o] and e.time = times[o] and e.sequence = sequences[o]
          and e.time >= v_low and e.time <= v_high
        offset 0
      ) e;
    else
      -- of a compressed chunk only what is of these DPUs and times is unpacked, once
      select array_agg(n.ordinal), array_agg(e.direction) into v_found, v_stored
      from (select o as ordinal, dpus[o] as dpu_id, times[o] as time, sequences[o] as sequence
        from unnest(v_ordinals) as o) n
      join core.event e on e.dpu_id = n.dpu_id and e.time = n.time and e.sequence = n.sequence
      where e.time >= v_low and e.time <= v_high and e.dpu_id = any (v_dpus);
    end if;
    doubles := doubles || v_found;
    stored := stored || v_stored;
  end loop;
end
$$;
comment on function core.find_doubles(integer[], timestamptz[], smallint[], bigint[]) is
'Which of the events, given as parallel arrays and by ordinals from 1, are stored already, and beside each the direction
that is stored.';

-- Comparing two columns of a compressed chunk with constants ends the whole server where this is on (2.28.3). It is
-- off for the database (95_public.sql), but not for sessions that are older, nor for copies of it.
do $$
begin
  if current_setting('timescaledb.enable_composite_bloom_indexes', true) is not null then
    alter function core.find_doubles(integer[], timestamptz[], smallint[], bigint[])
      set timescaledb.enable_composite_bloom_indexes = off;
  end if;
end
$$;

create or replace function core.list_surplus_ahead(
  dpus integer[],
  times timestamptz[],
  ordinals bigint[],
  received_at timestamptz
)
returns bigint[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set enable_seqscan = off
as $$
declare
  v_near timestamptz := core.get_near_time(received_at);
  v_latest timestamptz := core.get_latest_time(received_at);
begin
  return array(
    select u.ordinal
    from (
      select dpus[o] as dpu_id, array_agg(o order by o) as ordinals
      from unnest(ordinals) as o
      where times[o] > v_near
      group by 1
    ) n
    cross join lateral (
      select count(*)::integer as number
      from (
        select from core.event e
        where e.dpu_id = n.dpu_id and e.time > v_near and e.time <= v_latest
        limit core.get_most_ahead()
      ) e
    ) s
    cross join lateral unnest(n.ordinals[core.get_most_ahead() - s.number + 1 :]) as u (ordinal));
end
$$;
comment on function core.list_surplus_ahead(integer[], timestamptz[], bigint[], timestamptz) is
'Which of the events, given as parallel arrays and by ordinals from 1, are too many after core.get_near_time: with those
that are stored, their DPU would have more than core.get_most_ahead there. Those that come first are taken.';

create or replace function core.is_sent_again(
  dpus integer[],
  times timestamptz[],
  sequences smallint[],
  ordinals bigint[]
)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_number integer := cardinality(ordinals);
  v_some bigint[];
begin
  -- what is later than all before is not looked up
  v_some := array(
    select o
    from unnest(array[ordinals[1], ordinals[(v_number + 1) / 2], ordinals[v_number]]) as o
    join core.dpu_state s on s.dpu_id = dpus[o]
    where s.latest_time >= times[o]);
  return cardinality(v_some) > 0
    and cardinality((core.find_doubles(dpus, times, sequences, v_some)).doubles) > 0;
end
$$;
comment on function core.is_sent_again(integer[], timestamptz[], smallint[], bigint[]) is
'Whether the first, the last or the middle one of the events, given as parallel arrays and by ordinals from 1, is stored
already.';

create or replace function core.refuse_unfound()
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  perform core.refuse(
    503, 'Some events were neither stored nor found.', null, 'Send the request again: nothing counts twice.');
end
$$;
comment on function core.refuse_unfound() is
'Raises PT503: an event could not be stored, as if it were stored already, and is not there.';

create or replace function core.find_unread_dpus(
  dpus text[],
  now_at timestamptz,
  out ids integer[],
  out names text[]
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  names := dpus;
  ids := core.list_dpu_ids(dpus);
  if core.get_reach() is not null then
    -- what a limited token sends says nothing about DPUs outside its space
    ids := core.list_reached_ids(ids, array_fill(now_at, array[cardinality(dpus)]));
    names := array(
      select case when u.dpu_id is not null then u.dpu end
      from unnest(dpus, ids) with ordinality as u (dpu, dpu_id, ordinal)
      order by u.ordinal);
  end if;
end
$$;
comment on function core.find_unread_dpus(text[], timestamptz) is
'The DPUs of events that could not be decoded (null: of none): their dpu_ids, null for those that there are not, and the
names under which the events are kept. What a limited token sends says nothing about DPUs outside its space: null in
both.';

create or replace function core.judge_unstored(
  ids integer[],
  times timestamptz[],
  directions integer[],
  sequences smallint[],
  now_at timestamptz,
  backfill boolean,
  unregistered text,
  stored bigint[],
  doubles bigint[],
  double_directions integer[],
  out refused bigint[],
  out verdicts text[],
  out details text[],
  out is_suspect boolean
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_oldest timestamptz;
  v_left bigint[];      -- ordinals of those that are neither stored now nor found
  v_repeats bigint[];   -- of these, those that came earlier in the arrays
  v_ahead bigint[];     -- or that were too many (core.list_surplus_ahead)
  v_duplicate text := core.explain_verdict('duplicate');
begin
  v_oldest := core.get_first_taken();
  if cardinality(stored) + cardinality(doubles) < cardinality(times) then
    v_left := array(
      select n.ordinal from generate_series(1, cardinality(times)) as n (ordinal)
      except select unnest(stored)
      except select unnest(doubles));
  end if;
  select array_agg(n.ordinal), array_agg(n.verdict), array_agg(
    coalesce(case n.verdict when 'unknown_dpu'
      then unregistered end, core.explain_verdict(n.verdict, oldest => v_oldest)))
  into refused, verdicts, details
  from (
    select o as ordinal, core.judge_event(ids[o], times[o], now_at, v_oldest) as verdict from unnest(v_left) as o
  ) n
  where n.verdict is not null;
  is_suspect := not backfill and 'in_future' = any (verdicts) and core.is_clock_suspect(
    array(
      select ids[r.ordinal] from unnest(refused, verdicts) as r (ordinal, verdict)
      where r.verdict = 'in_future' and times[r.ordinal] < core.get_farthest_time(now_at)),
    now_at);
  if is_suspect and not core.is_suspicion_over(now_at) then
    perform core.refuse(
      503, 'Most DPUs heard in the last minute are ahead of the clock of the service.', null,
      'Nothing was stored: send it again later. '
      'The operator of the service has to check the clock of the database server.',
      'clock_suspect');
  end if;

  v_repeats := array(select unnest(v_left) except select unnest(refused));
  if cardinality(v_repeats) > 0 then
    -- the first of each was stored just now, or found: nothing is looked up while the DPUs are locked
    select doubles || array_agg(r.ordinal), double_directions || array_agg(k.direction)
    into doubles, double_directions
    from unnest(v_repeats) as r (ordinal)
    left join (
      select ids[o] as dpu_id, times[o] as time, sequences[o] as sequence, directions[o] as direction
      from unnest(stored) as o
      union all
      select ids[d.ordinal], times[d.ordinal], sequences[d.ordinal], d.direction
      from unnest(doubles, double_directions) as d (ordinal, direction)
    ) k on k.dpu_id = ids[r.ordinal] and k.time = times[r.ordinal] and k.sequence = sequences[r.ordinal];
  end if;
  -- they were too many, and the first of each was not stored either
  v_ahead := array(
    select d.ordinal from unnest(doubles, double_directions) as d (ordinal, direction)
    where d.direction is null and times[d.ordinal] > core.get_near_time(now_at));
  if cardinality(v_ahead) > 0 then
    select refused || array_agg(o), verdicts || array_agg('in_future'::text), details || array_agg(format(
      'More than %s events of this DPU are ahead of the service. Set the clock of the device.', core.get_most_ahead()))
    into refused, verdicts, details
    from unnest(v_ahead) as o;
    select array_agg(d.ordinal), array_agg(d.direction) into doubles, double_directions
    from unnest(doubles, double_directions) as d (ordinal, direction)
    where d.ordinal <> all (v_ahead);
  end if;
  if array_position(double_directions, null) is not null then
    perform core.refuse_unfound();
  end if;

  select refused || array_agg(n.ordinal), verdicts || array_agg(n.verdict),
    details || array_agg(case n.verdict when 'duplicate' then v_duplicate
      else core.explain_verdict(n.verdict, n.found) end)
  into refused, verdicts, details
  from (
    select r.ordinal, r.found, case when r.found = directions[r.ordinal] then 'duplicate' else 'conflict' end as verdict
    from unnest(doubles, double_directions) as r (ordinal, found)
  ) n;
end
$$;
comment on function core.judge_unstored(integer[], timestamptz[], integer[], smallint[], timestamptz, boolean,
  text, bigint[], bigint[], integer[]) is
'The verdict of each event of api.record_events that core.store_events did not store: what was refused, with its ordinal
(from 1), verdict and reason, beside each other.

unregistered: why unknown DPUs are not registered (null: by the usual reason); stored, doubles and double_directions:
what core.store_events said. is_suspect: our clock may be wrong. Errors: PT503 with the constraint clock_suspect, as
api.record_events; PT503 for an event that is neither stored nor found.';
