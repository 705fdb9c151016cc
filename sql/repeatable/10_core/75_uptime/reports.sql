-- Uptime reports: jobs, who computes them, and how the API shows them.

create or replace function core.find_report(report text)
returns bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_report_id bigint;
  v_space_id integer;
begin
  select r.report_id, r.space_id into v_report_id, v_space_id from core.report r where r.id = find_report.report;
  if not found or not core.is_report_in_reach(v_space_id) then
    perform core.refuse(
      404, format('There is no report %s.', quote_literal(left(report, 80))), 'report',
      'Ask for one with POST /v1/reports. Only the newest ones are kept.');
  end if;
  return v_report_id;
end
$$;
comment on function core.find_report(text) is
'The report_id of a report. Errors: PT404, also for one outside the token''s space.';

create or replace function core.find_same_report(
  token_id integer,
  space_id integer,
  now_at timestamptz,
  format text
)
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
begin
  return (
    select r.id
    from core.report r
    where r.token_id = find_same_report.token_id
      and r.created_at > clock_timestamp() - interval '1 minute'
      and r.space_id is not distinct from find_same_report.space_id
      and r.asked_now_at is not distinct from find_same_report.now_at
      and r.format = find_same_report.format
      and r.state <> 'failed'
      -- nothing that was committed since it was begun could make another one of it
      and (r.snapshot is null or not exists (
        select from core.change c
        where (c.is_polled or c.spaces is not null)
          and c.xid >= pg_snapshot_xmin(r.snapshot) and not pg_visible_in_snapshot(c.xid, r.snapshot)))
    order by r.report_id desc
    limit 1);
end
$$;
comment on function core.find_same_report(integer, integer, timestamptz, text) is
'The report that a token asked for in the same way within the last minute, if a new one would be the same; else null.';

create or replace function core.is_report_in_reach(space_id integer)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return core.get_reach() is null or (space_id is not null and core.is_space_in_reach(space_id));
end
$$;
comment on function core.is_report_in_reach(integer) is
'Whether a report of a subtree (null: of everything) may be read: all of it was within reach.';

create or replace function core.describe_reports(reports bigint[])
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
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_reach integer[] := core.list_reach();
begin
  return query
  select
    r.id,
    initcap(r.state),
    case r.state when 'complete' then 1 else coalesce(u.progress, 0) end,
    r.now_at,
    s.id,
    r.format,
    case when r.state <> 'complete' then null when v_reach is null then r.site_count else (
      select count(*) from core.report_row w where w.report_id = r.report_id and w.space_id = any (v_reach)) end,
    r.detail,
    r.created_at,
    r.finished_at
  from core.report r
  left join core.report_run u on u.report_id = r.report_id
  left join core.space s on s.space_id = r.space_id
  where r.report_id = any (reports);
end
$$;
comment on function core.describe_reports(bigint[]) is
'Reports as api.get_report gives them, in no order.';

create or replace function core.round_minutes(microseconds bigint)
returns numeric
language sql immutable
as $$ select round(microseconds / 60000000::numeric, 2) $$;
comment on function core.round_minutes(bigint) is
'Microseconds as minutes with 2 decimals, half away from zero. Inlined by the planner: no search_path of its own.';

create or replace function core.round_hours(microseconds bigint)
returns numeric
language sql immutable
as $$ select round(microseconds / 3600000000::numeric, 2) $$;
comment on function core.round_hours(bigint) is
'Microseconds as hours with 2 decimals, half away from zero. Inlined by the planner: no search_path of its own.';
