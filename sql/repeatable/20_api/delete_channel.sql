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
  update core.delivery d set state = 'cancelled', reason = 'channel_deleted', settled_at = v_now
  where d.channel_id = v_channel_id and d.state = 'pending';
end
$$;
comment on function api.delete_channel(text) is
'Deletes a channel. Its deliveries stay as history; those that are pending are cancelled.

Errors: PT404.';
