create or replace function api.list_channels(
  after text default null,
  max_rows integer default 100
)
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
#variable_conflict use_column
begin
  return query
  select c.*
  from core.describe_channels(array(
    select c.channel_id
    from core.channel c
    where c.deleted_at is null and (after is null or c.id > after) and core.is_channel_in_reach(c.under_id)
    order by c.id
    limit max_rows
  )) c
  order by c.id;
end
$$;
comment on function api.list_channels(text, integer) is
'Channels in order of their ids. Never their secrets; of an Apprise address only the scheme.

after: the id behind which to go on. failing_since: the first failed try since the last success. out_of_reach: nothing
is sent, since a family of limited tokens chose where, and no valid token of it reaches the channel''s under
(core.is_channel_cut). A limited token sees channels whose under it reaches.';
