create or replace function api.get_doorway(doorway text)
returns table (id text, name text, side_a text, side_b text, retired_at timestamptz)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  -- before the query: in a condition it would not be asked where there are no rows
  v_doorway_id integer := core.find_doorway(doorway);
begin
  return query
  select d.id, d.name, a.id, b.id, d.retired_at
  from core.doorway d
  left join core.space a on a.space_id = d.side_a_id and core.is_space_in_reach(a.space_id)
  left join core.space b on b.space_id = d.side_b_id and core.is_space_in_reach(b.space_id)
  where d.doorway_id = v_doorway_id;
end
$$;
comment on function api.get_doorway(text) is
'One doorway and its two sides. Null is the outside; a limited token sees null also for a side outside its space.

Errors: PT404.';
