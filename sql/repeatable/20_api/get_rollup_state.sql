create or replace function api.get_rollup_state(
  out materialized_until timestamptz,
  out lag_seconds double precision,
  out late_marks bigint
)
returns record
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select
    s.materialized_until,
    extract(epoch from clock_timestamp() - s.materialized_until)::double precision,
    (select count(*) from core.late_mark)
  from core.rollup_state s
$$;
comment on function api.get_rollup_state() is
'How far the rollups are refreshed; the rest is read from raw events.

materialized_until: everything before it has been refreshed (2000-01-01 before the first refresh). lag_seconds: from
there to now. late_marks: quarter-hours of DPUs, also before it, in which events were stored late and which the next
refresh will cover.';
