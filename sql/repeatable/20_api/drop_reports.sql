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
      select o.report_id, o.finished_at,
        row_number() over (partition by o.token_id order by o.created_at desc, o.report_id desc) as place
      from core.report o
      where o.state <> 'running'
    ) o
    where o.place > keep and o.finished_at < clock_timestamp() - interval '1 hour');
end
$$;
comment on function api.drop_reports(integer) is
'Deletes reports that were finished more than an hour ago. keep: how many of the newest stay for each token, and how
many of those that came without a token.';
