-- Changing the floor plan. Callers hold core.lock_plan, pass the instant that it returned, and end with
-- core.rederive_changed.
-- place says where in a request a value stood: '' for a request of its own, 'spaces[3].' in a site.
-- What reads tables that grow while a site is applied does so by their indexes: planned once a connection, on small
-- tables, it would read them whole for each of many.

create or replace function core.check_opening_hours(
  opening_hours jsonb,
  place text
)
returns void
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row jsonb;
  v_number integer := 0;
begin
  if jsonb_typeof(opening_hours) = 'null' then
    return;
  end if;
  if jsonb_typeof(opening_hours) <> 'array' then
    perform core.refuse(422, 'opening_hours is not a list.', place, 'Give a list of {day, open, close}.');
  end if;
  for v_row in select jsonb_array_elements(opening_hours) loop
    if jsonb_typeof(v_row) <> 'object' or coalesce(v_row->>'day', '') !~ '^[0-6]$'
      or coalesce(v_row->>'open', '') !~ '^([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?$'
      or coalesce(v_row->>'close', '') !~ '^([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?$' then
      perform core.refuse(
        422, 'A row of opening_hours is not {day, open, close}.', format('%s[%s]', place, v_number),
        'day is 0 (Monday) to 6, open and close are HH:MM or HH:MM:SS.');
    end if;
    v_number := v_number + 1;
  end loop;
end
$$;
comment on function core.check_opening_hours(jsonb, text) is
'Errors: PT422 naming place unless it is null or a list of {day, open, close}.';

create or replace function core.check_retirable(
  space_id integer,
  space text,
  place text
)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_user text;
begin
  select u.name into v_user from (
    select format('the space %s lies in it', quote_literal(s.id)) from core.space s
    where s.parent_id = check_retirable.space_id and s.retired_at is null
    union all
    select format('the token %s is limited to it', t.id) from core.token t
    where t.space_id = check_retirable.space_id
      and core.is_token_valid(t.revoked_at, t.expires_at, clock_timestamp())
  ) as u (name)
  limit 1;
  if found then
    perform core.refuse(
      409, format('%s is in use: %s.', quote_literal(space), v_user), place,
      'Retire what lies in it and revoke its tokens first.');
  end if;
end
$$;
comment on function core.check_retirable(integer, text, text) is
'Errors: PT409 naming place while another space that is in use lies in a space, or a token is limited to it.';

create or replace function core.refuse_depth(
  space text,
  place text
)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  perform core.refuse(
    422,
    format('%s cannot go there: the tree of spaces would have more than %s levels.', quote_literal(space),
      core.get_most_levels()),
    place, 'Put it higher up: a building needs a handful of levels.');
end
$$;
comment on function core.refuse_depth(text, text) is
'Raises PT422 naming place: a space there would make the tree too deep.';

create or replace function core.check_depth(
  space_id integer,
  parent_id integer,
  space text,
  place text
)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  c_most constant integer := core.get_most_levels();
  v_above integer := (select count(*) from core.list_above(array[parent_id]));
  v_levels integer;   -- of the space and what lies in it
begin
  with recursive below as (
    select check_depth.space_id as space_id, 1 as level
    union all
    select s.space_id, b.level + 1
    from below b
    cross join lateral (select s.space_id from core.space s where s.parent_id = b.space_id offset 0) s
    where b.level <= c_most
  )
  select max(b.level) into v_levels from below b;
  if v_above + v_levels > c_most then
    perform core.refuse_depth(space, place);
  end if;
end
$$;
comment on function core.check_depth(integer, integer, text, text) is
'Errors: PT422 naming place if the tree would have more than 32 levels with a space, and what lies in it, below a
parent.';

create or replace function core.refuse_surplus(
  objects jsonb,
  known text[],
  room bigint,
  most text,
  places text
)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_number bigint;   -- of the first one too many
begin
  select n.number into v_number
  from (
    select min(i.ordinality) - 1 as number
    from jsonb_array_elements(objects) with ordinality i
    where not coalesce(i.value->>'id' = any (known), false)
    group by i.value->>'id'
  ) n
  order by n.number
  offset greatest(room, 0)
  limit 1;
  if found then
    perform core.refuse(
      409, format('The space of this token and its family would have more than %s.', most),
      format(places, v_number) || 'id', 'Use a token without a space.');
  end if;
