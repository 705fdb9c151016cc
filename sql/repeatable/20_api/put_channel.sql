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
  new_secret text,
  out_of_reach boolean
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
  -- family, then channel: api.try_channel locks them in this order too
  v_family_id := core.lock_limited_family();
  select c.* into v_channel from core.channel c where c.id = channel and c.deleted_at is null for no key update;
  if found then
    perform core.find_channel(channel);
  end if;
  v_new := v_channel;
  v_new.kind := coalesce(patch->>'kind', v_channel.kind);
  if coalesce(v_new.kind not in ('webhook', 'email', 'apprise'), true) then
    perform core.refuse(422, 'A new channel needs a kind.', 'kind', 'Give webhook, email or apprise.');
  end if;
  v_new.url := case when patch ? 'url' then patch->>'url' else v_channel.url end;
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
  -- whoever chooses where it sends answers for it, and gets nothing signed with a secret of others
  if v_channel.channel_id is null or v_new.kind <> v_channel.kind or patch ?| array['url', 'to'] then
    v_new.family_id := v_family_id;
  end if;
  select c.secret, c.new_secret into v_new.secret, v_new_secret
  from core.choose_secret(
    v_new.kind, case when v_new.family_id is not distinct from v_channel.family_id then v_channel.secret end, patch) c;
  v_new.events := core.choose_events(v_channel.events, patch);
  if patch ? 'under' then
    v_new.under_id := core.refer_to_space(patch->>'under', 'under');
  end if;
  -- what a limited token makes is about the space it is limited to, unless it says which
  v_new.under_id := coalesce(v_new.under_id, core.get_own_space());
  if patch ? 'only_in_opening_hours' then
    v_new.only_in_opening_hours := coalesce((patch->>'only_in_opening_hours')::boolean, false);
  end if;
  v_new.muted_until := case when patch ? 'muted_until' then (patch->>'muted_until')::timestamptz
    else v_channel.muted_until end;

  if v_new.family_id is distinct from v_channel.family_id and v_new.family_id is not null then
    perform core.check_channel_room(v_new.family_id);
  end if;
  if v_channel.channel_id is null then
    insert into core.channel (
      id, kind, url, recipients, secret, events, under_id, only_in_opening_hours, muted_until, created_at, family_id)
    values (
      channel, v_new.kind, v_new.url, v_new.recipients, v_new.secret, v_new.events, v_new.under_id,
      coalesce(v_new.only_in_opening_hours, false), v_new.muted_until, clock_timestamp(), v_new.family_id)
    returning channel_id into v_new.channel_id;
  else
    update core.channel c
    set kind = v_new.kind, url = v_new.url, recipients = v_new.recipients, secret = v_new.secret, events = v_new.events,
      under_id = v_new.under_id, only_in_opening_hours = v_new.only_in_opening_hours, muted_until = v_new.muted_until,
      family_id = v_new.family_id
    where c.channel_id = v_channel.channel_id;
  end if;
  return query
  select v_channel.channel_id is null, d.id, d.kind, d.url, d.recipients, d.events, d.under, d.only_in_opening_hours,
    d.muted_until, d.created_at, d.failing_since, v_new_secret, d.out_of_reach
  from core.describe_channels(array[v_new.channel_id]) d;
end
$$;
comment on function api.put_channel(text, jsonb) is
'Creates a channel, or changes what patch names: null clears, absent leaves as is.

patch: {kind, url, to, secret, events, under, only_in_opening_hours, muted_until}. kind: webhook or apprise (url), email
(to: an address or a list). events: of offline, online, over_capacity; a new channel has all if none are named. under:
only notices about this space and those below it; on behalf of a limited token its own, unless named. secret: of a
webhook; where there is none, for null, or where the channel comes to belong to another family, a new one is made and
returned once, as new_secret. Pending deliveries use the channel as it is when they are sent. The channel belongs to the
family of limited tokens that gave its kind, url or to last, and to nobody where a token without a space did;
out_of_reach: core.is_channel_cut. A family can have core.get_max_channels channels. Errors: PT409 beyond that; PT422
naming the field; PT404 outside the token''s space.';
