-- What was refused, and what that says of the clock of a DPU, or of ours.

create or replace function core.shorten_body(body text)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case when length(body) > 1100
    then left(body, 1000) || format(' … (the first of %s characters)', to_char(length(body), 'FM999,999,999'))
    else body
  end
$$;
comment on function core.shorten_body(text) is
'The text of something refused as it is kept: its first 1,000 characters. Services shorten it themselves, and leave room here for what they say of it.';

create or replace function core.get_max_refused(
  is_limited boolean,
  is_within boolean
)
returns integer
language sql immutable
as $$ select case when not is_within then 10000 when is_limited then 100000 else 1000000 end $$;
comment on function core.get_max_refused(boolean, boolean) is
'How many refused events of a family of tokens are kept in an hour: of DPUs that it does not reach (is_within: false), of a limited family, or of any other. Inlined by the planner: no search_path of its own.';

create or replace function core.get_max_refused_of_dpu()
returns integer
language sql immutable
as $$ select 100000 $$;
comment on function core.get_max_refused_of_dpu() is
'How many refused events of a DPU are kept in an hour. Inlined by the planner: no search_path of its own.';

create or replace function core.list_event_senders(
  senders text[],
  sender_sizes integer[]
)
returns text[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select array(
    select coalesce(s.sender, nullif(current_setting('headcount.token', true), ''))
    from unnest(senders, sender_sizes) with ordinality as s (sender, size, ordinal)
    cross join generate_series(1, s.size) as n (place)
    order by s.ordinal, n.place)
$$;
comment on function core.list_event_senders(text[], integer[]) is
'The token that sent each event, from the tokens and how many each sent, in their order; null for those that came without one.';

create or replace function core.are_reached_by_senders(
  senders text[],
  dpus integer[],
  times timestamptz[]
)
returns boolean[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with sender as materialized (
    select t.id, array(select core.list_subtree(t.space_id)) as within
    from core.token t
    where t.id = any (senders) and t.space_id is not null
  ),
  seen as materialized (
    select s.id, p.dpu_id, range_agg(p.during) as during
    from sender s
    join core.doorway w on w.side_a_id = any (s.within) or w.side_b_id = any (s.within)
    join core.placement p on p.doorway_id = w.doorway_id
    where p.superseded_at is null and p.dpu_id = any (dpus)
    group by s.id, p.dpu_id
  )
  select coalesce(array_agg(s.id is null or coalesce(e.during @> n.time, false) order by n.ordinal), '{}')
  from unnest(senders, dpus, times) with ordinality as n (sender, dpu_id, time, ordinal)
  left join sender s on s.id = n.sender
  left join seen e on e.id = n.sender and e.dpu_id = n.dpu_id
$$;
comment on function core.are_reached_by_senders(text[], integer[], timestamptz[]) is
'Whether the token that sent an event can report it, for each of the events in parallel arrays: it is not limited to a space, or the DPU hung above a doorway within its space at that time. A token that is no good any more reaches what it reached: the caller decides.';

create or replace function core.refuse_events(
  received_at timestamptz,
  codes text[],
  details text[],
  dpus text[],
  times timestamptz[],
  directions integer[],
  sequences smallint[],
  bodies text[],
  tokens text[],
  are_within boolean[]
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  with sender as materialized (
    select n.token, coalesce(core.get_family(n.token), 0) as family_id,
      exists (select from core.token t where t.id = n.token and t.space_id is not null) as is_limited
    from (select distinct n.token from unnest(tokens) as n (token)) n
  ),
  refused as materialized (
    select distinct on (r.digest) r.*
    from (
      select n.code, n.detail, n.dpu, n.time, n.direction, n.sequence, core.shorten_body(n.body) as body, n.token, n.is_within,
        -- what one token sends never stands in the way of what another one sends
        sha256(convert_to((jsonb_build_array(
          n.code, n.dpu, extract(epoch from n.time), n.direction, n.sequence, n.body)
          || case when n.token is null then '[]' else jsonb_build_array(n.token) end)::text, 'UTF8')) as digest
      from unnest(codes, details, dpus, times, directions, sequences, bodies, tokens, are_within)
        as n (code, detail, dpu, time, direction, sequence, body, token, is_within)
    ) r
    where not exists (select from core.rejected_event k where k.digest = r.digest)
    order by r.digest
  ),
  placed as materialized (
    select r.*, s.family_id,
      row_number() over (partition by s.family_id, r.is_within order by r.digest) + coalesce(f.count, 0)
        <= core.get_max_refused(s.is_limited, r.is_within)
      and (r.dpu is null or not r.is_within
        or row_number() over (partition by r.dpu, r.is_within order by r.digest) + coalesce(d.count, 0)
          <= core.get_max_refused_of_dpu()) as is_kept
    from refused r
    join sender s on s.token is not distinct from r.token
    left join core.refused_of_family f
      on f.family_id = s.family_id and f.is_within = r.is_within and f.hour = date_trunc('hour', refuse_events.received_at, 'UTC')
    left join core.refused_of_dpu d on d.dpu = r.dpu and d.hour = date_trunc('hour', refuse_events.received_at, 'UTC')
  ),
  kept as (
    insert into core.rejected_event
      (digest, received_at, code, detail, dpu, time, direction, sequence, body, token, is_within)
    select p.digest, refuse_events.received_at, p.code, p.detail, p.dpu, p.time, p.direction, p.sequence, p.body, p.token, p.is_within
    from placed p
    where p.is_kept
    order by p.digest
    on conflict (digest) do nothing
    returning dpu, token, is_within
  ),
  -- in order, so that two transactions never wait for each other
  of_dpus as (
    insert into core.refused_of_dpu as c (dpu, hour, count)
    select k.dpu, date_trunc('hour', refuse_events.received_at, 'UTC'), count(*)
    from kept k
    where k.dpu is not null and k.is_within
    group by k.dpu
    order by k.dpu
    on conflict (dpu, hour) do update set count = c.count + excluded.count
    returning 1
  ),
  of_families as (
    insert into core.refused_of_family as c (family_id, hour, is_within, count)
    select s.family_id, date_trunc('hour', refuse_events.received_at, 'UTC'), k.is_within, count(*)
    from kept k
    join sender s on s.token is not distinct from k.token
    -- all of the DPUs before any of the families
    where (select count(*) from of_dpus) >= 0
    group by s.family_id, k.is_within
    order by s.family_id, k.is_within
    on conflict (family_id, hour, is_within) do update set count = c.count + excluded.count
    returning 1
  )
  insert into core.dropped_refusal as d (kind, count)
  select 'event', count(*)
  from placed p
  where not p.is_kept and (select count(*) from of_families) >= 0
  having count(*) > 0
  on conflict (kind) do update set count = d.count + excluded.count;
end
$$;
comment on function core.refuse_events(timestamptz, text[], text[], text[], timestamptz[], integer[], smallint[], text[], text[], boolean[]) is
'Keeps refused events with their reasons, from parallel arrays; each once, however often its token sends it.

tokens: who sent them (null: nobody known). are_within: false for what a limited token sent of DPUs beyond its reach. What is beyond core.get_max_refused and core.get_max_refused_of_dpu in an hour is dropped and counted; transactions at the same time may keep a little more.';

create or replace function core.note_clocks(
  received_at timestamptz,
  dpus integer[],
  times timestamptz[],
  verdicts text[]
)
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  -- in the order of dpu_id, so that two transactions never wait for each other
  insert into core.dpu_clock as c
    (dpu_id, refused_at, refused_time, code, repeated_time, repeated_from, repeated_until, repeats, conflicts)
  select n.dpu_id, n.refused_at, n.refused_time, n.code, n.time,
    case when n.is_repeat then note_clocks.received_at end, case when n.is_repeat then note_clocks.received_at end,
    n.is_repeat::integer, n.conflicts
  from (
    select n.dpu_id,
      case when bool_or(n.is_clock) then note_clocks.received_at end as refused_at,
      min(n.time) filter (where n.is_clock) as refused_time,
      max(n.verdict) filter (where n.is_clock) as code,
      case when min(n.time) filter (where n.is_repeat) = max(n.time) filter (where n.is_repeat) then
        max(n.time) filter (where n.is_repeat)
      end as time,
      bool_or(n.is_repeat) as is_repeat,
      count(*) filter (where n.verdict = 'conflict')::integer as conflicts
    from (
      select n.*, n.verdict in ('duplicate', 'conflict') as is_repeat,
        n.verdict in ('in_future', 'clock_unset') or (n.verdict = 'too_old' and n.time < core.get_horizon()) as is_clock
      from unnest(dpus, times, verdicts) as n (dpu_id, time, verdict)
    ) n
    where n.dpu_id is not null and (n.is_repeat or n.is_clock)
    group by n.dpu_id
    order by n.dpu_id
  ) n
  on conflict (dpu_id) do update set
    refused_at = coalesce(excluded.refused_at, c.refused_at),
    refused_time = coalesce(excluded.refused_time, c.refused_time),
    code = coalesce(excluded.code, c.code),
    repeated_time = case when excluded.repeats > 0 then excluded.repeated_time else c.repeated_time end,
    repeated_from = case when excluded.repeated_time = c.repeated_time or excluded.repeats = 0
      then c.repeated_from else excluded.repeated_from end,
    repeated_until = coalesce(excluded.repeated_until, c.repeated_until),
    repeats = case when excluded.repeated_time = c.repeated_time or excluded.repeats = 0
      then c.repeats + excluded.repeats else excluded.repeats end,
    conflicts = case when excluded.repeated_time = c.repeated_time or excluded.repeats = 0
      then c.conflicts + excluded.conflicts else excluded.conflicts end
$$;
comment on function core.note_clocks(timestamptz, integer[], timestamptz[], text[]) is
'Notes in core.dpu_clock what the verdicts of one message, given as parallel arrays, say of the clocks of its DPUs: refusals for their time, and events of one instant that come again. Others are left out.';

create or replace function core.note_heartbeat_clocks(
  received_at timestamptz,
  dpus integer[],
  times timestamptz[],
  verdicts text[]
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_right integer[];
begin
  -- in the order of dpu_id, so that two transactions never wait for each other
  if verdicts && array['in_future', 'clock_unset', 'too_old'] then
    insert into core.dpu_clock as c (dpu_id, heartbeat_refused_at, heartbeat_code, heartbeat_time)
    select n.dpu_id, note_heartbeat_clocks.received_at, max(n.verdict), max(n.time)
    from unnest(dpus, times, verdicts) as n (dpu_id, time, verdict)
    where n.dpu_id is not null and n.verdict in ('in_future', 'clock_unset', 'too_old')
    group by n.dpu_id
    order by n.dpu_id
    on conflict (dpu_id) do update set
      heartbeat_refused_at = excluded.heartbeat_refused_at, heartbeat_code = excluded.heartbeat_code,
      heartbeat_time = excluded.heartbeat_time;
  end if;
  -- rare: most have no row. Where somebody else is at it, the next heartbeat comes soon.
  v_right := array(
    select c.dpu_id
    from core.dpu_clock c
    where c.heartbeat_refused_at is not null and c.dpu_id in (
      select n.dpu_id from unnest(dpus, times, verdicts) as n (dpu_id, time, verdict)
      where n.time is not null
      group by n.dpu_id
      having bool_and(n.verdict is null))
    for update skip locked);
  if cardinality(v_right) > 0 then
    update core.dpu_clock c set heartbeat_refused_at = null, heartbeat_code = null, heartbeat_time = null
    where c.dpu_id = any (v_right);
  end if;
end
$$;
comment on function core.note_heartbeat_clocks(timestamptz, integer[], timestamptz[], text[]) is
'Notes in core.dpu_clock what the verdicts on heartbeats, given as parallel arrays, say of the clocks of their DPUs: refusals for their time, and that they are over for DPUs of which all that have a time were accepted. A heartbeat without a time says nothing of a clock.';

create or replace function core.get_clock(
  clock core.dpu_clock,
  latest_time timestamptz
)
returns text
language sql immutable
as $$
  select case
    -- a later event was accepted since: the clock goes
    when clock.refused_at > coalesce(latest_time, '-infinity') then
      case clock.code when 'in_future' then 'ahead' when 'clock_unset' then 'unset' else 'behind' end
    when clock.heartbeat_refused_at > coalesce(latest_time, '-infinity') then
      case clock.heartbeat_code when 'in_future' then 'ahead' when 'clock_unset' then 'unset' else 'behind' end
    when clock.repeated_time = latest_time and clock.repeated_until > clock.repeated_time + interval '1 minute'
      and (clock.conflicts >= 2 or (clock.repeats >= 5 and clock.repeated_until > clock.repeated_from + interval '10 minutes'))
      then 'stuck'
    else 'ok'
  end
$$;
comment on function core.get_clock(core.dpu_clock, timestamptz) is
'What is known of the clock of a DPU, by its row of core.dpu_clock (null: none) and the instant of its latest event: ahead, unset or behind, where an event or a heartbeat was refused for that, and no event with a later time (of a heartbeat: nor a heartbeat with a time) was accepted since; stuck, where later messages come with the instant of the latest event; else ok. A client that sends one event again and again is taken for stuck after 10 minutes. Inlined by the planner: no search_path of its own.';

create or replace function core.get_farthest_time(at timestamptz)
returns timestamptz
language sql stable
as $$ select at + interval '100 years' $$;
comment on function core.get_farthest_time(timestamptz) is
'No clock of ours is behind by so much: what is from ahead of this instant speaks against the clock of the DPU alone. Inlined by the planner: no search_path of its own.';

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
'How much the clock of each of these DPUs says of ours at an instant: 2, an event or a heartbeat of it was accepted before, and it is placed or was registered more than a day ago; 1, one was accepted before; 0, none was.

Whoever may send events can invent any number of DPUs, and send an event of each that is accepted.';

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
    where c.heartbeat_code = 'in_future' and c.heartbeat_refused_at > from_at and c.heartbeat_refused_at <= list_ahead.at
      and c.heartbeat_time < core.get_farthest_time(list_ahead.at)
  )
  select a.dpu_id from ahead a group by a.dpu_id
$$;
comment on function core.list_ahead(timestamptz, timestamptz) is
'DPUs of which events or heartbeats came from ahead of our clock, after from_at and up to at.';

create or replace function core.list_agreeing(
  dpus integer[],
  from_at timestamptz,
  at timestamptz
)
returns setof integer
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select s.dpu_id from core.dpu_state s
  where s.dpu_id = any (dpus) and s.agreed_at > from_at and s.agreed_at <= list_agreeing.at
$$;
comment on function core.list_agreeing(integer[], timestamptz, timestamptz) is
'Those of these DPUs of which a heartbeat came whose own time agreed with our clock, after from_at and up to at.';

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
  -- One whose heartbeats agree with our clock has a clock that goes: what it says of the time of its events is wrong.
  v_ahead := array(select unnest(v_ahead) except select core.list_agreeing(v_ahead, v_from, is_clock_suspect.at));
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
      select c.trust, count(*) filter (where c.dpu_id = any (v_ahead)) as ahead, count(*) filter (where c.dpu_id <> all (v_ahead)) as others
      from core.list_clock_trust(v_ahead || v_others, is_clock_suspect.at) c
      group by c.trust
      order by c.trust desc
      limit 1
    ) t);
end
$$;
comment on function core.is_clock_suspect(integer[], timestamptz) is
'Whether it may be our clock that is wrong: of the DPUs of the last minute at least three, and more than half, sent events or heartbeats from ahead of it. dpus: those that did so just now.

DPUs of the last minute are those that were ahead, those of which events were stored, and those of which heartbeats agreed with our clock. Only those count that are trusted most (core.list_clock_trust).';

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
  -- what we noted ourselves cannot be from later than now
  if exists (select from core.listening l where l.until_at > is_suspicion_confirmed.at + interval '1 minute') then
    return true;
  end if;
  v_ahead := array(select core.list_ahead(v_from, is_suspicion_confirmed.at));
  v_ahead := array(
    select c.dpu_id from core.list_clock_trust(v_ahead, is_suspicion_confirmed.at) c where c.trust = 2
    except select core.list_agreeing(v_ahead, is_suspicion_confirmed.at - interval '10 minutes', is_suspicion_confirmed.at));
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
'Whether more speaks against our clock than a few DPUs that may have one clock between them: the service noted that it listened at an instant that is still to come, so our clock was set back; or at least 10 DPUs, and more than half of all that are live, are ahead.

since_at: when the suspicion began. Live are DPUs that were heard since an hour before that. Ahead are those that were so since then, or in the last hour, unless a heartbeat agreed in the last 10 minutes. Only DPUs that are trusted fully count (core.list_clock_trust).';

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
        when s.judged_at > is_suspicion_over.at - interval '2 minutes' then s.since_at <= is_suspicion_over.at - interval '10 minutes'
        when s.judged_at > is_suspicion_over.at - interval '1 hour' then s.since_at <= s.judged_at - interval '10 minutes'
      end)