end
$$;
comment on function core.refuse_surplus(jsonb, text[], bigint, text, text) is
'Errors: PT409 naming the place of the first of the objects that is one too many for a limited token. objects: as
api.apply_site takes them; known: the ids of those that exist; room: for so many others; most: how many of what there
can be, in words; places: the format of the place of an object, given its number from 0.';

create or replace function core.check_room(
  spaces jsonb,
  places text default 'spaces[%s].'
)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  v_most integer := core.get_most_of_limited();
  v_room integer := v_most - cardinality(core.list_family_reach());
begin
  if v_room is null then
    return;
  end if;
  perform core.refuse_surplus(
    spaces, array(select s.id from core.space s where s.id in (select i->>'id' from jsonb_array_elements(spaces) i)),
    v_room, format('%s spaces, itself included', v_most), places);
end
$$;
comment on function core.check_room(jsonb, text) is
'Errors: PT409 naming the place of the first space that is one too many for a limited token. spaces, places: as
core.check_spaces.';

create or replace function core.check_spaces(
  spaces jsonb,
  places text default 'spaces[%s].'
)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  c_levels constant integer := core.get_most_levels();
  v_item jsonb;
  v_number bigint;
  v_place text;
  v_id text;
  v_zone text;
begin
  for v_item, v_number in
    select i.value, i.ordinality - 1
    from jsonb_array_elements(spaces) with ordinality i
    -- of many rooms nothing else can be wrong
    where not core.is_id(i.value->>'id')
      or i.value ?| array['capacity', 'opening_hours', 'offline_after_seconds', 'reset_at']
  loop
    v_place := format(places, v_number);
    perform core.check_id(v_item->>'id', v_place || 'id');
    if (v_item->>'capacity')::integer < 0 then
      perform core.refuse(422, 'capacity is negative.', v_place || 'capacity', 'Give 0 or more, or null for none.');
    end if;
    if v_item ? 'opening_hours' then
      perform core.check_opening_hours(v_item->'opening_hours', v_place || 'opening_hours');
    end if;
    perform core.check_offline_after(
      (v_item->>'offline_after_seconds')::integer, v_place || 'offline_after_seconds',
      'Give seconds, or null for what the parent says.');
    if v_item->>'reset_at' !~ '^(never|([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?)$' then
      perform core.refuse(
        422, format('%s is not a time of day.', quote_literal(left(v_item->>'reset_at', 80))), v_place || 'reset_at',
        'Give local time as HH:MM, or never.');
    end if;
  end loop;
  select i.value->>'time_zone', i.ordinality - 1 into v_zone, v_number
  from jsonb_array_elements(spaces) with ordinality i
  where i.value->>'time_zone' is not null and i.value->>'time_zone' <> all (
      (select core.list_time_zones(array(select distinct z->>'time_zone' from jsonb_array_elements(spaces) z)))::text[])
    -- one that has held since before it was taken out of the list is left alone
    and not exists (
      select
      from core.space s
      join core.schedule h on h.space_id = s.space_id and h.superseded_at is null
      where s.id = i.value->>'id' and h.time_zone = i.value->>'time_zone')
  order by i.ordinality
  limit 1;
  if found then
    perform core.check_time_zone(v_zone, format(places, v_number) || 'time_zone');
  end if;

  -- as deep as it is at least: what is there below them, or moves above them, is looked at where it is put
  with recursive listed as (
    select distinct on (i.value->>'id') i.value->>'id' as id, i.value->>'parent' as parent, i.ordinality - 1 as number
    from jsonb_array_elements(spaces) with ordinality i
    where i.value ? 'parent'
    order by i.value->>'id', i.ordinality desc
  ),
  above as materialized (
    select p.id, a.levels
    from (
      select c.space_id, case when bool_or(t.id in (select o.id from listed o)) then 0 else count(*) end as levels
      from core.list_above(array(select s.space_id from listed l join core.space s on s.id = l.parent)) c
      cross join lateral (select t.id from core.space t where t.space_id = c.above_id offset 0) t
      group by c.space_id
    ) a
    cross join lateral (select s.id from core.space s where s.space_id = a.space_id offset 0) p
    where core.is_space_in_reach(a.space_id)
  ),
  top as (
    select l.id, l.number, coalesce(a.levels, 0) + 1 as level
    from listed l
    left join above a on a.id = l.parent
    where l.parent is null or l.parent not in (select o.id from listed o)
  ),
  tree as (
    select t.id, t.number, t.level from top t
    union all
    select l.id, l.number, t.level + 1 from tree t join listed l on l.parent = t.id where t.level <= c_levels
  )
  select t.id, t.number into v_id, v_number from tree t where t.level > c_levels order by t.level, t.number limit 1;
  if found then
    perform core.refuse_depth(v_id, format(places, v_number) || 'parent');
  end if;
  perform core.check_room(spaces, places);
