create or replace function api.create_report(
  now_at timestamptz default null,
  under text default null,
  format text default 'csv',
  max_running integer default 100
)
returns text
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_space_id integer := case when under is not null then core.find_space(under, 'under') else core.get_reach() end;
  v_id text := gen_random_uuid();
begin
  if create_report.format is null or create_report.format not in ('csv', 'json') then
    raise exception using errcode = 'PT422', message = 'There is no such format.', detail = 'format', hint = 'Give csv or json.';
  end if;
  if (select count(*) from core.report r where r.state = 'running') >= max_running then
    raise exception using errcode = 'PT503', message = 'Too many reports wait to be computed.', hint = 'Try again when some are done.';
  end if;
  insert into core.report (id, space_id, now_at, format, created_at)
  values (v_id, v_space_id, create_report.now_at, create_report.format, clock_timestamp());
  return v_id;
end
$$;
comment on function api.create_report(timestamptz, text, text, integer) is
'Asks for a report on uptime and returns its id, which is random. Whoever calls api.claim_report computes it.

now_at: the end of its windows; null: the latest poll that is stored when it is computed. under: of this space and all below it; null: all, or what the token reaches. format: csv or json, what GET /get_report answers with unless it is asked for the other. Errors: PT404 for under; PT422; PT503 where max_running reports are not done yet.';
