-- Changing the floor plan. Callers hold core.lock_plan, pass the instant it returned, and end with core.rebase_changed.
-- place says where in a request a value stood: '' for a request of its own, 'spaces[3].' in a site.
-- What reads tables that grow while a site is applied does so by their indexes: planned once a connection, on small tables,
-- it would read them whole for each of many.

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
    raise exception using errcode = 'PT422', message = 'opening_hours is not a list.', detail = place,
      hint = 'Give a list of {day, open, close}.';
  end if;
  for v_row in select jsonb_array_elements(opening_hours) loop
    if jsonb_typeof(v_row) <> 'object' or coalesce(v_row->>'day', '') !~ '^[0-6]$'
      or coalesce(v_row->>'open', '') !~ '^([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?$'
      or coalesce(v_row->>'close', '') !~ '^([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?$' then
      raise exception using errcode = 'PT422', message = 'A row of opening_hours is not {day, open, close}.',
        detail = format('%s[%s]', place, v_number), hint = 'day is 0 (Monday) to 6, open and close are HH:MM or HH:MM:SS.';
    end if;
    v_number := v_number + 1;
  end loop;
end
$$;
comment on function core.check_opening_hours(jsonb, text) is
'Raises PT422 naming place unless it is null or a list of {day, open, close}.';

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
    select format('the space %s lies in it', quote_literal(s.id)) from core.space s where s.parent_id = check_retirable.space_id and s.retired_at is null
    union all
    select format('the token %s is limited to it', t.id) from core.token t
    where t.space_id = check_retirable.space_id and t.revoked_at is null and (t.expires_at is null or t.expires_at > clock_timestamp())
  ) as u (name)
  limit 1;
  if found then
    raise exception using errcode = 'PT409', message = format('%s is in use: %s.', quote_literal(space), v_user),
      detail = place, hint = 'Retire what lies in it and revoke its tokens first.';
  end if;
end
$$;
comment on function core.check_retirable(integer, text, text) is
'Raises PT409 naming place while a space that is in use lies in a space, or a token is limited to it.';

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
    armed_at = case when not is_retired and s.offline_at is null and s.armed_at is not null then v_now else s.armed_at end
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

create or replace function core.is_applied(site jsonb)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  v_now timestamptz := clock_timestamp();
  v_root integer := core.get_reach();
  v_reach integer[] := core.list_reach();
