-- Storing polls.

create or replace function core.explain_poll_verdict(
  verdict text,
  uncreated text default null
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case verdict
    when 'duplicate' then 'This poll is stored already.'
    when 'unknown_space' then case
      when core.get_reach() is not null then 'There is no such space within this token''s space.'
      when uncreated is not null then uncreated
      else 'This space does not exist, and registration by polls is switched off. Create it with PUT /v1/spaces/{id}.'
    end
    when 'clock_unset'
      then 'The timestamp comes from a clock that was never set. Set the clock of the device that polls.'
    when 'too_old' then format(
      'The timestamp is before %s. Set the clock of the device that polls, or HEADCOUNT_EVENTS_FROM if it is right.',
      core.format_second(core.get_horizon()))
    when 'in_future'
      then 'The timestamp is more than 5 minutes ahead of the service. Set the clock of the device that polls.'
  end
$$;
comment on function core.explain_poll_verdict(text, text) is
'The meaning of a verdict on a poll, and what to do about it. uncreated: why an unknown space was not created; null:
that is switched off.';

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
        where (n.space_id is not null and n.time >= v_oldest and n.time <= v_latest
          and not core.is_clock_unset(n.time)) is not true);
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
'Stores polls that are not there yet, given as parallel arrays, and returns the ordinals (from 1) of the others: those
without a space, too old, in the future, or stored before. The caller holds, shared, the lock of the floor plan.';

create or replace function core.refuse_polls(
  received_at timestamptz,
  codes text[],
  details text[],
  spaces text[],
  times timestamptz[],
  are_active boolean[],
  bodies text[],
  token text,
  digests bytea[]
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- with the length of the arrays known, as in core.store_polls
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
  v_family integer := coalesce(core.get_family(refuse_polls.token), 0);
  v_is_limited boolean := exists (select from core.token t where t.id = refuse_polls.token and t.space_id is not null);
begin
  with refused as materialized (
    select distinct on (r.digest) r.*
    from (
      select n.code, n.detail, n.space, n.time, n.is_active, n.body,
        not (v_is_limited and n.code = 'unknown_space') as is_within,
        sha256(convert_to(jsonb_build_array(
          n.code, n.space, extract(epoch from n.time), n.is_active, core.tell_apart(n.body, n.digest))::text,
          'UTF8')) as digest
      from unnest(codes, details, spaces, times, are_active, bodies, digests)
        as n (code, detail, space, time, is_active, body, digest)
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
    returning not (v_is_limited and code = 'unknown_space') as is_within
  ),
  of_families as (
    insert into core.refused_of_family as c (family_id, hour, is_within, count)
    select v_family, date_trunc('hour', refuse_polls.received_at, 'UTC'), k.is_within, count(*)
    from kept k
    group by k.is_within
    order by k.is_within
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
comment on function core.refuse_polls(timestamptz, text[], text[], text[], timestamptz[], boolean[], text[], text,
  bytea[]) is
'Keeps refused polls with their reasons, from parallel arrays; each once, however often it is sent.

digests: of what the bodies are not all of (core.tell_apart). token: who sent them; null: nobody known. Polls and events
of a family share core.get_max_refused in an hour; those of spaces outside its space are the ones that are not within.
What is beyond that is dropped and counted.';

create or replace function core.get_latest_poll(space_id integer default null)
returns timestamptz
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
  v_spaces integer[] := case when get_latest_poll.space_id is not null
    then array(select core.list_subtree(get_latest_poll.space_id)) end;
  v_chunk record;
  v_latest timestamptz;
begin
  -- the newest chunk that has one: polls of long ago are not looked at
  for v_chunk in
    select c.range_start, c.range_end
    from timescaledb_information.chunks c
    where c.hypertable_schema = 'core' and c.hypertable_name = 'poll'
    order by c.range_start desc
  loop
    select max(p.time) into v_latest
    from core.poll p
    where p.time >= v_chunk.range_start and p.time < v_chunk.range_end
      and (v_spaces is null or p.space_id = any (v_spaces));
    exit when v_latest is not null;
  end loop;
  return v_latest;
end
$$;
comment on function core.get_latest_poll(integer) is
'The instant of the latest poll of a space or one below it, or of any (null); null where there is none.';
