-- Storing events.

create or replace function core.may_turn(
  earlier_seen_at timestamptz,
  seen_at timestamptz,
  offline_at timestamptz,
  armed_at timestamptz,
  seconds integer
)
returns boolean
language sql immutable
as $$
  select offline_at is not null or earlier_seen_at is null or (armed_at is not null
    and seen_at - earlier_seen_at >= coalesce(seconds, core.get_offline_after()) * interval '1 second')
$$;
comment on function core.may_turn(timestamptz, timestamptz, timestamptz, timestamptz, integer) is
'Whether a sign of life may change outages of a DPU, by the columns of core.dpu_state: it is offline, is new, or was
silent for its threshold before. Inlined by the planner: no search_path of its own.';

create or replace function core.add_to_dpus(
  dpus integer[],
  nets bigint[],
  firsts timestamptz[],
  lasts timestamptz[],
  pasts timestamptz[],
  received_at timestamptz,
  backfill boolean,
  out has_late boolean,
  out is_special boolean
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
      -- What is backfilled is a sign at its own time only: core.note_late_seen comes after.
      last_seen_at = greatest(s.last_seen_at, case when not backfill then add_to_dpus.received_at end),
      earlier_seen_at = s.last_seen_at
    from unnest(dpus, nets, firsts, lasts, pasts) as n (dpu_id, net, first, latest, past)
    where s.dpu_id = n.dpu_id
    returning
      n.first <= s.earlier_time as is_late,
      n.first < s.live_from or n.first < s.first_from or s.first_heard_at is null
        or least(n.first, add_to_dpus.received_at) < s.steady_from
        or core.may_turn(s.earlier_seen_at, greatest(s.last_seen_at, n.past), s.offline_at, s.armed_at,
          s.offline_after_seconds) as is_special
  )
  select coalesce(bool_or(s.is_late), false), coalesce(bool_or(s.is_special), false)
  into has_late, is_special
  from state s;
end
$$;
comment on function core.add_to_dpus(integer[], bigint[], timestamptz[], timestamptz[], timestamptz[], timestamptz,
  boolean) is
'Adds what events of DPUs come to, given as parallel arrays in the order of dpu_id, to core.dpu_state, and holds those
rows until the transaction ends. Meanwhile no other transaction stores events of these DPUs.

nets: the sum of directions; firsts, lasts: the earliest and the latest device time; pasts: the latest that is not
ahead. All null: nothing of the DPU can be stored. The receipt is a sign of life of all these DPUs, unless they are
backfilled. has_late: some may be stored already, being no later than the latest one of their DPU. is_special: there is
more to do for some. core.list_special_events says which.';

