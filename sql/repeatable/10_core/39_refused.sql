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
    select n.code, n.detail, n.dpu, n.time, n.direction, n.sequence, core.shorten_body(n.body) as body,
      sha256(convert_to(jsonb_build_array(
        n.code, n.dpu, extract(epoch from n.time), n.direction, n.sequence, n.body)::text, 'UTF8')) as digest
    from unnest(codes, details, dpus, times, directions, sequences, bodies)
      as n (code, detail, dpu, time, direction, sequence, body)
  ) r
  order by digest
  on conflict (digest) do nothing
$$;
comment on function core.refuse_events(timestamptz, text[], text[], text[], timestamptz[], integer[], smallint[], text[]) is
'Keeps refused events with their reasons, from parallel arrays; each once, however often it is sent.';

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
    insert into core.dpu_clock as c (dpu_id, heartbeat_refused_at, heartbeat_code)
    select n.dpu_id, note_heartbeat_clocks.received_at, max(n.verdict)
    from unnest(dpus, verdicts) as n (dpu_id, verdict)
    where n.dpu_id is not null and n.verdict in ('in_future', 'clock_unset', 'too_old')
    group by n.dpu_id
    order by n.dpu_id
    on conflict (dpu_id) do update set
      heartbeat_refused_at = excluded.heartbeat_refused_at, heartbeat_code = excluded.heartbeat_code;
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
    update core.dpu_clock c set heartbeat_refused_at = null, heartbeat_code = null where c.dpu_id = any (v_right);
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

create or replace function core.list_trusted_clocks(
  dpus integer[],
  at timestamptz
)
returns integer[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select array(
    select s.dpu_id
    from core.dpu_state s
    join core.dpu d on d.dpu_id = s.dpu_id
    where s.dpu_id = any (dpus) and s.latest_time is not null and (
      d.registered_at < list_trusted_clocks.at - interval '1 day'
      or exists (
        select from core.placement p
        where p.dpu_id = s.dpu_id and p.superseded_at is null and p.during @> list_trusted_clocks.at)))
$$;
comment on function core.list_trusted_clocks(integer[], timestamptz) is
'Which of these DPUs can speak against our clock at an instant: an event of it was accepted before, and it is placed or was registered more than a day ago.

Whoever may send events can invent any number of DPUs, and send an event of each that is accepted.';

create or replace function core.is_clock_suspect(
  dpus integer[],
  at timestamptz
)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_ahead integer[] := array(
    select c.dpu_id from core.dpu_clock c
    where c.code = 'in_future' and c.refused_at > is_clock_suspect.at - interval '1 minute' and c.refused_at <= is_clock_suspect.at
      and c.refused_time < core.get_farthest_time(is_clock_suspect.at)
    union
    select c.dpu_id from core.dpu_clock c
    where c.suspected_at > is_clock_suspect.at - interval '1 minute' and c.suspected_at <= is_clock_suspect.at
    union
    select d from unnest(dpus) as d);
  v_others integer[];
begin
  -- invented DPUs say nothing
  v_ahead := core.list_trusted_clocks(v_ahead, is_clock_suspect.at);
  if cardinality(v_ahead) < 3 then
    return false;
  end if;
  v_others := array(
    select distinct d.dpu_id
    -- what was stored in the last minute, or in the latest transactions where those were many
    from (select * from core.change order by xid desc limit 2000) c
    cross join unnest(c.dpu_ids) as d (dpu_id)
    where c.changed_at > is_clock_suspect.at - interval '1 minute' and c.changed_at <= is_clock_suspect.at
    except select unnest(v_ahead));
  return cardinality(v_ahead) > cardinality(core.list_trusted_clocks(v_others, is_clock_suspect.at));
end
$$;
comment on function core.is_clock_suspect(integer[], timestamptz) is
'Whether it is our clock that is wrong: of the DPUs of the last minute at least three, and more than half, sent events from ahead of it. dpus: those that did so just now. Which DPUs count: core.list_trusted_clocks.';

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
  insert into core.dropped_refusal as d (kind, count)
  select n.kind, n.count from (values ('event', v_events), ('poll', v_polls)) as n (kind, count) where n.count > 0
  on conflict (kind) do update set count = d.count + excluded.count;
end
$$;
comment on function core.drop_refused() is
'Drops events and polls that were refused more than 30 days ago, up to 100,000 of each at a time, and counts them.';

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
  where (list_seen_refusals.dpu is null or r.dpu = list_seen_refusals.dpu)
    and (list_seen_refusals.source is null or r.source = list_seen_refusals.source)
    and (list_seen_refusals.code is null or r.code = list_seen_refusals.code)
    and (from_at is null or r.received_at >= from_at)
    and (to_at is null or r.received_at < to_at)
    and (before_at is null or (r.received_at, r.rejected_id) < (before_at, before_id))
    and (r.rerun_at is not null) = rerun
    and (core.get_reach() is null or exists (
      select from core.dpu d
      cross join lateral core.list_seen_placements(array[d.dpu_id]) p
      where d.id = r.dpu and p.during @> r.received_at))
$$;
comment on function core.list_seen_refusals(text, text, text, timestamptz, timestamptz, timestamptz, bigint, boolean) is
'Refused events that fit (nulls: any), as far as the token reaches: what DPUs sent while they hung at its doorways. rerun: those that went in later, or those that did not. Inlined by the planner: no search_path of its own.';

create or replace function core.count_refusals(at timestamptz)
returns table (dpu text, count bigint)
language sql stable
as $$
  select r.dpu, count(*)
  from core.list_seen_refusals(null, null, null, count_refusals.at - interval '24 hours', null, null, null, false) r
  where r.dpu is not null
  group by r.dpu
$$;
comment on function core.count_refusals(timestamptz) is
'How many events of each DPU were refused in the 24 hours before an instant, and did not go in since; a DPU without any has no row. Inlined by the planner: no search_path of its own.';