$$;
comment on function core.is_suspicion_over(timestamptz) is
'Whether our clock was suspected for 10 minutes and more, and nothing confirmed it: then events from ahead are refused one by one again.';

create or replace function core.note_suspicion(at timestamptz)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_old core.clock_suspicion := (select s from core.clock_suspicion s);
  v_since timestamptz := note_suspicion.at;
begin
  if v_old.judged_at > note_suspicion.at - interval '1 hour' and v_old.judged_at <= note_suspicion.at + interval '1 minute' then
    if v_old.judged_at > note_suspicion.at - interval '10 seconds' then
      return;
    end if;
    -- only time under suspicion counts
    if v_old.judged_at > note_suspicion.at - interval '2 minutes' or v_old.since_at <= v_old.judged_at - interval '10 minutes' then
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
'Notes that our clock is suspected at an instant, and every 10 seconds whether anything confirms that. After 2 minutes without suspicion another one begins, where it lasted 10 minutes after an hour, and also where our clock was set back since.';

create or replace function core.drop_refused()
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_before timestamptz := clock_timestamp() - interval '30 days';
  v_events bigint;
  v_polls bigint;
begin
  delete from core.rejected_event r
  where r.digest in (
    select o.digest from core.rejected_event o where o.received_at < v_before order by o.received_at limit 100000);
  get diagnostics v_events = row_count;
  delete from core.rejected_poll r
  where r.digest in (
    select o.digest from core.rejected_poll o where o.received_at < v_before order by o.received_at limit 100000);
  get diagnostics v_polls = row_count;
  delete from core.refused_of_dpu c where c.hour < clock_timestamp() - interval '26 hours';
  delete from core.refused_of_family c where c.hour < clock_timestamp() - interval '2 hours';
  insert into core.dropped_refusal as d (kind, count)
  select n.kind, n.count from (values ('event', v_events), ('poll', v_polls)) as n (kind, count) where n.count > 0
  on conflict (kind) do update set count = d.count + excluded.count;
