-- Sites: spaces that have uptime. What an import says about them.

create or replace function core.list_sites(space_id integer default null)
returns setof integer
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select i.space_id
  from core.site i
  join core.space s on s.space_id = i.space_id
  where (list_sites.space_id is null or i.space_id in (select core.list_subtree(list_sites.space_id)))
    and (s.retired_at is null or i.space_id = list_sites.space_id);
end
$$;
comment on function core.list_sites(integer) is
'The spaces that have uptime, all or those in a subtree: that were polled, or that an import named. Opening hours
that were set otherwise do not make a space a site. Retired spaces are left out, except space_id itself.';
comment on table core.site is 'Spaces that have uptime, because they were polled or an import named them.';

create or replace function core.was_polled(
  space_id integer,
  now_at timestamptz
)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (select from core.poll p where p.space_id = was_polled.space_id and p.time <= now_at);
end
$$;
comment on function core.was_polled(integer, timestamptz) is
'Whether a space was ever polled, up to an instant. If not, all its business time is downtime, which says nothing about
it.';

create or replace function core.list_space_ids(spaces text[])
returns integer[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    with named as materialized (
      select n.id, s.space_id
      from (select distinct u.id from unnest(spaces) as u (id)) n
      left join core.space s on s.id = n.id
    )
    select coalesce(array_agg(m.space_id order by n.ordinal), '{}')
    from unnest(spaces) with ordinality as n (id, ordinal)
    left join named m on m.id = n.id);
end
$$;
comment on function core.list_space_ids(text[]) is
'The space_id of each space, in the order given; null for one that does not exist.';

create or replace function core.register_spaces(spaces text[])
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_spaces integer[];
  v_ids text[];
begin
  with added as (
    insert into core.space (id)
    select distinct n.id from unnest(spaces) as n (id) order by n.id
    on conflict (id) do nothing
    returning space_id, id
  ),
  live as (
    -- no doorway leads into it yet: nobody is counted, whatever is stored meanwhile
    insert into core.live_space (space_id, since, base, until_at)
    select a.space_id, '-infinity', 0, 'infinity' from added a
  )
  select array_agg(a.space_id), array_agg(a.id) into v_spaces, v_ids from added a;
  perform core.note_change(spaces => v_spaces, ids => v_ids);
end
$$;
comment on function core.register_spaces(text[]) is
'Adds the spaces that are not there yet, without a parent. In order of their ids, so that two transactions never wait
for each other. The caller holds the lock of the floor plan, shared at least.';

create or replace function core.resolve_spaces(
  spaces text[],
  auto_register boolean
)
returns integer[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_reach integer[] := core.list_reach();
  v_ids integer[] := core.list_space_ids(spaces);
begin
  if v_reach is not null then
    return array(
      select case when n.space_id = any (v_reach) then n.space_id end
      from unnest(v_ids) with ordinality as n (space_id, ordinal)
      order by n.ordinal);
  end if;
  if auto_register and array_position(v_ids, null) is not null then
    perform core.register_spaces(array(
      select n.id from unnest(spaces, v_ids) as n (id, space_id) where n.space_id is null));
    v_ids := core.list_space_ids(spaces);
  end if;
  return v_ids;
end
$$;
comment on function core.resolve_spaces(text[], boolean) is
'The space_id of each space that is reported on, in the order given; null for one that is unknown or outside the
token''s space. With auto_register unknown ones are added, but never on behalf of a limited token.';

create or replace function core.add_sites(spaces integer[])
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into core.site (space_id)
  select n.space_id
  from (select distinct u.space_id from unnest(spaces) as u (space_id)) n
  where n.space_id is not null and not exists (select from core.site s where s.space_id = n.space_id)
  order by n.space_id
  on conflict (space_id) do nothing;
end
$$;
comment on function core.add_sites(integer[]) is
'Notes that these spaces have uptime; nulls are left out.';

create or replace function core.assume_time_zone(
  spaces integer[],
  time_zone text
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if assume_time_zone.time_zone is null or core.get_reach() is not null then
    return;
  end if;
  perform core.check_time_zone(assume_time_zone.time_zone, 'assumed_zone');
  insert into core.schedule (space_id, time_zone, recorded_at)
  select s.space_id, assume_time_zone.time_zone, clock_timestamp()
  from (select distinct n.space_id from unnest(spaces) as n (space_id)) n
  join core.space s on s.space_id = n.space_id
  where s.parent_id is null
    and not exists (select from core.schedule h where h.space_id = s.space_id and h.superseded_at is null)
    and not exists (select from core.space c where c.parent_id = s.space_id)
    and not exists (select from core.doorway d where d.side_a_id = s.space_id)
    and not exists (select from core.doorway d where d.side_b_id = s.space_id)
  order by s.space_id
  on conflict (space_id) where superseded_at is null do nothing;
end
$$;
comment on function core.assume_time_zone(integer[], text) is
'Gives a zone (null: none) to those of the spaces that stand alone and have no schedule: nothing above or below them, no
doorway. So no count anywhere changes, and no live row; the caller holds the lock of the floor plan, and shared is
enough. On behalf of a limited token nothing happens. Errors: PT422 for an unknown zone.';
