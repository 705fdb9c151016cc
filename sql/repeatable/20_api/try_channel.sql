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
  out secret text
)
returns record
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_now timestamptz := clock_timestamp();
  v_channel_id integer := core.find_channel(channel);
  v_notice_id bigint;
  v_delivery_id bigint;
begin
  insert into core.notice (id, kind, occurred_at, created_at, details)
  values ('msg_' || replace(gen_random_uuid()::text, '-', ''), 'test', v_now, v_now, jsonb_build_object('channel', channel))
  returning notice_id into v_notice_id;
  -- one try, and no more
  insert into core.delivery (notice_id, channel_id, state, created_at, due_at, give_up_at, claim)
  values (v_notice_id, v_channel_id, 'pending', v_now, v_now + lease_seconds * interval '1 second', v_now, gen_random_uuid())
  returning delivery_id into v_delivery_id;
  select d.channel, d.delivery, d.claim, d.notice, d.kind, d.occurred_at, d.details, d.channel_kind, d.url, d.recipients, d.secret
  into channel, delivery, claim, notice, kind, occurred_at, details, channel_kind, url, recipients, secret
  from core.describe_claims(array[v_delivery_id]) d;
end
$$;
comment on function api.try_channel(text, integer) is
'Stores a notice of kind test for a channel, and claims its delivery as api.claim_deliveries does: send it and say what came of it.

It is not tried again, and goes out whatever the channel''s events, hours and muting. Errors: PT404.';
