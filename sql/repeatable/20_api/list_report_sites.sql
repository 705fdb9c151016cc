create or replace function api.list_report_sites(
  report text,
  after text default null,
  max_rows integer default 1000
)
returns table (
  space text,
  name text,
  polled boolean,
  uptime_last_hour_minutes double precision,
  uptime_last_day_hours double precision,
  uptime_last_week_hours double precision,
  downtime_last_hour_minutes double precision,
  downtime_last_day_hours double precision,
  downtime_last_week_hours double precision
)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_now timestamptz := (select r.now_at from core.report r where r.report_id = core.find_report(report));
begin
  return query
  select
    w.site, s.name, core.was_polled(w.space_id, v_now),
    w.uptime_last_hour::double precision, w.uptime_last_day::double precision, w.uptime_last_week::double precision,
    w.downtime_last_hour::double precision, w.downtime_last_day::double precision,
    w.downtime_last_week::double precision
  from (
    select n.*, q.space_id
    from api.list_report_rows(report, list_report_sites.after, max_rows) n
    join core.report_row q on q.report_id = core.find_report(report) and q.site = n.site
  ) w
  left join core.space s on s.space_id = w.space_id
  order by w.site;
end
$$;
comment on function api.list_report_sites(text, text, integer) is
'As api.list_report_rows, with what a site is called and whether it was polled by the now of the report, as known now. A
site that was never polled has only downtime, which says nothing about it.

name: null where it has none or the space is gone. Errors: PT404; PT409 for a report that is not complete.';
