-- Who may do what, whole. headcount_service executes api; headcount_bi reads bi; nobody else anything.

revoke all on schema core, api, bi from public;
revoke all on all tables in schema core, api, bi from public;
revoke all on all routines in schema core, api, bi from public;
revoke all on all tables in schema core from headcount_service, headcount_bi;
revoke all on all routines in schema core from headcount_service, headcount_bi;

grant usage on schema api to headcount_service;
grant execute on all functions in schema api to headcount_service;

grant usage on schema bi to headcount_bi;
grant select on all tables in schema bi to headcount_bi;
-- Whoever reads a view calls its functions. Without usage on core these can be reached through the views only.
grant execute on function
  core.list_quarter_events(integer, timestamptz, timestamptz),
  core.list_bi_blocks(timestamptz, timestamptz),
  core.get_oldest_time(),
  core.list_block_quarters(),
  core.count_quarters(integer, timestamptz, timestamptz),
  core.count_space_now(integer, timestamptz),
  core.get_dpu_state(timestamptz, timestamptz, timestamptz, integer, timestamptz, timestamptz),
  core.get_offline_after(),
  core.get_clock(core.dpu_clock, timestamptz),
  core.round_minutes(bigint),
  core.round_hours(bigint)
to headcount_bi;

-- Settings of a role belong to the whole server: set once, not when another migration is at it, and left alone where
-- an administrator chose others. They hold where somebody logs in as the role: through a
-- pooler the service has no others.
do $$
declare
  v_setting record;
begin
  for v_setting in
    select w.role, w.name, w.value
    from (values
      ('headcount_bi', 'default_transaction_read_only', 'on'),
      ('headcount_bi', 'statement_timeout', '60s'),
      ('headcount_bi', 'idle_in_transaction_session_timeout', '60s'),
      -- a superuser alone can set these two, so the role cannot lift them
      ('headcount_bi', 'temp_file_limit', '5GB'),
      ('headcount_bi', 'log_min_messages', 'fatal'),  -- its errors and messages would fill the log
      -- it costs more than it saves: the views promise the planner far more rows than there are
      ('headcount_bi', 'jit', 'off'),
      ('headcount_service', 'statement_timeout', '30s'),
      -- each refused request is an error, and would be logged with its statement: a client could fill the log. The
      -- service itself logs what it does not expect. What the server logs of its own accord is kept (slow statements)
      ('headcount_service', 'log_min_messages', 'log'),
      ('headcount_service', 'jit', 'off')
    ) as w (role, name, value)
    where not exists (
      select
      from pg_catalog.pg_db_role_setting s, unnest(s.setconfig) as c (setting)
      where s.setrole = w.role::regrole and s.setdatabase = 0 and split_part(c.setting, '=', 1) = w.name)
  loop
    begin
      execute format('alter role %I set %I = %L', v_setting.role, v_setting.name, v_setting.value);
    exception
      when unique_violation or internal_error or lock_not_available then
        null;  -- another database's migration is at it ("tuple concurrently updated")
      when insufficient_privilege then
        raise warning '% has no % = %: let a superuser set it.', v_setting.role, v_setting.name,
          v_setting.value using errcode = '01HC0';
    end;
  end loop;
  begin
    if exists (select from pg_catalog.pg_roles r where r.rolname = 'headcount_bi' and r.rolconnlimit < 0) then
      alter role headcount_bi connection limit 10;
    end if;
  exception when unique_violation or internal_error or lock_not_available or insufficient_privilege then
    null;  -- as above; 95_public.sql tells
  end;
end
$$;
