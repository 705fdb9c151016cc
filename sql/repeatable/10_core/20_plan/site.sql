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

create or replace function core.register_listed_spaces(
  spaces jsonb,
  many integer,
  out created jsonb
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_count bigint;
begin
  with added as (
    insert into core.space (id, parent_id)
    -- in order, as polls do, which may come while this is a dry run: else two could wait for each other
    select n.id, core.get_reach()
    from (select distinct i.value->>'id' as id from jsonb_array_elements(spaces) i) n
    order by n.id
    on conflict (id) do nothing
    returning id
  )
  select coalesce(jsonb_object_agg(a.id, null), '{}'), count(*) into created, v_count from added a;
  if v_count >= many then
    analyze core.space;
  end if;
  perform core.note_change(ids => (select array_agg(k) from jsonb_object_keys(created) k));
end
$$;
comment on function core.register_listed_spaces(jsonb, integer) is
'Creates the spaces of a site that are not there yet, and returns an object with their ids as keys. many: from so many
new rows on, the table is analyzed.';

create or replace function core.register_listed_dpus(
  dpus jsonb,
  many integer,
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
  where i.value->>'id' ~ '^[A-Za-z0-9._:-]{1,64}$' and not exists (select from core.dpu d where d.id = i.value->>'id');
  perform core.register_dpus(array(select jsonb_object_keys(created)));
  if v_count >= many then
    analyze core.dpu, core.dpu_state;
  end if;
end
$$;
comment on function core.register_listed_dpus(jsonb, integer) is
'Registers the DPUs of a site that are not there yet, and returns an object with their ids as keys. many: from so many
new rows on, the tables are analyzed.';

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
