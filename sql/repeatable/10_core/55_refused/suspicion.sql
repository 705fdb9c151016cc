-- What they say about our own clock.

create or replace function core.list_clock_trust(
  dpus integer[],
  at timestamptz
)
returns table (dpu_id integer, trust integer)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select s.dpu_id, case
    when s.latest_time is null and s.last_heartbeat_at is null then 0
    when d.registered_at < list_clock_trust.at - interval '1 day' then 2
    when exists (
      select from core.placement p
      where p.dpu_id = s.dpu_id and p.superseded_at is null and p.during @> list_clock_trust.at) then 2
    else 1
  end
  from core.dpu_state s
  join core.dpu d on d.dpu_id = s.dpu_id
  where s.dpu_id = any (dpus)
$$;
comment on function core.list_clock_trust(integer[], timestamptz) is
'How far the clock of each of these DPUs can be trusted to judge ours at an instant. 2: an event or a heartbeat of it
was accepted before, and it is placed or was registered more than a day ago. 1: one was accepted before. 0: none was.

A client that may send events can invent any number of DPUs, and send an acceptable event of each: so 1 is worth
little.';

create or replace function core.list_ahead(
  from_at timestamptz,
  at timestamptz
)
returns setof integer
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with ahead as (
    select c.dpu_id, c.refused_at as ahead_at from core.dpu_clock c
    where c.code = 'in_future' and c.refused_at > from_at and c.refused_at <= list_ahead.at
      and c.refused_time < core.get_farthest_time(list_ahead.at)
    union all
    select c.dpu_id, c.suspected_at from core.dpu_clock c
    where c.suspected_at > from_at and c.suspected_at <= list_ahead.at
    union all
    select c.dpu_id, c.heartbeat_refused_at from core.dpu_clock c
    where c.heartbeat_code = 'in_future' and c.heartbeat_refused_at > from_at
      and c.heartbeat_refused_at <= list_ahead.at
      and c.heartbeat_time < core.get_farthest_time(list_ahead.at)
  )
  select a.dpu_id from ahead a group by a.dpu_id
$$;
comment on function core.list_ahead(timestamptz, timestamptz) is
'DPUs of which events or heartbeats came from ahead of our clock, after from_at and up to at.';

create or replace function core.count_ahead(
  sent integer[],
  from_at timestamptz,
  at timestamptz
)
returns table (dpu_id integer, number bigint)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with sign (dpu_id, number, is_noted) as (
    select n.dpu_id, 1, false from unnest(sent) as n (dpu_id)
    union all
    select d.dpu_id, 1, false
    from (
      select r.* from core.rejected_event r
      where r.received_at > from_at and r.received_at <= count_ahead.at
      order by r.received_at desc
      limit 10000
    ) r
    join core.dpu d on d.id = r.dpu
    where r.code = 'in_future' and r.is_within and r.time < core.get_farthest_time(count_ahead.at)
    union all
    -- not all of them are kept, or among the latest
    select c.dpu_id, 0, true from core.dpu_clock c
    where c.code = 'in_future' and c.refused_at > from_at and c.refused_at <= count_ahead.at
      and c.refused_time < core.get_farthest_time(count_ahead.at)
    union all
    select c.dpu_id, 1, false from core.dpu_clock c
    where c.suspected_at > from_at and c.suspected_at <= count_ahead.at
    union all
    select c.dpu_id, 1, false from core.dpu_clock c
    where c.heartbeat_code = 'in_future' and c.heartbeat_refused_at > from_at
      and c.heartbeat_refused_at <= count_ahead.at and c.heartbeat_time < core.get_farthest_time(count_ahead.at)
  )
  select g.dpu_id, greatest(sum(g.number), max(g.is_noted::integer)) from sign g group by g.dpu_id
$$;
comment on function core.count_ahead(integer[], timestamptz, timestamptz) is
'How many events of each DPU came from ahead of our clock after from_at and up to at: those that were refused, of the
latest 10,000, and those that came just now (sent: their DPUs, one for each). All that were told to come again count as
one, and so do heartbeats.';

