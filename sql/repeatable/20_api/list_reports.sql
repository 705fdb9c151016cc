create or replace function api.list_reports(
  after_at timestamptz default null,
  after_id text default null,
  max_rows integer default 100
)
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
#variable_conflict use_column
declare
  v_reports bigint[];
begin
  v_reports := array(
    select r.report_id
    from core.report r
    where core.is_report_in_reach(r.space_id) and (after_at is null or (r.created_at, r.id) < (after_at, after_id))
    order by r.created_at desc, r.id desc
    limit max_rows);
  return query select d.* from core.describe_reports(v_reports) d order by d.created_at desc, d.id desc;
end
$$;
comment on function api.list_reports(timestamptz, text, integer) is
'Reports as api.get_report gives them, the newest first; after one of them by its created_at and id.';
