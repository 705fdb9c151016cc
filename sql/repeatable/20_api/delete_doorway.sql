create or replace function api.delete_doorway(doorway text)
returns boolean
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_doorway_id integer;
begin
  perform core.lock_plan();
  v_doorway_id := core.find_doorway(doorway);
  perform core.check_doorway(v_doorway_id, 'doorway');
  begin
    delete from core.boundary b where b.doorway_id = v_doorway_id;
    delete from core.doorway d where d.doorway_id = v_doorway_id;
    return false;
  exception when foreign_key_violation then
    null;  -- a DPU was placed there
  end;
  perform core.put_doorway(doorway, '{"retired": true}');
  return true;
end
$$;
comment on function api.delete_doorway(text) is
'Retires a doorway at which a DPU was ever placed (true), or removes one that has no such facts (false).

Its facts stay and count; lists leave it out. DPUs above it stay as they are. api.put_doorway brings it back. Errors:
PT404; PT403 for a doorway that leads outside the token''s space.';
