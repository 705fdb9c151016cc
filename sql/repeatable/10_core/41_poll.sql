-- Storing polls, and what an import says about sites.

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
'Adds the spaces that are not there yet, without a parent. In order of their ids, so that two transactions never wait for each other. The caller holds the lock of the floor plan, shared at least.';

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
'The space_id of each space that is reported on, in the order given; null for one that is unknown or beyond the token''s reach. With auto_register unknown ones are added, but never on behalf of a limited token.';

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
'Notes that uptime is told of these spaces; nulls are left out.';

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
'Gives a zone (null: none) to those of the spaces that stand alone and have no schedule: nothing above or below them, no doorway. So no count anywhere changes, and no live row; the caller holds the lock of the floor plan, and shared is enough. On behalf of a limited token nothing happens. Errors: PT422 for a zone that is none.';

create or replace function core.explain_poll_verdict(verdict text)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case verdict
    when 'duplicate' then 'This poll is stored already.'
    when 'unknown_space' then case when core.get_reach() is not null then 'No such space lies within the reach of this token.' else 'This space does not exist, and registration by polls is switched off. Create it with PUT /v1/spaces/{id}.' end
    when 'clock_unset' then 'The timestamp is of a clock that was never set. Set the clock of the device that polls.'
    when 'too_old' then format(
      'The timestamp is before %s. Set the clock of the device that polls, or HEADCOUNT_EVENTS_FROM if it is right.',
      core.format_second(core.get_horizon()))
    when 'in_future' then 'The timestamp is more than 5 minutes ahead of the service. Set the clock of the device that polls.'
  end
$$;
comment on function core.explain_poll_verdict(text) is
'What the verdict on a poll means and what to do about it.';

create or replace function core.store_polls(
  spaces integer[],
  times timestamptz[],
  are_active boolean[],
  received_at timestamptz
)
returns bigint[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- with the length of the arrays known: by a plan for ten of them, ten thousand would be looked up one by one
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
  v_oldest timestamptz := core.get_horizon();
  v_latest timestamptz := core.get_latest_time(store_polls.received_at);
  v_inserted bigint;
  v_left bigint[];
begin
  -- many at once are new, as a rule: to look for each of them whether it is costs half as much again
  if cardinality(spaces) >= 1000 then
    begin
      insert into core.poll (time, lag_ms, space_id, is_active)
      select n.time, core.get_lag_ms(n.time, store_polls.received_at), n.space_id, n.is_active
      from unnest(spaces, times, are_active) as n (space_id, time, is_active)
      where n.space_id is not null and n.time >= v_oldest and n.time <= v_latest and not core.is_clock_unset(n.time)
      order by n.space_id, n.time, n.is_active;
      get diagnostics v_inserted = row_count;
      if v_inserted = cardinality(spaces) then
        return '{}';
      end if;
      return array(
        select n.ordinal from unnest(spaces, times) with ordinality as n (space_id, time, ordinal)
        where (n.space_id is not null and n.time >= v_oldest and n.time <= v_latest and not core.is_clock_unset(n.time)) is not true);
    exception when unique_violation then
      null;
    end;
  end if;

  with given as materialized (
    -- in the order of the key, so that of two transactions with the same polls one waits for the other
    select distinct on (n.space_id, n.time, n.is_active) n.space_id, n.time, n.is_active, n.ordinal
    from unnest(spaces, times, are_active) with ordinality as n (space_id, time, is_active, ordinal)
    where n.space_id is not null and n.time >= v_oldest and n.time <= v_latest and not core.is_clock_unset(n.time)
    order by n.space_id, n.time, n.is_active, n.ordinal
  ),
  stored as (
    insert into core.poll (time, lag_ms, space_id, is_active)
    select g.time, core.get_lag_ms(g.time, store_polls.received_at), g.space_id, g.is_active from given g
    on conflict do nothing
    returning space_id, time, is_active
  )
  select coalesce(array_agg(n.ordinal), '{}') into v_left
  from generate_series(1, cardinality(spaces)) as n (ordinal)
  where n.ordinal not in (
    select g.ordinal from given g
    join stored s on s.space_id = g.space_id and s.time = g.time and s.is_active = g.is_active);
  return v_left;
end
$$;
comment on function core.store_polls(integer[], timestamptz[], boolean[], timestamptz) is
'Stores polls that are not there yet, given as parallel arrays, and returns the ordinals (from 1) of the others: those without a space, too old, in the future, or stored before. The caller holds, shared, the lock of the floor plan.';

create or replace function core.refuse_polls(
  received_at timestamptz,
  codes text[],
  details text[],
  spaces text[],
  times timestamptz[],
  are_active boolean[],
  bodies text[],
  token text
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_family integer := coalesce(core.get_family(refuse_polls.token), 0);
  v_is_limited boolean := exists (select from core.token t where t.id = refuse_polls.token and t.space_id is not null);
begin
  with refused as materialized (
    select distinct on (r.digest) r.*
    from (
      select n.*, not (v_is_limited and n.code = 'unknown_space') as is_within,
        sha256(convert_to(jsonb_build_array(n.code, n.space, extract(epoch from n.time), n.is_active, n.body)::text, 'UTF8')) as digest
      from unnest(codes, details, spaces, times, are_active, bodies) as n (code, detail, space, time, is_active, body)
    ) r
    where not exists (select from core.rejected_poll k where k.digest = r.digest)
    order by r.digest
  ),
  placed as materialized (
    select r.*, row_number() over (partition by r.is_within order by r.digest) + coalesce(f.count, 0)
      <= core.get_max_refused(v_is_limited, r.is_within) as is_kept
    from refused r
    left join core.refused_of_family f on f.family_id = v_family and f.is_within = r.is_within
      and f.hour = date_trunc('hour', refuse_polls.received_at, 'UTC')
  ),
  kept as (
    insert into core.rejected_poll (digest, received_at, code, detail, space, time, is_active, body)
    select p.digest, refuse_polls.received_at, p.code, p.detail, p.space, p.time, p.is_active, core.shorten_body(p.body)
    from placed p
    where p.is_kept
    order by p.digest
    on conflict (digest) do nothing
    returning digest
  ),
  of_families as (
    insert into core.refused_of_family as c (family_id, hour, is_within, count)
    select v_family, date_trunc('hour', refuse_polls.received_at, 'UTC'), p.is_within, count(*)
    from kept k
    join placed p on p.digest = k.digest
    group by p.is_within
    order by p.is_within
    on conflict (family_id, hour, is_within) do update set count = c.count + excluded.count
    returning 1
  )
  insert into core.dropped_refusal as d (kind, count)
  select 'poll', count(*)
  from placed p
  where not p.is_kept and (select count(*) from of_families) >= 0
  having count(*) > 0
  on conflict (kind) do update set count = d.count + excluded.count;
end
$$;
comment on function core.refuse_polls(timestamptz, text[], text[], text[], timestamptz[], boolean[], text[], text) is
'Keeps refused polls with their reasons, from parallel arrays; each once, however often it is sent.

token: who sent them; null: nobody known. Polls and events of a family share core.get_max_refused in an hour; those of spaces beyond its reach are the ones that are not within. What is beyond that is dropped and counted.';
