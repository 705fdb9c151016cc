create or replace function api.put_doorway(
  doorway text,
  patch jsonb
)
returns table (created boolean, id text, name text, side_a text, side_b text, retired_at timestamptz)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_doorways jsonb := jsonb_build_array(patch || jsonb_build_object('id', doorway));
  v_change text := 'unchanged';
begin
  if not core.is_applied(jsonb_build_object('doorways', v_doorways)) then
    perform core.lock_plan();
    perform core.check_doorway_room(v_doorways, '');
    v_change := core.put_doorway(doorway, patch);
    if v_change <> 'unchanged' then
      perform core.rebuild_boundary(array(select d.doorway_id from core.doorway d where d.id = doorway));
    end if;
    perform core.rederive_changed();
  end if;
  return query
  select v_change = 'created', d.* from api.get_doorway(doorway) d;
end
$$;
comment on function api.put_doorway(text, jsonb) is
'Creates a doorway, or changes what patch names.

patch: {name, sides: [space, space], retired}; null is the outside. Returns the doorway; created says whether it is new.
Errors: PT422 naming the field; PT409 for other sides once a DPU was placed, and where a token that is limited to a
space would have more than 4,000 doorways.';
