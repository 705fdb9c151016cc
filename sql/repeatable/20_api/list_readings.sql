create or replace function api.list_readings(
  device text,
  from_at timestamptz default null,
  to_at timestamptz default null,
  max_rows integer default 10000
)
returns table (
  latest_timestamp timestamptz,
  cumulative_count bigint,
  times timestamptz[],
  counts bigint[]
)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
  v_dpu_id integer := core.find_dpu(device, 'device');
  v_oldest timestamptz := greatest(from_at, core.get_oldest_time(), (select s.events_from from core.rollup_state s));
  v_high timestamptz;
  v_low timestamptz;
  v_step interval := interval '24 hours';
  v_times timestamptz[];
  v_counts bigint[];
  v_seen tstzmultirange;
begin
  perform core.check_listed(array[v_dpu_id], from_at, to_at);
  select s.latest_time, s.cumulative_count into latest_timestamp, cumulative_count
  from core.sum_dpus(array[v_dpu_id]) s;
  if core.get_reach() is not null then
    select coalesce(range_agg(p.during), '{}') into v_seen from core.list_seen_placements(array[v_dpu_id]) p;
  end if;
  times := '{}';
  counts := '{}';
  v_high := least(to_at, latest_timestamp + interval '1 microsecond');
  -- from the newest backwards, in ever longer steps, so that a long history is not even planned where a day will do
  while v_high > v_oldest and cardinality(times) < max_rows loop
    v_low := greatest(v_high - v_step, v_oldest);
    select array_agg(n.time order by n.time), array_agg(n.count order by n.time) into v_times, v_counts
    from (
      select e.time, sum(e.direction) as count
      from core.event e
      where e.dpu_id = v_dpu_id and e.time >= v_low and e.time < v_high
        and (v_seen is null or v_seen @> e.time)
      group by e.time
      order by e.time desc
      limit max_rows - cardinality(times)
    ) n;
    times := v_times || times;
    counts := v_counts || counts;
    v_high := v_low;
    v_step := 2 * v_step;
  end loop;
  return next;
end
$$;
comment on function api.list_readings(text, timestamptz, timestamptz, integer) is
'The readings of a device, in one row and from one snapshot: the instant of the latest, the sum of all, and in parallel
arrays the instants and counts of the newest max_rows in [from_at, to_at), oldest first. Several sequences of one
instant are summed.

A bound that is null does not limit. Errors: PT404 for an unknown device; PT422 for a bound before which readings were
dropped (api.get_retention).';
