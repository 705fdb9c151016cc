-- Refreshing the rollups.

create or replace function core.wait_for_ingest(seconds double precision)
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_holders text[] := array(
    select l.virtualtransaction from pg_locks l
    where l.locktype = 'relation' and l.relation = 'core.lock_plan'::regclass and l.mode = 'RowShareLock' and l.granted
      and l.database = (select d.oid from pg_database d where d.datname = current_database())
      and l.pid <> pg_backend_pid());
begin
  -- By the number of looks and not by the clock, which may be what jumps. Where it is set back during pg_sleep, that
  -- takes as long as the jump: rollups stand still meanwhile, and answers are right without them.
  for v_look in 0 .. ceil(seconds / 0.05)::integer loop
    if not exists (
      select from pg_locks l
      where l.locktype = 'relation' and l.relation = 'core.lock_plan'::regclass
        and l.virtualtransaction = any (v_holders))
    then
      return true;
    end if;
    perform pg_sleep(0.05);
  end loop;
  return false;
end
$$;
comment on function core.wait_for_ingest(double precision) is
'Waits until the transactions that store events now have ended, and says whether they have. Blocks nobody.

seconds: how long it waits at most.';

create or replace procedure core.refresh_rollups(
  job_id integer default null,
  config jsonb default null
)
language plpgsql
as $$
declare
  v_snapshot pg_snapshot;
  v_from timestamptz;
  v_until timestamptz;
  v_goal timestamptz;
  v_made timestamptz;    -- totals
  v_done timestamptz;    -- totals that are read
  v_totals_from timestamptz;
  v_range record;
begin
  -- for the whole run, over its transactions
  if not core.begin_rollup() then
    return;
  end if;
  commit;
  -- Whoever stores events from here on reads this goal, whatever the clock shows then, and
  -- marks what is too late for it.
  v_goal := public.time_bucket(interval '15 minutes', clock_timestamp() - interval '30 minutes');
  update core.rollup_state s set goal_at = v_goal;
  perform core.adopt_marks();
  commit;
  -- Who began before may have looked at the clock long ago, as where it has just been set forward.
  if not core.wait_for_ingest(coalesce((config->>'wait_seconds')::double precision, 30)) then
    perform core.end_rollup();
    commit;
    return;
  end if;
  commit;
  loop
    select s.materialized_until, s.totals_until, least(s.totals_until, s.materialized_until) into v_from, v_made, v_done
    from core.rollup_state s;
    -- a long history is taken in steps, so that no transaction is long
    v_from := greatest(v_from, least(v_goal, (
      select min(c.range_start) from timescaledb_information.chunks c
      where c.hypertable_schema = 'core' and c.hypertable_name = 'event')));
    v_until := least(v_from + interval '720 hours', v_goal);
    for v_range in
      -- days near one another together, up to 30: what lies between them is not refreshed for it
      select min(r.day) as low, max(r.day) + interval '24 hours' as high
      from (
        select d.day, public.time_bucket(interval '30 days', d.day) as month, count(*)
          filter (where d.is_apart) over (order by d.day) as island
        from (
          select m.day, m.day - lag(m.day) over (order by m.day) > interval '168 hours' as is_apart
          from (
            select distinct public.time_bucket(interval '1 day', m.bucket) as day
            from core.late_mark m
            where m.bucket < v_from
          ) m
        ) d
      ) r
      group by r.month, r.island
      order by low
    loop
      -- Everything this snapshot sees is in what is refreshed from here on; marks it sees can go afterwards.
      v_snapshot := pg_current_snapshot();
      call core.refresh_range(v_snapshot, v_range.low, v_range.high, v_from, v_done);
      perform core.end_range(v_snapshot, v_range.low, least(v_range.high, v_from), v_done, v_made);
      perform core.note_refreshed(v_range.low, v_range.high);
      commit;
    end loop;
    v_snapshot := pg_current_snapshot();
    if v_from < v_until then
      call core.refresh_range(v_snapshot, v_from, v_until, v_until, v_done);
    end if;
    call core.catch_up_totals(v_until, v_totals_from);
    perform core.settle_rollups(v_totals_from, v_until);
    -- what is marked behind v_until goes when rollups get there
    perform core.end_range(v_snapshot, v_from, greatest(v_from, v_until), v_done, v_made);
    commit;
    exit when v_until >= v_goal;
  end loop;
  perform core.end_rollup();
  commit;
end
$$;
comment on procedure core.refresh_rollups(integer, jsonb) is
'Refreshes the rollups up to 30 minutes before now and under every late mark, then moves rollup_state and clears the
marks. This keeps counts fast. Does nothing while another refresh runs, or where a transaction that stores events lasts
longer than config.wait_seconds (30). Call it on its own, outside of a transaction.';

create or replace procedure core.refresh_range(
  snapshot pg_snapshot,
  low timestamptz,
  high timestamptz,
  materialized_until timestamptz,
  totals_until timestamptz
)
language plpgsql
as $$
begin
  commit;
  perform core.begin_range(low, least(high, materialized_until));
  commit;
  call core.refresh_rollup('core.dpu_flow_15m_v1', low, least(high, materialized_until));
  -- what a refresh has changed is known to the next one only when it has committed
  commit;
  -- What was stored meanwhile may be in it, and then in the totals that are made of it. What comes from here on is not.
  update core.late_mark m set is_doubtful = true, net = case when m.bucket < totals_until then m.net end
  where m.bucket >= low and m.bucket < least(high, materialized_until) and m.net is not null
    and not pg_visible_in_snapshot(m.xid, snapshot);
  commit;
end
$$;
comment on procedure core.refresh_range(pg_snapshot, timestamptz, timestamptz, timestamptz, timestamptz) is
'Refreshes the quarter-hours of [low, high) before materialized_until. Marks there are void until core.end_range.
snapshot, totals_until: as for core.end_range.';

create or replace procedure core.catch_up_totals(
  until_at timestamptz,
  inout from_at timestamptz default null
)
language plpgsql
as $$
declare
  v_until timestamptz;
begin
  loop
    select greatest(s.totals_until, least(until_at, (
      select min(c.range_start)
      from timescaledb_information.continuous_aggregates a
      join timescaledb_information.chunks c on c.hypertable_schema = a.materialization_hypertable_schema
        and c.hypertable_name = a.materialization_hypertable_name
      where a.view_schema = 'core' and a.view_name = 'dpu_flow_15m_v1' and c.range_end > s.totals_until)))
    into from_at
    from core.rollup_state s;
    v_until := public.time_bucket(interval '1 day', from_at) + interval '24 hours';
    exit when v_until >= until_at;
    perform core.add_totals(from_at, v_until);
    update core.rollup_state s set totals_until = v_until;
    commit;
  end loop;
end
$$;
comment on procedure core.catch_up_totals(timestamptz, timestamptz) is
'Brings core.dpu_total up to a day before until_at, a day at a time; from_at: where it ends then. Call it on its
own, outside of a transaction.';

create or replace function core.settle_rollups(
  totals_from timestamptz,
  until_at timestamptz
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if totals_from < until_at then
    perform core.add_totals(totals_from, until_at);
  end if;
  update core.rollup_state s set
    materialized_until = greatest(s.materialized_until, until_at),
    totals_until = greatest(s.totals_until, until_at),
    refreshed_at = clock_timestamp();
end
$$;
comment on function core.settle_rollups(timestamptz, timestamptz) is
'Moves rollup_state when the quarter-hours before until_at are refreshed, and brings core.dpu_total up to there from
where it ends, totals_from.';
