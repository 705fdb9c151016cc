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
  perform core.note_clocks(v_now, array_agg(s.dpu_id), array_agg(n.time), array_agg('in_future'::text))
  from core.dpu_state s
  join (
    select n.dpu_id, min(n.time) as time
    from unnest(v_ids, times) as n (dpu_id, time)
    where n.time > core.get_latest_time(v_now)
    group by n.dpu_id
  ) n on n.dpu_id = s.dpu_id
  where s.latest_time is not null
  having count(*) > 0;
end
$$;
comment on function api.note_ahead(text[], timestamptz[]) is
'Notes of which DPUs these events, given as parallel arrays, come from ahead of our clock. For events that api.record_events refused as a whole (clock_suspect), and so could note nothing: it goes on refusing for as long as they come.

Left out are events of unknown DPUs, of such of which no event was ever accepted, and those that are not ahead.';
