create or replace function api.put_channel(
  channel text,
  patch jsonb
)
returns table (
  created boolean,
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
  new_secret text
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_channel core.channel;
  v_new core.channel;
  v_new_secret text;
  v_family_id integer;
begin
  -- a space that is being deleted meanwhile is found, or not, as it then is
  perform core.share_plan();
  perform core.check_id(channel, 'channel');
  select c.* into v_channel from core.channel c where c.id = channel and c.deleted_at is null for no key update;
  if found then
    perform core.find_channel(channel);
  end if;
  v_new := v_channel;
  v_new.kind := coalesce(patch->>'kind', v_channel.kind);
  if coalesce(v_new.kind not in ('webhook', 'email', 'apprise'), true) then
    perform core.refuse(422, 'A new channel needs a kind.', 'kind', 'Give webhook, email or apprise.');
  end if;
  if patch ? 'url' then
    v_new.url := patch->>'url';
  end if;
  if patch ? 'to' then
    v_new.recipients := case jsonb_typeof(patch->'to')
      when 'array' then array(select jsonb_array_elements_text(patch->'to'))
      when 'string' then array[patch->>'to']
    end;
  end if;
  if v_new.kind = 'email' and not patch ? 'url' then
    v_new.url := null;
  elsif v_new.kind <> 'email' and not patch ? 'to' then
    v_new.recipients := null;
  end if;
  perform core.check_channel_target(v_new);
  select c.secret, c.new_secret into v_new.secret, v_new_secret
  from core.choose_secret(v_new.kind, v_channel.secret, patch) c;
  if patch ? 'events' then
    v_new.events := array(select jsonb_array_elements_text(patch->'events'));
  end if;
  v_new.events := array(
    select e.event from unnest(array['offline', 'online', 'over_capacity']) as e (event)
    where e.event = any (coalesce(v_new.events, array[e.event])));
  if cardinality(v_new.events) = 0 then
    perform core.refuse(
      422, 'A channel needs at least one event.', 'events', 'Give one or more of offline, online and over_capacity.');
  end if;
  if patch ? 'under' then
    v_new.under_id := core.refer_to_space(patch->>'under', 'under');
  end if;
  -- what a limited token makes is about the space it is limited to, unless it says which
  v_new.under_id := coalesce(v_new.under_id, core.get_reach());
  if patch ? 'only_in_opening_hours' then
    v_new.only_in_opening_hours := coalesce((patch->>'only_in_opening_hours')::boolean, false);
  end if;
  if patch ? 'muted_until' then
    v_new.muted_until := (patch->>'muted_until')::timestamptz;
  end if;

  if v_channel.channel_id is null then
    if core.get_reach() is not null then
      v_family_id := core.get_family(current_setting('headcount.token', true));
      perform core.check_channel_room(v_family_id);
    end if;
    insert into core.channel (
      id, kind, url, recipients, secret, events, under_id, only_in_opening_hours, muted_until, created_at, family_id)
    values (
      channel, v_new.kind, v_new.url, v_new.recipients, v_new.secret, v_new.events, v_new.under_id,
      coalesce(v_new.only_in_opening_hours, false), v_new.muted_until, clock_timestamp(), v_family_id)
    returning channel_id into v_new.channel_id;
  else
    update core.channel c
    set kind = v_new.kind, url = v_new.url, recipients = v_new.recipients, secret = v_new.secret, events = v_new.events,
      under_id = v_new.under_id, only_in_opening_hours = v_new.only_in_opening_hours, muted_until = v_new.muted_until
    where c.channel_id = v_channel.channel_id;
  end if;
  return query
  select v_channel.channel_id is null, d.*, v_new_secret from core.describe_channels(array[v_new.channel_id]) d;
end
$$;
comment on function api.put_channel(text, jsonb) is
'Creates a channel, or changes what patch names: null clears, absent leaves as is.

patch: {kind, url, to, secret, events, under, only_in_opening_hours, muted_until}. kind: webhook or apprise (url), email
(to: an address or a list). events: of offline, online, over_capacity; a new channel has all if none are named. under:
only notices about this space and those below it; on behalf of a limited token its own, unless named. secret: of a
webhook; where there is none, or for null, a new one is made and returned once, as new_secret. Pending deliveries use
the channel as it is when they are sent. A family of limited tokens can have core.get_max_channels channels. Errors:
PT409 beyond that; PT422 naming the field; PT404 outside the token''s space.';