end
$$;
comment on function core.check_spaces(jsonb, text) is
'Errors: PT422 naming the place of the first space with a wrong value, whatever is stored. Needs no lock of the floor
plan. PT409 as core.check_room.

spaces: as api.apply_site takes them; places: the format of the place of one, given its number from 0.';

create or replace function core.get_new_parent(
  space core.space,
  patch jsonb,
  place text
)
returns integer
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_parent_id integer;
begin
  if core.get_reach() is not null and patch->'parent' = 'null' then
    -- to the token its own space has no parent, and stays where it is
    if space.space_id <> core.get_reach() then
      perform core.refuse(
        403, format('%s would leave this token''s space.', quote_literal(space.id)), place || 'parent',
        'Name a parent, or leave it as it is.');
    end if;
  elsif patch ? 'parent' then
    v_parent_id := core.refer_to_space(patch->>'parent', place || 'parent');
    -- upwards: a building has more below it than above
    if space.space_id in (select a.above_id from core.list_above(array[v_parent_id]) a) then
      perform core.refuse(
        422, format('%s lies within %s.', quote_literal(patch->>'parent'), quote_literal(space.id)),
        place || 'parent', 'The parent must not be the space itself or one below it.');
    end if;
    return v_parent_id;
  end if;
  return space.parent_id;
end
$$;
comment on function core.get_new_parent(core.space, jsonb, text) is
'The parent that a space gets by a patch (core.put_space): its space_id, or null. Errors: PT422 and PT403 naming
parent.';

create or replace function core.put_schedule(
  space_id integer,
  patch jsonb,
  recorded_at timestamptz
)
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_held core.schedule;
  v_time_zone text;
  v_reset_at text;
begin
  select h.* into v_held from core.schedule h where h.space_id = put_schedule.space_id and h.superseded_at is null;
  v_time_zone := case when patch ? 'time_zone' then patch->>'time_zone' else v_held.time_zone end;
  v_reset_at := case when patch ? 'reset_at' then patch->>'reset_at' else v_held.reset_at end;
  if (v_time_zone, v_reset_at) is distinct from (v_held.time_zone, v_held.reset_at) then
    update core.schedule h set superseded_at = put_schedule.recorded_at where h.schedule_id = v_held.schedule_id;
    insert into core.schedule (space_id, time_zone, reset_at, recorded_at)
    values (put_schedule.space_id, v_time_zone, v_reset_at, put_schedule.recorded_at);
    insert into core.live_change (space_id) select core.list_subtree(put_schedule.space_id);
    return true;
  end if;
  return false;
end
$$;
comment on function core.put_schedule(integer, jsonb, timestamptz) is
'Records the time_zone and reset_at of a patch (core.put_space) for a space, if they differ from those that it has; says
whether it did.';

