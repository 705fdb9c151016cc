create or replace function api.list_report_rows(
  report text,
  after text default null,
  max_rows integer default 1000
)
returns table (
  site text,
  uptime_last_hour numeric,
  uptime_last_day numeric,
  uptime_last_week numeric,
  downtime_last_hour numeric,
  downtime_last_day numeric,
  downtime_last_week numeric
)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_report_id bigint := core.find_report(report);
  v_reach integer[] := core.list_reach();
  v_state text := (select r.state from core.report r where r.report_id = v_report_id);
begin
  if v_state <> 'complete' then
    perform core.refuse(
      409, format('The report is %s.', v_state), 'report', 'GET /v1/reports/{id} tells when it is complete.');
  end if;
  return query
  select
    w.site,
    core.round_minutes(w.hour_up), core.round_hours(w.day_up), core.round_hours(w.week_up),
    core.round_minutes(w.hour_down), core.round_hours(w.day_down), core.round_hours(w.week_down)
  from core.report_row w
  where w.report_id = v_report_id and (after is null or w.site > after collate "C")
    and (v_reach is null or w.space_id = any (v_reach))
  order by w.site
  limit max_rows;
end
$$;
comment on function api.list_report_rows(text, text, integer) is
'The rows of a complete report by the id of the site (C collation), after one of them: active and other business time of
a site in the last hour (in minutes), day and week (in hours), rounded to 2 decimals, half away from zero. Errors:
PT404; PT409 for one that is not complete.';