create or replace function core.is_clock_set_back(at timestamptz)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$ select exists (select from core.listening l where l.until_at > is_clock_set_back.at + interval '1 minute') $$;
comment on function core.is_clock_set_back(timestamptz) is
'Whether the service noted that it listened at an instant that is still to come: what it noted itself cannot be from
later than now.';

create or replace function core.list_agreeing(
  dpus integer[],
  sent integer[],
  from_at timestamptz,
  at timestamptz
)
returns setof integer
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
begin
  -- a heartbeat tells what the clock shows: whatever the DPU says of the time of its events is wrong
  return query
  select s.dpu_id from core.dpu_state s
  where s.dpu_id = any (dpus) and s.agreed_at > from_at and s.agreed_at <= list_agreeing.at;
  -- our clock was set back: what was stored before agreed with what it showed then
  if core.is_clock_set_back(list_agreeing.at) then
    return;
  end if;
  return query
  select s.dpu_id
  from core.dpu_state s
  left join core.count_ahead(sent, from_at, list_agreeing.at) k on k.dpu_id = s.dpu_id
  where s.dpu_id = any (dpus) and s.latest_time > from_at - interval '5 minutes'
    and s.latest_time <= core.get_latest_time(list_agreeing.at)
    -- one more than came from ahead
    and exists (
      select from core.event e
      where e.dpu_id = s.dpu_id and e.time > from_at - interval '5 minutes'
        and e.time <= core.get_latest_time(list_agreeing.at) and abs(e.lag_ms) <= 300000
        and core.get_received_at(e.time, e.lag_ms) > from_at
        and core.get_received_at(e.time, e.lag_ms) <= list_agreeing.at
      offset coalesce(k.number, 0) limit 1);
end
$$;
comment on function core.list_agreeing(integer[], integer[], timestamptz, timestamptz) is
'Those of these DPUs that agreed with our clock after from_at and up to at: a heartbeat came with a time within 5
minutes of ours, or more events were stored with such a time than came from ahead.

sent: the DPUs of events from ahead that came just now, one for each event. Where our clock was set back, events say
nothing for it.';

create or replace function core.is_clock_suspect(
  dpus integer[],
  at timestamptz
)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_from timestamptz := is_clock_suspect.at - interval '1 minute';
  v_ahead integer[] := array(
    select core.list_ahead(v_from, is_clock_suspect.at)
    union
    select d from unnest(dpus) as d);
  v_others integer[];
begin
  if cardinality(v_ahead) < 3 then
    return false;
  end if;
  v_ahead := array(
    select unnest(v_ahead) except select core.list_agreeing(v_ahead, dpus, v_from, is_clock_suspect.at));
  if cardinality(v_ahead) < 3 then
    return false;
  end if;
  v_others := array(
    select d.dpu_id
    -- what was stored in the last minute, or in the latest transactions where those were many
    from (select * from core.change order by xid desc limit 2000) c
    cross join unnest(c.dpu_ids) as d (dpu_id)
    where c.changed_at > v_from and c.changed_at <= is_clock_suspect.at
    union
    -- and whose heartbeats agreed, or many of them: those that are known for longest, not those that were made up
    select h.dpu_id from (
      select s.dpu_id from core.dpu_state s
      where s.agreed_at > v_from and s.agreed_at <= is_clock_suspect.at
      order by s.dpu_id
      limit 2000
    ) h
    except select unnest(v_ahead));
  -- those whom we trust most decide: DPUs that were made up just now are heard only where there are no others
  return (
    select t.ahead >= 3 and t.ahead > t.others
    from (
      select c.trust, count(*) filter (where c.dpu_id = any (v_ahead)) as ahead, count(*)
        filter (where c.dpu_id <> all (v_ahead)) as others
      from core.list_clock_trust(v_ahead || v_others, is_clock_suspect.at) c
      group by c.trust
      order by c.trust desc
      limit 1
    ) t);
end
$$;
comment on function core.is_clock_suspect(integer[], timestamptz) is
'Whether it may be our clock that is wrong: of the DPUs of the last minute at least three, and more than half, are ahead
of it. A DPU is ahead if events or heartbeats of it came from ahead, unless it agrees (core.list_agreeing): so a few odd
events do not outweigh what else it sends. dpus: of the events from ahead that came just now, one for each event.

