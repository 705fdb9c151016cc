create or replace function api.replay_delivery(
  delivery text,
  channel_replays integer default null,
  token_replays integer default null
)
returns table (
  id bigint,
  channel text,
  notice text,
  kind text,
  space text,
  occurred_at timestamptz,
  details jsonb,
  state text,
  reason text,
  created_at timestamptz,
  settled_at timestamptz,
  next_try_at timestamptz,
  tries jsonb
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_now timestamptz := clock_timestamp();
  v_family_id integer := core.get_family(current_setting('headcount.token', true));
  v_delivery_id bigint;
  v_is_test boolean;
  v_channel core.channel;
begin
  if delivery ~ '^[0-9]{1,18}$' then
    select d.delivery_id, n.kind = 'test' into v_delivery_id, v_is_test
    from core.delivery d
    join core.channel c on c.channel_id = d.channel_id
    join core.notice n on n.notice_id = d.notice_id
    where d.delivery_id = delivery::bigint and core.is_channel_in_reach(c.under_id)
      -- the channel may have been for other spaces before
      and (n.kind = 'test' or core.is_space_in_reach(n.space_id) and exists (
        select from core.list_notice_places(array[n.notice_id]) p where core.is_space_in_reach(p.space_id)));
  end if;
  if v_delivery_id is null then
    perform core.refuse(
      404, format('There is no delivery %s.', quote_literal(delivery)), 'delivery', 'Look at GET /v1/deliveries.');
  end if;
  if v_is_test then
    perform core.refuse(
      409, 'A test is sent only once.', 'delivery', 'Send another one with POST /v1/channels/{id}/test.');
  end if;
  -- one after the other of a family, and of a channel, so that none is left out of the count
  perform from core.token t where t.token_id = v_family_id for no key update;
  select c.* into v_channel
  from core.channel c
  where c.channel_id = (select d.channel_id from core.delivery d where d.delivery_id = v_delivery_id)
  for no key update;
  if v_channel.deleted_at is not null then
    perform core.refuse(
      409, format('The channel %s was deleted.', quote_literal(v_channel.id)), 'delivery',
      'A new channel with the same id gets new notices only.');
  end if;
  perform core.check_channel_maker(v_channel, 'delivery');
  perform core.note_replay(v_channel.channel_id, v_family_id, channel_replays, token_replays);
  update core.delivery d
  set state = 'pending', reason = null, settled_at = null, give_up_at = v_now + core.get_give_up_after(),
    due_at = case when d.state = 'pending' and d.claim is not null and d.due_at > v_now then d.due_at else v_now end
  where d.delivery_id = v_delivery_id;
  return query select d.* from core.describe_deliveries(array[v_delivery_id]) d;
end
$$;
comment on function api.replay_delivery(text, integer, integer) is
'Has a delivery sent again, whatever its state: at once, with tries for 24 hours. The id of the notice stays the same,
so receivers can recognize it.

A try that is under way goes on. channel_replays, token_replays: how many a minute for the channel, and for the token
that asks with its family (core.list_makers); null: any number. Errors: PT404, also for one that a limited token cannot
list; PT409 for a test, and if its channel was deleted or is core.is_channel_cut; PT429.';
