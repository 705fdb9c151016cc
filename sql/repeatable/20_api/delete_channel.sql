create or replace function api.delete_channel(channel text)
returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now timestamptz := clock_timestamp();
  v_channel_id integer := core.find_channel(channel);
begin
  update core.channel c set deleted_at = v_now, url = null, recipients = null, secret = null
  where c.channel_id = v_channel_id;
  -- what is beyond, api.claim_deliveries cancels
  update core.delivery d set state = 'cancelled', reason = 'channel_deleted', settled_at = v_now
  where d.delivery_id = any (array(
      select e.delivery_id from core.delivery e where e.channel_id = v_channel_id and e.state = 'pending' limit 10000))
    and d.settled_at is null;
  -- without history there is nothing to keep
  delete from core.channel c
  where c.channel_id = v_channel_id
    and not exists (select from core.delivery d where d.channel_id = c.channel_id);
end
$$;
comment on function api.delete_channel(text) is
'Deletes a channel. Its deliveries stay as history; those that are pending are cancelled:
10,000 at once, others within the time that they wait for their next try.

Errors: PT404.';
