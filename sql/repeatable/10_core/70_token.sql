-- Tokens as the outside sees them.

create or replace function core.include_scopes(scopes text[])
returns text[]
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select array(
    select s.scope
    from unnest(array['ingest', 'read', 'admin']) as s (scope)
    where s.scope = any (scopes) or (s.scope = 'read' and 'admin' = any (scopes)))
$$;
comment on function core.include_scopes(text[]) is
'The scopes that a token has which was made with these: admin includes read. In the order ingest, read, admin.';

create or replace function core.describe_tokens(tokens integer[])
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
  last_used_at timestamptz
)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select t.id, t.name, core.include_scopes(t.scopes), s.id, t.events_per_second, t.requests_per_second, t.created_at, t.expires_at, t.revoked_at, t.last_used_at
  from core.token t
  left join core.space s on s.space_id = t.space_id
  where t.token_id = any (tokens)
$$;
comment on function core.describe_tokens(integer[]) is
'Tokens as api.list_tokens gives them, in no order.';
