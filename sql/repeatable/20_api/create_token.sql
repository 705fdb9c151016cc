create or replace function api.create_token(
  digest bytea,
  inout scopes text[],
  inout name text default null,
  inout space text default null,
  inout expires_at timestamptz default null,
  inout events_per_second integer default null,
  inout requests_per_second integer default null,
  out id text,
  out created_at timestamptz,
  out revoked_at timestamptz,
  out last_used_at timestamptz,
  out created_by text
)
returns setof record
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_now timestamptz := clock_timestamp();
  v_maker core.token;
  v_token_id integer;
  v_space_id integer;
begin
  -- a space that is being deleted meanwhile is found, or not, as it then is
  perform core.share_plan();
  if scopes is null or cardinality(scopes) = 0 or not scopes <@ array['ingest', 'read', 'admin'] then
    perform core.refuse(422, 'A token needs scopes.', 'scopes', 'Give one or more of ingest, read and admin.');
  end if;
  if expires_at <= v_now then
    perform core.refuse(
      422, 'expires_at is not in the future.', 'expires_at', 'Leave it out for a token that does not expire.');
  end if;
  if events_per_second < 1 or requests_per_second < 1 then
    perform core.refuse(
      422, 'A limit is not positive.',
      case when events_per_second < 1 then 'events_per_second' else 'requests_per_second' end,
      'Leave it out for the limit that the service sets.');
  end if;
  if nullif(current_setting('headcount.token', true), '') is not null then
    -- whoever revokes it waits for this, and then finds what it made
    select t.* into v_maker
    from core.token t
    where t.id = current_setting('headcount.token') and core.is_token_valid(t.revoked_at, t.expires_at, v_now)
    for share;
    if not found then
      perform core.refuse(403, 'The token that asks for this is no longer valid.', null, 'Use another one.');
    end if;
    if (select max(m.steps) + 1 from core.list_makers(v_maker.token_id) m) >= core.get_max_generations() then
      perform core.refuse(
        403,
        format('This token is the last of %s generations and cannot make another one.', core.get_max_generations()),
        null, 'Use the token that made this one.');
    end if;
    -- of requests at one time a few more may pass
    if v_maker.space_id is not null and core.is_family_full(core.get_family(v_maker.id)) then
      perform core.refuse(
        409,
        format(
          'The family of this token has %s tokens that are valid or less than 24 hours old, the most that it can have.',
          core.get_max_tokens()),
        null, 'Revoke some, and try again 24 hours after they were made. A token without a space can make any number.');
    end if;
  end if;
  v_space_id := core.refer_to_space(space, 'space');
  if v_maker.token_id is not null then
    -- nobody gives away what he has not got; one without a space may make any token
    if v_maker.space_id is not null and not scopes <@ core.include_scopes(v_maker.scopes) then
      perform core.refuse(
        403, 'This token lacks some of these scopes.', 'scopes',
        format('It can give %s.', array_to_string(core.include_scopes(v_maker.scopes), ', ')));
    end if;
    v_space_id := coalesce(v_space_id, core.get_own_space());
    expires_at := least(expires_at, v_maker.expires_at);
    events_per_second := least(events_per_second, v_maker.events_per_second);
    requests_per_second := least(requests_per_second, v_maker.requests_per_second);
  end if;
  insert into core.token (id, digest, name, scopes, space_id, events_per_second, requests_per_second, created_at,
    expires_at, created_by_id)
  values (
    'tok_' || left(replace(gen_random_uuid()::text, '-', ''), 12), digest, name,
    core.include_scopes(scopes),
    v_space_id, events_per_second, requests_per_second, v_now, expires_at, v_maker.token_id)
  returning token_id into v_token_id;
  return query
  select
    t.scopes, t.name, t.space, t.expires_at, t.events_per_second, t.requests_per_second, t.id, t.created_at,
    t.revoked_at, t.last_used_at,
    t.created_by
  from core.describe_tokens(array[v_token_id]) t;
end
$$;
comment on function api.create_token(bytea, text[], text, text, timestamptz, integer, integer) is
'Adds a token, by its SHA-256 digest, with scopes: ingest, read, admin (which includes read).

space: that one and all below it only (null: everything). expires_at null: never. events_per_second,
requests_per_second: null for the limits that the service sets. A token that makes another one is noted in created_by;
the new one cannot live longer or have higher limits. If it is limited to a space, the new one is limited to that space
or one below it (null: the same), and can only have its scopes (else PT403). Errors: PT422 naming the field; PT403 also
where the token that asks is no longer valid, and for the eleventh generation; PT409 where its family of limited tokens
has core.get_max_tokens.';
