create or replace function api.fail_report(
  report text,
  attempt integer,
  reason text
)
returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  update core.report r set state = 'failed', detail = reason, finished_at = clock_timestamp()
  where r.id = report and r.state = 'running' and r.attempts = attempt;
end
$$;
comment on function api.fail_report(text, integer, text) is
'Ends a report that cannot be computed, and says why. Nothing happens where somebody else has taken it since.';
