-- Storing events.

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
      -- What is later than all before is no duplicate. Whether others are is not known yet, and what is backfilled is a
      -- sign at its own time only: core.note_late_seen comes after.
      last_seen_at = greatest(s.last_seen_at, case
        when not backfill and (n.is_refused or s.latest_time is null or n.latest > s.latest_time)
          then lock_dpus.received_at
      end),
      earlier_seen_at = s.last_seen_at
    from (
      select a.dpu_id, sum(a.direction) as net, min(a.time) as first, max(a.time) as latest,
        max(a.time) filter (where a.time <= lock_dpus.received_at) as latest_past, array_agg(a.ordinal) as ordinals,
        bool_or(a.ordinal is null) as is_refused
      from (
        select dpus[o] as dpu_id, directions[o] as direction, times[o] as time, o as ordinal
        from unnest(lock_dpus.ordinals) as o
        union all
        select r, 0, null, null from unnest(refused) as r
      ) a
      group by 1
      order by 1
    ) n
    where s.dpu_id = n.dpu_id
    returning
      s.dpu_id, n.first, s.earlier_time, s.live_from, s.first_from, n.ordinals,
      not backfill and (n.is_refused or s.earlier_time is null or n.latest > s.earlier_time) as is_seen,
      s.first_heard_at is null as is_new,
      s.offline_at is not null or s.earlier_seen_at is null or least(n.first, lock_dpus.received_at) < s.steady_from
        or (s.armed_at is not null
        and greatest(s.last_seen_at, n.latest_past) - s.earlier_seen_at
          >= coalesce(s.offline_after_seconds, core.get_offline_after()) * interval '1 second') as is_turning
  )
  select
    coalesce(array_agg(o) filter (where times[o] <= s.earlier_time), '{}'),
    coalesce(array_agg(o) filter (where times[o] < s.live_from), '{}'),
    coalesce(array_agg(o) filter (where s.is_turning), '{}'),
    coalesce(array_agg(o) filter (where times[o] < s.first_from), '{}'),
    (select coalesce(array_agg(h.dpu_id), '{}') from state h where h.is_seen and h.is_turning),
    (select coalesce(array_agg(h.dpu_id), '{}') from state h where h.is_seen and h.is_new)
  into late, touching, turning, opening, turning_dpus, new_dpus
  from state s
  cross join lateral unnest(s.ordinals) as o
  where o is not null and (s.first <= s.earlier_time or s.first < s.live_from or s.is_turning
    or s.first < s.first_from);
end
$$;
comment on function core.lock_dpus(integer[], timestamptz[], integer[], timestamptz, bigint[], integer[], boolean) is
'Adds events, given as parallel arrays and by ordinals from 1, to the sums in core.dpu_state, and holds those rows until
the transaction ends. Meanwhile no other transaction stores events of these DPUs.

late: those of the ordinals that may be stored already, being no later than the latest one; touching: those that
core.live_flow has to be told of; turning: those of DPUs that may not have been online all the time, for
core.derive_signs; opening: those that may be the first of a placement, for core.note_first_events; turning_dpus: such
DPUs, where the receipt is a sign of life too; new_dpus: those of them that were not heard before. refused: DPUs of
further events, which cannot be stored. Whether late ones are signs at receipt is not known here. The caller takes off
again (core.insert_late_events) what turns out to be stored already.';

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
'Locks the chunks of these days (UTC) for storing events, until the transaction ends; waits while one is being
compressed.

Without this lock a transaction that reads such a chunk first and then stores events in it could wait for compression,
which waits for that transaction: a deadlock.';

