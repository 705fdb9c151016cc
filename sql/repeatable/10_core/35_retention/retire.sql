-- Moving rollup_state.events_from, and dropping chunks: see dropped.sql.

create or replace function core.retire_events_until(until_at timestamptz)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
declare
  v_from timestamptz;
  v_low timestamptz;
  v_until timestamptz;
begin
  -- nobody stores events or changes the floor plan meanwhile
  perform core.lock_plan();
  select s.events_from, public.time_bucket(interval '1 day',
    least(until_at, s.materialized_until, (select min(m.bucket) from core.late_mark m)))
  into v_from, v_until
  from core.rollup_state s;
  if v_until <= v_from then
    return;
  end if;
  v_low := greatest(v_from, least(v_until, (
    select min(c.range_start) from timescaledb_information.chunks c
    where c.hypertable_schema = 'core' and c.hypertable_name = 'event' and c.range_end > v_from)));

  insert into core.kept_event (time, lag_ms, dpu_id, direction, sequence)
  select e.time, e.lag_ms, e.dpu_id, e.direction, e.sequence
  from core.list_split_quarters(v_low, v_until) q
  join core.event e on e.dpu_id = q.dpu_id and e.time >= q.bucket and e.time < q.bucket + interval '15 minutes'
  where e.time >= v_low and e.time < v_until;

  update core.rollup_state s set events_from = v_until, retired_at = clock_timestamp();
end
$$;
comment on function core.retire_events_until(timestamptz) is
'Moves rollup_state.events_from to the midnight (UTC) at or before an instant, but never beyond what the rollups have
covered. Keeps the events before it that rollups cannot stand for. Holds core.lock_plan until the transaction ends.';

create or replace procedure core.retire_events(until_at timestamptz)
language plpgsql
as $$
declare
  v_end timestamptz;
  v_is_blocked boolean := false;
begin
  -- a day at a time: nobody stores events meanwhile
  for v_end in
    select c.range_end
    from timescaledb_information.chunks c
    where c.hypertable_schema = 'core' and c.hypertable_name = 'event' and c.range_end < until_at
      and c.range_end > (select s.events_from from core.rollup_state s)
    union all
    select until_at
    order by 1
  loop
    begin
      -- who waits for this lock holds up whoever comes after: better come again
      perform set_config('lock_timeout', '500ms', true);
      perform core.retire_events_until(v_end);
    exception when lock_not_available or deadlock_detected then
      v_is_blocked := true;
    end;
    commit;
    exit when v_is_blocked;
  end loop;
end
$$;
comment on procedure core.retire_events(timestamptz) is
'core.retire_events_until, a day at a time in short transactions; stops where it would wait long for others. Call it on
its own, outside of a transaction.';

create or replace procedure core.retire_due()
language plpgsql
as $$
declare
  v_until timestamptz;
begin
  select public.time_bucket(interval '1 day', clock_timestamp() - s.keep_days * interval '24 hours') into v_until
  from core.rollup_state s;
  if v_until > (select s.events_from from core.rollup_state s) then
    call core.retire_events(v_until);
  end if;
end
$$;
comment on procedure core.retire_due() is
'Retires the events that are older than api.set_retention allows. Call it on its own, outside of a transaction.';

create or replace procedure core.drop_retired_chunks()
language plpgsql
as $$
declare
  v_chunk record;
  v_is_blocked boolean := false;
begin
  for v_chunk in
    select c.range_start, c.range_end
    from timescaledb_information.chunks c
    cross join core.rollup_state s
    where c.hypertable_schema = 'core' and c.hypertable_name = 'event' and c.range_end <= s.events_from
      -- by then no reader is left that took its snapshot before
      and s.retired_at < clock_timestamp() - interval '1 hour'
    order by c.range_start
  loop
    begin
      perform set_config('lock_timeout', '500ms', true);
      perform public.drop_chunks('core.event', older_than => v_chunk.range_end, newer_than => v_chunk.range_start);
    exception when lock_not_available or deadlock_detected then
      v_is_blocked := true;
    end;
    commit;
    exit when v_is_blocked;
  end loop;
end
$$;
comment on procedure core.drop_retired_chunks() is
'Drops the chunks of events that nobody reads any more. Rollups stay. Call it on its own, outside of a transaction.';
