-- Tokens as the API shows them, and their families.

create or replace function core.is_token_valid(
  revoked_at timestamptz,
  expires_at timestamptz,
  at timestamptz
)
returns boolean
language sql immutable
as $$ select revoked_at is null and (expires_at is null or expires_at > at) $$;
comment on function core.is_token_valid(timestamptz, timestamptz, timestamptz) is
'Whether a token is neither revoked nor expired at an instant. Inlined by the planner: no search_path of its own.';

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
'The scopes of a token that was made with these: admin includes read. In the order ingest, read, admin.';

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
  last_used_at timestamptz,
  created_by text
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_reach integer[] := core.list_reach();
begin
  return query
  select
    t.id, t.name, core.include_scopes(t.scopes), s.id, t.events_per_second, t.requests_per_second, t.created_at,
    t.expires_at, t.revoked_at, t.last_used_at,
    case when v_reach is null or m.space_id = any (v_reach) then m.id end
  from core.token t
  left join core.space s on s.space_id = t.space_id
  left join core.token m on m.token_id = t.created_by_id
  where t.token_id = any (tokens);
end
$$;
comment on function core.describe_tokens(integer[]) is
'Tokens as api.list_tokens gives them, in no order. created_by: null also for a token that the caller does not reach.';

create or replace function core.get_max_generations()
returns integer
language sql immutable
as $$ select 10 $$;
comment on function core.get_max_generations() is
'How many generations of tokens a family can have, each made by the one before. Inlined by the planner: no search_path
of its own.';

create or replace function core.list_makers_of(tokens integer[])
returns table (token_id integer, maker_id integer, steps integer)
-- few, as a rule: what is joined to them is found by its index
language plpgsql stable rows 20
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  with recursive maker as (
    select t.token_id, t.token_id as maker_id, t.created_by_id, 0 as steps
    from core.token t
    where t.token_id = any (tokens)
    union all
    select m.token_id, p.token_id, p.created_by_id, m.steps + 1
    from maker m
    -- offset 0: a look for each
    cross join lateral (
      select t.token_id, t.created_by_id
      from core.token t
      where t.token_id = m.created_by_id and t.space_id is not null
      offset 0
    ) p
    where m.steps < core.get_max_generations()
  )
  select m.token_id, m.maker_id, m.steps from maker m;
end
$$;
comment on function core.list_makers_of(integer[]) is
'Each token (steps: 0), the token that made it, and so on, as long as they are limited to a space. The row with most
steps is the first of the family.

A family shares its limits. A token that was made by one without a space begins a family of its own.';

create or replace function core.list_makers(token_id integer)
returns table (maker_id integer, steps integer)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select m.maker_id, m.steps from core.list_makers_of(array[list_makers.token_id]) m order by m.steps
$$;
comment on function core.list_makers(integer) is
'core.list_makers_of for one token, in the order of the steps.';

create or replace function core.get_max_tokens()
returns integer
language sql immutable
as $$ select 1000 $$;
comment on function core.get_max_tokens() is
'How many tokens a family of limited tokens can have. Inlined by the planner: no search_path of its own.';

create or replace function core.is_family_full(family_id integer)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return (
    with recursive member as (
      select is_family_full.family_id as token_id
      union all
      select t.token_id
      from member m
      join core.token t on t.created_by_id = m.token_id
    )
    select count(*) >= core.get_max_tokens()
    from member m
    join core.token t on t.token_id = m.token_id
    where core.is_token_valid(t.revoked_at, t.expires_at, clock_timestamp())
      or t.created_at > clock_timestamp() - interval '1 day');
end
$$;
comment on function core.is_family_full(integer) is
'Whether the family that begins with this token is full. Tokens that are valid count, and all that were made in the last
24 hours: so revoking some makes no room for new ones on the same day.';

create or replace function core.get_family(token text)
returns integer
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select m.maker_id
  from core.token t cross join core.list_makers(t.token_id) m
  where t.id = token
  order by m.steps desc
  limit 1
$$;
comment on function core.get_family(text) is
'The first token of the family of the token with this id; null where there is no such token.';

create or replace function core.lock_limited_family()
returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_family_id integer := case
    when core.get_reach() is not null then core.get_family(current_setting('headcount.token', true))
  end;
begin
  perform from core.token t where t.token_id = v_family_id for no key update;
  return v_family_id;
end
$$;
comment on function core.lock_limited_family() is
'The first of the family of the limited token that asks, locked until the transaction ends. Null: the token is not
limited, or nobody needs one.';
