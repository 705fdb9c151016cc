-- Channels as the API shows them.

create or replace function core.describe_channels(channels integer[])
returns table (
  id text,
  kind text,
  url text,
  recipients text[],
  events text[],
  under text,
  only_in_opening_hours boolean,
  muted_until timestamptz,
  created_at timestamptz,
  failing_since timestamptz,
  out_of_reach boolean
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select
    c.id, c.kind, case c.kind when 'apprise' then split_part(c.url, '://', 1) || '://...'
      else c.url end, c.recipients, c.events, s.id,
    c.only_in_opening_hours, c.muted_until, c.created_at, c.failing_since, core.is_channel_cut(c.family_id, c.under_id)
  from core.channel c
  left join core.space s on s.space_id = c.under_id
  where c.channel_id = any (channels);
end
$$;
comment on function core.describe_channels(integer[]) is
'Channels as api.list_channels gives them, in no order. Of an Apprise address only the scheme: the rest holds keys.';

create or replace function core.find_channel(channel text)
returns integer
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_channel core.channel;
begin
  select c.* into v_channel from core.channel c where c.id = find_channel.channel and c.deleted_at is null;
  if not found or not core.is_channel_in_reach(v_channel.under_id) then
    perform core.refuse(
      404, format('There is no channel %s.', quote_literal(channel)), 'channel',
      'Create it with PUT /v1/channels/{id}, or look at GET /v1/channels.');
  end if;
  return v_channel.channel_id;
end
$$;
comment on function core.find_channel(text) is
'The channel_id of a channel. Errors: PT404, also for one outside the token''s space.';

create or replace function core.get_max_channels()
returns integer
language sql immutable
as $$ select 20 $$;
comment on function core.get_max_channels() is
'How many channels a family of limited tokens can have at a time. Inlined by the planner: no search_path of its own.';

create or replace function core.is_channel_in_reach(under_id integer)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return core.get_reach() is null or (under_id is not null and core.is_space_in_reach(under_id));
end
$$;
comment on function core.is_channel_in_reach(integer) is
'Whether the token may see a channel with this under: a limited token sees channels that are only about its spaces.';

create or replace function core.is_channel_cut(
  family_id integer,
  under_id integer
)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return family_id is not null and not exists (
    with recursive above as materialized (
      select a.above_id as space_id from core.list_above(array[is_channel_cut.under_id]) a
    ),
    -- what one does not reach, none that it made does (core.find_reach)
    member as (
      select t.token_id
      from core.token t
      where t.token_id = is_channel_cut.family_id and t.space_id in (select a.space_id from above a)
      union all
      select t.token_id
      from member m
      join core.token t on t.created_by_id = m.token_id and t.space_id in (select a.space_id from above a)
    )
    select
    from member m
    join core.token t on t.token_id = m.token_id
    where core.is_token_valid(t.revoked_at, t.expires_at, clock_timestamp())
      and t.scopes && array['read', 'admin']);
end
$$;
comment on function core.is_channel_cut(integer, integer) is
'Whether nothing may be sent to a channel any more: a family of limited tokens chose where it sends, and none of its
tokens that are valid can read the channel''s under. Never for a channel of nobody''s (family_id null).';

create or replace function core.check_channel_maker(
  channel core.channel,
  place text
)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if core.is_channel_cut(channel.family_id, channel.under_id) then
    perform core.refuse(
      409,
      format(
        'The tokens that chose where channel %s sends are no longer valid, or do not reach its under.',
        quote_literal(channel.id)),
      place, 'Give its url (or to) again with a token that reaches it, or delete it.');
  end if;
end
$$;
comment on function core.check_channel_maker(core.channel, text) is
'Errors: PT409 naming place where core.is_channel_cut.';

create or replace function core.check_channel_target(channel core.channel)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if (channel.kind = 'email') <> (coalesce(cardinality(channel.recipients), 0) > 0) then
    perform core.refuse(
      422,
      case channel.kind when 'email' then 'An e-mail channel needs recipients.' else 'Only e-mail has recipients.' end,
      'to', 'Give `to` for e-mail, `url` for the other kinds.');
  end if;
  if (channel.kind = 'email') <> (channel.url is null)
    or (channel.kind = 'webhook') <> coalesce(channel.url ~* '^https?://', false) then
    perform core.refuse(
      422,
      case channel.kind
        when 'email' then 'E-mail has no url.'
        when 'webhook' then 'A webhook needs a url.'
        else 'An Apprise channel needs the url of a service.'
      end,
      'url',
      case channel.kind when 'email' then 'Give `to` instead.' when 'webhook'
        then 'Give one that begins with https:// or http://.'
        else 'Give one such as slack://...; for https:// use the kind webhook.' end);
  end if;
end
$$;
comment on function core.check_channel_target(core.channel) is
'Errors: PT422 naming to or url unless a channel has what its kind needs: e-mail recipients, the others a url.';

create or replace function core.check_channel_room(family_id integer)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  -- one after the other of a family, so that none is left out of the count
  perform from core.token t where t.token_id = check_channel_room.family_id for no key update;
  if (
    select count(*) >= core.get_max_channels()
    from core.channel c
    where c.family_id = check_channel_room.family_id and c.deleted_at is null)
  then
    perform core.refuse(
      409,
      format('The tokens of this family have %s channels, the most that they can have.', core.get_max_channels()),
      'channel', 'Delete one of them. A token without a space can make any number.');
  end if;
end
$$;
comment on function core.check_channel_room(integer) is
'Errors: PT409 where a family of limited tokens has as many channels as it can have. Locks the first of the family until
the transaction ends.';

create or replace function core.choose_secret(
  kind text,
  inout secret text,
  patch jsonb,
  out new_secret text
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if kind <> 'webhook' then
    if patch->>'secret' is not null then
      perform core.refuse(422, 'Only a webhook has a secret.', 'secret', 'Leave it out.');
    end if;
    secret := null;
  elsif patch->>'secret' is not null then
    secret := patch->>'secret';
    if secret !~ '^whsec_[A-Za-z0-9+/]{32,86}={0,2}$' then
      perform core.refuse(
        422, 'The secret of a webhook has another form.', 'secret',
        'Give whsec_ and 24 to 64 random bytes in base64, or leave it out for a new one.');
    end if;
  elsif secret is null or patch ? 'secret' then
    new_secret := 'whsec_'
      || encode(decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'), 'base64');
    secret := new_secret;
  end if;
end
$$;
comment on function core.choose_secret(text, text, jsonb) is
'The secret of a channel of a kind, from the one it has and a patch (api.put_channel): that of the patch, else the one
it has, else a new one, given as new_secret too. Null for all but webhooks. Errors: PT422 naming secret.';

create or replace function core.choose_events(
  events text[],
  patch jsonb
)
returns text[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_events text[] := case
    when patch ? 'events' then array(select jsonb_array_elements_text(patch->'events')) else events
  end;
begin
  v_events := array(
    select e.event from unnest(array['offline', 'online', 'over_capacity']) as e (event)
    where e.event = any (coalesce(v_events, array[e.event])));
  if cardinality(v_events) = 0 then
    perform core.refuse(
      422, 'A channel needs at least one event.', 'events', 'Give one or more of offline, online and over_capacity.');
  end if;
  return v_events;
end
$$;
comment on function core.choose_events(text[], jsonb) is
'The events of a channel, from those it has and a patch (api.put_channel), in the order offline, online, over_capacity:
those of the patch, else those it has, else all. Errors: PT422 naming events.';
