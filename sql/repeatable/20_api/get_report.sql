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

now_at: the end of its windows, null until it is known. under: the report covers this space and all below it; null: all.
row_count: how many sites, once it is complete. A limited token reads the reports of its spaces, whoever asked for them,
with the rows of sites that it reaches now. Errors: PT404.';