begin
  return not exists (
    select
    from jsonb_array_elements(site->'spaces') i
    left join core.space s on s.id = i->>'id' and (v_reach is null or s.space_id = any (v_reach))
    left join core.space p on p.space_id = s.parent_id and s.space_id is distinct from v_root
    left join core.schedule h on h.space_id = s.space_id and h.superseded_at is null
    -- joined: as not exists below an or, all of it would be read
    left join core.live_space l on l.space_id = s.space_id
    where l.space_id is null
      or i - array['id', 'name', 'parent', 'capacity', 'opening_hours', 'offline_after_seconds', 'time_zone', 'reset_at', 'retired'] <> '{}'
      or (i ? 'retired' and (i->>'retired')::boolean <> (s.retired_at is not null))
      or (i ? 'name' and i->>'name' is distinct from s.name)
      or (i ? 'parent' and i->>'parent' is distinct from p.id)
      or (i ? 'capacity' and i->>'capacity' is distinct from s.capacity::text)
      or (i ? 'opening_hours' and nullif(i->'opening_hours', 'null') is distinct from s.opening_hours)
      or (i ? 'offline_after_seconds' and i->>'offline_after_seconds' is distinct from s.offline_after_seconds::text)
      or (i ? 'time_zone' and i->>'time_zone' is distinct from h.time_zone)
      or (i ? 'reset_at' and i->>'reset_at' is distinct from h.reset_at)
  ) and not exists (
    select
    from jsonb_array_elements(site->'doorways') i
    left join core.doorway w on w.id = i->>'id'
      and (v_reach is null or (
        (w.side_a_id is null or w.side_a_id = any (v_reach)) and (w.side_b_id is null or w.side_b_id = any (v_reach))))
    left join core.space a on a.space_id = w.side_a_id
    left join core.space b on b.space_id = w.side_b_id
    where w.doorway_id is null or i - array['id', 'name', 'sides', 'retired'] <> '{}'
      or (i ? 'retired' and (i->>'retired')::boolean <> (w.retired_at is not null))
      or (i ? 'name' and i->>'name' is distinct from w.name)
      or (i ? 'sides' and i->'sides' is distinct from jsonb_build_array(a.id, b.id))
  ) and not exists (
    select
    from jsonb_array_elements(site->'dpus') i
    left join core.dpu d on d.id = i->>'id'
    left join core.dpu_state t on t.dpu_id = d.dpu_id
    where d.dpu_id is null or i - array['id', 'name', 'mac_address', 'offline_after_seconds', 'retired'] <> '{}'
      or (i ? 'retired' and (i->>'retired')::boolean <> (t.retired_at is not null))
      or (i ? 'name' and i->>'name' is distinct from d.name)
      or (i ? 'offline_after_seconds' and i->>'offline_after_seconds' is distinct from d.offline_after_seconds::text)
      or (i ? 'mac_address' and lower(i->>'mac_address') is distinct from d.mac_address::text)
      or (v_reach is not null and not exists (
        select
        from core.placement p
        join core.doorway w on w.doorway_id = p.doorway_id
        where p.dpu_id = d.dpu_id and p.superseded_at is null and p.during @> v_now
          and (w.side_a_id is null or w.side_a_id = any (v_reach)) and (w.side_b_id is null or w.side_b_id = any (v_reach))))
  ) and not exists (
    select
    from (
      -- where two overlap the later one holds, as in api.apply_site
      select
        n.dpu, n.doorway, n.mounted_in, n.during,
        tstzmultirange(n.during) - coalesce(range_agg(n.during) over (
          partition by n.dpu order by n.number desc rows between unbounded preceding and 1 preceding), '{}') as rest
      from (
        select
          i.value->>'dpu' as dpu, i.value->>'doorway' as doorway, i.value->>'mounted_in' as mounted_in, i.number,
          case when t.until_at <= t.from_at then null else tstzrange(t.from_at, t.until_at) end as during
        from jsonb_array_elements(site->'placements') with ordinality as i (value, number)
        cross join lateral (
          select coalesce((i.value->>'from')::timestamptz, v_now) as from_at, (i.value->>'until')::timestamptz as until_at) t
      ) n
    ) n
    left join core.dpu d on d.id = n.dpu
    left join core.doorway w on w.id = n.doorway
      and (v_reach is null or (
        (w.side_a_id is null or w.side_a_id = any (v_reach)) and (w.side_b_id is null or w.side_b_id = any (v_reach))))
    left join core.space a on a.space_id = w.side_a_id
    left join core.space b on b.space_id = w.side_b_id
    cross join lateral (
      select case
        when w.doorway_id is null then null
        when n.mounted_in is not distinct from a.id then 1::smallint
        when n.mounted_in is not distinct from b.id then 2::smallint
      end as number
    ) side
    where d.dpu_id is null or n.during is null
      or (side.number is null and (n.doorway is not null or n.mounted_in is not null or v_reach is not null))
      or exists (select from unnest(n.rest) r where not core.is_placed(d.dpu_id, w.doorway_id, side.number, r))
  );
end
$$;
comment on function core.is_applied(jsonb) is
'Whether a floor plan, as api.apply_site takes it, says nothing but what is so: then nobody has to be kept from storing events. False also where it is not sure, and for what a token cannot reach.';

create or replace function core.refuse_depth(
  space text,
  place text
)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception using errcode = 'PT422',
    message = format('With %s there the tree of spaces would have more than %s levels.', quote_literal(space), core.get_most_levels()),
    detail = place, hint = 'Put it higher up: a building needs a handful of levels.';
