create or replace function api.apply_site(site jsonb)
returns table (kind text, id text, change text)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_now timestamptz;
  v_new text[];
  v_item jsonb;
  v_number bigint;
  v_place text;
begin
  v_now := core.lock_plan();

  -- all spaces first, so that their order does not matter
  for v_item, v_number in select i.value, i.ordinality - 1 from jsonb_array_elements(site->'spaces') with ordinality i loop
    perform core.check_id(v_item->>'id', format('spaces[%s].id', v_number));
  end loop;
  with added as (
    insert into core.space (id)
    select distinct i.value->>'id' from jsonb_array_elements(site->'spaces') i
    on conflict (id) do nothing
    returning id
  )
  select array_agg(a.id) into v_new from added a;

  kind := 'space';
  for v_item, v_number in select i.value, i.ordinality - 1 from jsonb_array_elements(site->'spaces') with ordinality i loop
    id := v_item->>'id';
    change := core.put_space(id, v_item, v_now, format('spaces[%s].', v_number));
    if id = any (v_new) then
      change := 'created';
    end if;
    return next;
  end loop;

  kind := 'doorway';
  for v_item, v_number in select i.value, i.ordinality - 1 from jsonb_array_elements(site->'doorways') with ordinality i loop
    id := v_item->>'id';
    change := core.put_doorway(id, v_item, format('doorways[%s].', v_number));
    return next;
  end loop;

  kind := 'dpu';
  for v_item, v_number in select i.value, i.ordinality - 1 from jsonb_array_elements(site->'dpus') with ordinality i loop
    id := v_item->>'id';
    change := core.put_dpu(id, v_item, format('dpus[%s].', v_number));
    return next;
  end loop;

  kind := 'placement';
  for v_item, v_number in select i.value, i.ordinality - 1 from jsonb_array_elements(site->'placements') with ordinality i loop
    v_place := format('placements[%s].', v_number);
    id := v_item->>'dpu';
    if not exists (select from core.dpu d where d.id = v_item->>'dpu') then
      raise exception using errcode = 'PT422', message = format('There is no DPU %s to refer to.', coalesce(quote_literal(v_item->>'dpu'), 'null')),
        detail = v_place || 'dpu', hint = 'List it under dpus.';
    end if;
    change := core.place_dpu(
      core.find_dpu(v_item->>'dpu'), v_item->>'doorway', v_item->>'mounted_in',
      coalesce((v_item->>'from')::timestamptz, v_now), (v_item->>'until')::timestamptz, v_now, v_place);
    return next;
  end loop;
end
$$;
comment on function api.apply_site(jsonb) is
'Brings a whole floor plan about, all or nothing, and says of each thing whether it was created, updated or unchanged. Applying it again changes nothing.

site: {spaces, doorways, dpus, placements: [{dpu, doorway, mounted_in, from, until}]}, each object as in its own call plus id. What it does not mention stays as it is. Errors: PT422 and PT409 naming the place, such as doorways[3].sides[0].';
