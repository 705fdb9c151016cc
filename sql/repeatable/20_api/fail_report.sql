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
'Marks a report as failed, with a reason. Does nothing where another process has claimed it since.';