create or replace function core.list_special_events(
  dpus integer[],
  times timestamptz[],
  ordinals bigint[],
  refused integer[],
  received_at timestamptz,
  backfill boolean,
  out late bigint[],
  out touching bigint[],
  out turning bigint[],
  out opening bigint[],
  out turning_dpus integer[],
  out new_dpus integer[]
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- the rows by their key, however many there are
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_bitmapscan = off
as $$
#variable_conflict use_column
begin
  with state as materialized (
    select
      s.dpu_id, n.first, s.earlier_time, s.live_from, s.first_from, n.ordinals, s.first_heard_at is null as is_new,
      least(n.first, list_special_events.received_at) < s.steady_from as is_before,
      core.may_turn(s.earlier_seen_at, greatest(s.last_seen_at, n.past), s.offline_at, s.armed_at,
        s.offline_after_seconds) as is_turning
    from (
      select a.dpu_id, min(a.time) as first, array_agg(a.ordinal) as ordinals,
        max(a.time) filter (where a.time <= list_special_events.received_at) as past
      from (
        select dpus[o] as dpu_id, times[o] as time, o as ordinal from unnest(ordinals) as o
        union all
        select r, null, null from unnest(refused) as r
      ) a
      group by a.dpu_id
    ) n
    join core.dpu_state s on s.dpu_id = n.dpu_id
  )
  select
    coalesce(array_agg(o) filter (where times[o] <= s.earlier_time), '{}'),
    coalesce(array_agg(o) filter (where times[o] < s.live_from), '{}'),
    coalesce(array_agg(o) filter (where s.is_turning or s.is_before), '{}'),
    coalesce(array_agg(o) filter (where times[o] < s.first_from), '{}'),
    (select coalesce(array_agg(h.dpu_id), '{}') from state h where h.is_turning and not backfill),
    (select coalesce(array_agg(h.dpu_id), '{}') from state h where h.is_new and not backfill)
  into late, touching, turning, opening, turning_dpus, new_dpus
  from state s
  cross join lateral unnest(s.ordinals) as o
  where o is not null and (s.first <= s.earlier_time or s.first < s.live_from or s.is_turning or s.is_before
    or s.first < s.first_from);
end
$$;
comment on function core.list_special_events(integer[], timestamptz[], bigint[], integer[], timestamptz, boolean) is
'For which of the events that core.add_to_dpus has just added there is more to do: of parallel arrays, those of the
ordinals (from 1).

late: they may be stored already, being no later than the latest one; touching: core.live_flow has to be told of them;
turning: they are of DPUs that may not have been online all the time, for core.derive_signs; opening: they may be the
first of a placement, for core.note_first_events; turning_dpus: such DPUs, where the receipt is a sign of life too;
new_dpus: DPUs that were not heard before. refused: DPUs of further events, which cannot be stored.';

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
as $$
#variable_conflict use_column
declare
  v_dpus integer[];
  v_nets bigint[];
  v_firsts timestamptz[];
  v_lasts timestamptz[];
  v_pasts timestamptz[];
  v_has_late boolean;
  v_is_special boolean;
begin
  select array_agg(n.dpu_id), array_agg(n.net), array_agg(n.first), array_agg(n.latest), array_agg(n.past)
  into v_dpus, v_nets, v_firsts, v_lasts, v_pasts
  from (
    select a.dpu_id, sum(a.direction) as net, min(a.time) as first, max(a.time) as latest,
      max(a.time) filter (where a.time <= lock_dpus.received_at) as past
    from (
      select dpus[o] as dpu_id, directions[o] as direction, times[o] as time from unnest(lock_dpus.ordinals) as o
      union all
      select r, 0, null from unnest(refused) as r
    ) a
    group by a.dpu_id
    order by a.dpu_id
  ) n;
  select a.has_late, a.is_special into v_has_late, v_is_special
  from core.add_to_dpus(v_dpus, v_nets, v_firsts, v_lasts, v_pasts, lock_dpus.received_at, backfill) a;
  if v_has_late or v_is_special then
    select e.late, e.touching, e.turning, e.opening, e.turning_dpus, e.new_dpus
    into late, touching, turning, opening, turning_dpus, new_dpus
    from core.list_special_events(dpus, times, ordinals, refused, lock_dpus.received_at, backfill) e;
  end if;
end
$$;
comment on function core.lock_dpus(integer[], timestamptz[], integer[], timestamptz, bigint[], integer[], boolean) is
'Adds events, given as parallel arrays and by ordinals from 1, to the sums in core.dpu_state (core.add_to_dpus), and
says for which of them there is more to do (core.list_special_events; nulls: for none). The caller takes back
(core.insert_late_events, core.take_back_seen) what comes of events that turn out to be stored already.';

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

create or replace function core.find_stored(
  dpus integer[],
  times timestamptz[],
  directions integer[],
  sequences smallint[],
  ordinals bigint[],
  received_at timestamptz,
  is_again boolean,
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
  v_late bigint[] := ordinals;
  v_found bigint[];
  v_directions integer[];
begin
  doubles := '{}';
  stored := '{}';
  contradicted := '{}';
  contradicted_stored := '{}';
  if exists (select from unnest(ordinals) as o where times[o] < core.get_compressible_until(received_at)) then
    v_late := array(
      select o
      from unnest(ordinals) as o
      join core.dpu_state s on s.dpu_id = dpus[o]
      where s.latest_time >= times[o]);
  elsif not (is_again or core.is_sent_again(dpus, times, sequences, ordinals)) then
    return;
  end if;
  if cardinality(v_late) = 0 then
    return;
  end if;
  select d.doubles, d.stored into v_found, v_directions from core.find_doubles(dpus, times, sequences, v_late) d;
  if cardinality(ordinals) = cardinality(dpus)
    and not exists (select from unnest(v_found, v_directions) as d (o, direction) where directions[o] <> direction) then
    -- no two have one identity
    doubles := v_found;
    stored := v_directions;
    return;
  end if;
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
comment on function core.find_stored(integer[], timestamptz[], integer[], smallint[], bigint[], timestamptz, boolean) is
'Which of the events, given as parallel arrays and by ordinals from 1, are stored already, and beside each the direction
that is stored. Takes no lock: what is stored stays stored. It may leave some out. Where all are of the last days, whose
chunks are not compressed, it looks up all of them if is_again or core.is_sent_again, and else none. Otherwise it looks
up none that is later than all that its DPU reported before.

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
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into core.event (time, lag_ms, dpu_id, direction, sequence)
  select times[o], core.get_lag_ms(times[o], received_at), dpus[o], directions[o], sequences[o]
  from unnest(ordinals) as o;
end
$$;
comment on function core.insert_events(integer[], timestamptz[], integer[], smallint[], bigint[], timestamptz) is
'Inserts events, given as parallel arrays and by ordinals from 1. Errors: 23505 where one is stored already.';

create or replace function core.insert_late_events(
  dpus integer[],
  times timestamptz[],
  directions integer[],
  sequences smallint[],
  received_at timestamptz,
  backfill boolean,
  refused integer[],
  late bigint[],
  known bigint[],
  known_stored integer[],
  inout ordinals bigint[],
  inout touching bigint[],
  inout turning bigint[],
  inout opening bigint[],
  inout turning_dpus integer[],
  inout new_dpus integer[],
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
  v_before integer := cardinality(doubles);
  v_unseen integer[];
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
      exit;
    exception when unique_violation then
      -- one of them was stored after it was looked up, or was not looked up
      select d.doubles, d.stored into v_again, v_stored
      from core.find_doubles(dpus, times, sequences, core.leave_out(late, doubles)) d;
    end;
    if cardinality(v_again) = 0 then
      perform core.refuse_unfound();
    end if;
  end loop;
  if cardinality(doubles) > v_before and not backfill then
    v_unseen := core.take_back_seen(
      dpus, times, directions, sequences, ordinals, doubles[v_before + 1:], stored[v_before + 1:], refused);
    turning_dpus := array(select unnest(turning_dpus) except select unnest(v_unseen));
    new_dpus := array(select unnest(new_dpus) except select unnest(v_unseen));
  end if;
end
$$;
comment on function core.insert_late_events(integer[], timestamptz[], integer[], smallint[], timestamptz, boolean,
  integer[], bigint[], bigint[], integer[], bigint[], bigint[], bigint[], bigint[], integer[], integer[], bigint[],
  integer[]) is
'Inserts events, some of which may be stored already: the late ones. known, known_stored: which of them are known to be,
and beside them the direction that is stored. Moves those from ordinals to doubles and stored, and leaves them out of
touching, turning and opening. core.lock_dpus has counted them: takes them off dpu_state.cumulative_count again, and
leaves out of turning_dpus and new_dpus the DPUs that sent nothing else (core.take_back_seen, with refused).';

create or replace function core.note_backfilled_seen(
  dpus integer[],
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
  v_seen integer[];
  v_signs timestamptz[];
begin
  select array_agg(n.dpu_id), array_agg(n.sign) into v_seen, v_signs
  from (
    select dpus[o] as dpu_id, max(times[o]) filter (where times[o] <= note_backfilled_seen.received_at) as sign
    from unnest(ordinals) as o
    group by 1
  ) n;
  perform core.note_late_seen(v_seen, v_signs, note_backfilled_seen.received_at, true);
end
$$;
comment on function core.note_backfilled_seen(integer[], timestamptz[], bigint[], timestamptz) is
'Takes in backfilled events, by their ordinals, as signs of life at their own times.';

create or replace function core.take_back_seen(
  dpus integer[],
  times timestamptz[],
  directions integer[],
  sequences smallint[],
  ordinals bigint[],
  doubles bigint[],
  stored integer[],
  refused integer[]
)
returns integer[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_unseen integer[];
begin
  v_unseen := array(
    select dpus[o] from unnest(doubles) as o
    except select dpus[o] from unnest(ordinals) as o
    except select unnest(refused)
    -- the receipt of what contradicts a stored event is a sign of life as well
    except
    select n.dpu_id
    from unnest(doubles, stored) as d (ordinal, direction)
    join unnest(dpus, times, sequences, directions) as n (dpu_id, time, sequence, direction)
      on n.dpu_id = dpus[d.ordinal] and n.time = times[d.ordinal] and n.sequence = sequences[d.ordinal]
    where n.direction <> d.direction);
  update core.dpu_state s set last_seen_at = s.earlier_seen_at where s.dpu_id = any (v_unseen);
  return v_unseen;
end
$$;
comment on function core.take_back_seen(integer[], timestamptz[], integer[], smallint[], bigint[], bigint[],
  integer[], integer[]) is
'Takes back that core.lock_dpus took the receipt of events for a sign of life of DPUs of which all turned out to be
duplicates, and returns these DPUs. ordinals: the events that were stored; doubles, stored: as core.find_doubles says,
of the events that core.lock_dpus was given; refused: as there. The caller holds the rows of these DPUs.';

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
  with event as materialized (
    select dpus[o] as dpu_id, times[o] as time, directions[o]::bigint as direction from unnest(touching) as o
  ),
  -- few, however many spaces have them: those above one another have the same
  part as materialized (
    select distinct l.dpu_id, l.from_at, l.until_at
    from (select distinct e.dpu_id from event e) d
    join core.live_flow l on l.dpu_id = d.dpu_id
  ),
  bound as (
    select p.dpu_id, p.from_at as at from part p
    union
    select p.dpu_id, p.until_at from part p where p.until_at < 'infinity'
  ),
  -- what comes before each bound
  behind as materialized (
    select r.dpu_id, r.at, r.net
    from (
      select m.dpu_id, m.at, m.is_event,
        sum(m.direction) over (partition by m.dpu_id order by m.at, m.is_event rows unbounded preceding) as net
      from (
        select b.dpu_id, b.at, 0::bigint as direction, false as is_event from bound b
        union all
        select e.dpu_id, e.time, e.direction, true from event e
      ) m
    ) r
    where not r.is_event
  )
  update core.live_flow f set net = f.net + n.net
  from (
    -- an open part leaves out what came before it, one that is over takes what lies within
    select p.dpu_id, p.from_at, p.until_at, coalesce(u.net, 0) - b.net as net
    from part p
    join behind b on b.dpu_id = p.dpu_id and b.at = p.from_at
    left join behind u on u.dpu_id = p.dpu_id and u.at = p.until_at
  ) n
  where n.net <> 0 and f.dpu_id = n.dpu_id and f.from_at = n.from_at and f.until_at = n.until_at;
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
  v_old := array(
    select distinct date_trunc('day', times[o], 'UTC') from unnest(ordinals) as o
    where times[o] < core.get_compressible_until(lock_old_days.received_at));
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

create or replace function core.mark_late(
  dpus integer[],
  times timestamptz[],
  directions integer[],
  ordinals bigint[],
  received_at timestamptz
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- each mark by its key, however many there are; no reason to compile
set enable_seqscan = off
set jit = off
as $$
begin
  -- An ingest transaction is far shorter than the 15 minutes between this margin and that of core.refresh_rollups.
  -- Rollups are ahead of this margin only where the clock of the database was set back.
  with brought as materialized (
    select
      n.dpu_id, n.bucket, sum(n.direction) as net,
      coalesce(sum(n.direction) filter (where n.time = n.bucket), 0) as net_at_start,
      sum(greatest(n.direction, 0)) as towards, sum(greatest(-n.direction::bigint, 0)) as away,
      sum(n.direction * extract(epoch from n.time - n.bucket) * 1000000) as moment
    from (
      select
        dpus[o] as dpu_id, times[o] as time, directions[o] as direction,
        public.time_bucket(interval '15 minutes', times[o]) as bucket
      from unnest(ordinals) as o
      where times[o] < greatest(
        mark_late.received_at - interval '15 minutes',
        (select greatest(s.materialized_until, s.goal_at, s.totals_until) from core.rollup_state s))
    ) n
    group by n.dpu_id, n.bucket
  ),
  free as materialized (
    select b.dpu_id, b.bucket, f.place
    from brought b
    cross join lateral (
      select m.ctid as place
      from core.late_mark m
      where m.dpu_id = b.dpu_id and m.bucket = b.bucket and m.net is not null
      limit 1
      for update skip locked
    ) f
  ),
  added as (
    update core.late_mark m set
      net = m.net + b.net, net_at_start = m.net_at_start + b.net_at_start, towards = m.towards + b.towards,
      away = m.away + b.away, moment = m.moment + b.moment, xid = pg_current_xact_id()
    from free f
    join brought b on b.dpu_id = f.dpu_id and b.bucket = f.bucket
    where m.ctid = f.place
    returning m.dpu_id, m.bucket
  )
  insert into core.late_mark (dpu_id, bucket, net, net_at_start, towards, away, moment)
  select b.dpu_id, b.bucket, b.net, b.net_at_start, b.towards, b.away, b.moment
  from brought b
  where not exists (select from added a where a.dpu_id = b.dpu_id and a.bucket = b.bucket);
end
$$;
comment on function core.mark_late(integer[], timestamptz[], integer[], bigint[], timestamptz) is
'Marks for core.refresh_rollups the quarter-hours of new events, by their ordinals, that rollups may hold already; with
what the events add to them.';

create or replace function core.store_at_once(
  dpus integer[],
  times timestamptz[],
  directions integer[],
  sequences smallint[],
  received_at timestamptz,
  out ordinals bigint[],
  out touching bigint[],
  out turning bigint[],
  out opening bigint[],
  out turning_dpus integer[],
  out new_dpus integer[],
  out is_again boolean
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_oldest timestamptz := greatest(core.get_first_taken(), core.get_compressible_until(received_at));
  v_latest timestamptz := core.get_latest_time(received_at);
  v_number integer := cardinality(dpus);
  v_dpus integer[];
  v_nets bigint[];
  v_firsts timestamptz[];
  v_lasts timestamptz[];
  v_pasts timestamptz[];
  v_storable bigint;
  v_is_special boolean;
begin
  select array_agg(n.dpu_id), array_agg(n.net), array_agg(n.first), array_agg(n.latest), array_agg(n.past),
    sum(n.number)
  into v_dpus, v_nets, v_firsts, v_lasts, v_pasts, v_storable
  from (
    select e.dpu_id, sum(e.direction) as net, min(e.time) as first, max(e.time) as latest,
      max(e.time) filter (where e.time <= store_at_once.received_at) as past, count(*) as number
    from unnest(dpus, times, directions) as e (dpu_id, time, direction)
    where e.time >= v_oldest and e.time <= v_latest and not core.is_clock_unset(e.time)
    group by e.dpu_id
    order by e.dpu_id
  ) n;
  is_again := false;
  if v_storable is distinct from v_number then
    return;
  end if;
  if core.get_near_time(received_at) < any (v_lasts) and cardinality(core.list_surplus_ahead(
    dpus, times, array(select generate_series(1::bigint, v_number)), store_at_once.received_at)) > 0
  then
    return;
  end if;
  is_again := core.is_sent_again(dpus, times, sequences, array[1, (v_number + 1) / 2, v_number]);
  if is_again then
    return;
  end if;

  begin
    select a.is_special into v_is_special
    from core.add_to_dpus(v_dpus, v_nets, v_firsts, v_lasts, v_pasts, store_at_once.received_at, false) a;
    insert into core.event (time, lag_ms, dpu_id, direction, sequence)
    select e.time, core.get_lag_ms(e.time, store_at_once.received_at), e.dpu_id, e.direction, e.sequence
    from unnest(dpus, times, directions, sequences) as e (dpu_id, time, direction, sequence);
  exception when unique_violation then
    -- nothing of this has happened
    is_again := true;
    return;
  end;
  ordinals := array(select generate_series(1, v_number));
  if v_is_special then
    select e.touching, e.turning, e.opening, e.turning_dpus, e.new_dpus
    into touching, turning, opening, turning_dpus, new_dpus
    from core.list_special_events(dpus, times, ordinals, '{}', store_at_once.received_at, false) e;
  end if;
end
$$;
comment on function core.store_at_once(integer[], timestamptz[], integer[], smallint[], timestamptz) is
'Stores events, given as parallel arrays, if all of them can be stored and none is stored yet, as it is with most
requests: nothing is looked up, but the primary key tells. ordinals: those of all; null where it has done nothing, since
some cannot be stored, are too many ahead, are so old that they may be compressed, or come twice or are stored already
(is_again). The others are what core.list_special_events says; nulls: nothing. The caller has a dpu_id for each event.';

create or replace function core.store_new(
  dpus integer[],
  times timestamptz[],
  directions integer[],
  sequences smallint[],
  received_at timestamptz,
  backfill boolean,
  unread integer[],
  is_again boolean,
  out ordinals bigint[],
  out doubles bigint[],
  out stored integer[],
  out touching bigint[],
  out turning bigint[],
  out opening bigint[],
  out turning_dpus integer[],
  out new_dpus integer[]
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  -- core.judge_event as bounds: no function call a row
  v_oldest timestamptz := core.get_first_taken();
  v_latest timestamptz := core.get_latest_time(store_new.received_at);
  v_refused integer[] := case when backfill then '{}' else unread end;   -- DPUs of events that cannot be stored
  v_is_ahead boolean;
  v_surplus bigint[];        -- that are ahead, as too many are
  v_late bigint[];
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
  if exists (select from unnest(ordinals) as o where times[o] < core.get_compressible_until(received_at)) then
    perform core.lock_old_days(times, ordinals, store_new.received_at);
  end if;
  -- Of a DPU with too many ahead all are looked up: what is stored is none of them.
  v_is_ahead := exists (select from unnest(ordinals) as o where times[o] > core.get_near_time(store_new.received_at));
  select f.* into doubles, stored, v_contradicted, v_contradicted_stored
  from core.find_stored(dpus, times, directions, sequences, ordinals, store_new.received_at, is_again or (v_is_ahead
    and cardinality(core.list_surplus_ahead(dpus, times, ordinals, store_new.received_at)) > 0)) f;
  if cardinality(doubles) = cardinality(ordinals) then
    ordinals := '{}';
  elsif cardinality(doubles) > 0 then
    ordinals := core.leave_out(ordinals, doubles);
  end if;
  if v_is_ahead then
    v_surplus := core.list_surplus_ahead(
      dpus, times, core.leave_out(ordinals, v_contradicted), store_new.received_at);
    ordinals := core.leave_out(ordinals, v_surplus);
    if not backfill then
      v_refused := array(select distinct unnest(v_refused || array(select dpus[o] from unnest(v_surplus) as o)));
    end if;
  end if;
  if cardinality(ordinals) = 0 and cardinality(v_refused) = 0 then
    return;
  end if;
  select l.late, l.touching, l.turning, l.opening, l.turning_dpus, l.new_dpus
  into v_late, touching, turning, opening, turning_dpus, new_dpus
  from core.lock_dpus(dpus, times, directions, store_new.received_at, ordinals, v_refused, backfill) l;
  if cardinality(v_late) > 0 then
    select d.ordinals, d.touching, d.turning, d.opening, d.turning_dpus, d.new_dpus, d.doubles, d.stored
    into ordinals, touching, turning, opening, turning_dpus, new_dpus, doubles, stored
    from core.insert_late_events(dpus, times, directions, sequences, store_new.received_at, backfill, v_refused,
      v_late, v_contradicted, v_contradicted_stored, ordinals, touching, turning, opening, turning_dpus, new_dpus,
      doubles, stored) d;
  else
    perform core.insert_events(dpus, times, directions, sequences, ordinals, store_new.received_at);
  end if;
end
$$;
comment on function core.store_new(integer[], timestamptz[], integer[], smallint[], timestamptz, boolean, integer[],
  boolean) is
'Stores those events, given as parallel arrays, that can be stored and are not yet: looks up, locks and inserts. The
first arguments and results are those of core.store_events, the others what core.list_special_events says; nulls:
nothing. is_again: some seem to be stored already.';

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
  v_touching bigint[];
  v_turning bigint[];
  v_opening bigint[];
  v_received integer[];
  v_new integer[];
  v_is_again boolean := false;
begin
  if not backfill and cardinality(unread) = 0 and array_position(dpus, null) is null then
    select a.ordinals, a.touching, a.turning, a.opening, a.turning_dpus, a.new_dpus, a.is_again
    into ordinals, v_touching, v_turning, v_opening, v_received, v_new, v_is_again
    from core.store_at_once(dpus, times, directions, sequences, store_events.received_at) a;
    doubles := '{}';
    stored := '{}';
  end if;
  if ordinals is null then
    select n.ordinals, n.doubles, n.stored, n.touching, n.turning, n.opening, n.turning_dpus, n.new_dpus
    into ordinals, doubles, stored, v_touching, v_turning, v_opening, v_received, v_new
    from core.store_new(
      dpus, times, directions, sequences, store_events.received_at, backfill, unread, v_is_again) n;
  end if;

  if cardinality(v_new) > 0 then
    perform core.note_seen(v_new, store_events.received_at);
  end if;
  if cardinality(v_turning) > 0 or cardinality(v_received) > 0 then
    perform core.derive_stored(dpus, times, v_turning, v_received, store_events.received_at);
  end if;
  if backfill then
    perform core.note_backfilled_seen(dpus, times, ordinals, store_events.received_at);
  end if;
  if cardinality(ordinals) = 0 then
    return;
  end if;
  perform core.mark_late(dpus, times, directions, ordinals, store_events.received_at);
  if cardinality(v_touching) > 0 then
    perform core.move_live_flows(dpus, times, directions, v_touching);
  end if;
  if cardinality(v_opening) > 0 then
    perform core.note_first_events(
      array(select dpus[o] from unnest(v_opening) as o), array(select times[o] from unnest(v_opening) as o),
      store_events.received_at);
  end if;
  perform core.note_change(
    dpus => case when cardinality(ordinals) = cardinality(dpus) then dpus
      else array(select dpus[o] from unnest(ordinals) as o) end,
    latest_at => (select max(times[o]) from unnest(ordinals) as o));
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
