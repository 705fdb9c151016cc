create or replace function api.revoke_token(token text)
returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_reach integer[] := core.list_reach();
begin
  update core.token t set revoked_at = coalesce(t.revoked_at, clock_timestamp())
  where t.id = revoke_token.token and (v_reach is null or t.space_id = any (v_reach));
  if not found then
    raise exception using errcode = 'PT404', message = format('There is no token %s.', quote_literal(token)),
      detail = 'token', hint = 'Look at GET /v1/tokens; this takes the id of a token, not the token itself.';
  end if;
end
$$;
comment on function api.revoke_token(text) is
'Ends a token, for good. It stays in the list. Once more is all right.

Services that have seen it may take it for a few seconds more. Errors: PT404.';
