-- What refused events and heartbeats say about the clock of a DPU.

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
      select n.*,
        -- what is sent again at once is a retry, and says nothing of a clock
        n.verdict = 'conflict'
          or (n.verdict = 'duplicate' and n.time < note_clocks.received_at - interval '1 minute') as is_repeat,
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
'Notes in core.dpu_clock what the verdicts on one message, given as parallel arrays, say about the clocks of its DPUs:
which were refused for their time, and which repeat one instant of more than a minute ago. Other verdicts are left
out.';

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
'Notes in core.dpu_clock what the verdicts on heartbeats, given as parallel arrays, say of the clocks of their DPUs:
refusals for their time, and that they are over for DPUs of which all that have a time were accepted. A heartbeat
without a time says nothing of a clock.';

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
      and (clock.conflicts >= 2 or (clock.repeats >= 5
        and clock.repeated_until > clock.repeated_from + interval '10 minutes'))
      then 'stuck'
    else 'ok'
  end
$$;
comment on function core.get_clock(core.dpu_clock, timestamptz) is
'What is known of the clock of a DPU, by its row of core.dpu_clock (null: none) and the instant of its latest event:
ahead, unset or behind, where an event or a heartbeat was refused for that, and no event with a later time (of a
heartbeat: nor a heartbeat with a time) was accepted since; stuck, where later messages come with the instant of the
latest event; else ok. A client that sends one event again and again is taken for stuck after 11 minutes. Inlined by the
planner: no search_path of its own.';

create or replace function core.get_farthest_time(at timestamptz)
returns timestamptz
language sql stable
as $$ select at + interval '100 years' $$;
comment on function core.get_farthest_time(timestamptz) is
'The farthest instant at which our own clock could be wrong: events beyond it can only come from a wrong clock of the
DPU. Inlined by the planner: no search_path of its own.';
