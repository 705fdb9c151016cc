-- Signs of life, and the outages that they end, cut or undo: see listening.sql.

create or replace function core.find_stretches(
  dpus integer[],
  signs timestamptz[],
  listened_until timestamptz,
  listened bigint,
  out ordinals bigint[],
  out old bigint[],
  out is_open boolean,
  out stretch_dpus integer[],
  out outages bigint[],
  out seconds integer[],
  out seen_ats timestamptz[],
  out counteds timestamptz[],
  out backs timestamptz[],
  out offlines timestamptz[]
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  with located as materialized (
    -- the stretch into which each sign falls; none, if it changes nothing
    select
      n.ordinal, n.dpu_id, n.at, o.outage_id,
      coalesce(o.offline_after_seconds, s.offline_after_seconds, core.get_offline_after()) as seconds,
      case when o.outage_id is not null then greatest(o.heard_at, o.counted_from) else s.armed_at end as armed_at,
      case
        when o.outage_id is not null then o.heard_at
        when s.earlier_seen_at is null or n.at < f.first_at then '-infinity'
        -- later than that where an outage ended since with no sign: its silence stopped to count
        when n.at > s.earlier_seen_at then greatest(s.earlier_seen_at, s.steady_from)
      end as low,
      case
        when o.outage_id is not null then coalesce(o.back_at, 'infinity')
        when s.earlier_seen_at is null or n.at > s.earlier_seen_at then 'infinity'
        else f.first_at
      end as high
    from unnest(dpus, signs) with ordinality as n (dpu_id, at, ordinal)
    join core.dpu_state s on s.dpu_id = n.dpu_id
    left join lateral (select min(g.at) as first_at from core.first_sign g where g.dpu_id = n.dpu_id) f on true
    left join lateral (
      select p.outage_id, p.heard_at, p.back_at, p.offline_after_seconds, p.counted_from
      from core.outage p
      where p.dpu_id = n.dpu_id and p.superseded_at is null and p.heard_at < n.at
      order by p.heard_at desc
      limit 1
    ) o on o.back_at is null or o.back_at > n.at
  ),
  point as (
    select l.dpu_id, l.low, l.outage_id, l.seconds, l.armed_at, l.at from located l where l.low is not null
    union
    select l.dpu_id, l.low, l.outage_id, l.seconds, l.armed_at, l.low from located l where l.low is not null
    union
    select l.dpu_id, l.low, l.outage_id, l.seconds, l.armed_at, l.high from located l where l.low is not null
  ),
  piece as (
    -- armed_at null: no silence counts
    select
      p.dpu_id, p.outage_id, p.seconds, p.at as heard_at, greatest(p.at, p.armed_at) as counted_from,
      p.armed_at is not null as is_armed,
      lead(p.at) over (partition by p.dpu_id, p.low order by p.at) as back_at
    from point p
  ),
  judged as (
    select
      p.dpu_id, p.outage_id, p.seconds, p.heard_at, p.counted_from, p.back_at, o.offline_at,
      p.is_armed and p.back_at < 'infinity' and
        find_stretches.listened - h.listened
          + core.to_microseconds(greatest(p.counted_from, listened_until), p.back_at) > p.seconds * bigint '1000000'
      as is_long
    from piece p
    left join lateral core.list_offline_at(p.counted_from, p.seconds) o on p.is_armed
    cross join lateral core.get_listened(p.counted_from) h
    where p.heard_at > '-infinity' and p.back_at is not null
  )
  select
    (select coalesce(array_agg(l.ordinal), '{}') from located l where l.low is not null),
    (select coalesce(array_agg(distinct l.outage_id), '{}') from located l where l.outage_id is not null),
    array_agg(j.dpu_id), array_agg(j.outage_id), array_agg(j.seconds), array_agg(j.heard_at),
    array_agg(j.counted_from), array_agg(j.back_at), array_agg(j.offline_at),
    coalesce(bool_or(
      j.offline_at is null and j.back_at > listened_until and j.is_long), false)
  into ordinals, old, stretch_dpus, outages, seconds, seen_ats, counteds, backs, offlines, is_open
  from judged j;
end
$$;
comment on function core.find_stretches(integer[], timestamptz[], timestamptz, bigint) is
'The stretches of time between two signs next to each other that new signs, given as parallel arrays, make.

listened_until, listened: until when it is settled who listened, and how long somebody had by then, in microseconds.
ordinals (from 1): the signs that change anything; old: the outages into which they fall. The other arrays lie beside
each other, an element for each stretch: its DPU, the outage it was part of (null: none), the threshold in seconds, the
sign it begins with, from when on silence counts, the sign it ends with (infinity: none yet), and when the DPU went
offline in it (null: it did not). is_open: whether that depends on time of which it is not settled who listened.';

create or replace function core.replace_outages(
  replaced bigint[],
  dpus integer[],
  outages bigint[],
  seconds integer[],
  seen_ats timestamptz[],
  counteds timestamptz[],
  backs timestamptz[],
  offlines timestamptz[],
  received_at timestamptz
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_recorded_at timestamptz;
begin
  -- what it replaces may have been recorded while this one waited
  v_recorded_at := greatest(received_at,
    (select max(o.recorded_at) from core.outage o where o.outage_id = any (replaced)));
  with old as (
    update core.outage o set superseded_at = v_recorded_at
    where o.outage_id = any (replaced)
    returning o.outage_id, o.incident_id, o.detected_at
  )
  insert into core.outage (
    dpu_id, heard_at, counted_from, offline_at, back_at, offline_after_seconds, recorded_at, detected_at, incident_id,
    pending)
  select
    p.dpu_id, p.heard_at, p.counted_from, p.offline_at, nullif(p.back_at, 'infinity'), p.seconds,
    v_recorded_at, coalesce(o.detected_at, v_recorded_at), o.incident_id,
    -- An incident is brought in line with all of its outages at once: the latest part of one is enough. What has none
    -- and had been over for long gets none.
    p.back_at = max(p.back_at) over (partition by p.outage_id)
      or o.incident_id is null and p.back_at > coalesce(o.detected_at, v_recorded_at) - interval '1 minute'
  from unnest(dpus, outages, seconds, seen_ats, counteds, backs, offlines)
    as p (dpu_id, outage_id, seconds, heard_at, counted_from, back_at, offline_at)
  left join old o on o.outage_id = p.outage_id
  where p.offline_at < p.back_at;
  -- of an outage that is gone the incident has to be told
  update core.outage o
  set pending = o.incident_id is not null and not exists (
    select
    from unnest(outages, backs, offlines) as p (outage_id, back_at, offline_at)
    where p.outage_id = o.outage_id and p.offline_at < p.back_at)
  where o.outage_id = any (replaced);
end
$$;
comment on function core.replace_outages(bigint[], integer[], bigint[], integer[], timestamptz[],
  timestamptz[], timestamptz[], timestamptz[], timestamptz) is
'Puts the stretches of core.find_stretches in which a DPU was offline in the place of the old outages.';

create or replace function core.derive_signs(
  dpus integer[],
  signs timestamptz[],
  received_at timestamptz
)
returns bigint[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- planned once a connection, maybe while nothing had been heard yet
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  v_is_locked boolean := false;
  v_listened_until timestamptz;
  v_listened bigint;
  v_is_open boolean;
  v_found bigint[];
  v_old bigint[];
  v_offline integer[] := array(select s.dpu_id from core.dpu_state s where s.dpu_id = any (dpus)
    and s.offline_at is not null);
  -- stretches between two signs, as they are now
  v_dpus integer[];
  v_outages bigint[];
  v_seen_ats timestamptz[];
  v_counteds timestamptz[];
  v_backs timestamptz[];
  v_seconds integer[];
  v_offlines timestamptz[];
begin
  loop
    select l.until_at, l.heard_before + core.to_microseconds(l.from_at, l.until_at) into v_listened_until, v_listened
    from core.listening l
    order by l.from_at desc
    limit 1;

    select
      f.ordinals, f.old, f.is_open, f.stretch_dpus, f.outages, f.seconds, f.seen_ats, f.counteds, f.backs, f.offlines
    into v_found, v_old, v_is_open, v_dpus, v_outages, v_seconds, v_seen_ats, v_counteds, v_backs, v_offlines
    from core.find_stretches(dpus, signs, v_listened_until, v_listened) f;

    exit when v_is_locked or not v_is_open;
    -- Whether somebody listened in between is not settled yet. Who takes in a sign listens.
    perform core.lock_outage();
    v_is_locked := true;
    perform core.extend_listening(received_at);
  end loop;
  if cardinality(v_found) = 0 then
    return v_found;
  end if;

  perform core.replace_outages(
    v_old, v_dpus, v_outages, v_seconds, v_seen_ats, v_counteds, v_backs, v_offlines, received_at);

  insert into core.first_sign (dpu_id, at, recorded_at)
  select n.dpu_id, min(n.at), derive_signs.received_at
  from unnest(v_found) as u (ordinal)
  join lateral (select dpus[u.ordinal] as dpu_id, signs[u.ordinal] as at) n on true
  group by n.dpu_id
  having min(n.at) < coalesce((select min(f.at) from core.first_sign f where f.dpu_id = n.dpu_id), 'infinity');

  update core.dpu_state s set offline_at = n.offline_at, steady_from = n.steady_from
  from (
    select
      d.dpu_id, case when o.back_at is null then o.offline_at end as offline_at,
      greatest((select min(f.at) from core.first_sign f where f.dpu_id = d.dpu_id),
        coalesce(o.back_at, o.heard_at)) as steady_from
    from (select distinct unnest(dpus) as dpu_id) d
    left join lateral (
      select p.offline_at, p.back_at, p.heard_at
      from core.outage p
      where p.dpu_id = d.dpu_id and p.superseded_at is null
      order by p.heard_at desc
      limit 1
    ) o on true
  ) n
  where s.dpu_id = n.dpu_id and (s.offline_at, s.steady_from) is distinct from (n.offline_at, n.steady_from);

  perform core.note_change(flipped => (
    select array_agg(s.dpu_id)
    from core.dpu_state s
    where s.dpu_id = any (dpus) and (s.earlier_seen_at is null
      or (s.offline_at is not null) <> (s.dpu_id = any (v_offline)))));
  return v_found;
end
$$;
comment on function core.derive_signs(integer[], timestamptz[], timestamptz) is
'Brings outages in line with new signs of life, given as parallel arrays in any order, and returns the ordinals (from 1)
of those that changed anything. The caller holds the rows of these DPUs in core.dpu_state, where earlier_seen_at is what
was known before. No sign is later than received_at.';

create or replace function core.note_seen(
  dpus integer[],
  received_at timestamptz,
  is_receipt boolean default true
)
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  update core.dpu_state s set
    first_heard_at = case when is_receipt then coalesce(s.first_heard_at, note_seen.received_at)
      else s.first_heard_at end,
    armed_at = coalesce(s.armed_at, case
      when (is_receipt or s.first_heard_at is not null) and (s.offline_after_seconds is not null or s.sends_heartbeats)
        then note_seen.received_at
    end)
  where s.dpu_id = any (dpus)
$$;
comment on function core.note_seen(integer[], timestamptz, boolean) is
'Notes that DPUs were heard for the first time (is_receipt), or sent heartbeats for the first time, and arms those whose
silence counts from now on. The caller holds their rows in core.dpu_state.';

create or replace function core.note_late_seen(
  dpus integer[],
  signs timestamptz[],
  received_at timestamptz,
  backfill boolean
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- the few rows by their key, however many it was planned for
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  v_new integer[];
  v_turning integer[];
begin
  with state as (
    update core.dpu_state s set
      last_seen_at = greatest(s.last_seen_at, n.sign, case when not backfill then note_late_seen.received_at end),
      earlier_seen_at = greatest(s.last_seen_at, n.sign)
    from unnest(dpus, signs) as n (dpu_id, sign)
    where s.dpu_id = n.dpu_id and (
      s.last_seen_at is null or s.last_seen_at < n.sign
      or (not backfill and (s.last_seen_at < note_late_seen.received_at or s.first_heard_at is null)))
    returning
      s.dpu_id, s.first_heard_at is null as is_new,
      s.offline_at is not null or s.earlier_seen_at is null or (s.armed_at is not null
        and s.last_seen_at - s.earlier_seen_at
          >= coalesce(s.offline_after_seconds, core.get_offline_after()) * interval '1 second') as is_turning
  )
  select coalesce(array_agg(s.dpu_id) filter (where s.is_new), '{}'),
    coalesce(array_agg(s.dpu_id) filter (where s.is_turning), '{}')
  into v_new, v_turning
  from state s;
  if not backfill and cardinality(v_new) > 0 then
    perform core.note_seen(v_new, received_at);
  end if;
  if not backfill and cardinality(v_turning) > 0 then
    perform core.derive_signs(v_turning, array_fill(received_at, array[cardinality(v_turning)]), received_at);
  end if;
end
$$;
comment on function core.note_late_seen(integer[], timestamptz[], timestamptz, boolean) is
'Takes in messages as signs of life once it is known that they are not duplicates. signs: beside each DPU the latest
sign at device time, which was settled already; null: none. Their receipt is a sign as well, and settled here, unless
they are backfilled. The caller holds the rows of these DPUs in core.dpu_state.';

create or replace function core.end_silence(
  dpus integer[],
  at timestamptz
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if cardinality(dpus) > 0 then
    update core.dpu_state s set earlier_seen_at = s.last_seen_at where s.dpu_id = any (dpus);
    perform core.derive_signs(dpus, array_fill(end_silence.at, array[cardinality(dpus)]), end_silence.at);
  end if;
end
$$;
comment on function core.end_silence(integer[], timestamptz) is
'Ends the outages of DPUs that have been heard, from an instant on at which their silence stops to count. It works as a
sign of life would, but is none. at: now. The caller holds core.lock_plan, or their rows in core.dpu_state, and goes on
with what makes their silence not count.';
comment on column core.outage.heard_at is
'The last sign of life before, or when the silence before that stopped to count, if that was later.';

create or replace function core.take_heartbeats(
  dpus integer[],
  times timestamptz[],
  received_at timestamptz,
  refused integer[],
  backfill boolean,
  are_own boolean[],
  are_away boolean[],
  out news bigint[],
  out turning bigint[],
  out seen integer[],
  out received integer[],
  out unarmed integer[]
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
      last_heartbeat_at = greatest(s.last_heartbeat_at, n.latest),
      earlier_heartbeat_at = s.last_heartbeat_at,
      last_seen_at = greatest(s.last_seen_at, n.latest, case
        when n.is_live and (n.is_refused or s.last_heartbeat_at is null or n.latest > s.last_heartbeat_at)
          then take_heartbeats.received_at
      end),
      earlier_seen_at = s.last_seen_at,
      agreed_at = case when n.agrees and n.is_live then take_heartbeats.received_at else s.agreed_at end,
      sends_heartbeats = s.sends_heartbeats or not n.is_away
    from (
      select a.dpu_id, min(a.at) as first, max(a.at) as latest, array_agg(a.ordinal)
        filter (where a.ordinal is not null) as ordinals,
        bool_or(a.ordinal is null) as is_refused,
        bool_or(a.is_own and a.at > take_heartbeats.received_at - interval '5 minutes') as agrees,
        bool_or(a.is_away) as is_away, not take_heartbeats.backfill and not bool_or(a.is_away) as is_live
      from (
        select h.dpu_id, h.at, h.is_own, coalesce(h.is_away, false) as is_away, h.ordinal
        from unnest(dpus, times, are_own, are_away) with ordinality as h (dpu_id, at, is_own, is_away, ordinal)
        where h.dpu_id is not null
        union all
        select r.dpu_id, null, false, false, null from unnest(refused) as r (dpu_id)
      ) a
      group by 1
      order by 1
    ) n
    where s.dpu_id = n.dpu_id
      and (n.is_refused or n.latest > s.last_heartbeat_at or s.last_heartbeat_at is null or n.first < s.steady_from
        or s.offline_at is not null)
    returning
      s.dpu_id, n.ordinals, s.earlier_heartbeat_at, s.armed_at, n.is_away,
      n.is_live and (n.is_refused or s.earlier_heartbeat_at is null
        or n.latest > s.earlier_heartbeat_at) as is_seen,
      s.offline_at is not null or s.earlier_seen_at is null or n.first < s.steady_from
        or s.last_seen_at - s.earlier_seen_at
          >= coalesce(s.offline_after_seconds, core.get_offline_after()) * interval '1 second' as is_turning
  )
  select
    coalesce(array_agg(o) filter (where s.earlier_heartbeat_at is null or times[o] > s.earlier_heartbeat_at), '{}'),
    coalesce(array_agg(o) filter (where s.is_turning), '{}'),
    (select coalesce(array_agg(h.dpu_id), '{}') from state h where h.is_seen),
    (select coalesce(array_agg(h.dpu_id), '{}') from state h where h.is_seen and h.is_turning),
    (select coalesce(array_agg(h.dpu_id), '{}') from state h where h.armed_at is null and not h.is_away)
  into news, turning, seen, received, unarmed
  from state s
  cross join lateral unnest(s.ordinals) as o;
end
$$;
comment on function core.take_heartbeats(
  integer[], timestamptz[], timestamptz, integer[], boolean, boolean[], boolean[]) is
'Locks the rows of the DPUs of core.note_dpus_seen in core.dpu_state and notes their heartbeats there. Returns ordinals
(from 1) of heartbeats: news, newer than the latest one; turning, which may change outages. And DPUs: seen, whose
receipt is a sign of life; received, those of them whose outages it may change; unarmed. A function of its own, since
its settings would hold for whatever else is called.';

create or replace function core.note_dpus_seen(
  dpus integer[],
  times timestamptz[],
  received_at timestamptz,
  refused integer[] default '{}',
  backfill boolean default false,
  are_own boolean[] default '{}',
  are_away boolean[] default '{}'
)
returns bigint[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_news bigint[];
  v_turning bigint[];
  v_found bigint[];
  v_received integer[];   -- DPUs whose receipt is settled with the heartbeats
  v_seen integer[];      -- all whose receipt is a sign
  v_unarmed integer[];
begin
  select t.news, t.turning, t.seen, t.received, t.unarmed
  into v_news, v_turning, v_seen, v_received, v_unarmed
  from core.take_heartbeats(dpus, times, received_at, refused, backfill, are_own, are_away) t;

  if cardinality(v_unarmed) > 0 then
    perform core.note_seen(array(select unnest(v_unarmed) intersect select unnest(v_seen)), received_at);
    perform core.note_seen(v_unarmed, received_at, is_receipt => false);
  end if;
  if cardinality(v_turning) > 0 or cardinality(v_received) > 0 then
    v_found := core.derive_signs(
      array(select dpus[o] from unnest(v_turning) as o) || v_received,
      array(select times[o] from unnest(v_turning) as o) || array_fill(received_at, array[cardinality(v_received)]),
      received_at);
    v_found := array(select v_turning[f] from unnest(v_found) as f where f <= cardinality(v_turning));
    v_news := array(select unnest(v_news) union select unnest(v_found));
    if not backfill then
      -- older than the latest one, but not known
      v_received := array(
        select distinct dpus[o] from unnest(v_found) as o where are_away[o] is not true except select unnest(v_seen));
      if cardinality(v_received) > 0 then
        perform core.note_late_seen(
          v_received, array_fill(null::timestamptz, array[cardinality(v_received)]), received_at,
          false);
      end if;
    end if;
  end if;
  return v_news;
end
$$;
comment on function core.note_dpus_seen(
  integer[], timestamptz[], timestamptz, integer[], boolean, boolean[], boolean[]) is
'Takes in heartbeats, given as parallel arrays (null for dpu_id: left out), and returns the ordinals (from 1) of those
that changed anything: newer than the latest one, or within what was taken for an outage. times: none later than
received_at. refused: DPUs that sent others, which cannot be taken in. are_own: beside each time whether the DPU gave
it; such a one that is no more than 5 minutes old agrees with our clock. The receipt of both is a sign of life, unless
they are backfilled. are_away: the same, of whether the DPU is out of reach of who sent it by now: such heartbeats are
signs at their own times only, and arm nothing. A DPU of those is in no other of the heartbeats, nor in refused. The
caller holds, shared, the lock of the floor plan.';
