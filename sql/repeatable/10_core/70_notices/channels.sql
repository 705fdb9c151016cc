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
  failing_since timestamptz
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select
    c.id, c.kind, case c.kind when 'apprise' then split_part(c.url, '://', 1) || '://...' else c.url end, c.recipients, c.events, s.id,
    c.only_in_opening_hours, c.muted_until, c.created_at, c.failing_since
  from core.channel c
  left join core.space s on s.space_id = c.under_id
  where c.channel_id = any (channels);
end
$$;
comment on function core.describe_channels(integer[]) is
'Channels as api.list_channels gives them, in no order. Of an Apprise address the scheme alone: the rest of it is keys.';

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
'The channel_id of a channel. Errors: PT404, also for one beyond the token''s reach.';

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
'Whether a limited token may know of a channel with this under: one that tells of its spaces alone.';
