create or replace function api.delete_dpu(dpu text)
returns boolean
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_dpu_id integer;
begin
  perform core.lock_plan();
  v_dpu_id := core.find_dpu(dpu);
  perform core.check_dpu(v_dpu_id, tstzrange(clock_timestamp(), clock_timestamp(), '[]'), 'dpu');
  if exists (select from core.dpu_state s where s.dpu_id = v_dpu_id and s.first_time is null and s.last_seen_at is null)
    then
    begin
      delete from core.retirement r where r.dpu_id = v_dpu_id;
      delete from core.dpu_clock k where k.dpu_id = v_dpu_id;
      delete from core.dpu_state s where s.dpu_id = v_dpu_id;
      delete from core.dpu d where d.dpu_id = v_dpu_id;
      return false;
    exception when foreign_key_violation then
      null;  -- it was placed
    end;
  end if;
  perform core.retire_dpu(v_dpu_id, true);
  return true;
end
$$;
comment on function api.delete_dpu(text) is
'Retires a DPU that was placed or heard from (true), or removes one that has no such facts (false).

Its placement stays, and later events count. From now on lists, alerts and the dpus_placed of counts leave it out. Its
incident ends without a notice. api.put_dpu brings it back. Errors: PT404; PT403 for one that is not wholly within the
token''s space.';
