create or replace function api.get_doorway(doorway text)
returns table (id text, name text, side_a text, side_b text)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select d.id, d.name, a.id, b.id
  from core.doorway d
  left join core.space a on a.space_id = d.side_a_id
  left join core.space b on b.space_id = d.side_b_id
  where d.doorway_id = core.find_doorway(doorway)
$$;
comment on function api.get_doorway(text) is
'One doorway and its two sides; null is the outside.

Errors: PT404.';