create or replace function core.put_space(
  space text,
  patch jsonb,
  recorded_at timestamptz,
  place text default ''
)
returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_below integer[];  -- itself included
  v_doorways integer[];  -- of all of them
  v_space core.space;
  v_new core.space;
  v_change text := 'unchanged';
  v_reach integer := core.get_own_space();
  v_space_id integer;
begin
  -- what a limited token makes lies in the space it is limited to, unless it says where
  insert into core.space (id, parent_id) values (space, v_reach) on conflict (id) do nothing;
  if found then
    v_change := 'created';
  end if;
  -- not in the query's condition: there the planner would ask before the new row can be seen
  v_space_id := core.find_space(put_space.space, place || 'id');
  select s.* into v_space from core.space s where s.space_id = v_space_id;
  v_new := v_space;
  if not exists (select from core.live_space l where l.space_id = v_space.space_id) then
    insert into core.live_change (space_id) values (v_space.space_id);
  end if;

  if patch ? 'name' then
    v_new.name := patch->>'name';
  end if;
  if patch ? 'capacity' then
    v_new.capacity := (patch->>'capacity')::integer;
  end if;
  if patch ? 'opening_hours' then
    v_new.opening_hours := nullif(patch->'opening_hours', 'null');
  end if;
  v_new.parent_id := core.get_new_parent(v_space, patch, place);
  if v_new.parent_id is distinct from v_space.parent_id or (v_change = 'created' and v_new.parent_id is not null) then
    perform core.check_depth(v_space.space_id, v_new.parent_id, space, place || 'parent');
  end if;
  if patch ? 'offline_after_seconds' then
    v_new.offline_after_seconds := (patch->>'offline_after_seconds')::integer;
    if v_new.offline_after_seconds is distinct from v_space.offline_after_seconds then
      perform core.check_least_offline_after(v_new.offline_after_seconds, place || 'offline_after_seconds');
    end if;
  end if;
  if (patch->>'retired')::boolean <> (v_space.retired_at is not null) then
    v_new.retired_at := case when v_space.retired_at is null then put_space.recorded_at end;
    if v_new.retired_at is not null then
      perform core.check_retirable(v_space.space_id, space, place || 'retired');
      if not core.is_dry_run() then
        delete from core.full_space f where f.space_id = v_space.space_id;
      end if;
    end if;
  end if;
  if v_new is distinct from v_space then
    update core.space s
    set name = v_new.name, capacity = v_new.capacity, opening_hours = v_new.opening_hours, parent_id = v_new.parent_id,
      offline_after_seconds = v_new.offline_after_seconds, retired_at = v_new.retired_at
    where s.space_id = v_space.space_id;
    if (v_new.parent_id, v_new.offline_after_seconds)
      is distinct from (v_space.parent_id, v_space.offline_after_seconds) then
      v_below := array(select core.list_subtree(v_space.space_id));
      v_doorways := array(
        select d.doorway_id from core.doorway d where d.side_a_id = any (v_below) or d.side_b_id = any (v_below));
      perform core.rederive_offline_after(array(
        select p.dpu_id from core.placement p
        where p.doorway_id = any (v_doorways) and p.superseded_at is null and p.during @> put_space.recorded_at));
    end if;
    if v_new.parent_id is distinct from v_space.parent_id then
      -- the doorways it counts by, and the schedule it inherits
      insert into core.live_change (space_id) select unnest(v_below);
      if cardinality(v_doorways) > 0 then
        perform core.rebuild_boundary(v_doorways);
      end if;
    end if;
    v_change := case v_change when 'created' then v_change else 'updated' end;
  end if;

  if core.put_schedule(v_space.space_id, patch, put_space.recorded_at) then
    v_change := case v_change when 'created' then v_change else 'updated' end;
  end if;
  if v_change <> 'unchanged' then
    perform core.note_change(spaces => array[v_space.space_id], ids => array[space]);
  end if;
  return v_change;
end
$$;
comment on function core.put_space(text, jsonb, timestamptz, text) is
'Creates a space or changes what patch names (null clears, absent leaves as is). Returns created, updated or unchanged.
Errors: PT422; PT404 and PT403 outside the token''s space.';
