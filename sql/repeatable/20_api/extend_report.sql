create or replace function api.extend_report(
  report text,
  attempt integer,
  progress double precision,
  lease_seconds double precision default 30
)
returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  update core.report_run u set progress = extend_report.progress, lease_until = clock_timestamp() + make_interval(secs => lease_seconds)
  from core.report r
  where r.report_id = u.report_id and r.id = extend_report.report and r.attempts = extend_report.attempt;
end
$$;
comment on function api.extend_report(text, integer, double precision, double precision) is
'Says how far whoever computes a report has come (0 to 1), and keeps it for so many seconds more. Not in the transaction that computes it.';
