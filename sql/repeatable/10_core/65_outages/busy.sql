-- Looking for outages, also those of DPUs whose rows somebody always holds.
--
-- Whoever looks holds core.lock_outage, so it waits for no row. It passes over what another transaction holds, and
-- looks again in the next second. A client that sends late events all the time can hold a row at each of these
-- instants. So what was passed over is noted in core.busy_dpu. After 3 seconds api.detect_busy_outages queues for the
-- row, in a transaction that holds nothing yet, and gets it when those before it are done. Holding it, it waits for
-- nobody.

create or replace function core.note_busy(
  dpus integer[],
  at timestamptz
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if cardinality(dpus) > 0 then
    insert into core.busy_dpu (dpu_id, since)
    select distinct n.dpu_id, note_busy.at from unnest(dpus) as n (dpu_id)
    on conflict do nothing;
  end if;
end
$$;
comment on function core.note_busy(integer[], timestamptz) is
'Notes that DPUs were passed over because somebody holds their rows. The caller holds core.lock_outage.';

create or replace function core.forget_busy(held integer[])
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (select from core.busy_dpu b) then
    delete from core.busy_dpu b
    where b.dpu_id = any (held) or not exists (select from core.dpu_state s where s.dpu_id = b.dpu_id);
  end if;
end
$$;
comment on function core.forget_busy(integer[]) is
'Forgets busy DPUs whose rows in core.dpu_state the caller holds, and those that are no more. The caller holds
core.lock_outage.';

create or replace function core.hold_busy_dpu()
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '20s'
as $$
declare
  v_dpu_id integer;
begin
  -- any of them, so that one that cannot be got hold of is not in the way of the others
  select b.dpu_id into v_dpu_id
  from core.busy_dpu b
  where b.since <= clock_timestamp() - interval '3 seconds'
  order by random()
  limit 1;
  if v_dpu_id is null then
    return false;
  end if;
  perform from core.dpu_state s where s.dpu_id = v_dpu_id for update;
  return true;
exception when lock_not_available or deadlock_detected then
  return false;
end
$$;
comment on function core.hold_busy_dpu() is
'Waits for the row in core.dpu_state of a DPU that has been busy for 3 seconds, up to 20 seconds, and holds it until the
transaction ends; false: there is none, or it took longer. The caller holds no lock.';

create or replace function core.detect_outages(at timestamptz)
returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_flipped integer;
begin
  perform core.note_listening(detect_outages.at);
  perform core.rederive_moved(detect_outages.at);
  v_flipped := core.turn_offline(detect_outages.at);
  perform core.update_incidents(detect_outages.at);
  return v_flipped;
end
$$;
comment on function core.detect_outages(timestamptz) is
'What api.detect_outages does, at an instant (now). The caller holds core.lock_outage; waits for nobody.';
