-- Sites: spaces that have uptime. What an import says about them.

create or replace function core.list_sites(space_id integer default null)
returns setof integer
language sql stable
as $$
  select i.space_id
  from core.site i
  join core.space s on s.space_id = i.space_id
  where (list_sites.space_id is null or i.space_id in (select core.list_subtree(list_sites.space_id)))
    and (s.retired_at is null or i.space_id = list_sites.space_id)
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
-- planned while there are few, it would read all spaces for each
set enable_seqscan = off
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

create or replace function core.list_unnamed_spaces()
returns setof integer
language sql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = on  -- all of them; who calls it looks for a few
as $$
  select s.space_id
  from core.space s
  join core.site i on i.space_id = s.space_id
  where s.name is null and s.parent_id is null and s.capacity is null and s.opening_hours is null
    and s.offline_after_seconds is null and s.retired_at is null
    and not exists (select from core.schedule h where h.space_id = s.space_id)
    and not exists (select from core.space c where c.parent_id = s.space_id)
    and not exists (select from core.doorway d where d.side_a_id = s.space_id)
    and not exists (select from core.doorway d where d.side_b_id = s.space_id)
    and not exists (select from core.reset r where r.space_id = s.space_id)
    and not exists (select from core.token t where t.space_id = s.space_id)
    and not exists (select from core.channel c where c.under_id = s.space_id)
$$;
comment on function core.list_unnamed_spaces() is
'Spaces in use that were polled and of which nobody has ever said anything: no name, place in the tree, doorway, hours,
schedule, capacity, threshold or reset, and no token or channel is for them. An import gives zones, so its spaces are
not among them.';

create or replace function core.get_space_registration()
returns core.space_registration
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_found core.space_registration;
begin
  select r.* into v_found from core.space_registration r where r.is_only for update;
  if not found then
    insert into core.space_registration (is_only) values (true) on conflict (is_only) do nothing;
    select r.* into v_found from core.space_registration r where r.is_only for update;
  end if;
  return v_found;
end
$$;
comment on function core.get_space_registration() is
'How many unknown spaces polls may make. The row stays locked until the transaction ends.';

create or replace function core.find_remaining_spaces(
  token_id integer,
  limits core.space_registration,
  now_at timestamptz
)
returns double precision
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select core.refill(r.remaining, r.at, now_at, limits.burst, limits.per_hour)
  from (select find_remaining_spaces.token_id) t
  left join core.space_registrar r on r.token_id = t.token_id
  where t.token_id is not null
$$;
comment on function core.find_remaining_spaces(integer, core.space_registration, timestamptz) is
'How many spaces the polls of a token may make now; null without a token: its own number of them bounds nobody.';

create or replace function core.admit_spaces(
  spaces text[],
  ids integer[],
  sender text
)
returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- planned for few, there may be many: then each would read all spaces
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  v_now timestamptz := clock_timestamp();
  v_token_id integer := (select t.token_id from core.token t where t.id = admit_spaces.sender);
  v_limits core.space_registration;
  v_remaining double precision;
  v_unknown text[];   -- in order of their ids
  v_room integer;
  v_taken text[] := '{}';
begin
  -- first without the lock: who may make none waits for nobody, and nobody waits for them
  select r.* into v_limits from core.space_registration r where r.is_only;
  v_remaining := core.find_remaining_spaces(v_token_id, v_limits, v_now);
  v_room := greatest(v_limits.max_unnamed - coalesce(v_limits.unnamed, 0), 0);

  if coalesce(v_remaining >= 1, true)
    and (v_room > 0 or coalesce(v_limits.counted_at < v_now - interval '10 seconds', true)) then
    v_limits := core.get_space_registration();
    -- looked for anew: whoever held the lock until just now may have made them
    select array_agg(distinct n.id order by n.id) into v_unknown
    from unnest(spaces, ids) as n (id, space_id)
    where n.space_id is null and n.id is not null and not exists (select from core.space k where k.id = n.id);
    if v_unknown is null then
      return null;
    end if;

    -- named or retired since, a space leaves room for another one
    if v_limits.unnamed is null
      or (v_limits.unnamed + cardinality(v_unknown) > v_limits.max_unnamed
        and v_limits.counted_at < v_now - interval '10 seconds') then
      v_limits.unnamed := (select count(*) from core.list_unnamed_spaces());
      v_limits.counted_at := v_now;
    end if;
    v_room := greatest(v_limits.max_unnamed - v_limits.unnamed, 0);
    v_remaining := core.find_remaining_spaces(v_token_id, v_limits, v_now);
    v_taken := v_unknown[:least(v_room, floor(v_remaining)::integer)];
    perform core.register_spaces(v_taken);
    if v_token_id is not null then
      insert into core.space_registrar (token_id, remaining, at)
      values (v_token_id, v_remaining - cardinality(v_taken), v_now)
      on conflict (token_id) do update set remaining = excluded.remaining, at = excluded.at;
    end if;
    update core.space_registration r
    set unnamed = v_limits.unnamed + cardinality(v_taken), counted_at = v_limits.counted_at
    where r.is_only;
  end if;

  return case
    when cardinality(v_taken) = cardinality(v_unknown) then null
    when cardinality(v_taken) = v_room then format(
      'This space is not created: there are %s spaces already that polls made and nobody has named. '
      'Name, place or retire some of them, or create this one with PUT /v1/spaces/{id}.',
      v_limits.max_unnamed)
    else format(
      'This space is not created: the polls of the token have made as many new spaces as they may for now '
      '(%s at once, and %s an hour). Send it later, or create it with PUT /v1/spaces/{id}.',
      v_limits.burst, v_limits.per_hour)
  end;
end
$$;
comment on function core.admit_spaces(text[], integer[], text) is
'Adds unknown spaces, as core.register_spaces does, as far as core.space_registration allows. Returns why the others are
not added; null where all are.

spaces, ids: the spaces of a request and, beside each, its space_id; null: it is unknown. sender: the token that sent
them; without one only max_unnamed bounds them.';

create or replace function core.retire_unnamed_spaces()
returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_now timestamptz := core.lock_plan();
  v_spaces integer[];
  v_ids text[];
begin
  with retired as (
    update core.space s set retired_at = v_now
    where s.space_id in (select u.space_id from core.list_unnamed_spaces() u (space_id))
    returning s.space_id, s.id
  )
  select coalesce(array_agg(r.space_id), '{}'), array_agg(r.id) into v_spaces, v_ids from retired r;
  update core.space_registration r set unnamed = null;
  perform core.note_change(ids => v_ids);
  return cardinality(v_spaces);
end
$$;
comment on function core.retire_unnamed_spaces() is
'Retires all spaces of core.list_unnamed_spaces and returns how many: for the operator, after a token has made spaces
that nobody wants. Their polls stay. api.put_space brings one back.';

create or replace function core.add_sites(spaces integer[])
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- planned while there are few, the check of the foreign key would read all spaces for each
set enable_seqscan = off
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
