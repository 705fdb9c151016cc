create or replace function api.get_channel(channel text)
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
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return query select c.* from core.describe_channels(array[core.find_channel(channel)]) c;
end
$$;
comment on function api.get_channel(text) is
'One channel, as api.list_channels gives it. Errors: PT404.';
