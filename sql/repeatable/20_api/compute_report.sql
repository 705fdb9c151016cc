create or replace function api.compute_report(
  report text,
  attempt integer,
  after text default null,
  max_sites integer default 500
)
returns table (last_site text, progress double precision)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_report core.report;
  v_total bigint;
  v_spaces integer[];
  v_sites text[];
  v_froms timestamptz[];
begin
  if current_setting('transaction_isolation') not in ('repeatable read', 'serializable') then
    perform core.refuse(
      422, 'A report is computed from one snapshot.', 'transaction_isolation',
      'Call it in a REPEATABLE READ transaction.');
  end if;
  -- held until the end: nobody else begins it anew
  select r.* into v_report from core.report r where r.id = report and r.state = 'running'
    and r.attempts = attempt for no key update;
  if not found then
    perform core.refuse(409, 'The report is finished, or another process computes it.', 'report', null);
  end if;
  if v_report.now_at is null then
    v_report.now_at := coalesce(core.get_latest_poll(v_report.space_id), date_trunc('second', clock_timestamp()));
    update core.report r set now_at = v_report.now_at where r.report_id = v_report.report_id;
  end if;

  -- the same for all steps of one snapshot
  v_total := v_report.site_count;
  if after is null or v_total is null then
    v_total := (select count(*) from core.list_sites(v_report.space_id));
    update core.report r set site_count = v_total where r.report_id = v_report.report_id;
  end if;
  select array_agg(s.space_id order by s.id), array_agg(s.id order by s.id)
  into v_spaces, v_sites
  from (
    select s.space_id, s.id
    from core.list_sites(v_report.space_id) i
    join core.space s on s.space_id = i
    where after is null or s.id > after
    order by s.id
    limit max_sites
  ) s;

  if v_spaces is not null then
    v_froms := array[v_report.now_at - interval '1 hour', v_report.now_at - interval '24 hours',
      v_report.now_at - interval '168 hours'];
    insert into core.report_row (report_id, site, space_id, hour_up, day_up, week_up, hour_down, day_down, week_down)
    select
      v_report.report_id, s.site, s.space_id,
      sum(u.up) filter (where u."window" = 1), sum(u.up) filter (where u."window" = 2), sum(u.up)
        filter (where u."window" = 3),
      sum(u.down) filter (where u."window" = 1), sum(u.down) filter (where u."window" = 2), sum(u.down)
        filter (where u."window" = 3)
    from core.sum_uptimes(v_spaces, v_froms, array_fill(v_report.now_at, array[3]), v_report.now_at) u
    join unnest(v_spaces, v_sites) as s (space_id, site) on s.space_id = u.space_id
    group by s.site, s.space_id;
    if cardinality(v_sites) = max_sites then
      return query select
        v_sites[max_sites],
        (select count(*) from core.report_row w where w.report_id = v_report.report_id)::double precision / v_total;
      return;
    end if;
  end if;
  update core.report r set state = 'complete', finished_at = clock_timestamp(), site_count = v_total
  where r.report_id = v_report.report_id;
  return query select null::text, 1::double precision;
end
$$;
comment on function api.compute_report(text, integer, text, integer) is
'Computes the next rows of a report, those of max_sites sites after one; last_site is null when it is complete. The rows
are those of one snapshot: that of the transaction, which has to be REPEATABLE READ.

attempt: as api.claim_report returned it. Errors: PT409 where another process has claimed it since; PT422 in a
transaction with another isolation level.';
