create or replace function api.list_doorways(
  after text default null,
  max_rows integer default 100
)
returns table (id text, name text, side_a text, side_b text)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select d.id, d.name, a.id, b.id
  from core.doorway d
  left join core.space a on a.space_id = d.side_a_id
  left join core.space b on b.space_id = d.side_b_id
  where after is null or d.id > after
  order by d.id
  limit max_rows
$$;
comment on function api.list_doorways(text, integer) is
'Doorways in order of their ids.

after: the id behind which to go on.';
