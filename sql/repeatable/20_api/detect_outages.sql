create or replace function api.detect_outages()
returns integer
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now timestamptz;
  v_flipped integer;
begin
  if not core.try_lock('core.lock_outage') then
    return null;
  end if;
  v_now := clock_timestamp();
  perform core.note_listening(v_now);
  perform core.rederive_moved(v_now);
  v_flipped := core.turn_offline(v_now);
  perform core.update_incidents(v_now);
  return v_flipped;
end
$$;
comment on function api.detect_outages() is
'Notes that the service listens, records the outages of armed DPUs that are silent for too long, and opens, ends and
corrects incidents. Returns how many DPUs went offline. Each process of the service calls it once a second.

Only one call works at a time; the others return null at once. A gap of more than 5 seconds between calls does not count
as silence of the sensors, since nobody listened. DPUs without a placement have no incidents. Never waits for whoever
stores events or heartbeats.';
