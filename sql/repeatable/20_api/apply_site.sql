create or replace function api.apply_site(site jsonb)
returns table (kind text, id text, change text)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_now timestamptz;
  v_created jsonb;           -- a key for each id
  v_named jsonb;             -- the same, of DPUs that are done
  v_is_plain boolean;        -- the new spaces can be added together
  v_changes text[];
  v_doorways text[];         -- those that changed
  v_dpu_id integer;
  v_moved integer[];         -- DPUs whose placements changed
  v_rest tstzmultirange[];   -- of each placement, its period without what a later one takes
  v_item jsonb;
  v_number bigint;
begin
  if core.is_applied(site) then
    return query select u.kind, u.id, 'unchanged' from core.list_site_items(site) u;
    return;
  end if;
  -- what is refused for its form keeps nobody from storing events
  perform core.check_spaces(site->'spaces');
  v_now := core.lock_plan();
  perform core.check_room(site->'spaces');
  perform core.check_doorway_room(site->'doorways');

  -- all spaces first, so that their order does not matter
  v_created := core.register_listed_spaces(site->'spaces');
  v_is_plain := core.can_add_spaces(site->'spaces', v_created);
  kind := 'space';
  if exists (
    select from jsonb_array_elements(site->'spaces') i where not v_is_plain or not v_created ? (i->>'id')) then
    for v_item, v_number in select o.item, o.number from core.list_spaces_in_order(site->'spaces') o loop
      continue when v_is_plain and v_created ? (v_item->>'id');
      v_changes[v_number] := core.put_space(v_item->>'id', v_item, v_now, format('spaces[%s].', v_number));
    end loop;
  end if;
  if v_is_plain then
    perform core.add_spaces(site->'spaces', v_created, v_now);
  end if;
  for v_item, v_number in select l.item, l.number from core.list_items(site->'spaces') l loop
    id := v_item->>'id';
    change := case when v_created ? id then 'created' else v_changes[v_number] end;
    return next;
  end loop;

  kind := 'doorway';
  v_created := core.add_doorways(site->'doorways');
  for v_item, v_number in select l.item, l.number from core.list_items(site->'doorways') l loop
    id := v_item->>'id';
    change := case when v_created ? id then 'created'
      else core.put_doorway(id, v_item, format('doorways[%s].', v_number)) end;
    if change <> 'unchanged' then
      v_doorways := v_doorways || id;
    end if;
    return next;
  end loop;
  perform core.rebuild_listed_boundary(v_doorways);

  v_created := core.register_listed_dpus(site->'dpus');
  v_named := core.name_new_dpus(site->'dpus', v_created);
  kind := 'dpu';
  for v_item, v_number in select l.item, l.number from core.list_items(site->'dpus') l loop
    id := v_item->>'id';
    if not v_named ? id then
      change := core.put_dpu(id, v_item, format('dpus[%s].', v_number));
    end if;
    if v_created ? id then
      change := 'created';
    end if;
    return next;
  end loop;

  kind := 'placement';
  v_rest := core.check_placements(site->'placements', v_now);
  v_created := case when v_rest is not null then core.place_new_dpus(site->'placements', v_rest, v_now) end;
  for v_item, v_number in select l.item, l.number from core.list_items(site->'placements') l loop
    id := v_item->>'dpu';
    if v_created ? id then
      v_dpu_id := (v_created->>id)::integer;
      change := case when isempty(v_rest[v_number + 1]) then 'unchanged' else 'created' end;
    else
      v_dpu_id := core.find_dpu(id);
      change := core.place_listed_dpu(
        v_dpu_id, v_item, v_rest[v_number + 1], v_now, format('placements[%s].', v_number));
    end if;
    if change <> 'unchanged' then
      v_moved := v_moved || v_dpu_id;
    end if;
    return next;
  end loop;
  perform core.rederive_site(v_moved);
end
$$;
comment on function api.apply_site(jsonb) is
'Applies a whole floor plan, all or nothing, and says of each thing whether it was created, updated or unchanged.
Applying it again changes nothing, and locks nothing.

site: {spaces, doorways, dpus, placements: [{dpu, doorway, mounted_in, from, until}]}, each object as in its own call
plus id. What it does not mention stays as it is. Errors: PT422 and PT409, and for a token that is limited to a space
PT403 and PT404, or PT409 where it would have more than 2,000 spaces, 4,000 doorways or 1,000 placements of a DPU,
naming the place, such as doorways[3].sides[0].';
