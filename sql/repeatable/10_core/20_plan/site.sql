-- Bringing a whole site about (api.apply_site): see spaces.sql.

create or replace function core.list_site_items(site jsonb)
returns table (kind text, id text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select k.kind, i.value->>k.name
  from (values (1, 'space', 'spaces', 'id'), (2, 'doorway', 'doorways', 'id'), (3, 'dpu', 'dpus', 'id'),
    (4, 'placement', 'placements', 'dpu'))
    as k (place, kind, items, name)
  cross join lateral jsonb_array_elements(site->k.items) with ordinality as i (value, number)
  order by k.place, i.number;
end
$$;
comment on function core.list_site_items(jsonb) is
'What a site lists, in the order of api.apply_site: the kind of each thing and its id (of a placement, that of its
DPU).';

create or replace function core.list_items(items jsonb)
returns table (item jsonb, number bigint)
language sql immutable
as $$
  select i.value, i.ordinality - 1 from jsonb_array_elements(items) with ordinality i order by i.ordinality
$$;
comment on function core.list_items(jsonb) is
'The items of an array and their places, from 0, in order. Inlined by the planner: no search_path of its own.';

create or replace function core.list_spaces_in_order(spaces jsonb)
returns table (item jsonb, number bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  -- from the root of the tree that is wanted: a space may go below what is its own child until then
  return query
  with recursive listed as (
    select distinct on (i.value->>'id') i.value->>'id' as id, i.value->>'parent' as parent
    from jsonb_array_elements(spaces) with ordinality i
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
  from jsonb_array_elements(spaces) with ordinality i
  left join tree t on t.id = i.value->>'id'
  order by t.depth, i.ordinality;
end
$$;
comment on function core.list_spaces_in_order(jsonb) is
'The spaces of a site and their places in the list, from 0, in the order in which they can be changed: parents first.';

create or replace function core.is_grown(
  relation regclass,
  added bigint
)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return added >= 100 and added > (select c.reltuples / 5 from pg_class c where c.oid = relation);
end
$$;
comment on function core.is_grown(regclass, bigint) is
'Whether so many rows were added to a table that it has to be analyzed at once: sessions plan for tables as they are. A
part of a large site adds little to what is there, and autovacuum comes soon.';

create or replace function core.register_listed_spaces(
  spaces jsonb,
  out created jsonb
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_count bigint;
  v_own integer := core.get_own_space();
begin
  with added as (
    insert into core.space (id, parent_id)
    -- in order, as polls do, which may come while this is a dry run: else two could wait for each other
    select n.id, v_own
    from (select distinct i.value->>'id' as id from jsonb_array_elements(spaces) i) n
    order by n.id
    on conflict (id) do nothing
    returning id
  )
  select coalesce(jsonb_object_agg(a.id, null), '{}'), count(*) into created, v_count from added a;
  if core.is_grown('core.space', v_count) then
    analyze core.space;
  end if;
  perform core.note_change(ids => (select array_agg(k) from jsonb_object_keys(created) k));
end
$$;
comment on function core.register_listed_spaces(jsonb) is
'Creates the spaces of a site that are not there yet, and returns an object with their ids as keys.';

create or replace function core.list_levels(spaces text[])
returns table (id text, levels bigint)
language plpgsql stable rows 20
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  return query
  select s.id, a.levels
  from (
    select c.space_id, count(*) as levels
    from core.list_above(array(select s.space_id from core.space s where s.id = any (spaces))) c
    group by c.space_id
  ) a
  cross join lateral (select s.id from core.space s where s.space_id = a.space_id offset 0) s;
end
$$;
comment on function core.list_levels(text[]) is
'At which level of the tree each of some spaces is, from 1. Unknown ones are left out.';

create or replace function core.can_add_spaces(
  spaces jsonb,
  created jsonb
)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
declare
  c_levels constant integer := core.get_most_levels();
begin
  if core.get_reach() is not null or created = '{}' then
    return false;
  end if;
  return (
    with recursive item as materialized (
      select i.value as patch, i.value->>'id' as id, i.value->>'parent' as parent, created ? (i.value->>'id') as is_new
      from jsonb_array_elements(spaces) i
    ),
    above as materialized (
      select a.id, a.levels
      from core.list_levels(array(select i.parent from item i where i.is_new and not created ? i.parent)) a
    ),
    tree as (
      select i.id, coalesce(a.levels, 0) + 1 as level
      from item i
      left join above a on a.id = i.parent
      where i.is_new and (i.parent is null or a.id is not null)
      union all
      select i.id, t.level + 1 from tree t join item i on i.parent = t.id where i.is_new and t.level <= c_levels
    )
    select
      count(*) = count(distinct i.id)
      and not coalesce(bool_or((i.patch->>'retired')::boolean) filter (where i.is_new), false)
      and not coalesce(
        bool_or(i.parent is distinct from p.id) filter (where not i.is_new and i.patch ? 'parent'), false)
      -- not there: the parent is unknown, or they lie in each other
      and count(*) filter (where i.is_new) = (select count(*) from tree t where t.level <= c_levels)
    from item i
    left join lateral (
      select o.id
      from core.space s
      join core.space o on o.space_id = s.parent_id
      where s.id = i.id and not i.is_new
      offset 0
    ) p on true);
end
$$;
comment on function core.can_add_spaces(jsonb, jsonb) is
'Whether core.add_spaces can do what core.put_space would do for each of the new spaces of a site, since none is refused
and no other space moves. created: as core.register_listed_spaces returned it.';

create or replace function core.add_spaces(
  spaces jsonb,
  created jsonb,
  recorded_at timestamptz
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
declare
  v_spaces integer[];
  v_ids text[];
begin
  with item as materialized (
    select i.value as patch, i.value->>'id' as id
    from jsonb_array_elements(spaces) i
    where created ? (i.value->>'id')
  ),
  added as (
    update core.space s
    set name = i.patch->>'name', capacity = (i.patch->>'capacity')::integer,
      opening_hours = nullif(i.patch->'opening_hours', 'null'),
      parent_id = (select p.space_id from core.space p where p.id = i.patch->>'parent'),
      offline_after_seconds = (i.patch->>'offline_after_seconds')::integer
    from item i
    where s.id = i.id
    returning s.space_id, s.id, i.patch
  ),
  schedule as (
    insert into core.schedule (space_id, time_zone, reset_at, recorded_at)
    select a.space_id, a.patch->>'time_zone', a.patch->>'reset_at', add_spaces.recorded_at
    from added a
    where a.patch->>'time_zone' is not null or a.patch->>'reset_at' is not null
  ),
  changed as (
    -- they have no doorway yet, so nobody else's count is concerned
    insert into core.live_change (space_id) select a.space_id from added a
  )
  select array_agg(a.space_id), array_agg(a.id) into v_spaces, v_ids from added a;
  perform core.note_change(spaces => v_spaces, ids => v_ids);
end
$$;
comment on function core.add_spaces(jsonb, jsonb, timestamptz) is
'Gives the new spaces of a site what they say, all at once. Parameters as core.can_add_spaces, which has to be true.';

create or replace function core.add_doorways(
  doorways jsonb,
  out created jsonb
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  created := '{}';
  if core.get_reach() is not null then
    return;
  end if;
  with item as materialized (
    select l.number, l.item->>'id' as id, l.item->>'name' as name, l.item->'sides'->>0 as side_a,
      l.item->'sides'->>1 as side_b, count(*) over (partition by l.item->>'id') as times,
      core.is_id(l.item->>'id') and not coalesce((l.item->>'retired')::boolean, false)
        and case when jsonb_typeof(l.item->'sides') = 'array' then jsonb_array_length(l.item->'sides') = 2 end
        as is_plain
    from core.list_items(doorways) l
  ),
  added as (
    insert into core.doorway (id, name, side_a_id, side_b_id)
    select i.id, i.name, a.space_id, b.space_id
    from item i
    -- offset 0: a look for each, as in core.list_subtree
    left join lateral (select s.space_id from core.space s where s.id = i.side_a offset 0) a on true
    left join lateral (select s.space_id from core.space s where s.id = i.side_b offset 0) b on true
    where i.is_plain and i.times = 1
      and (i.side_a is null) = (a.space_id is null) and (i.side_b is null) = (b.space_id is null)
      and a.space_id is distinct from b.space_id
      and not exists (select from core.doorway w where w.id = i.id)
    order by i.number
    returning id
  )
  select coalesce(jsonb_object_agg(a.id, null), '{}') into created from added a;
end
$$;
comment on function core.add_doorways(jsonb) is
'Creates those new doorways of a site with which nothing is wrong, all at once, and returns an object with their ids as
keys. The others are left to core.put_doorway, which says what is wrong: so are all those of a limited token.';

create or replace function core.register_listed_dpus(
  dpus jsonb,
  out created jsonb
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_count bigint;
begin
  -- all at once, as api.record_events does: one by one they could deadlock with it
  select coalesce(jsonb_object_agg(i.value->>'id', null), '{}'), count(*) into created, v_count
  from jsonb_array_elements(dpus) i
  where core.is_id(i.value->>'id') and not exists (select from core.dpu d where d.id = i.value->>'id');
  perform core.register_dpus(array(select jsonb_object_keys(created)));
  if core.is_grown('core.dpu', v_count) then
    analyze core.dpu, core.dpu_state;
  end if;
end
$$;
comment on function core.register_listed_dpus(jsonb) is
'Registers the DPUs of a site that are not there yet, and returns an object with their ids as keys.';

create or replace function core.name_new_dpus(
  dpus jsonb,
  created jsonb,
  out named jsonb
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  named := '{}';
  if core.get_reach() is not null then
    return;
  end if;
  with item as materialized (
    select i->>'id' as id, max(i->>'name') as name
    from jsonb_array_elements(dpus) i
    where created ? (i->>'id')
    group by i->>'id'
    having count(*) = 1 and bool_and(core.is_id(i->>'id') and i->>'mac_address' is null
      and i->>'offline_after_seconds' is null and not coalesce((i->>'retired')::boolean, false))
  ),
  changed as (
    update core.dpu d set name = i.name from item i where i.name is not null and d.id = i.id
  )
  select coalesce(jsonb_object_agg(i.id, null), '{}') into named from item i;
end
$$;
comment on function core.name_new_dpus(jsonb, jsonb) is
'Names the new DPUs of a site of which nothing but a name is given, and returns an object with their ids as keys. The
others are left to core.put_dpu: so are all those of a limited token. created: as core.register_listed_dpus returned
it.';

create or replace function core.get_rests(
  dpus text[],
  durings tstzrange[]
)
returns tstzmultirange[]
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  -- Where two overlap the later one in the list holds, and only that is recorded: else the
  -- next time would change it again.
  return (
    select array_agg(p.rest order by p.number)
    from (
      select
        d.number,
        tstzmultirange(d.during) - coalesce(range_agg(d.during) over (
          partition by d.dpu order by d.number desc rows between unbounded preceding and 1 preceding), '{}') as rest
      from unnest(dpus, durings) with ordinality as d (dpu, during, number)
    ) p);
end
$$;
comment on function core.get_rests(text[], tstzrange[]) is
'What is left of the periods of placements of DPUs, given as parallel arrays, where a later one of the same DPU takes
the place of an earlier one.';

create or replace function core.list_valid_placements(
  placements jsonb,
  recorded_at timestamptz,
  out dpus text[],
  out durings tstzrange[]
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
begin
  select
    array_agg(l.item->>'dpu' order by l.number),
    array_agg(case when p.is_period then tstzrange(p.from_at, p.until_at) end order by l.number)
  into dpus, durings
  from core.list_items(placements) l
  -- offset 0: a look for each, as in core.list_subtree
  left join lateral (select d.dpu_id from core.dpu d where d.id = l.item->>'dpu' offset 0) d on true
  left join lateral (
    select w.doorway_id, w.side_a_id, w.side_b_id from core.doorway w where w.id = l.item->>'doorway' offset 0) w
    on true
  left join lateral (select m.space_id from core.space m where m.id = l.item->>'mounted_in' offset 0) m on true
  cross join lateral (
    select t.from_at, t.until_at, t.until_at is null or t.until_at > t.from_at as is_period
    from (
      select coalesce((l.item->>'from')::timestamptz, recorded_at) as from_at,
        (l.item->>'until')::timestamptz as until_at
    ) t
  ) p
  having bool_and(
    d.dpu_id is not null and p.is_period
    and (l.item->>'mounted_in' is null) = (m.space_id is null)
    and case when l.item->>'doorway' is null then m.space_id is null
      else w.doorway_id is not null
        and (m.space_id is not distinct from w.side_a_id or m.space_id is not distinct from w.side_b_id) end);
end
$$;
comment on function core.list_valid_placements(jsonb, timestamptz) is
'The DPUs and periods of the placements of a site, if all of them are valid; else nulls.';

create or replace function core.check_placements(
  placements jsonb,
  recorded_at timestamptz,
  out rests tstzmultirange[]
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
declare
  v_dpus text[];
  v_during tstzrange[];
  v_item jsonb;
  v_number bigint;
  v_place text;
begin
  if core.get_reach() is null then
    select l.dpus, l.durings into v_dpus, v_during from core.list_valid_placements(placements, recorded_at) l;
  end if;
  for v_item, v_number in select l.item, l.number from core.list_items(placements) l where v_dpus is null loop
    v_place := format('placements[%s].', v_number);
    if not exists (select from core.dpu d where d.id = v_item->>'dpu' and core.is_dpu_seen(d.dpu_id)) then
      perform core.refuse(
        422, format('There is no DPU %s to refer to.', coalesce(quote_literal(v_item->>'dpu'), 'null')),
        v_place || 'dpu', 'List it under dpus.');
    end if;
    perform core.find_mounting(v_item->>'doorway', v_item->>'mounted_in', v_place);
    v_dpus[v_number + 1] := v_item->>'dpu';
    v_during[v_number + 1] := core.get_period(
      coalesce((v_item->>'from')::timestamptz, recorded_at), (v_item->>'until')::timestamptz, v_place);
  end loop;
  rests := core.get_rests(v_dpus, v_during);
end
$$;
comment on function core.check_placements(jsonb, timestamptz) is
'What is to be recorded of each placement of a site (core.get_rests); null without any. Errors: PT422 naming the place
of the first one that names an unknown DPU, doorway or side, or ends before it begins.';

create or replace function core.place_new_dpus(
  placements jsonb,
  rests tstzmultirange[],
  recorded_at timestamptz,
  out placed jsonb
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
declare
  v_events_from timestamptz := (select s.events_from from core.rollup_state s);
begin
  placed := '{}';
  -- as core.check_cut: where it may refuse one, each has to be looked at in its turn
  if core.get_reach() is not null or exists (
    select
    from unnest(rests) as r
    cross join lateral unnest(r) as d
    cross join lateral unnest(array[lower(d), upper(d)]) as b (at)
    where not (b.at is null or b.at = public.time_bucket(interval '15 minutes', b.at) or b.at >= v_events_from))
  then
    return;
  end if;
  with item as materialized (
    select
      d.dpu_id, d.id, w.doorway_id,
      (case when w.side_a_id is not distinct from m.space_id then 1 else 2 end)::smallint as mounted_side,
      rests[l.number + 1] as rest, l.number
    from core.list_items(placements) l
    -- offset 0, here and below: a look for each, as in core.list_subtree
    cross join lateral (select d.dpu_id, d.id from core.dpu d where d.id = l.item->>'dpu' offset 0) d
    left join lateral (
      select w.doorway_id, w.side_a_id from core.doorway w where w.id = l.item->>'doorway' offset 0) w on true
    left join lateral (select m.space_id from core.space m where m.id = l.item->>'mounted_in' offset 0) m on true
  ),
  fresh as materialized (
    select i.dpu_id, min(i.id) as id
    from item i
    cross join lateral (
      select exists (select from core.placement p where p.dpu_id = i.dpu_id and p.superseded_at is null) as is_placed
      offset 0
    ) o
    where not o.is_placed
    group by i.dpu_id
    having count(i.doorway_id) = count(*)
  ),
  part as materialized (
    select i.dpu_id, i.doorway_id, i.mounted_side, r.during, i.number
    from fresh f
    join item i on i.dpu_id = f.dpu_id
    cross join lateral unnest(i.rest) as r (during)
  ),
  change as (
    insert into core.placement_change (dpu_id, during, recorded_at)
    select p.dpu_id, p.during, place_new_dpus.recorded_at from part p order by p.number, p.during
    returning change_id, dpu_id, during
  ),
  added as (
    insert into core.placement (dpu_id, doorway_id, mounted_side, during, recorded_at, change_id)
    select p.dpu_id, p.doorway_id, p.mounted_side, p.during, place_new_dpus.recorded_at, c.change_id
    from change c
    join part p on p.dpu_id = c.dpu_id and p.during = c.during
    order by c.change_id
  ),
  changed as (
    insert into core.live_change (space_id)
    select distinct b.space_id
    from (select distinct p.doorway_id from part p) p
    cross join lateral (select b.space_id from core.boundary b where b.doorway_id = p.doorway_id offset 0) b
  )
  select coalesce(jsonb_object_agg(f.id, f.dpu_id), '{}') into placed from fresh f;
end
$$;
comment on function core.place_new_dpus(jsonb, tstzmultirange[], timestamptz) is
'Records the placements of those DPUs of a site that are placed nowhere yet, all at once, and returns an object with
their ids as keys, and the dpu_id of each. None on behalf of a limited token, or where one of all might be refused.
rests: as core.get_rests. The caller has found doorways and sides (core.find_mounting).';

create or replace function core.place_listed_dpu(
  dpu_id integer,
  placement jsonb,
  rest tstzmultirange,
  recorded_at timestamptz,
  place text,
  out change text
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_part tstzrange;
begin
  change := 'unchanged';
  for v_part in select unnest(rest) loop
    change := case core.place_dpu(dpu_id, placement->>'doorway', placement->>'mounted_in', lower(v_part), upper(v_part),
      recorded_at, place)
      when 'unchanged' then change
      when 'created' then case change when 'unchanged' then 'created' else change end
      else 'updated'
    end;
  end loop;
end
$$;
comment on function core.place_listed_dpu(integer, jsonb, tstzmultirange, timestamptz, text) is
'Records a placement of a site for what is left of its period (core.get_rests). change: created, updated or unchanged.
Errors: as core.place_dpu.';

create or replace function core.rebuild_listed_boundary(doorways text[])
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
begin
  if core.is_grown('core.doorway', cardinality(doorways)) then
    analyze core.doorway;
  end if;
  -- one that is listed twice has changed twice
  perform core.rebuild_boundary(array(
    select distinct d.doorway_id
    from unnest(doorways) as n (id)
    cross join lateral (select w.doorway_id from core.doorway w where w.id = n.id offset 0) d));
  if core.is_grown('core.boundary', cardinality(doorways)) then
    analyze core.boundary;
  end if;
end
$$;
comment on function core.rebuild_listed_boundary(text[]) is
'core.rebuild_boundary for the doorways of a site that changed, given by their ids.';

create or replace function core.rederive_site(moved integer[])
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- before what follows is planned
  if core.is_grown('core.placement', cardinality(moved)) then
    analyze core.placement;
  end if;
  perform core.rederive_offline_after(moved);
  perform core.rederive_changed();
  if core.is_grown('core.live_flow', cardinality(moved)) then
    analyze core.first_event, core.live_space, core.live_flow;
  end if;
end
$$;
comment on function core.rederive_site(integer[]) is
'Derives anew what a site changed. moved: the DPUs whose placements changed. The last thing that api.apply_site does.';
