create or replace function api.try_channel(
  inout channel text,
  lease_seconds integer default 30,
  out delivery bigint,
  out claim text,
  out notice text,
  out kind text,
  out occurred_at timestamptz,
  out details jsonb,
  out channel_kind text,
  out url text,
  out recipients text[],
  out secret text,
  channel_tests integer default null,
  token_tests integer default null,
  out family text
)
returns record
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_now timestamptz := clock_timestamp();
  v_channel_id integer := core.find_channel(channel);
  v_family_id integer := core.get_family(current_setting('headcount.token', true));
  v_channel core.channel;
  v_notice_id bigint;
  v_delivery_id bigint;
begin
  -- one after the other of a channel, and of a family, so that none is left out of the count
  perform from core.token t where t.token_id = v_family_id for no key update;
  select c.* into v_channel from core.channel c where c.channel_id = v_channel_id for no key update;
  perform core.check_channel_maker(v_channel, 'channel');
  if (
    select count(*) filter (where d.channel_id = v_channel_id) >= channel_tests
      -- an e-mail counts once for each recipient
      or sum(greatest(cardinality(c.recipients), 1)) filter (where n.family_id = v_family_id) >= token_tests
    from core.notice n
    join core.delivery d on d.notice_id = n.notice_id
    join core.channel c on c.channel_id = d.channel_id
    where n.kind = 'test' and n.created_at > clock_timestamp() - interval '1 minute'
  ) then
    perform core.refuse(
      429,
      format(
        'In a minute a channel can be tested %s times, and a token can test %s times (mail: as many recipients).',
        channel_tests, token_tests),
      null, 'Nothing was sent; try again in a minute.');
  end if;
  insert into core.notice (id, kind, occurred_at, created_at, details, family_id)
  values ('msg_' || replace(gen_random_uuid()::text, '-', ''), 'test', v_now, v_now,
    jsonb_build_object('channel', channel), v_family_id)
  returning notice_id into v_notice_id;
  -- one try, and no more
  insert into core.delivery (notice_id, channel_id, state, created_at, due_at, give_up_at, claim)
  values (v_notice_id, v_channel_id, 'pending', v_now, v_now + lease_seconds * interval '1 second', v_now,
    gen_random_uuid())
  returning delivery_id into v_delivery_id;
  select d.channel, d.delivery, d.claim, d.notice, d.kind, d.occurred_at, d.details, d.channel_kind, d.url,
    d.recipients, d.secret, d.family
  into channel, delivery, claim, notice, kind, occurred_at, details, channel_kind, url, recipients, secret, family
  from core.describe_claims(array[v_delivery_id]) d;
end
$$;
comment on function api.try_channel(text, integer, integer, integer) is
'Adds a notice of kind test for a channel, and claims its delivery as api.claim_deliveries does. The caller sends it,
and reports the outcome with api.finish_delivery.

It is sent whatever the events, hours and muting of the channel, and is not tried again. channel_tests, token_tests: how
many a minute for the channel, and for the token that asks with its family (core.list_makers); null: any number. Errors:
PT404; PT409 for a channel that is core.is_channel_cut; PT429.';
