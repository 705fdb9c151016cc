-- Changing DPUs: see spaces.sql.

create or replace function core.retire_dpu(
  dpu_id integer,
  is_retired boolean
)
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_now timestamptz := clock_timestamp();
begin
  if core.is_dry_run() then
    return exists (
      select from core.dpu_state s where s.dpu_id = retire_dpu.dpu_id and (s.retired_at is not null) <> is_retired);
  end if;
  update core.dpu_state s set
    retired_at = case when is_retired then v_now end,
    -- silence from before it was brought back counts no more
    armed_at = case when not is_retired and s.offline_at is null and s.armed_at is not null then v_now
      else s.armed_at end
  where s.dpu_id = retire_dpu.dpu_id and (s.retired_at is not null) <> is_retired;
  if not found then
    return false;
  end if;
  if is_retired then
    insert into core.retirement (dpu_id, from_at) values (retire_dpu.dpu_id, v_now);
  else
    update core.retirement r set until_at = v_now where r.dpu_id = retire_dpu.dpu_id and r.until_at is null;
  end if;
  -- its incident ends, or goes on
  update core.outage o set pending = true
  where o.dpu_id = retire_dpu.dpu_id and o.superseded_at is null and o.back_at is null;
  perform core.note_change(flipped => array[retire_dpu.dpu_id]);
  return true;
end
$$;
comment on function core.retire_dpu(integer, boolean) is
'Retires a DPU or brings it back; says whether that changed anything. Null: as it is. The caller holds core.lock_plan.';

create or replace function core.put_dpu(
  dpu text,
  patch jsonb,
  place text default ''
)
returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_dpu core.dpu;
  v_new core.dpu;
  v_change text := 'unchanged';
begin
  perform core.check_id(dpu, place || 'id');
  if core.get_reach() is not null then
    perform core.check_dpu(core.find_dpu(dpu, place || 'id'), tstzrange(clock_timestamp(), clock_timestamp(), '[]'),
      place || 'id');
  elsif not exists (select from core.dpu d where d.id = put_dpu.dpu) then
    perform core.register_dpus(array[dpu]);
    v_change := 'created';
  end if;
  select d.* into v_dpu from core.dpu d where d.id = put_dpu.dpu for no key update;
  v_new := v_dpu;
  if patch ? 'name' then
    v_new.name := patch->>'name';
  end if;
  if patch ? 'mac_address' then
    if patch->>'mac_address' !~ '^([0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}|[0-9A-Fa-f]{12})$' then
      perform core.refuse(
        422, format('%s is not a MAC address.', quote_literal(left(patch->>'mac_address', 80))),
        place || 'mac_address', 'Give six bytes such as 02:00:00:00:00:00.');
    end if;
    v_new.mac_address := (patch->>'mac_address')::macaddr;
    if exists (
      select from core.dpu d
      where d.dpu_id <> v_dpu.dpu_id and (
        d.mac_address = v_new.mac_address
        -- registered by its address: it is found by that as long as it has none of its own
        or d.id = v_new.mac_address::text and d.mac_address is null)
    ) then
      perform core.refuse(
        409, format('Another DPU has the MAC address %s.', v_new.mac_address), place || 'mac_address',
        'Clear it there first: PUT /v1/dpus/{id} with "mac_address": null; or give that DPU, if the address is its id, '
        'the address that it has.');
    end if;
  end if;
  if patch ? 'offline_after_seconds' then
    v_new.offline_after_seconds := (patch->>'offline_after_seconds')::integer;
    perform core.check_offline_after(
      v_new.offline_after_seconds, place || 'offline_after_seconds', 'Give seconds, or null for what the space says.');
  end if;
  if v_new is distinct from v_dpu then
    update core.dpu d set name = v_new.name, mac_address = v_new.mac_address,
      offline_after_seconds = v_new.offline_after_seconds
    where d.dpu_id = v_dpu.dpu_id;
    if v_new.offline_after_seconds is distinct from v_dpu.offline_after_seconds then
      perform core.check_least_offline_after(v_new.offline_after_seconds, place || 'offline_after_seconds');
      perform core.rederive_offline_after(array[v_dpu.dpu_id]);
    end if;
    v_change := case v_change when 'created' then v_change else 'updated' end;
  end if;
  if core.retire_dpu(v_dpu.dpu_id, (patch->>'retired')::boolean) then
    v_change := case v_change when 'created' then v_change else 'updated' end;
  end if;
  return v_change;
end
$$;
comment on function core.put_dpu(text, jsonb, text) is
'Registers a DPU or changes what patch names. Returns created, updated or unchanged. Errors: PT422; PT409 for a MAC
address that another DPU has; PT404 and PT403 outside the token''s space, which new DPUs always are.';
