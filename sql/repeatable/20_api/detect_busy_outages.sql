create or replace function api.detect_busy_outages()
returns integer
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if not core.hold_busy_dpu() then
    return null;
  end if;
  -- Up to 2 seconds, and in no queue: whoever holds core.lock_outage may be waiting for that row.
  for v_try in 1..100 loop
    if core.try_lock('core.lock_outage') then
      return core.detect_outages(clock_timestamp());
    end if;
    perform pg_sleep(0.02);
  end loop;
  return null;
end
$$;
comment on function api.detect_busy_outages() is
'Does what api.detect_outages does, once it holds a DPU that was passed over for at least 3 seconds, because somebody
always held its row. Returns how many DPUs went offline; null at once where there is no such DPU, as a rule. Each
process of the service calls it every 3 seconds.

Waits up to 20 seconds for whoever stores events or heartbeats of that DPU, so call it beside api.detect_outages and in
a transaction of its own. It is null as well if that took longer.';
