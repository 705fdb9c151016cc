create or replace function api.revoke_token(
  token text,
  descendants boolean default true
)
returns boolean
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_reach integer[] := core.list_reach();
  v_tokens integer[];
  v_is_news boolean := false;
begin
  v_tokens := array(
    select t.token_id from core.token t
    where t.id = revoke_token.token and (v_reach is null or t.space_id = any (v_reach)));
  if cardinality(v_tokens) = 0 then
    perform core.refuse(
      404, format('There is no token %s.', quote_literal(token)), 'token',
      'Look at GET /v1/tokens; this takes the id of a token, not the token itself.');
  end if;
  -- each generation in a statement of its own: what was just being made on behalf of the one above is found then
  while cardinality(v_tokens) > 0 loop
    update core.token t set revoked_at = coalesce(t.revoked_at, clock_timestamp())
    where t.token_id in (select l.token_id from core.token l where l.token_id = any (v_tokens)
      order by l.token_id for no key update);
    v_is_news := v_is_news or exists (
      select from core.token t
      where t.token_id = any (v_tokens) and t.revoked_at > clock_timestamp() - interval '10 seconds');
    exit when not descendants;
    v_tokens := array(select t.token_id from core.token t where t.created_by_id = any (v_tokens));
  end loop;
  return v_is_news;
end
$$;
comment on function api.revoke_token(text, boolean) is
'Revokes a token for good, with all tokens that it made, and that those made. They stay in the list. Revoking again
changes nothing. Returns whether services that remember tokens may still accept one of them: it was revoked now, or
within 10 seconds by somebody else.

descendants: false for the token alone. A running service may accept it for a few seconds more. Errors: PT404.';
