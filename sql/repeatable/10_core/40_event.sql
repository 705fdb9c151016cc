-- Storing what DPUs report.

create or replace function core.list_dpu_ids(dpus text[])
returns integer[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select coalesce(array_agg(d.dpu_id order by n.ordinal), '{}')
    from unnest(dpus) with ordinality as n (id, ordinal)
    left join core.dpu d on d.id = n.id);
end
$$;
comment on function core.list_dpu_ids(text[]) is
'The dpu_id of each DPU, in the order given; null for one that is not registered.';

create or replace function core.list_reached_ids(
  dpus integer[],
  times timestamptz[]
)
returns integer[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with seen as materialized (
    select p.dpu_id, range_agg(p.during) as during
    from core.list_seen_placements(array(select distinct n.dpu_id from unnest(dpus) as n (dpu_id) where n.dpu_id is not null)) p
    group by p.dpu_id
  )
  select coalesce(array_agg(case when s.during @> n.time then n.dpu_id end order by n.ordinal), '{}')
  from unnest(dpus, times) with ordinality as n (dpu_id, time, ordinal)
  left join seen s on s.dpu_id = n.dpu_id
$$;
comment on function core.list_reached_ids(integer[], timestamptz[]) is
'The DPUs of events in the order given; null where a limited token cannot report the event: the DPU did not hang above a doorway within reach at its time.';

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
    when 'conflict' then format('An event of this DPU, timestamp and sequence is stored with direction %s; the first one stands. Events at one instant need different sequences.', stored_direction)
    when 'in_future' then 'The timestamp is more than 5 minutes ahead of the service. Set the clock of the device.'
    when 'clock_unset' then 'The timestamp is of a clock that was never set. Set the clock of the device.'
    when 'too_old' then case
      when oldest > core.get_horizon()
        then format('The timestamp is before %s, and events older than that are not kept (retention).', core.format_second(oldest))
      else format(
        'The timestamp is before %s. Set the clock of the device, or HEADCOUNT_EVENTS_FROM if it is right.',
        core.format_second(core.get_horizon()))
    end
    when 'unknown_dpu' then case when core.get_reach() is not null then 'No such DPU is known to have hung at a doorway within the reach of this token then.' else 'This DPU is not registered, and registration by events is switched off. Register it with PUT /v1/dpus/{id}.' end
  end
$$;
comment on function core.explain_verdict(text, integer, timestamptz) is
'What a verdict means and what to do about it. oldest: the first instant of which events are taken.';

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
'Why an event cannot be stored, or null. oldest: the first instant of which events are taken. Inlined by the planner: no search_path of its own.';

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

create or replace function core.get_registration()
returns core.registration
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_found core.registration;
begin
  select r.* into v_found from core.registration r for update;
  if not found then
    insert into core.registration (is_only) values (true) on conflict (is_only) do nothing;
    select r.* into v_found from core.registration r for update;
  end if;
  return v_found;
end
$$;
comment on function core.get_registration() is
'How many unknown DPUs may register themselves. The row stays locked until the transaction ends.';

create or replace function core.count_unplaced()
returns integer
language sql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = on  -- all of them; who calls it looks for a few
as $$
  select count(*)::integer
  from core.dpu d
  where d.name is null and not exists (select from core.placement p where p.dpu_id = d.dpu_id)
$$;
comment on function core.count_unplaced() is
'How many DPUs nobody has ever placed or named.';

create or replace function core.admit_dpus(
  dpus text[],
  ids integer[],
  senders text[],
  sender_sizes integer[]
)
returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- planned for few, there may be many: then each would read all DPUs
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  v_limits core.registration := core.get_registration();
  v_now timestamptz := clock_timestamp();
  v_unknown text[];      -- in order of their ids, so that of many the same ones are taken whoever is first
  v_tokens integer[];    -- beside them; null: they came without a token
  v_room integer;
  v_taken text[];
begin
  -- looked for anew: whoever held the lock until just now may have registered them
  select array_agg(n.id order by n.id collate "C"), array_agg(t.token_id order by n.id collate "C") into v_unknown, v_tokens
  from (
    select d.id, min(s.sender) as sender
    from unnest(dpus, ids) with ordinality as d (id, dpu_id, ordinal)
    left join (
      select g.sender, sum(g.size) over (order by g.ordinal) - g.size as low, sum(g.size) over (order by g.ordinal) as high
      from unnest(senders, sender_sizes) with ordinality as g (sender, size, ordinal)
    ) s on d.ordinal > s.low and d.ordinal <= s.high
    where d.dpu_id is null and d.id is not null
    group by d.id
  ) n
  left join core.token t on t.id = n.sender
  where not exists (select from core.dpu k where k.id = n.id);
  if v_unknown is null then
    return null;
  end if;

  -- placed or named since, a DPU leaves room for another one
  if v_limits.unplaced is null
    or (v_limits.unplaced + cardinality(v_unknown) > v_limits.max_unplaced and v_limits.counted_at < v_now - interval '10 seconds') then
    v_limits.unplaced := core.count_unplaced();
    v_limits.counted_at := v_now;
  end if;
  v_room := greatest(v_limits.max_unplaced - v_limits.unplaced, 0);

  with asked as (
    select n.id, n.token_id, row_number() over (partition by n.token_id order by n.id collate "C") as place
    from unnest(v_unknown, v_tokens) as n (id, token_id)
  ),
  remaining as (
    select n.token_id, least(v_limits.burst, coalesce(
      r.remaining + greatest(extract(epoch from v_now - r.at), 0) / 3600 * v_limits.per_hour, v_limits.burst)) as remaining
    from (select distinct a.token_id from asked a where a.token_id is not null) n
    left join core.registrar r on r.token_id = n.token_id
  ),
  taken as (
    select a.id, a.token_id
    from asked a
    left join remaining r on r.token_id = a.token_id
    where a.token_id is null or a.place <= r.remaining
    order by a.id collate "C"
    limit v_room
  ),
  noted as (
    insert into core.registrar (token_id, remaining, at)
    select r.token_id, r.remaining - (select count(*) from taken t where t.token_id = r.token_id), v_now from remaining r
    on conflict (token_id) do update set remaining = excluded.remaining, at = excluded.at
  )
  select array_agg(t.id) into v_taken from taken t;
  perform core.register_dpus(v_taken);
  update core.registration r
  set unplaced = v_limits.unplaced + coalesce(cardinality(v_taken), 0), counted_at = v_limits.counted_at;

  return case
    when coalesce(cardinality(v_taken), 0) = cardinality(v_unknown) then null
    when coalesce(cardinality(v_taken), 0) = v_room then format(
      'This DPU is not registered: there are %s DPUs already that nobody has placed or named. Place, name or delete some of them, or register this one with PUT /v1/dpus/{id}.',
      v_limits.max_unplaced)
    else format(
      'This DPU is not registered: the token has registered as many new DPUs as it may for now (%s at once, and %s an hour). Send it later, or register it with PUT /v1/dpus/{id}.',
      v_limits.burst, v_limits.per_hour)
  end;
end
$$;
comment on function core.admit_dpus(text[], integer[], text[], integer[]) is
'Registers DPUs that are not there yet, unplaced, as far as core.registration allows. Returns what to say of the others; null where all are registered.

dpus, ids: the DPUs of a request (null: none) and, beside each, its dpu_id; null: it is unknown. senders, sender_sizes: the tokens that sent them, and how many each, in their order; what is beyond, or of a token that is null, came without one and is bounded by max_unplaced alone.';

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
  v_ordinals bigint[];
  v_found integer[] := array_fill(null::integer, array[cardinality(dpus)]);
  v_event record;
begin
  -- a day at a time, with its bounds as constants: only the chunks of that day are planned
  for v_from, v_ordinals in
    select date_trunc('day', n.time, 'UTC'), array_agg(n.ordinal)
    from unnest(times) with ordinality as n (time, ordinal)
    group by 1
    order by 1
  loop
    for v_event in
      select n.ordinal, e.direction
      from (select o as ordinal, dpus[o] as dpu_id, times[o] as time, sequences[o] as sequence from unnest(v_ordinals) as o) n
      join core.event e on e.dpu_id = n.dpu_id and e.time = n.time and e.sequence = n.sequence
      where e.time >= v_from and e.time < v_from + interval '24 hours'
    loop
      v_found[v_event.ordinal] := v_event.direction;
    end loop;
  end loop;
  return v_found;
end
$$;
comment on function core.find_events(integer[], timestamptz[], smallint[]) is
'The stored direction of each event named by parallel arrays, in their order; null for one that is not stored.';

create or replace function core.lock_dpus(
  dpus integer[],
  times timestamptz[],
  directions integer[],
  received_at timestamptz,
  inout ordinals bigint[],
  refused integer[],
  backfill boolean,
  out late bigint[],
  out touching bigint[],
  out turning bigint[],
  out opening bigint[],
  out turning_dpus integer[],
  out new_dpus integer[]
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- one row after the other in the order of dpu_id: two transactions never wait for each other
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_bitmapscan = off
as $$
#variable_conflict use_column
begin
  with state as (
    update core.dpu_state s set
      cumulative_count = s.cumulative_count + n.net,
      first_time = least(s.first_time, n.first),
      latest_time = greatest(s.latest_time, n.latest),
      earlier_time = s.latest_time,
      -- What is later than all before is no duplicate. Whether others are is not known yet, and what is backfilled is a sign
      -- at its own time only: core.hear_late comes after.
      last_seen_at = greatest(s.last_seen_at, case
        when not backfill and (n.is_refused or s.latest_time is null or n.latest > s.latest_time) then lock_dpus.received_at
      end),
      earlier_seen_at = s.last_seen_at
    from (
      select a.dpu_id, sum(a.direction) as net, min(a.time) as first, max(a.time) as latest,
        max(a.time) filter (where a.time <= lock_dpus.received_at) as latest_past, array_agg(a.ordinal) as ordinals, bool_or(a.ordinal is null) as is_refused
      from (
        select dpus[o] as dpu_id, directions[o] as direction, times[o] as time, o as ordinal from unnest(lock_dpus.ordinals) as o
        union all
        select r, 0, null, null from unnest(refused) as r
      ) a
      group by 1
      order by 1
    ) n
    where s.dpu_id = n.dpu_id
    returning
      s.dpu_id, n.first, s.earlier_time, s.live_from, s.first_from, n.ordinals,
      not backfill and (n.is_refused or s.earlier_time is null or n.latest > s.earlier_time) as is_heard, s.first_heard_at is null as is_new,
      s.offline_at is not null or s.earlier_seen_at is null or least(n.first, lock_dpus.received_at) < s.steady_from or (s.armed_at is not null
        and greatest(s.last_seen_at, n.latest_past) - s.earlier_seen_at
          >= coalesce(s.offline_after_seconds, core.get_offline_after()) * interval '1 second') as is_turning
  )
  select
    coalesce(array_agg(o) filter (where times[o] <= s.earlier_time), '{}'),
    coalesce(array_agg(o) filter (where times[o] < s.live_from), '{}'),
    coalesce(array_agg(o) filter (where s.is_turning), '{}'),
    coalesce(array_agg(o) filter (where times[o] < s.first_from), '{}'),
    (select coalesce(array_agg(h.dpu_id), '{}') from state h where h.is_heard and h.is_turning),
    (select coalesce(array_agg(h.dpu_id), '{}') from state h where h.is_heard and h.is_new)
  into late, touching, turning, opening, turning_dpus, new_dpus
  from state s
  cross join lateral unnest(s.ordinals) as o
  where o is not null and (s.first <= s.earlier_time or s.first < s.live_from or s.is_turning or s.first < s.first_from);
end
$$;
comment on function core.lock_dpus(integer[], timestamptz[], integer[], timestamptz, bigint[], integer[], boolean) is
'Adds to core.dpu_state what events add up to, given as parallel arrays and by ordinals from 1, and holds those rows until the transaction ends: meanwhile no other one stores events of these DPUs. late: those of the ordinals that may be stored already, being no later than the latest one; touching: those that core.live_flow has to be told of; turning: those of DPUs that may not have been online all the time, for core.settle_signs; opening: those that may be the first of a placement, for core.note_first_events; turning_dpus: such DPUs, where the receipt is a sign of life too; new_dpus: those of them that were not heard before. refused: DPUs of further events, which cannot be stored. Whether late ones are signs at receipt is not known here. The caller takes off again what turns out to be stored.';

create or replace function core.lock_days(days timestamptz[])
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_chunk regclass;
begin
  for v_chunk in
    select c.chunk
    from unnest(days) as d (day)
    cross join lateral public.show_chunks(
      'core.event', newer_than => d.day, older_than => d.day + interval '24 hours') as c (chunk)
    order by d.day
  loop
    execute format('lock table %s in row exclusive mode', v_chunk);
  end loop;
end
$$;
comment on function core.lock_days(timestamptz[]) is
'Locks the chunks of these days (UTC) for storing events, until the transaction ends; waits while one is being compressed.

Who reads such a chunk first, and then waits to store events in it, has compression wait in turn: neither would ever end.';

create or replace function core.store_events(
  dpus integer[],
  times timestamptz[],
  directions integer[],
  sequences smallint[],
  received_at timestamptz,
  backfill boolean default false,
  unread integer[] default '{}',
  out ordinals bigint[],
  out doubles bigint[],
  out stored integer[]
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  -- core.judge_event as bounds: no function call a row
  v_oldest timestamptz := core.get_first_taken();
  v_latest timestamptz := core.get_latest_time(store_events.received_at);
  v_refused integer[] := case when backfill then '{}' else unread end;   -- DPUs of events that cannot be stored
  v_old timestamptz[];   -- days of which chunks may be compressed
  v_late bigint[];
  v_touching bigint[];
  v_turning bigint[];
  v_opening bigint[];
  v_received integer[];
  v_new integer[];
  v_heard integer[];
  v_signs timestamptz[];
begin
  doubles := '{}';
  stored := '{}';
  ordinals := array(
    select distinct on (n.dpu_id, n.time, n.sequence) n.ordinal
    from unnest(dpus, times, sequences) with ordinality as n (dpu_id, time, sequence, ordinal)
    where n.dpu_id is not null and n.time >= v_oldest and n.time <= v_latest and not core.is_clock_unset(n.time)
    order by n.dpu_id, n.time, n.sequence, n.ordinal);
  if cardinality(ordinals) < cardinality(dpus) and not backfill then
    v_refused := array(
      select unnest(unread)
      union
      select n.dpu_id from unnest(dpus, times) as n (dpu_id, time)
      where n.dpu_id is not null and not (n.time >= v_oldest and n.time <= v_latest and not core.is_clock_unset(n.time)));
  end if;
  if cardinality(ordinals) = 0 and cardinality(v_refused) = 0 then
    return;
  end if;
  -- those that may be compressed just now (core.compress_due), a day before they are due
  v_old := array(
    select distinct date_trunc('day', times[o], 'UTC') from unnest(ordinals) as o
    where times[o] < store_events.received_at - interval '6 days');
  if cardinality(v_old) > 0 then
    perform core.lock_days(v_old);
  end if;
  select l.late, l.touching, l.turning, l.opening, l.turning_dpus, l.new_dpus
  into v_late, v_touching, v_turning, v_opening, v_received, v_new
  from core.lock_dpus(dpus, times, directions, store_events.received_at, ordinals, v_refused, backfill) l;
  if cardinality(v_new) > 0 then
    perform core.note_heard(v_new, store_events.received_at);
  end if;
  if cardinality(v_late) > 0 then
    select coalesce(array_agg(l.ordinal), '{}'), coalesce(array_agg(l.direction), '{}') into doubles, stored
    from unnest(v_late, core.find_events(
      array(select dpus[o] from unnest(v_late) as o),
      array(select times[o] from unnest(v_late) as o),
      array(select sequences[o] from unnest(v_late) as o))) as l (ordinal, direction)
    where l.direction is not null;
    if cardinality(doubles) > 0 then
      update core.dpu_state s set cumulative_count = s.cumulative_count - n.net
      from (select dpus[o] as dpu_id, sum(directions[o]) as net from unnest(doubles) as o group by 1) n
      where s.dpu_id = n.dpu_id;
      ordinals := array(
        select n.ordinal from unnest(ordinals) with ordinality as n (ordinal, place)
        where n.ordinal not in (select unnest(doubles))
        order by n.place);
      v_touching := array(select unnest(v_touching) except select unnest(doubles));
      v_turning := array(select unnest(v_turning) except select unnest(doubles));
      v_opening := array(select unnest(v_opening) except select unnest(doubles));
    end if;
  end if;

  if cardinality(v_turning) > 0 or cardinality(v_received) > 0 then
    perform core.settle_signs(
      array(select dpus[o] from unnest(v_turning) as o where times[o] <= store_events.received_at) || v_received,
      array(select times[o] from unnest(v_turning) as o where times[o] <= store_events.received_at)
        || array_fill(store_events.received_at, array[cardinality(v_received)]),
      store_events.received_at);
  end if;

  if cardinality(v_late) > 0 or backfill then
    -- the receipt of what contradicts a stored event is a sign of life as well
    select array_agg(h.dpu_id), array_agg(h.sign) into v_heard, v_signs
    from (
      select n.dpu_id, max(n.sign) as sign
      from (
        select dpus[o] as dpu_id, case when times[o] <= store_events.received_at then times[o] end as sign
        from unnest(case when backfill then ordinals else v_late end) as o
        where o not in (select unnest(doubles))
        union all
        select n.dpu_id, null
        from unnest(doubles, stored) as d (ordinal, direction)
        join unnest(dpus, times, sequences, directions) as n (dpu_id, time, sequence, direction)
          on n.dpu_id = dpus[d.ordinal] and n.time = times[d.ordinal] and n.sequence = sequences[d.ordinal]
        where n.direction <> d.direction and not backfill
      ) n
      group by 1
    ) h;
    perform core.hear_late(v_heard, v_signs, store_events.received_at, backfill);
  end if;

  insert into core.event (time, lag_ms, dpu_id, direction, sequence)
  select times[o], core.get_lag_ms(times[o], store_events.received_at), dpus[o], directions[o], sequences[o]
  from unnest(ordinals) as o;

  -- An ingest transaction is far shorter than the 15 minutes between this margin and that of core.refresh_rollups.
  -- The rollups, and a refresh that is under way, are ahead of the margin only where the clock of the database was set back.
  insert into core.late_mark (dpu_id, bucket)
  select distinct dpus[o], public.time_bucket(interval '15 minutes', times[o])
  from unnest(ordinals) as o
  where times[o] < greatest(
    store_events.received_at - interval '15 minutes', (select greatest(s.materialized_until, s.goal_at) from core.rollup_state s));

  if cardinality(v_touching) > 0 then
    update core.live_flow f set net = f.net + n.net
    from (
      select l.space_id, l.dpu_id, l.from_at, sum(case when l.until_at = 'infinity' then -directions[o]::bigint else directions[o] end) as net
      from unnest(v_touching) as o
      join core.live_flow l on l.dpu_id = dpus[o]
        -- an open part leaves out what came before it, one that is over takes what lies within
        and (case when l.until_at = 'infinity' then times[o] < l.from_at else times[o] >= l.from_at and times[o] < l.until_at end)
      group by l.space_id, l.dpu_id, l.from_at
    ) n
    where f.space_id = n.space_id and f.dpu_id = n.dpu_id and f.from_at = n.from_at;
  end if;

  if cardinality(v_opening) > 0 then
    perform core.note_first_events(
      array(select dpus[o] from unnest(v_opening) as o), array(select times[o] from unnest(v_opening) as o), store_events.received_at);
  end if;

  if cardinality(ordinals) > 0 then
    perform core.note_change(
      dpus => array(select dpus[o] from unnest(ordinals) as o),
      latest_at => (select max(times[o]) from unnest(ordinals) as o));
  end if;
end
$$;
comment on function core.store_events(integer[], timestamptz[], integer[], smallint[], timestamptz, boolean, integer[]) is
'Stores events that are not there yet, given as parallel arrays, with all that is derived from them at once. ordinals (from 1): those it stored; doubles: those that were there, and beside them in stored the direction that is stored. Of several with one identity the first is taken, the others are in neither; null for dpu_id and what core.judge_event refuses is left out. The receipt of all but duplicates is a sign of life of their DPUs, unless they are backfilled. unread: DPUs that sent what could not be decoded. The caller holds, shared, the lock of the floor plan.';
