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
  update core.report_run u set progress = extend_report.progress,
    lease_until = clock_timestamp() + make_interval(secs => lease_seconds)
  from core.report r
  where r.report_id = u.report_id and r.id = extend_report.report and r.attempts = extend_report.attempt;
end
$$;
comment on function api.extend_report(text, integer, double precision, double precision) is
'Records the progress of a report (0 to 1), and extends the claim on it by so many seconds. Call it outside of the
transaction that computes it.';
