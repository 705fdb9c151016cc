-- Changing doorways: see spaces.sql.

create or replace function core.check_doorway_room(
  doorways jsonb,
  places text default 'doorways[%s].'
)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  v_most constant integer := core.get_most_doorways_of_limited();
  v_reach integer[] := core.list_family_reach();
  v_room bigint;
begin
  if v_reach is null then
    return;
  end if;
  select v_most - count(*) into v_room
  from core.doorway w
  where w.side_a_id = any (v_reach) or w.side_b_id = any (v_reach);
  perform core.refuse_surplus(
    doorways,
    array(select w.id from core.doorway w where w.id in (select i->>'id' from jsonb_array_elements(doorways) i)),
    v_room, format('%s doorways', v_most), places);
end
$$;
comment on function core.check_doorway_room(jsonb, text) is
'Errors: PT409 naming the place of the first doorway that is one too many for a limited token. doorways, places: as
objects and places of core.refuse_surplus.';

create or replace function core.put_doorway(
  doorway text,
  patch jsonb,
  place text default ''
)
returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  v_doorway core.doorway;
  v_new core.doorway;
  v_change text := 'unchanged';
begin
  perform core.check_id(doorway, place || 'id');
  select d.* into v_doorway from core.doorway d where d.id = put_doorway.doorway;
  if found then
    perform core.find_doorway(doorway, place || 'id');
    perform core.check_doorway(v_doorway.doorway_id, place || 'id');
  end if;
  v_new := v_doorway;

  if patch ? 'sides' then
    if jsonb_typeof(patch->'sides') <> 'array' or jsonb_array_length(patch->'sides') <> 2 then
      perform core.refuse(
        422, 'A doorway has two sides.', place || 'sides', 'Give [space, space]; null is the outside.');
    end if;
    v_new.side_a_id := core.refer_to_space(patch->'sides'->>0, place || 'sides[0]');
    v_new.side_b_id := core.refer_to_space(patch->'sides'->>1, place || 'sides[1]');
    if v_new.side_a_id is not distinct from v_new.side_b_id then
      perform core.refuse(
        422, 'Both sides of the doorway are the same.', place || 'sides',
        'A doorway joins two different spaces, or a space and the outside (null).');
    end if;
  elsif v_doorway.doorway_id is null then
    perform core.refuse(
      422, 'A new doorway needs its sides.', place || 'sides', 'Give [space, space]; null is the outside.');
  end if;
  if patch ? 'name' then
    v_new.name := patch->>'name';
  end if;

  if v_doorway.doorway_id is null then
    insert into core.doorway (id, name, side_a_id, side_b_id)
    values (doorway, v_new.name, v_new.side_a_id, v_new.side_b_id)
    returning * into v_doorway;
    v_new := v_doorway;
    v_change := 'created';
  end if;
  if (patch->>'retired')::boolean <> (v_doorway.retired_at is not null) then
    v_new.retired_at := case when v_doorway.retired_at is null then clock_timestamp() end;
  end if;
  if v_new is not distinct from v_doorway then
    return v_change;
  end if;
  if (v_new.side_a_id, v_new.side_b_id) is distinct from (v_doorway.side_a_id, v_doorway.side_b_id)
    and exists (select from core.placement p where p.doorway_id = v_doorway.doorway_id) then
    perform core.refuse(
      409, format('The sides of %s are fixed: a DPU was placed there.', quote_literal(doorway)), place || 'sides',
      'A rebuilt wall is a new doorway: give it another id.');
  end if;
  update core.doorway d set name = v_new.name, side_a_id = v_new.side_a_id, side_b_id = v_new.side_b_id,
    retired_at = v_new.retired_at
  where d.doorway_id = v_doorway.doorway_id;
  return case v_change when 'created' then v_change else 'updated' end;
end
$$;
comment on function core.put_doorway(text, jsonb, text) is
'Creates a doorway or changes what patch names. Returns created, updated or unchanged. The caller goes on with
core.rebuild_boundary. Errors: PT422; PT409 for other sides once a DPU was placed; PT404 and PT403 outside the token''s
space.';
