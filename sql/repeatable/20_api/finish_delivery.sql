create or replace function api.finish_delivery(
  delivery bigint,
  claim text,
  is_delivered boolean,
  at timestamptz,
  duration_ms integer,
  status integer default null,
  answer text default null,
  error text default null
)
returns text
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_now timestamptz := clock_timestamp();
  v_delivery core.delivery;
begin
  -- channel, delivery, next delivery: everybody locks in this order
  perform from core.channel c
  where c.channel_id = (select d.channel_id from core.delivery d where d.delivery_id = finish_delivery.delivery)
  for no key update;
  update core.delivery d
  set
    tries = d.tries + 1,
    state = case when is_delivered then 'delivered' when d.give_up_at <= v_now then 'failed' else 'pending' end,
    settled_at = case when is_delivered or d.give_up_at <= v_now then v_now end,
    due_at = v_now + core.get_retry_delay(d.tries + 1),
    claim = null
  where d.delivery_id = finish_delivery.delivery and d.state = 'pending'
    -- one that was claimed by another meanwhile is theirs, but what arrived has arrived
    and (d.claim::text = finish_delivery.claim or is_delivered)
  returning d.* into v_delivery;
  insert into core.delivery_try (delivery_id, at, duration_ms, is_delivered, status, answer, error)
  select d.delivery_id, finish_delivery.at, finish_delivery.duration_ms, finish_delivery.is_delivered,
    finish_delivery.status, left(finish_delivery.answer, 500), left(finish_delivery.error, 500)
  from core.delivery d
  where d.delivery_id = finish_delivery.delivery;
  update core.channel c set failing_since = case when not is_delivered then v_now end
  where c.channel_id = (select d.channel_id from core.delivery d where d.delivery_id = finish_delivery.delivery)
    and (c.failing_since is null) <> is_delivered;
  if v_delivery.state <> 'pending' and v_delivery.subject is not null then
    update core.delivery d set due_at = v_now
    where d.delivery_id = (
      select e.delivery_id
      from core.delivery e
      where e.channel_id = v_delivery.channel_id and e.subject = v_delivery.subject and e.state = 'pending'
        and e.claim is null and e.tries = 0
      order by e.delivery_id
      limit 1
      for no key update skip locked);
  end if;
  return (select d.state from core.delivery d where d.delivery_id = finish_delivery.delivery);
end
$$;
comment on function api.finish_delivery(bigint, text, boolean, timestamptz, integer, integer, text, text) is
'Records a try of a delivery that the caller has claimed. Returns the state: delivered, failed, or pending where it will
be tried again.

at: when the try began; duration_ms: how long it took; status: of HTTP; answer, error: their first 500 characters are
kept. After a failed try it is tried again after 5 s, twice as long each time, at most half an hour; after 24 hours it
is given up. Null for a delivery that no longer exists.';
