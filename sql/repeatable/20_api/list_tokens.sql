create or replace function api.list_tokens(
  after text default null,
  max_rows integer default 100
)
returns table (
  id text,
  name text,
  scopes text[],
  space text,
  events_per_second integer,
  requests_per_second integer,
  created_at timestamptz,
  expires_at timestamptz,
  revoked_at timestamptz,
  last_used_at timestamptz,
  created_by text
)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_reach integer[] := core.list_reach();
begin
  return query
  select t.*
  from core.describe_tokens(array(
    select t.token_id
    from core.token t
    where (after is null or t.id > after)
      and (v_reach is null or t.space_id = any (v_reach))
    order by t.id
    limit max_rows
  )) t
  order by t.id;
end
$$;
comment on function api.list_tokens(text, integer) is
'Tokens in order of their ids, those that were revoked or have expired too. Never the token itself, nor its digest.

after: the id behind which to go on. last_used_at: to the minute. created_by: the token that made it. On behalf of a
limited token: those limited to its space or one below it.';
