create or replace function api.drop_reports(keep integer)
returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  delete from core.report r
  where r.report_id in (
    select o.report_id
    from (
      select o.report_id, row_number() over (partition by o.space_id order by o.created_at desc, o.report_id desc) as place
      from core.report o
      where o.state <> 'running'
    ) o
    where o.place > keep);
end
$$;
comment on function api.drop_reports(integer) is
'Deletes all reports that are over but the newest ones, so many of each space and of the whole.';
