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
