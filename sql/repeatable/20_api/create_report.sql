create or replace function api.create_report(
  now_at timestamptz default null,
  under text default null,
  format text default 'csv',
  max_running integer default 100,
  token text default null,
  per_hour integer default 1000
)
returns text
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_space_id integer := case when under is not null then core.find_space(under, 'under') else core.get_own_space() end;
  v_id text := gen_random_uuid();
  -- what a limited token makes has no share of its own
  v_token_id integer := core.get_family(create_report.token);
  v_same text;
  v_share integer := greatest(max_running / 4, 1);
begin
  if create_report.format is null or create_report.format not in ('csv', 'json') then
    perform core.refuse(422, 'format is neither csv nor json.', 'format', 'Give csv or json.');
  end if;
  if v_token_id is not null then
    v_same := core.find_same_report(v_token_id, v_space_id, create_report.now_at, create_report.format);
    if v_same is not null then
      return v_same;
    end if;
    if (select count(*) from core.report r where r.state = 'running' and r.token_id = v_token_id) >= v_share then
      perform core.refuse(
        429, format('%s reports of this token are not done yet, the most that it can have.', v_share), null,
        'Try again when some are done.');
    end if;
    if (select count(*) from core.report r where r.token_id = v_token_id
      and r.created_at > clock_timestamp() - interval '1 hour') >= per_hour then
      perform core.refuse(
        429, format('This token has asked for %s reports within an hour.', per_hour), null, 'Try again later.');
    end if;
  end if;
  if (select count(*) from core.report r where r.state = 'running') >= max_running then
    perform core.refuse(503, 'Too many reports wait to be computed.', null, 'Try again when some are done.');
  end if;
  insert into core.report (id, space_id, now_at, asked_now_at, format, token_id, created_at)
  values (v_id, v_space_id, create_report.now_at, create_report.now_at, create_report.format, v_token_id,
    clock_timestamp());
  return v_id;
end
$$;
comment on function api.create_report(timestamptz, text, text, integer, text, integer) is
'Queues a report on uptime and returns its id, which is random. The service computes it (api.claim_report).

now_at: the end of its windows; null: the latest poll that is stored when it is computed. under: of this space and all
below it; null: all, or what the token reaches. format: csv or json, which GET /get_report answers with unless it is
asked for the other.

token: the id of the token that asks; null where none is needed. A token and its family (core.list_makers) share what
follows. Asking again within a minute returns the same report, unless something that it tells of has changed. At most a
quarter of max_running reports can be waiting, and per_hour can be asked for in an hour. Errors: PT404 for under; PT422;
PT429 beyond the share of the token; PT503 where max_running reports are not done yet.';