DPUs of the last minute are those that were ahead, those of which events were stored, and those of which heartbeats
agreed with our clock. Only those count that are trusted most (core.list_clock_trust).';

create or replace function core.is_suspicion_confirmed(
  since_at timestamptz,
  at timestamptz
)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
declare
  v_from timestamptz := greatest(since_at - interval '1 minute', is_suspicion_confirmed.at - interval '1 hour');
  v_ahead integer[];
begin
  if core.is_clock_set_back(is_suspicion_confirmed.at) then
    return true;
  end if;
  v_ahead := array(select core.list_ahead(v_from, is_suspicion_confirmed.at));
  v_ahead := array(
    select c.dpu_id from core.list_clock_trust(v_ahead, is_suspicion_confirmed.at) c where c.trust = 2
    except select core.list_agreeing(v_ahead, '{}', is_suspicion_confirmed.at - interval '10 minutes',
      is_suspicion_confirmed.at));
  if cardinality(v_ahead) < 10 then
    return false;
  end if;
  return cardinality(v_ahead) > (
    select count(*)
    from core.list_clock_trust(array(
      select s.dpu_id from core.dpu_state s
      where s.last_seen_at > since_at - interval '1 hour' and s.retired_at is null
      except select unnest(v_ahead)), is_suspicion_confirmed.at) c
    where c.trust = 2);
end
$$;
comment on function core.is_suspicion_confirmed(timestamptz, timestamptz) is
'Whether there is more evidence against our clock than a few DPUs that may share one clock: the service noted that it
listened at an instant that is still to come, so our clock was set back; or at least 10 DPUs, and more than half of all
that are live, are ahead.

since_at: when the suspicion began. Live are DPUs that were heard since an hour before that. Ahead are those that were
so since then, or in the last hour, unless they agreed in the last 10 minutes (core.list_agreeing). Only DPUs that are
trusted fully count (core.list_clock_trust).';

create or replace function core.is_suspicion_over(at timestamptz)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from core.clock_suspicion s
    where not s.is_confirmed and s.judged_at <= is_suspicion_over.at + interval '1 minute'
      and case
        -- it goes on
        when s.judged_at > is_suspicion_over.at - interval '2 minutes'
          then s.since_at <= is_suspicion_over.at - interval '10 minutes'
        when s.judged_at > is_suspicion_over.at - interval '1 hour'
          then s.since_at <= s.judged_at - interval '10 minutes'
      end)
$$;
comment on function core.is_suspicion_over(timestamptz) is
'Whether our clock was suspected for 10 minutes and more, and nothing confirmed it: then events from ahead are refused
one by one again.';

create or replace function core.note_suspicion(at timestamptz)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_old core.clock_suspicion := (select s from core.clock_suspicion s);
  v_since timestamptz := note_suspicion.at;
begin
  if v_old.judged_at > note_suspicion.at - interval '1 hour'
    and v_old.judged_at <= note_suspicion.at + interval '1 minute' then
    if v_old.judged_at > note_suspicion.at - interval '10 seconds' then
      return;
    end if;
    -- only time under suspicion counts
    if v_old.judged_at > note_suspicion.at - interval '2 minutes'
      or v_old.since_at <= v_old.judged_at - interval '10 minutes' then
      v_since := least(v_old.since_at, v_since);
    end if;
  end if;
  insert into core.clock_suspicion as s (since_at, judged_at, is_confirmed)
  values (v_since, note_suspicion.at, core.is_suspicion_confirmed(v_since, note_suspicion.at))
  on conflict (is_only) do update set
    since_at = excluded.since_at, judged_at = excluded.judged_at, is_confirmed = excluded.is_confirmed;
end
$$;
comment on function core.note_suspicion(timestamptz) is
'Notes that our clock is suspected at an instant, and every 10 seconds whether anything confirms that. After 2 minutes
without suspicion another one begins, where it lasted 10 minutes after an hour, and also where our clock was set back
since.';
