create or replace function api.detect_outages()
returns integer
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if not core.try_lock('core.lock_outage') then
    return null;
  end if;
  return core.detect_outages(clock_timestamp());
end
$$;
comment on function api.detect_outages() is
'Notes that the service listens, records the outages of armed DPUs that are silent for too long, and opens, ends and
corrects incidents. Returns how many DPUs went offline. Each process of the service calls it once a second.

Only one call works at a time; the others return null at once. A gap of more than 5 seconds between calls does not count
as silence of the sensors, since nobody listened. DPUs without a placement have no incidents. Never waits for whoever
stores events or heartbeats: it passes over DPUs of which somebody does so just now. api.detect_busy_outages waits for
those that are always passed over.';