end
$$;
comment on function core.refuse_depth(text, text) is
'Raises PT422 naming place: the tree would be too deep with a space there.';

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
'Raises PT422 naming place if the tree would have more than 32 levels with a space, and what lies in it, below a parent.';

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
  v_room integer := v_most - cardinality(core.list_reach());
  v_number bigint;   -- of the first one too many
begin
  if v_room is null then
    return;
  end if;
  select n.number into v_number
  from (
    select min(i.ordinality) - 1 as number
    from jsonb_array_elements(spaces) with ordinality i
    where not exists (select from core.space s where s.id = i.value->>'id')
    group by i.value->>'id'
  ) n
  order by n.number
  offset greatest(v_room, 0)
  limit 1;
  if found then
    raise exception using errcode = 'PT409',
      message = format('The space of this token would have more than %s spaces below it and itself.', v_most),
      detail = format(places, v_number) || 'id', hint = 'A token without a space can make more.';
  end if;
end
$$;
comment on function core.check_room(jsonb, text) is
'Raises PT409 naming the place of the first space that is one too many for a token that is limited to a space. spaces, places: as core.check_spaces.';

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
  for v_item, v_number in select i.value, i.ordinality - 1 from jsonb_array_elements(spaces) with ordinality i loop
    v_place := format(places, v_number);
    perform core.check_id(v_item->>'id', v_place || 'id');
    if (v_item->>'capacity')::integer < 0 then
      raise exception using errcode = 'PT422', message = 'capacity is negative.', detail = v_place || 'capacity',
        hint = 'Give 0 or more, or null for none.';
    end if;
    if v_item ? 'opening_hours' then
      perform core.check_opening_hours(v_item->'opening_hours', v_place || 'opening_hours');
    end if;
    if (v_item->>'offline_after_seconds')::integer not between 1 and 2678400 then
      raise exception using errcode = 'PT422', message = 'offline_after_seconds is not 1 to 2678400 (31 days).',
        detail = v_place || 'offline_after_seconds', hint = 'Give seconds, or null for what the parent says.';
    end if;
    if v_item->>'reset_at' !~ '^(never|([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?)$' then
      raise exception using errcode = 'PT422', message = format('%s is not a time of day.', quote_literal(left(v_item->>'reset_at', 80))),
        detail = v_place || 'reset_at', hint = 'Give local time as HH:MM, or never.';
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
  top as (
    select l.id, l.number, a.levels + 1 as level
    from listed l
    left join core.space s on s.id = l.parent
    cross join lateral (
      select case when bool_or(t.id in (select o.id from listed o)) then 0 else count(t.id) end as levels
      from core.list_above(array[s.space_id]) c
      join core.space t on t.space_id = c.above_id
      where core.is_space_in_reach(s.space_id)
    ) a
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
'Raises PT422 naming the place of the first space that cannot be as it is told, whatever there is: before anybody locks the floor plan. PT409 as core.check_room.

spaces: as api.apply_site takes them; places: the format of the place of one, given its number from 0.';

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
  v_held core.schedule;
  v_time_zone text;
  v_reset_at text;
  v_change text := 'unchanged';
  v_reach integer := core.get_reach();
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
  if v_reach is not null and patch->'parent' = 'null' then
    -- to the token its own space has no parent, and stays where it is
    if v_space.space_id <> v_reach then
      raise exception using errcode = 'PT403', message = format('%s would leave the reach of this token.', quote_literal(space)),
        detail = place || 'parent', hint = 'Name a parent, or leave it as it is.';
    end if;
  elsif patch ? 'parent' then
    v_new.parent_id := core.refer_to_space(patch->>'parent', place || 'parent');
    if v_new.parent_id in (select core.list_subtree(v_space.space_id)) then
      raise exception using errcode = 'PT422', message = format('%s lies within %s already.', quote_literal(patch->>'parent'), quote_literal(space)),
        detail = place || 'parent', hint = 'The parent must not be the space itself or one below it.';
    end if;
  end if;
  if v_new.parent_id is distinct from v_space.parent_id or (v_change = 'created' and v_new.parent_id is not null) then
    perform core.check_depth(v_space.space_id, v_new.parent_id, space, place || 'parent');
  end if;
  if patch ? 'offline_after_seconds' then
    v_new.offline_after_seconds := (patch->>'offline_after_seconds')::integer;
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
    if (v_new.parent_id, v_new.offline_after_seconds) is distinct from (v_space.parent_id, v_space.offline_after_seconds) then
      v_below := array(select core.list_subtree(v_space.space_id));
      v_doorways := array(
        select d.doorway_id from core.doorway d where d.side_a_id = any (v_below) or d.side_b_id = any (v_below));
      perform core.rebase_offline_after(array(
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

  select h.* into v_held from core.schedule h where h.space_id = v_space.space_id and h.superseded_at is null;
  v_time_zone := case when patch ? 'time_zone' then patch->>'time_zone' else v_held.time_zone end;
  v_reset_at := case when patch ? 'reset_at' then patch->>'reset_at' else v_held.reset_at end;
  if (v_time_zone, v_reset_at) is distinct from (v_held.time_zone, v_held.reset_at) then
    update core.schedule h set superseded_at = put_space.recorded_at where h.schedule_id = v_held.schedule_id;
    insert into core.schedule (space_id, time_zone, reset_at, recorded_at)
    values (v_space.space_id, v_time_zone, v_reset_at, put_space.recorded_at);
    insert into core.live_change (space_id) select core.list_subtree(v_space.space_id);
    v_change := case v_change when 'created' then v_change else 'updated' end;
  end if;
  if v_change <> 'unchanged' then
    perform core.note_change(spaces => array[v_space.space_id], ids => array[space]);
  end if;
  return v_change;
end
$$;
comment on function core.put_space(text, jsonb, timestamptz, text) is
'Creates a space or changes what patch names (null clears, absent leaves as is). Returns created, updated or unchanged. Errors: PT422; PT404 and PT403 beyond the token''s reach.';

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
      raise exception using errcode = 'PT422', message = 'A doorway has two sides.', detail = place || 'sides',
        hint = 'Give [space, space]; null is the outside.';
    end if;
    v_new.side_a_id := core.refer_to_space(patch->'sides'->>0, place || 'sides[0]');
    v_new.side_b_id := core.refer_to_space(patch->'sides'->>1, place || 'sides[1]');
    if v_new.side_a_id is not distinct from v_new.side_b_id then
      raise exception using errcode = 'PT422', message = 'Both sides of the doorway are the same.', detail = place || 'sides',
        hint = 'A doorway joins two different spaces, or a space and the outside (null).';
    end if;
  elsif v_doorway.doorway_id is null then
    raise exception using errcode = 'PT422', message = 'A new doorway needs its sides.', detail = place || 'sides',
      hint = 'Give [space, space]; null is the outside.';
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
    raise exception using errcode = 'PT409', message = format('The sides of %s are fixed: a DPU was placed there.', quote_literal(doorway)),
      detail = place || 'sides', hint = 'A rebuilt wall is a new doorway: give it another id.';
  end if;
  update core.doorway d set name = v_new.name, side_a_id = v_new.side_a_id, side_b_id = v_new.side_b_id, retired_at = v_new.retired_at
  where d.doorway_id = v_doorway.doorway_id;
  return case v_change when 'created' then v_change else 'updated' end;
end
$$;
comment on function core.put_doorway(text, jsonb, text) is
'Creates a doorway or changes what patch names. Returns created, updated or unchanged. The caller goes on with core.rebuild_boundary. Errors: PT422; PT409 for other sides once a DPU was placed; PT404 and PT403 beyond the token''s reach.';

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
    perform core.check_dpu(core.find_dpu(dpu, place || 'id'), tstzrange(clock_timestamp(), clock_timestamp(), '[]'), place || 'id');
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
      raise exception using errcode = 'PT422', message = format('%s is not a MAC address.', quote_literal(left(patch->>'mac_address', 80))),
        detail = place || 'mac_address', hint = 'Give six bytes such as 02:00:00:00:00:00.';
    end if;
    v_new.mac_address := (patch->>'mac_address')::macaddr;
    if exists (select from core.dpu d where d.mac_address = v_new.mac_address and d.dpu_id <> v_dpu.dpu_id) then
      raise exception using errcode = 'PT409', message = format('Another DPU has the MAC address %s.', v_new.mac_address),
        detail = place || 'mac_address', hint = 'Clear it there first: PUT /v1/dpus/{id} with "mac_address": null.';
    end if;
  end if;
  if patch ? 'offline_after_seconds' then
    v_new.offline_after_seconds := (patch->>'offline_after_seconds')::integer;
    if v_new.offline_after_seconds not between 1 and 2678400 then
      raise exception using errcode = 'PT422', message = 'offline_after_seconds is not 1 to 2678400 (31 days).', detail = place || 'offline_after_seconds',
        hint = 'Give seconds, or null for what the space says.';
    end if;
  end if;
  if v_new is distinct from v_dpu then
    update core.dpu d set name = v_new.name, mac_address = v_new.mac_address, offline_after_seconds = v_new.offline_after_seconds
    where d.dpu_id = v_dpu.dpu_id;
    if v_new.offline_after_seconds is distinct from v_dpu.offline_after_seconds then
      perform core.rebase_offline_after(array[v_dpu.dpu_id]);
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
'Registers a DPU or changes what patch names. Returns created, updated or unchanged. Errors: PT422; PT409 for a MAC address that another DPU has; PT404 and PT403 beyond the token''s reach, which new DPUs always are.';

create or replace function core.get_period(
  from_at timestamptz,
  until_at timestamptz,
  place text
)
returns tstzrange
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  if until_at <= from_at then
    raise exception using errcode = 'PT422', message = 'until is not after from.', detail = place || 'until',
      hint = 'A placement lasts from one instant up to a later one; leave until out if it still holds.';
  end if;
  return tstzrange(from_at, until_at);
end
$$;
comment on function core.get_period(timestamptz, timestamptz, text) is
'The range [from_at, until_at); until_at null: open. Errors: PT422 naming place if it is empty.';

create or replace function core.find_mounting(
  doorway text,
  mounted_in text,
  place text,
  out doorway_id integer,
  out mounted_side smallint
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  v_doorway core.doorway;
  v_mounted_id integer;
begin
  if doorway is null then
    if mounted_in is not null then
      raise exception using errcode = 'PT422', message = 'A DPU that is taken down is mounted nowhere.', detail = place || 'mounted_in',
        hint = 'Leave mounted_in out, or name the doorway.';
    end if;
    return;
  end if;
  select d.* into v_doorway from core.doorway d where d.id = find_mounting.doorway;
  if not found or not core.is_doorway_seen(v_doorway.doorway_id) then
    raise exception using errcode = 'PT422', message = format('There is no doorway %s to refer to.', quote_literal(doorway)),
      detail = place || 'doorway', hint = 'Create it first with PUT /v1/doorways/{id}.';
  end if;
  perform core.check_doorway(v_doorway.doorway_id, place || 'doorway');
  v_mounted_id := core.refer_to_space(mounted_in, place || 'mounted_in');
  find_mounting.doorway_id := v_doorway.doorway_id;
  find_mounting.mounted_side := case
    when v_mounted_id is not distinct from v_doorway.side_a_id then 1
    when v_mounted_id is not distinct from v_doorway.side_b_id then 2
  end;
  if find_mounting.mounted_side is null then
    raise exception using errcode = 'PT422', message = format('%s is no side of the doorway %s.', coalesce(quote_literal(mounted_in), 'The outside'), quote_literal(doorway)),
      detail = place || 'mounted_in', hint = 'Name one of its two sides; null is the outside.';
  end if;
end
$$;
comment on function core.find_mounting(text, text, text) is
'The doorway and which of its sides (1: a, 2: b) a DPU is mounted on; nulls for no doorway. Errors: PT422 naming place.';

create or replace function core.is_placed(
  dpu_id integer,
  doorway_id integer,
  mounted_side smallint,
  during tstzrange
)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
begin
  if doorway_id is null then
    return not exists (
      select from core.placement p
      where p.dpu_id = is_placed.dpu_id and p.superseded_at is null and p.during && is_placed.during);
  end if;
  return coalesce((
    select range_agg(p.during) @> is_placed.during
    from core.placement p
    where p.dpu_id = is_placed.dpu_id and p.superseded_at is null and p.during && is_placed.during
      and p.doorway_id = is_placed.doorway_id and p.mounted_side = is_placed.mounted_side), false);
end
$$;
comment on function core.is_placed(integer, integer, smallint, tstzrange) is
'Whether a DPU is believed to be above a doorway, mounted on that side, all through a period; null doorway: nowhere all through it.';

create or replace function core.place_dpu(
  dpu_id integer,
  doorway text,
  mounted_in text,
  from_at timestamptz,
  until_at timestamptz,
  recorded_at timestamptz,
  place text default ''
)
returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  v_during tstzrange := core.get_period(from_at, until_at, place);
  v_mounting record := core.find_mounting(doorway, mounted_in, place);
  v_old core.placement;
  v_change_id bigint;
  v_changed boolean := false;
begin
  if doorway is null then
    -- also where nothing would change: that it was elsewhere then is not for everybody to know
    perform core.check_dpu(dpu_id, v_during, place || 'dpu');
  end if;
  if core.is_placed(dpu_id, v_mounting.doorway_id, v_mounting.mounted_side, v_during) then
    return 'unchanged';
  end if;
  perform core.check_dpu(dpu_id, v_during, place || 'dpu');
  perform core.check_cut(array[place_dpu.dpu_id], from_at, place || 'from');
  perform core.check_cut(array[place_dpu.dpu_id], until_at, place || 'until');

  insert into core.placement_change (dpu_id, during, recorded_at) values (place_dpu.dpu_id, v_during, place_dpu.recorded_at)
  returning change_id into v_change_id;
  for v_old in
    select p.* from core.placement p
    where p.dpu_id = place_dpu.dpu_id and p.superseded_at is null and p.during && v_during
  loop
    v_changed := true;
    update core.placement p set superseded_at = place_dpu.recorded_at, superseded_by = v_change_id where p.placement_id = v_old.placement_id;
    insert into core.live_change (space_id) select b.space_id from core.boundary b where b.doorway_id = v_old.doorway_id;
    insert into core.placement (dpu_id, doorway_id, mounted_side, during, recorded_at, change_id)
    select v_old.dpu_id, v_old.doorway_id, v_old.mounted_side, r.during, place_dpu.recorded_at, v_old.change_id
    from unnest(tstzmultirange(v_old.during) - tstzmultirange(v_during)) as r (during);
  end loop;
  if doorway is null then
    return 'updated';
  end if;
  insert into core.placement (dpu_id, doorway_id, mounted_side, during, recorded_at, change_id)
  values (place_dpu.dpu_id, v_mounting.doorway_id, v_mounting.mounted_side, v_during, place_dpu.recorded_at, v_change_id);
  insert into core.live_change (space_id) select b.space_id from core.boundary b where b.doorway_id = v_mounting.doorway_id;
  return case when v_changed then 'updated' else 'created' end;
end
$$;
comment on function core.place_dpu(integer, text, text, timestamptz, timestamptz, timestamptz, text) is
'Records that a DPU is above a doorway during [from_at, until_at): what was believed of that period is superseded, what it leaves over of older placements is kept. Null doorway: it hangs nowhere then. The caller goes on with core.rebase_offline_after. Returns created (nothing was believed of that period), updated or unchanged. Errors: PT422, also for a bound within a quarter-hour whose events were dropped; PT403 beyond the token''s reach.';

create or replace function core.undo_placement(
  dpu_id integer,
  from_at timestamptz,
  recorded_at timestamptz
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  v_change core.placement_change;
  v_later core.placement_change;
  v_old record;
  v_doorways integer[];   -- above which it does not hang any more, or hangs again
begin
  -- in the order of change_id, in which they were made: the clock may have been put back between two of them
  select c.* into v_change
  from core.placement_change c
  where c.dpu_id = undo_placement.dpu_id and lower(c.during) = undo_placement.from_at and c.undone_at is null
  order by c.change_id desc
  limit 1;
  if not found then
    -- what a later one left of it, after its end, was not told by itself
    select c.* into v_later
    from core.placement_change c
    where c.dpu_id = undo_placement.dpu_id and upper(c.during) = undo_placement.from_at and c.undone_at is null
    order by c.change_id desc
    limit 1;
    raise exception using errcode = 'PT404', message = 'No placement of this DPU starts at that instant.', detail = 'from',
      hint = case
        when found and core.get_reach() is null then format(
          'What holds from then on is the rest of an older placement. To change that, undo the one that ends there: DELETE /v1/dpus/{id}/placements?from=%s.',
          core.format_instant(lower(v_later.during)))
        else 'GET /v1/dpus/{id}/placements lists them. Give the from of one of them.'
      end;
  end if;
  select c.* into v_later
  from core.placement_change c
  where c.dpu_id = undo_placement.dpu_id and c.during && v_change.during and c.undone_at is null
    and c.change_id > v_change.change_id
  order by c.change_id desc
  limit 1;
  if found then
    raise exception using errcode = 'PT409', message = 'A later placement changed this period.', detail = 'from',
      hint = format('Undo it first: DELETE /v1/dpus/{id}/placements?from=%s.', core.format_instant(lower(v_later.during)));
  end if;
  perform core.check_dpu(dpu_id, v_change.during, 'dpu');

  update core.placement_change c set undone_at = undo_placement.recorded_at where c.change_id = v_change.change_id;
  with gone as (
    update core.placement p set superseded_at = undo_placement.recorded_at
    where p.change_id = v_change.change_id and p.superseded_at is null
    returning doorway_id
  )
  select array_agg(g.doorway_id) into v_doorways from gone g;
  for v_old in
    select p.doorway_id, p.mounted_side, p.change_id, p.during * v_change.during as during
    from core.placement p
    where p.superseded_by = v_change.change_id
  loop
    perform core.check_doorway(v_old.doorway_id, 'from');
    perform core.check_cut(array[undo_placement.dpu_id], lower(v_old.during), 'from');
    perform core.check_cut(array[undo_placement.dpu_id], upper(v_old.during), 'from');
    v_doorways := v_doorways || v_old.doorway_id;
    -- one piece with what was left over of it on both sides
    with rest as (
      update core.placement p set superseded_at = undo_placement.recorded_at
      where p.dpu_id = undo_placement.dpu_id and p.superseded_at is null and p.change_id = v_old.change_id
        and p.doorway_id = v_old.doorway_id and p.mounted_side = v_old.mounted_side and p.during -|- v_old.during
      returning during
    )
    select range_merge(range_agg(r.during)) into v_old.during
    from (select g.during from rest g union all select v_old.during) r;
    insert into core.placement (dpu_id, doorway_id, mounted_side, during, recorded_at, change_id)
    values (undo_placement.dpu_id, v_old.doorway_id, v_old.mounted_side, v_old.during, undo_placement.recorded_at, v_old.change_id);
  end loop;
  insert into core.live_change (space_id) select b.space_id from core.boundary b where b.doorway_id = any (v_doorways);
end
$$;
comment on function core.undo_placement(integer, timestamptz, timestamptz) is
'Takes back what was told last of a DPU from from_at on: of that period holds again what held before. The caller goes on with core.rebase_offline_after. Errors: PT404 where none starts there, naming the one that cut off what holds from then on; PT409 naming the latest one that changed that period since; PT422 for a bound within a quarter-hour whose events were dropped; PT403 beyond the token''s reach.';
