create or replace function api.note_ahead(
  dpus text[],
  times timestamptz[]
)
returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '5s'
as $$
declare
  v_now timestamptz := clock_timestamp();
  v_ids integer[] := core.list_dpu_ids(dpus);
begin
  if core.get_reach() is not null then
    v_ids := core.list_reached_ids(v_ids, times);
  end if;
  -- in the order of dpu_id, so that two transactions never wait for each other
  insert into core.dpu_clock as c (dpu_id, suspected_at)
  select s.dpu_id, v_now
  from core.dpu_state s
  where s.latest_time is not null and s.dpu_id in (
    select n.dpu_id from unnest(v_ids, times) as n (dpu_id, time)
    where n.time > core.get_latest_time(v_now) and n.time < core.get_farthest_time(v_now))
  order by s.dpu_id
  on conflict (dpu_id) do update set suspected_at = excluded.suspected_at;
  perform core.note_suspicion(v_now);
end
$$;
comment on function api.note_ahead(text[], timestamptz[]) is
'Notes which DPUs sent events, given as parallel arrays, from ahead of our clock. For requests that api.record_events
refused as a whole (clock_suspect), so that it could store nothing: as long as such events come, our clock stays
suspected (core.note_suspicion). It does not change the clock state of these DPUs.

Left out are events of DPUs that are unknown or had no event accepted yet, and events that are not ahead, or by more
than 100 years.';
