create or replace function api.detect_over_capacity()
returns integer
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_now timestamptz;
  v_snapshot pg_snapshot;
  v_watch core.capacity_watch;
  v_spaces integer[];
  v_kinds text[];
  v_flipped integer[];
  v_details jsonb[];
  v_waited integer[];
  v_put_off integer[];
begin
  -- one at a time; and nobody turns up to wait
  if not core.try_lock('core.lock_capacity') then
    return 0;
  end if;
  v_now := clock_timestamp();
  v_snapshot := pg_current_snapshot();
  select w.* into v_watch from core.capacity_watch w;
  if not exists (select from core.channel c where c.deleted_at is null and 'over_capacity' = any (c.events)) then
    if v_watch.at is not null then
      delete from core.full_space;
      delete from core.capacity_watch;
    end if;
    return 0;
  end if;

  v_waited := core.end_capacity_hours(v_now);
  -- The feed is kept for an hour. A snapshot of another server, from before a restore, can lie ahead.
  if v_watch.at is null or v_watch.at < v_now - interval '50 minutes' or v_watch.at > v_now + interval '1 minute'
    or pg_snapshot_xmax(v_watch.snapshot) > pg_snapshot_xmax(v_snapshot) then
    v_spaces := array(select s.space_id from core.space s);
  else
    v_spaces := v_waited || array(select core.list_shifted_spaces(v_watch.snapshot, v_watch.at, v_now));
    if cardinality(v_spaces) = 0 and v_watch.at > v_now - interval '10 minutes' then
      return 0;
    end if;
  end if;
  insert into core.capacity_watch as w (snapshot, at) values (v_snapshot, v_now)
  on conflict (is_only) do update set snapshot = excluded.snapshot, at = excluded.at;

  v_spaces := array(
    select s.space_id
    from core.space s
    left join core.full_space f on f.space_id = s.space_id
    where s.space_id = any (v_spaces) and s.retired_at is null and (s.capacity is not null or f.space_id is not null));
  select
    array_agg(t.kind order by t.id), array_agg(t.space_id order by t.id), array_agg(t.details order by t.id)
  into v_kinds, v_flipped, v_details
  from (
    select
      s.id, s.space_id, case when f.space_id is null then 'over_capacity' else 'capacity_ok' end as kind,
      jsonb_build_object('space', s.id, 'name', s.name, 'count', greatest(c.raw_count, 0), 'capacity', s.capacity,
        'since', coalesce(f.since, v_now)) as details
    from core.count_live(v_spaces, v_now) c
    join core.space s on s.space_id = c.space_id
    left join core.full_space f on f.space_id = c.space_id
    where case
      when f.space_id is null then c.raw_count > s.capacity
      -- with some distance, so that somebody who goes in and out is not told each time
      else s.capacity is null or c.raw_count <= greatest(least(s.capacity::bigint * 95 / 100, s.capacity - 1), 0)
    end
  ) t;
  v_put_off := core.put_off_beginnings(
    array(select t.space_id from unnest(v_flipped, v_kinds) as t (space_id, kind) where t.kind = 'over_capacity'),
    v_now);
  select
    array_agg(t.kind order by t.place), array_agg(t.space_id order by t.place), array_agg(t.details order by t.place)
  into v_kinds, v_flipped, v_details
  from unnest(v_kinds, v_flipped, v_details) with ordinality as t (kind, space_id, details, place)
  where t.kind = 'capacity_ok' or not t.space_id = any (v_put_off);
  if v_flipped is null then
    return 0;
  end if;
  with crossed as (
    select t.space_id, t.kind from unnest(v_flipped, v_kinds) as t (space_id, kind)
  ),
  gone as (
    delete from core.full_space f using crossed t where t.space_id = f.space_id and t.kind = 'capacity_ok'
  )
  insert into core.full_space (space_id, since)
  select t.space_id, v_now from crossed t where t.kind = 'over_capacity';
  perform core.add_notices(
    v_kinds, array_fill(null::bigint, array[cardinality(v_flipped)]), v_flipped,
    array_fill(v_now, array[cardinality(v_flipped)]), v_details);
  return cardinality(v_flipped);
end
$$;
comment on function api.detect_over_capacity() is
'Adds a notice for each space whose count has risen above its capacity, and for each that has fallen to 95 % of it again
(rounded down, and at least one below). Returns how many. Call it about once a second.

It looks only while some channel wants such notices, and then only at spaces whose count may have changed. It keeps what
was told, so that nothing is told twice. Beginnings that core.put_off_beginnings puts off are told when their hour is
over, where the space is over its capacity then; ends are told at once. Any number of processes can call it at once.
details: {space, name, count, capacity, since}. A space whose capacity is cleared is no longer over it. Retired spaces
have no notices.';