end
$$;
comment on function core.drop_refused() is
'Drops events and polls that were refused more than 30 days ago, up to 100,000 of each at a time, and counts them.';

create or replace function core.list_seen_periods()
returns table (dpu text, during tstzrange)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select d.id, p.during
  from core.list_seen_placements(
    -- only who is limited needs them
    array(select d.dpu_id from core.dpu d where core.get_reach() is not null)) p
  join core.dpu d on d.dpu_id = p.dpu_id
$$;
comment on function core.list_seen_periods() is
'Which DPUs a limited token reaches, and when they hung at its doorways; nothing for any other token.';

create or replace function core.list_seen_refusals(
  dpu text,
  source text,
  code text,
  from_at timestamptz,
  to_at timestamptz,
  before_at timestamptz,
  before_id bigint,
  rerun boolean
)
returns setof core.rejected_event
language sql stable
as $$
  select r.*
  from core.rejected_event r
  -- once for all; nothing where the token is not limited
  left join (
    select p.dpu, range_agg(p.during) as during from core.list_seen_periods() p group by p.dpu
  ) s on s.dpu = r.dpu
  where (list_seen_refusals.dpu is null or r.dpu = list_seen_refusals.dpu)
    and (list_seen_refusals.source is null or r.source = list_seen_refusals.source)
    and (list_seen_refusals.code is null or r.code = list_seen_refusals.code)
    and (from_at is null or r.received_at >= from_at)
    and (to_at is null or r.received_at < to_at)
    and (before_at is null or (r.received_at, r.rejected_id) < (before_at, before_id))
    and (r.rerun_at is not null) = rerun
    and ((select core.get_reach()) is null or (
      s.during @> r.received_at and (r.token = (select current_setting('headcount.token', true)) or (
        r.is_within and (s.during @> r.time or not exists (
          -- it hung elsewhere then; a clock that is wrong tells of times at which it hung nowhere
          select from core.dpu d join core.placement p on p.dpu_id = d.dpu_id
          where d.id = r.dpu and p.superseded_at is null and p.during @> r.time))))))
