create or replace function api.get_report(report text)
returns table (
  id text,
  status text,
  progress double precision,
  now_at timestamptz,
  under text,
  format text,
  row_count bigint,
  detail text,
  created_at timestamptz,
  finished_at timestamptz
)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return query select d.* from core.describe_reports(array[core.find_report(report)]) d;
end
$$;
comment on function api.get_report(text) is
'One report. status: Running, Complete or Failed (detail says why); progress: 0 to 1.

now_at: the end of its windows, null while nobody knows; under: the space of which, and of what lies below it, it tells, null for all; row_count: how many sites, once it is complete. A token that is limited to a space reads reports of its spaces, whoever asked for them, and of their rows those of sites that it reaches now. Errors: PT404.';
