create or replace function api.find_tokens(digests bytea[])
returns table (
  digest bytea,
  id text,
  scopes text[],
  is_limited boolean,
  expires_at timestamptz,
  events_per_second integer,
  requests_per_second integer,
  family text[],
  family_events integer[],
  family_requests integer[]
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_now timestamptz := clock_timestamp();
begin
  -- nobody waits for a mark that another is just making
  update core.token t set last_used_at = v_now
  where t.token_id in (
    select u.token_id
    from core.token u
    where u.digest = any (digests) and core.is_token_valid(u.revoked_at, u.expires_at, v_now)
      and (u.last_used_at is null or u.last_used_at <= v_now - interval '1 minute')
    order by u.token_id
    for no key update skip locked
  );
  return query
  with found as materialized (
    select t.*
    from core.token t
    where t.digest = any (digests) and core.is_token_valid(t.revoked_at, t.expires_at, v_now)
  ),
  family as (
    select
      l.token_id,
      array_agg(m.id order by l.steps) as ids,
      array_agg(m.events_per_second order by l.steps) as events,
      array_agg(m.requests_per_second order by l.steps) as requests
    from core.list_makers_of(array(select t.token_id from found t)) l
    join core.token m on m.token_id = l.maker_id
    group by l.token_id
  )
  select
    t.digest, t.id, core.include_scopes(t.scopes), t.space_id is not null, t.expires_at, t.events_per_second,
    t.requests_per_second, f.ids, f.events, f.requests
  from found t
  join family f on f.token_id = t.token_id;
end
$$;
comment on function api.find_tokens(bytea[]) is
'The tokens with these SHA-256 digests that are valid now: neither revoked nor expired. Updates last_used_at, at most
once a minute.

scopes: admin includes read. is_limited: whether it is limited to a space; then each statement on its behalf must have
its id in the setting headcount.token. family: the token and those that made it, as far as they share limits
(core.list_makers_of), with the limits of each in the arrays beside it.';
