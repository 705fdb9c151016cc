create or replace view bi.uptime_reports as
select
  r.id as report, r.created_at, r.now_at, w.site as space,
  core.round_minutes(w.hour_up) as uptime_last_hour_minutes,
  core.round_hours(w.day_up) as uptime_last_day_hours,
  core.round_hours(w.week_up) as uptime_last_week_hours,
  core.round_minutes(w.hour_down) as downtime_last_hour_minutes,
  core.round_hours(w.day_down) as downtime_last_day_hours,
  core.round_hours(w.week_down) as downtime_last_week_hours
from core.report r
join core.report_row w on w.report_id = r.report_id
where r.state = 'complete';
comment on view bi.uptime_reports is
'Uptime within opening hours, by report: one row for each report and site, of all reports that are kept. A report is one
snapshot of the data: polls that come late do not change it.';
comment on column bi.uptime_reports.report is 'Id of the report.';
comment on column bi.uptime_reports.created_at is 'When somebody asked for it.';
comment on column bi.uptime_reports.now_at is
'The end of its windows: the hour, the day (24 hours) and the week (168 hours) before.';
comment on column bi.uptime_reports.space is 'Id of the site, which is a space.';
comment on column bi.uptime_reports.uptime_last_hour_minutes is 'Business time in which it was active, in minutes.';
comment on column bi.uptime_reports.uptime_last_day_hours is 'The same of the day, in hours.';
comment on column bi.uptime_reports.uptime_last_week_hours is 'The same of the week, in hours.';
comment on column bi.uptime_reports.downtime_last_hour_minutes is 'The rest of the business time, in minutes.';
comment on column bi.uptime_reports.downtime_last_day_hours is 'The same of the day, in hours.';
comment on column bi.uptime_reports.downtime_last_week_hours is 'The same of the week, in hours.';