$$;
comment on function core.list_seen_refusals(text, text, text, timestamptz, timestamptz, timestamptz, bigint, boolean) is
'Refused events that fit (nulls: any), as far as the token reaches: what DPUs sent while they hung at its doorways. What another limited token sent of DPUs beyond its reach is left out, and what others sent of a time at which the DPU hung elsewhere. rerun: those that went in later, or those that did not. Inlined by the planner: no search_path of its own.';

create or replace function core.count_refusals(
  at timestamptz,
  dpus text[] default null
)
returns table (dpu text, count bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
  v_from timestamptz := date_trunc('hour', count_refusals.at - interval '24 hours', 'UTC');
begin
  if core.get_reach() is null then
    return query
    select c.dpu, greatest(sum(c.count), 0)::bigint
    from core.refused_of_dpu c
    where c.hour >= v_from and (dpus is null or c.dpu = any (dpus))
    group by c.dpu;
    return;
  end if;
  return query
  select c.dpu, greatest(sum(
    case when p.during @> tstzrange(c.hour, least(c.hour + interval '1 hour', count_refusals.at)) then c.count
    else (
      -- it was hung, or taken down, in this hour
      select count(*) from core.rejected_event r
      where r.dpu = c.dpu and r.received_at >= c.hour and r.received_at < c.hour + interval '1 hour'
        and p.during @> r.received_at and r.is_within and r.rerun_at is null)
    end), 0)::bigint
  from core.list_seen_periods() p
  join core.refused_of_dpu c on c.dpu = p.dpu and tstzrange(c.hour, c.hour + interval '1 hour') && p.during
  where c.hour >= v_from and (dpus is null or c.dpu = any (dpus))
  group by c.dpu;
end
$$;
comment on function core.count_refusals(timestamptz, text[]) is
'How many events of each DPU, or of these, were refused in the 24 hours before an instant and the rest of the hour before those, and did not go in since; a DPU without any has no row, or 0. Counted when they are refused, not when they are read. For a limited token: while the DPU hung at its doorways.';
