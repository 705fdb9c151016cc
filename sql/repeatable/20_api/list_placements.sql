create or replace function api.list_placements(dpu text)
returns table (
  doorway text,
  mounted_in text,
  from_at timestamptz,
  until_at timestamptz,
  recorded_at timestamptz
)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  -- before the query: in a condition it would not be asked where there are no rows
  v_dpu_id integer := core.find_dpu(dpu);
  v_reach integer[] := core.list_reach();
begin
  return query
  select w.id, m.id, lower(p.during), upper(p.during), p.recorded_at
  from core.placement p
  join core.doorway w on w.doorway_id = p.doorway_id
  left join core.space m on m.space_id = case p.mounted_side when 1 then w.side_a_id else w.side_b_id end
    and (v_reach is null or m.space_id = any (v_reach))
  where p.dpu_id = v_dpu_id and p.superseded_at is null
    and (v_reach is null or w.side_a_id = any (v_reach) or w.side_b_id = any (v_reach))
  order by lower(p.during);
end
$$;
comment on function api.list_placements(text) is
'The placements of a DPU as known now, oldest first.

Each holds during [from_at, until_at); until_at null: it still does. mounted_in null: the outside. Errors: PT404.';
