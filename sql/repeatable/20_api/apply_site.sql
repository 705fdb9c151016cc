create or replace function api.apply_site(site jsonb)
returns table (kind text, id text, change text)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  -- Sessions, this one too, plan once for tables as they are; of so many new rows they hear at once, not from autovacuum.
  v_many constant integer := 1000;
  v_now timestamptz;
  v_created jsonb;           -- a key for each id
  v_changes text[];
  v_doorways text[];         -- those that changed
  v_dpu_id integer;
  v_moved integer[];         -- DPUs whose placements changed
  v_dpus text[];             -- of each placement, and when
  v_during tstzrange[];
  v_rest tstzmultirange[];   -- and what of that no later one takes
  v_part tstzrange;
  v_item jsonb;
  v_number bigint;
  v_place text;
begin
  if core.is_applied(site) then
    return query
    select k.kind, i.value->>k.name, 'unchanged'
    from (values (1, 'space', 'spaces', 'id'), (2, 'doorway', 'doorways', 'id'), (3, 'dpu', 'dpus', 'id'), (4, 'placement', 'placements', 'dpu'))
      as k (place, kind, items, name)
    cross join lateral jsonb_array_elements(site->k.items) with ordinality as i (value, number)
    order by k.place, i.number;
    return;
  end if;
  -- what is refused for its form keeps nobody from storing events
  perform core.check_spaces(site->'spaces');
  v_now := core.lock_plan();
  perform core.check_room(site->'spaces');

  -- all spaces first, so that their order does not matter
  with added as (
    insert into core.space (id, parent_id)
    -- in order, as polls do, which may come while this is a dry run: else two could wait for each other
    select n.id, core.get_reach()
    from (select distinct i.value->>'id' as id from jsonb_array_elements(site->'spaces') i) n
    order by n.id
    on conflict (id) do nothing
    returning id
  )
  select coalesce(jsonb_object_agg(a.id, null), '{}'), count(*) into v_created, v_number from added a;
  if v_number >= v_many then
    analyze core.space;
  end if;
  perform core.note_change(ids => (select array_agg(k) from jsonb_object_keys(v_created) k));

  kind := 'space';
  -- from the root of the tree that is wanted: a space may go below what is its own child until then
  for v_item, v_number in
    with recursive listed as (
      select distinct on (i.value->>'id') i.value->>'id' as id, i.value->>'parent' as parent
      from jsonb_array_elements(site->'spaces') with ordinality i
      where i.value ? 'parent'
      order by i.value->>'id', i.ordinality desc
    ),
    wanted as (
      select s.id, case when l.id is null then p.id else l.parent end as parent
      from core.space s
      left join core.space p on p.space_id = s.parent_id
      left join listed l on l.id = s.id
    ),
    tree as (
      select w.id, 0 as depth from wanted w where w.parent is null
      union all
      select w.id, t.depth + 1 from tree t join wanted w on w.parent = t.id
    )
    select i.value, i.ordinality - 1
    from jsonb_array_elements(site->'spaces') with ordinality i
    left join tree t on t.id = i.value->>'id'
    order by t.depth, i.ordinality
  loop
    v_changes[v_number] := core.put_space(v_item->>'id', v_item, v_now, format('spaces[%s].', v_number));
  end loop;
  for v_item, v_number in select i.value, i.ordinality - 1 from jsonb_array_elements(site->'spaces') with ordinality i loop
    id := v_item->>'id';
    change := case when v_created ? id then 'created' else v_changes[v_number] end;
    return next;
  end loop;

  kind := 'doorway';
  for v_item, v_number in select i.value, i.ordinality - 1 from jsonb_array_elements(site->'doorways') with ordinality i loop
    id := v_item->>'id';
    change := core.put_doorway(id, v_item, format('doorways[%s].', v_number));
    if change <> 'unchanged' then
      v_doorways := v_doorways || id;
    end if;
    return next;
  end loop;
  perform core.rebuild_boundary(array(select d.doorway_id from core.doorway d join unnest(v_doorways) n (id) on n.id = d.id));

  -- all at once, as api.record_events does: one by one they could deadlock with it
  select coalesce(jsonb_object_agg(i.value->>'id', null), '{}'), count(*) into v_created, v_number
  from jsonb_array_elements(site->'dpus') i
  where i.value->>'id' ~ '^[A-Za-z0-9._:-]{1,64}$' and not exists (select from core.dpu d where d.id = i.value->>'id');
  perform core.register_dpus(array(select jsonb_object_keys(v_created)));
  if v_number >= v_many then
    analyze core.dpu, core.dpu_state;
  end if;

  kind := 'dpu';
  for v_item, v_number in select i.value, i.ordinality - 1 from jsonb_array_elements(site->'dpus') with ordinality i loop
    id := v_item->>'id';
    change := core.put_dpu(id, v_item, format('dpus[%s].', v_number));
    if v_created ? id then
      change := 'created';
    end if;
    return next;
  end loop;

  kind := 'placement';
  for v_item, v_number in select i.value, i.ordinality - 1 from jsonb_array_elements(site->'placements') with ordinality i loop
    v_place := format('placements[%s].', v_number);
    if not exists (select from core.dpu d where d.id = v_item->>'dpu' and core.is_dpu_seen(d.dpu_id)) then
      perform core.refuse(
        422, format('There is no DPU %s to refer to.', coalesce(quote_literal(v_item->>'dpu'), 'null')),
        v_place || 'dpu', 'List it under dpus.');
    end if;
    perform core.find_mounting(v_item->>'doorway', v_item->>'mounted_in', v_place);
    v_dpus[v_number + 1] := v_item->>'dpu';
    v_during[v_number + 1] := core.get_period(coalesce((v_item->>'from')::timestamptz, v_now), (v_item->>'until')::timestamptz, v_place);
  end loop;
  -- Where two overlap the later one in the list holds, and only that is recorded: else the next time would change it again.
  select array_agg(p.rest order by p.number) into v_rest
  from (
    select
      d.number,
      tstzmultirange(d.during) - coalesce(range_agg(d.during) over (
        partition by d.dpu order by d.number desc rows between unbounded preceding and 1 preceding), '{}') as rest
    from unnest(v_dpus, v_during) with ordinality as d (dpu, during, number)
  ) p;
  for v_item, v_number in select i.value, i.ordinality - 1 from jsonb_array_elements(site->'placements') with ordinality i loop
    id := v_item->>'dpu';
    v_dpu_id := core.find_dpu(id);
    change := 'unchanged';
    v_place := format('placements[%s].', v_number);
    for v_part in select unnest(v_rest[v_number + 1]) loop
      change := case core.place_dpu(v_dpu_id, v_item->>'doorway', v_item->>'mounted_in', lower(v_part), upper(v_part), v_now, v_place)
        when 'unchanged' then change
        when 'created' then case change when 'unchanged' then 'created' else change end
        else 'updated'
      end;
    end loop;
    if change <> 'unchanged' then
      v_moved := v_moved || v_dpu_id;
    end if;
    return next;
  end loop;
  perform core.rebase_offline_after(v_moved);
  perform core.rebase_changed();
  if cardinality(v_moved) >= v_many then
    analyze core.doorway, core.boundary, core.placement, core.live_space, core.live_flow;
  end if;
end
$$;
comment on function api.apply_site(jsonb) is
'Brings a whole floor plan about, all or nothing, and says of each thing whether it was created, updated or unchanged. Applying it again changes nothing, and locks nothing.

site: {spaces, doorways, dpus, placements: [{dpu, doorway, mounted_in, from, until}]}, each object as in its own call plus id. What it does not mention stays as it is. Errors: PT422 and PT409, and for a token that is limited to a space PT403 and PT404, or PT409 where it would have more than 2,000 spaces, naming the place, such as doorways[3].sides[0].';
