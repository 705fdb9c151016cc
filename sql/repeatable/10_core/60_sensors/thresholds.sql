-- After how much silence each DPU is offline.

create or replace function core.check_offline_after(
  seconds integer,
  place text,
  hint text
)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if seconds not between 1 and 2678400 then
    perform core.refuse(422, 'offline_after_seconds is not 1 to 2678400 (31 days).', place, hint);
  end if;
end
$$;
comment on function core.check_offline_after(integer, text, text) is
'Errors: PT422 naming place unless a threshold is null or 1 to 2678400 seconds.';

create or replace function core.check_least_offline_after(
  seconds integer,
  place text
)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if seconds < core.get_least_offline_after() and core.get_reach() is not null then
    perform core.refuse(
      422, format('offline_after_seconds is less than %s.', core.get_least_offline_after()), place,
      format('Give %s or more. Only a token that is not limited to a space sets less.',
        core.get_least_offline_after()));
  end if;
end
$$;
comment on function core.check_least_offline_after(integer, text) is
'Errors: PT422 naming place where a limited token sets a threshold below core.get_least_offline_after. Backfilled
heartbeats make an outage of each threshold''s length of silence, so a small one would make very many.';

create or replace function core.list_offline_after(spaces integer[])
returns table (space_id integer, seconds integer)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select c.space_id, (array_agg(s.offline_after_seconds order by c.steps)
    filter (where s.offline_after_seconds is not null))[1]
  from core.list_above(spaces) c
  join core.space s on s.space_id = c.above_id
  group by c.space_id;
end
$$;
comment on function core.list_offline_after(integer[]) is
'The threshold for DPUs of each space, in seconds of silence: its own, else that of the nearest space above it that has
one, else null.';

create or replace function core.rederive_offline_after(
  dpus integer[],
  at timestamptz default clock_timestamp()
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- for one DPU, as a rule: planning takes longer
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  v_dpus integer[];
  v_seconds integer[];
begin
  if core.is_dry_run() then
    return;
  end if;
  -- the incident of one that is placed nowhere any more is over
  update core.outage o set pending = true
  where o.dpu_id = any (dpus) and o.superseded_at is null and o.back_at is null and o.incident_id is not null
    and not o.pending;
  with placed as materialized (
    select d.dpu_id, h.space_id
    from unnest(dpus) as d (dpu_id)
    -- one by one, by the index, however many may be thought to be placed
    left join lateral (select g.space_id from core.list_placed(rederive_offline_after.at) g
      where g.dpu_id = d.dpu_id offset 0) h on true
  )
  select coalesce(array_agg(n.dpu_id), '{}'), coalesce(array_agg(n.seconds), '{}') into v_dpus, v_seconds
  from (
    select h.dpu_id, coalesce(d.offline_after_seconds, a.seconds) as seconds
    from placed h
    join core.dpu d on d.dpu_id = h.dpu_id
    left join core.list_offline_after(array(select distinct g.space_id from placed g)) a on a.space_id = h.space_id
  ) n
  join core.dpu_state s on s.dpu_id = n.dpu_id
  where s.offline_after_seconds is distinct from n.seconds;
  if cardinality(v_dpus) = 0 then
    return;
  end if;

  -- what it was silent up to now still counts
  perform core.end_silence(array(
    select s.dpu_id
    from unnest(v_dpus, v_seconds) as n (dpu_id, seconds)
    join core.dpu_state s on s.dpu_id = n.dpu_id
    where n.seconds is null and s.armed_at is not null and not s.sends_heartbeats), rederive_offline_after.at);
  update core.dpu_state s set
    offline_after_seconds = n.seconds,
    armed_at = case
      when s.sends_heartbeats then s.armed_at
      when n.seconds is not null and s.first_heard_at is not null then coalesce(s.armed_at, rederive_offline_after.at)
    end
  from unnest(v_dpus, v_seconds) as n (dpu_id, seconds)
  where s.dpu_id = n.dpu_id;
end
$$;
comment on function core.rederive_offline_after(integer[], timestamptz) is
'Derives anew the thresholds of DPUs, from their own and from where they are placed now, and whether they are armed. The
caller holds core.lock_plan, or their rows in core.dpu_state.';

create or replace function core.rederive_moved(at timestamptz)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_low timestamptz := (select l.ticked_at from core.listening l order by l.from_at desc limit 1);
  v_moved integer[] := array(select b.dpu_id from core.busy_dpu b);
  v_held integer[];
begin
  if exists (select from core.space s where s.offline_after_seconds is not null) then
    v_moved := v_moved || array(
      select p.dpu_id from core.placement p
      where p.superseded_at is null and lower(p.during) > v_low and lower(p.during) <= rederive_moved.at
      union
      select p.dpu_id from core.placement p
      where p.superseded_at is null and upper(p.during) > v_low and upper(p.during) <= rederive_moved.at);
  end if;
  if cardinality(v_moved) > 0 then
    v_held := array(select s.dpu_id from core.dpu_state s where s.dpu_id = any (v_moved) for update skip locked);
    perform core.forget_busy(v_held);
    perform core.rederive_offline_after(v_held, rederive_moved.at);
    -- they are looked at again in the next second
    perform core.note_busy(array(
      select s.dpu_id from core.dpu_state s where s.dpu_id = any (v_moved) and s.dpu_id <> all (v_held)),
      rederive_moved.at);
  end if;
  perform core.mark_moved(v_low, rederive_moved.at);
  update core.listening l set ticked_at = rederive_moved.at
  where l.from_at = (select max(p.from_at) from core.listening p);
end
$$;
comment on function core.rederive_moved(timestamptz) is
'Derives anew the thresholds of DPUs whose placement began or ended since the last call, and of busy ones.
The caller holds core.lock_outage; waits for nobody: those that are locked are noted as busy.';
