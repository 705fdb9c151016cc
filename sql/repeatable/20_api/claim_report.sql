create or replace function api.claim_report(lease_seconds double precision default 30)
returns table (id text, attempt integer)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_report core.report;
begin
  loop
    select r.* into v_report
    from core.report r
    where r.state = 'running'
      and not exists (select from core.report_run u where u.report_id = r.report_id
        and u.lease_until > clock_timestamp())
      and not exists (
        select
        from core.report o
        join core.report_run u on u.report_id = o.report_id
        where o.state = 'running' and u.lease_until > clock_timestamp() and o.token_id = r.token_id)
    order by r.report_id
    limit 1
    for no key update skip locked;
    if not found then
      return;
    end if;
    -- looked at anew, since whoever held the row until just now may have taken it
    if exists (select from core.report_run u where u.report_id = v_report.report_id
      and u.lease_until > clock_timestamp()) then
      return;
    end if;
    if v_report.attempts < 3 then
      update core.report r set attempts = r.attempts + 1, snapshot = pg_current_snapshot()
      where r.report_id = v_report.report_id;
      insert into core.report_run (report_id, lease_until, progress)
      values (v_report.report_id, clock_timestamp() + make_interval(secs => lease_seconds), 0)
      on conflict (report_id) do update set lease_until = excluded.lease_until, progress = 0;
      return query select v_report.id, v_report.attempts + 1;
      return;
    end if;
    update core.report r set state = 'failed', finished_at = clock_timestamp(),
      detail = 'The process that computed it ended early, three times.'
    where r.report_id = v_report.report_id;
  end loop;
end
$$;
comment on function api.claim_report(double precision) is
'Claims a report that no process computes, for so many seconds; no row where there is none. It is the oldest one of
those whose token has none being computed, so that one token with many does not take all who compute them. When a claim
ends without a result the report can be claimed again; after three attempts it has failed.

Then call api.compute_report in one REPEATABLE READ transaction until it is done, and api.extend_report from another
session meanwhile.';
