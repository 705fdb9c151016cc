create or replace function api.list_events(
  inout dpu text default null,
  space text default null,
  from_at timestamptz default null,
  to_at timestamptz default null,
  after_time timestamptz default null,
  after_dpu text default null,
  after_sequence smallint default null,
  max_rows integer default 100,
  out "time" timestamptz,
  out direction integer,
  out sequence smallint,
  out received_at timestamptz,
  out sign smallint
)
returns setof record
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
  v_dpus integer[];
  v_signs smallint[];
  v_during tstzrange[];
  v_low timestamptz := greatest(from_at, after_time, core.get_oldest_time(),
    (select s.events_from from core.rollup_state s));
  v_high timestamptz;
  v_end timestamptz := least(to_at, clock_timestamp() + interval '1 day');   -- nothing is later
  v_step interval := interval '24 hours';
  v_rest integer := max_rows;
  v_found integer;
begin
  if (list_events.dpu is null) = (space is null) then
    perform core.refuse(422, 'Events are listed for a DPU or for a space.', 'dpu', 'Give dpu or space, not both.');
  end if;
  if list_events.dpu is not null then
    v_dpus := array[core.find_dpu(list_events.dpu)];
    v_during := array[tstzrange(null, null)];
    if core.get_reach() is not null then
      select array_agg(p.dpu_id), array_agg(p.during) into v_dpus, v_during from core.list_seen_placements(v_dpus) p;
    end if;
    v_signs := array(select null::smallint from unnest(v_dpus));
  else
    select array_agg(p.dpu_id), array_agg(p.sign), array_agg(p.during) into v_dpus, v_signs, v_during
    from core.list_outer_placements(array[core.find_space(space)]) p;
  end if;
  perform core.check_listed(v_dpus, from_at, to_at);
  -- the first chunk there is, and nothing before the first placement
  v_low := greatest(
    v_low,
    (select min(c.range_start) from timescaledb_information.chunks c where c.hypertable_schema = 'core'
      and c.hypertable_name = 'event'),
    (select case when bool_and(not lower_inf(p.during)) then min(lower(p.during)) end
      from unnest(v_during) as p (during)));

  -- from the oldest on, in ever longer steps, so that a long history is not even planned where a day will do
  while v_low < v_end and v_rest > 0 and v_dpus is not null loop
    v_high := least(v_low + v_step, v_end);
    return query
    select d.id, e.time, e.direction, e.sequence, core.get_received_at(e.time, e.lag_ms), p.sign
    from unnest(v_dpus, v_signs, v_during) as p (dpu_id, sign, during)
    join core.dpu d on d.dpu_id = p.dpu_id
    cross join lateral (
      select e.*
      from core.event e
      where e.dpu_id = p.dpu_id
        and e.time >= v_low and e.time < v_high and p.during @> e.time
        and (after_time is null or e.time > after_time or d.id > after_dpu
          or (d.id = after_dpu and e.sequence > after_sequence))
      order by e.time, e.sequence
      limit v_rest
    ) e
    order by e.time, d.id, e.sequence
    limit v_rest;
    get diagnostics v_found = row_count;
    v_rest := v_rest - v_found;
    v_low := v_high;
    v_step := 2 * v_step;
  end loop;
end
$$;
comment on function api.list_events(text, text, timestamptz, timestamptz, timestamptz, text, smallint, integer) is
'Raw events in [from_at, to_at), in order of time, DPU and sequence: of one DPU, or those that counted for one space,
each with its sign (+1: direction people entered). A limited token gets what the DPU saw within its space.

after_time, after_dpu, after_sequence: the event behind which to go on. A bound that is null does not limit. Errors:
PT404; PT422 unless exactly one of dpu and space is given, or for a bound before which events were dropped
(api.get_retention).';
