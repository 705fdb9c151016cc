create or replace function api.list_doorways(
  after text default null,
  max_rows integer default 100,
  retired boolean default false
)
returns table (id text, name text, side_a text, side_b text, retired_at timestamptz)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_reach integer[] := core.list_reach();
begin
  return query
  select d.id, d.name, a.id, b.id, d.retired_at
  from core.doorway d
  left join core.space a on a.space_id = d.side_a_id and (v_reach is null or a.space_id = any (v_reach))
  left join core.space b on b.space_id = d.side_b_id and (v_reach is null or b.space_id = any (v_reach))
  where (after is null or d.id > after)
    and (d.retired_at is not null) = retired
    and (v_reach is null or a.space_id is not null or b.space_id is not null)
  order by d.id
  limit max_rows;
end
$$;
comment on function api.list_doorways(text, integer, boolean) is
'Doorways in order of their ids.

after: the id behind which to go on. retired: those that are no longer in use, and no others.';
