-- Schemas, and the two roles that use them. The migrator has made schema meta and the extensions.

create schema core;
create schema api;
create schema bi;

comment on schema core is 'Tables and helpers. Private: no program outside this folder reads it.';
comment on schema api is 'The functions that the service calls: one for each thing it can do.';
comment on schema bi is 'Views for people and their BI tools.';

-- Roles belong to the whole server: another database's migration may have made them, or be at it now.
do $$
declare
  v_role text;
  -- from PostgreSQL 16 on a member need not be allowed to act as the role; who made it is a member only
  v_may text := case when current_setting('server_version_num')::integer >= 160000 then 'set' else 'member' end;
begin
  foreach v_role in array array['headcount_service', 'headcount_bi'] loop
    begin
      execute format('create role %I nologin', v_role);
    exception when duplicate_object or unique_violation then
      null;
    end;
    if not pg_has_role(current_user, v_role, v_may) then
      execute format('grant %I to %I', v_role, current_user);
    end if;
  end loop;
end
$$;
