create or replace function api.list_differences()
returns table ("check" text, item text, stored text, recomputed text)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select d.* from core.list_sum_differences() d
  union all
  select d.* from core.list_first_event_differences() d
  union all
  select d.* from core.list_boundary_differences() d
  union all
  select d.* from core.list_live_differences() d
  union all
  select d.* from core.list_rollup_differences() d
  union all
  select d.* from core.list_total_differences() d
  union all
  select d.* from core.list_flow_differences() d
  union all
  select d.* from core.list_outage_differences() d
  order by 1, 2
$$;
comment on function api.list_differences() is
'Recomputes everything that is derived from the facts, and returns where what is stored differs: nothing, if all is
well.

Where events were dropped (api.get_retention) the remaining quarter-hours take their place, and are compared with the
events that were kept. Outages are compared with when somebody listened and with the state of each DPU, not with signs
of life: of heartbeats only the latest is kept. Reads every event, so it takes long on a long history.';