create or replace function core.list_refused_dpus(
  dpus integer[],
  times timestamptz[],
  oldest timestamptz,
  latest timestamptz,
  unread integer[]
)
returns integer[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return array(
    select unnest(unread)
    union
    select n.dpu_id from unnest(dpus, times) as n (dpu_id, time)
    where n.dpu_id is not null and not (n.time >= oldest and n.time <= latest and not core.is_clock_unset(n.time)));
end
$$;
comment on function core.list_refused_dpus(integer[], timestamptz[], timestamptz, timestamptz, integer[]) is
'The DPUs of events, given as parallel arrays, that cannot be stored (core.judge_event): before oldest, after latest, or
of a clock that was never set; and those of unread.';

create or replace function core.find_doubles(
  dpus integer[],
  times timestamptz[],
  sequences smallint[],
  late bigint[],
  out doubles bigint[],
  out stored integer[]
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  select coalesce(array_agg(l.ordinal), '{}'), coalesce(array_agg(l.direction), '{}') into doubles, stored
  from unnest(late, core.find_events(
    array(select dpus[o] from unnest(late) as o),
    array(select times[o] from unnest(late) as o),
    array(select sequences[o] from unnest(late) as o))) as l (ordinal, direction)
  where l.direction is not null;
end
$$;
comment on function core.find_doubles(integer[], timestamptz[], smallint[], bigint[]) is
'Which of the late events, by their ordinals, are stored already, and beside each the direction that is stored.';

create or replace function core.find_stored(
  dpus integer[],
  times timestamptz[],
  directions integer[],
  sequences smallint[],
  ordinals bigint[],
  received_at timestamptz,
  out doubles bigint[],
  out stored integer[],
  out contradicted bigint[],
  out contradicted_stored integer[]
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_late bigint[];
  v_found bigint[];
  v_directions integer[];
begin
  doubles := '{}';
  stored := '{}';
  contradicted := '{}';
  contradicted_stored := '{}';
  if not exists (
    select from unnest(ordinals) as o where times[o] < find_stored.received_at - interval '1 minute')
    and not core.is_sent_again(dpus[ordinals[1]], times[ordinals[1]], sequences[ordinals[1]]) then
    return;
  end if;
  v_late := array(
    select o
    from unnest(ordinals) as o
    join core.dpu_state s on s.dpu_id = dpus[o]
    where s.latest_time >= times[o]);
  if cardinality(v_late) = 0 then
    return;
  end if;
  select d.doubles, d.stored into v_found, v_directions from core.find_doubles(dpus, times, sequences, v_late) d;
  select
    coalesce(array_agg(f.ordinal) filter (where not f.is_contradicted), '{}'),
    coalesce(array_agg(f.direction) filter (where not f.is_contradicted), '{}'),
    coalesce(array_agg(f.ordinal) filter (where f.is_contradicted), '{}'),
    coalesce(array_agg(f.direction) filter (where f.is_contradicted), '{}')
  into doubles, stored, contradicted, contradicted_stored
  from (
    -- each of them is at least beside itself
    select d.ordinal, d.direction, bool_or(n.direction <> d.direction) as is_contradicted
    from unnest(v_found, v_directions) as d (ordinal, direction)
    join unnest(dpus, times, directions, sequences) as n (dpu_id, time, direction, sequence)
      on n.dpu_id = dpus[d.ordinal] and n.time = times[d.ordinal] and n.sequence = sequences[d.ordinal]
    group by d.ordinal, d.direction
  ) f;
end
$$;
comment on function core.find_stored(integer[], timestamptz[], integer[], smallint[], bigint[], timestamptz) is
'Which of the events, given as parallel arrays and by ordinals from 1, are stored already, and beside each the direction
that is stored. Takes no lock: what is stored stays stored. It may leave some out: it looks up none that is later than
all that its DPU reported before, and none at all where all are of the last minute and the first one is not stored.

contradicted: of which an event of the request has another direction; they are not among doubles. Such an event is a
sign of life of its DPU, so the caller has to lock the row of that DPU.';

create or replace function core.insert_events(
  dpus integer[],
  times timestamptz[],
  directions integer[],
  sequences smallint[],
  ordinals bigint[],
  received_at timestamptz
)
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  insert into core.event (time, lag_ms, dpu_id, direction, sequence)
  select times[o], core.get_lag_ms(times[o], received_at), dpus[o], directions[o], sequences[o]
  from unnest(ordinals) as o
$$;
comment on function core.insert_events(integer[], timestamptz[], integer[], smallint[], bigint[], timestamptz) is
'Inserts events, given as parallel arrays and by ordinals from 1. Errors: 23505 where one is stored already.';

create or replace function core.insert_late_events(
  dpus integer[],
  times timestamptz[],
  directions integer[],
  sequences smallint[],
  received_at timestamptz,
  late bigint[],
  known bigint[],
  known_stored integer[],
  inout ordinals bigint[],
  inout touching bigint[],
  inout turning bigint[],
  inout opening bigint[],
  inout doubles bigint[],
  inout stored integer[]
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_again bigint[] := known;
  v_stored integer[] := known_stored;
begin
  loop
    if cardinality(v_again) > 0 then
      update core.dpu_state s set cumulative_count = s.cumulative_count - n.net
      from (select dpus[o] as dpu_id, sum(directions[o]) as net from unnest(v_again) as o group by 1) n
      where s.dpu_id = n.dpu_id;
      ordinals := core.leave_out(ordinals, v_again);
      touching := core.leave_out(touching, v_again);
      turning := core.leave_out(turning, v_again);
      opening := core.leave_out(opening, v_again);
      doubles := doubles || v_again;
      stored := stored || v_stored;
    end if;
    begin
      perform core.insert_events(dpus, times, directions, sequences, ordinals, received_at);
      return;
    exception when unique_violation then
      -- one of them was stored after it was looked up, or was not looked up
      select d.doubles, d.stored into v_again, v_stored
      from core.find_doubles(dpus, times, sequences, core.leave_out(late, doubles)) d;
    end;
    if cardinality(v_again) = 0 then
      perform core.refuse_unfound();
    end if;
  end loop;
end
$$;
comment on function core.insert_late_events(integer[], timestamptz[], integer[], smallint[], timestamptz, bigint[],
  bigint[], integer[], bigint[], bigint[], bigint[], bigint[], bigint[], integer[]) is
'Inserts events, some of which may be stored already: the late ones. known, known_stored: which of them are known to be,
and beside them the direction that is stored. Moves those from ordinals to doubles and stored, and leaves them out of
touching, turning and opening. core.lock_dpus has counted them: takes them off dpu_state.cumulative_count again.';

create or replace function core.note_stored_seen(
  dpus integer[],
  times timestamptz[],
  directions integer[],
  sequences smallint[],
  ordinals bigint[],
  doubles bigint[],
  stored integer[],
  received_at timestamptz,
  backfill boolean
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_seen integer[];
  v_signs timestamptz[];
begin
  -- the receipt of what contradicts a stored event is a sign of life as well
  select array_agg(h.dpu_id), array_agg(h.sign) into v_seen, v_signs
  from (
    select n.dpu_id, max(n.sign) as sign
    from (
      select dpus[o] as dpu_id, case when times[o] <= note_stored_seen.received_at then times[o] end as sign
      from unnest(ordinals) as o
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
  perform core.note_late_seen(v_seen, v_signs, note_stored_seen.received_at, backfill);
end
$$;
comment on function core.note_stored_seen(integer[], timestamptz[], integer[], smallint[], bigint[], bigint[],
  integer[], timestamptz, boolean) is
'Takes in late or backfilled events, by their ordinals, as signs of life. doubles, stored: as core.find_doubles says.';

create or replace function core.move_live_flows(
  dpus integer[],
  times timestamptz[],
  directions integer[],
  touching bigint[]
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  update core.live_flow f set net = f.net + n.net
  from (
    select l.space_id, l.dpu_id, l.from_at,
      sum(case when l.until_at = 'infinity' then -directions[o]::bigint else directions[o] end) as net
    from unnest(touching) as o
    join core.live_flow l on l.dpu_id = dpus[o]
      -- an open part leaves out what came before it, one that is over takes what lies within
      and (case when l.until_at = 'infinity' then times[o] < l.from_at else times[o] >= l.from_at
        and times[o] < l.until_at end)
    group by l.space_id, l.dpu_id, l.from_at
  ) n
  where f.space_id = n.space_id and f.dpu_id = n.dpu_id and f.from_at = n.from_at;
end
$$;
comment on function core.move_live_flows(integer[], timestamptz[], integer[], bigint[]) is
'Brings live rows in line with new events, by their ordinals, that came from before an open part or within one that is
over.';

create or replace function core.lock_old_days(
  times timestamptz[],
  ordinals bigint[],
  received_at timestamptz
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_old timestamptz[];
begin
  -- those that may be compressed just now (core.compress_due), a day before they are due
  v_old := array(
    select distinct date_trunc('day', times[o], 'UTC') from unnest(ordinals) as o
    where times[o] < lock_old_days.received_at - interval '6 days');
  if cardinality(v_old) > 0 then
    perform core.lock_days(v_old);
  end if;
end
$$;
comment on function core.lock_old_days(timestamptz[], bigint[], timestamptz) is
'core.lock_days of those days of events, by their ordinals, of which the chunks may be compressed.';

create or replace function core.leave_out(
  ordinals bigint[],
  gone bigint[]
)
returns bigint[]
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return array(
    select n.ordinal from unnest(ordinals) with ordinality as n (ordinal, place)
    where n.ordinal not in (select unnest(gone))
    order by n.place);
end
$$;
comment on function core.leave_out(bigint[], bigint[]) is
'The ordinals that are not among those that are gone, in their order.';

create or replace function core.derive_stored(
  dpus integer[],
  times timestamptz[],
  turning bigint[],
  received integer[],
  received_at timestamptz
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform core.derive_signs(
    array(select dpus[o] from unnest(turning) as o where times[o] <= derive_stored.received_at) || received,
    array(select times[o] from unnest(turning) as o where times[o] <= derive_stored.received_at)
      || array_fill(derive_stored.received_at, array[cardinality(received)]),
    derive_stored.received_at);
end
$$;
comment on function core.derive_stored(integer[], timestamptz[], bigint[], integer[], timestamptz) is
'core.derive_signs with the device times of new events, by their ordinals, and with the receipt of those of some DPUs.';

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
  v_late bigint[];
  v_touching bigint[];
  v_turning bigint[];
  v_opening bigint[];
  v_received integer[];
  v_new integer[];
  v_contradicted bigint[];   -- that are stored with another direction, and beside them that direction
  v_contradicted_stored integer[];
begin
  doubles := '{}';
  stored := '{}';
  ordinals := array(
    select distinct on (n.dpu_id, n.time, n.sequence) n.ordinal
    from unnest(dpus, times, sequences) with ordinality as n (dpu_id, time, sequence, ordinal)
    where n.dpu_id is not null and n.time >= v_oldest and n.time <= v_latest and not core.is_clock_unset(n.time)
    order by n.dpu_id, n.time, n.sequence, n.ordinal);
  if cardinality(ordinals) < cardinality(dpus) and not backfill then
    v_refused := core.list_refused_dpus(dpus, times, v_oldest, v_latest, unread);
  end if;
  if cardinality(ordinals) = 0 and cardinality(v_refused) = 0 then
    return;
  end if;
  if exists (select from unnest(ordinals) as o where times[o] < store_events.received_at - interval '6 days') then
    perform core.lock_old_days(times, ordinals, store_events.received_at);
  end if;
  select f.* into doubles, stored, v_contradicted, v_contradicted_stored
  from core.find_stored(dpus, times, directions, sequences, ordinals, store_events.received_at) f;
  if cardinality(doubles) > 0 then
    ordinals := core.leave_out(ordinals, doubles);
  end if;
  select l.late, l.touching, l.turning, l.opening, l.turning_dpus, l.new_dpus
  into v_late, v_touching, v_turning, v_opening, v_received, v_new
  from core.lock_dpus(dpus, times, directions, store_events.received_at, ordinals, v_refused, backfill) l;
  if cardinality(v_new) > 0 then
    perform core.note_seen(v_new, store_events.received_at);
  end if;
  if cardinality(v_late) > 0 then
    select d.* into ordinals, v_touching, v_turning, v_opening, doubles, stored
    from core.insert_late_events(dpus, times, directions, sequences, store_events.received_at, v_late, v_contradicted,
      v_contradicted_stored, ordinals, v_touching, v_turning, v_opening, doubles, stored) d;
  else
    perform core.insert_events(dpus, times, directions, sequences, ordinals, store_events.received_at);
  end if;

  if cardinality(v_turning) > 0 or cardinality(v_received) > 0 then
    perform core.derive_stored(dpus, times, v_turning, v_received, store_events.received_at);
  end if;

  if cardinality(v_late) > 0 or backfill then
    perform core.note_stored_seen(
      dpus, times, directions, sequences, case when backfill then ordinals else v_late end, doubles, stored,
      store_events.received_at, backfill);
  end if;

  -- An ingest transaction is far shorter than the 15 minutes between this margin and that of core.refresh_rollups.
  -- Rollups are ahead of this margin only where the clock of the database was set back.
  insert into core.late_mark (dpu_id, bucket)
  select distinct dpus[o], public.time_bucket(interval '15 minutes', times[o])
  from unnest(ordinals) as o
  where times[o] < greatest(
    store_events.received_at - interval '15 minutes',
    (select greatest(s.materialized_until, s.goal_at) from core.rollup_state s));

  if cardinality(v_touching) > 0 then
    perform core.move_live_flows(dpus, times, directions, v_touching);
  end if;

  if cardinality(v_opening) > 0 then
    perform core.note_first_events(
      array(select dpus[o] from unnest(v_opening) as o), array(select times[o] from unnest(v_opening) as o),
      store_events.received_at);
  end if;
  if cardinality(ordinals) > 0 then
    perform core.note_change(
      dpus => array(select dpus[o] from unnest(ordinals) as o),
      latest_at => (select max(times[o]) from unnest(ordinals) as o));
  end if;
end
$$;
comment on function core.store_events(integer[], timestamptz[], integer[], smallint[], timestamptz, boolean,
  integer[]) is
'Stores new events, given as parallel arrays, with all that is derived from them at once.

ordinals (from 1): the events it stored; doubles: those that were stored before, and beside them in stored the direction
that they have. Of several with one identity the first is taken, and the others are in neither. Left out are events with
a null dpu_id, and those that core.judge_event refuses. The receipt of all but duplicates is a sign of life of their
DPUs, unless they are backfilled. unread: DPUs that sent what could not be decoded. The caller holds, shared, the lock
of the floor plan.';
