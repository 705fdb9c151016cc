-- Outages that begin: see listening.sql.

create or replace function core.turn_offline(at timestamptz)
returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_listened bigint;
  v_dpus integer[];
  v_busy integer[];
begin
  select l.heard_before + core.to_microseconds(l.from_at, l.until_at) into v_listened
  from core.listening l
  order by l.from_at desc
  limit 1;

  with threshold as materialized (
    -- the latest instant since which as much was listened; whoever is silent since then is offline
    select t.seconds, l.from_at + (t.rest - l.heard_before) * interval '1 microsecond' as latest
    from (
      select n.seconds, v_listened - n.seconds * bigint '1000000' as rest
      from (
        select core.get_offline_after() as seconds
        union
        select s.offline_after_seconds from core.space s where s.offline_after_seconds is not null
        union
        select d.offline_after_seconds from core.dpu d where d.offline_after_seconds is not null
      ) n
    ) t
    cross join lateral (
      select p.from_at, p.heard_before
      from core.listening p
      where p.heard_before <= t.rest
      order by p.heard_before desc, p.from_at desc
      limit 1
    ) l
  ),
  silent as materialized (
    select s.dpu_id, t.seconds, t.latest
    from core.dpu_state s
    join threshold t on t.seconds = coalesce(s.offline_after_seconds, core.get_offline_after())
    where s.offline_at is null and s.last_seen_at <= t.latest and s.armed_at <= t.latest and s.retired_at is null
  ),
  due as materialized (
    -- Judged again by the locked row: one may have been heard meanwhile. Who is being heard just now is looked at again
    -- in the next second.
    select s.dpu_id, greatest(s.last_seen_at, s.steady_from) as heard_at,
      greatest(s.last_seen_at, s.armed_at) as counted_from, n.seconds
    from silent n
    join core.dpu_state s on s.dpu_id = n.dpu_id
    where s.offline_at is null and s.last_seen_at <= n.latest and s.armed_at <= n.latest and s.retired_at is null
      and n.seconds = coalesce(s.offline_after_seconds, core.get_offline_after())
    for update of s skip locked
  ),
  flipped as (
    select d.dpu_id, d.heard_at, d.counted_from, d.seconds, o.offline_at
    from due d
    cross join lateral core.list_offline_at(d.counted_from, d.seconds) o
  ),
  state as (
    update core.dpu_state s set offline_at = n.offline_at, steady_from = n.heard_at
    from flipped n
    where s.dpu_id = n.dpu_id
    returning s.dpu_id
  ),
  recorded as (
    insert into core.outage (dpu_id, heard_at, counted_from, offline_at, offline_after_seconds, recorded_at,
      detected_at, pending)
    select n.dpu_id, n.heard_at, n.counted_from, n.offline_at, n.seconds, turn_offline.at, turn_offline.at, true
    from flipped n
  )
  select
    (select array_agg(s.dpu_id) from state s),
    array(select n.dpu_id from silent n except select d.dpu_id from due d)
  into v_dpus, v_busy;

  perform core.note_busy(v_busy, turn_offline.at);
  perform core.note_change(flipped => v_dpus);
  return coalesce(cardinality(v_dpus), 0);
end
$$;
comment on function core.turn_offline(timestamptz) is
'Records the outages of armed DPUs that have been silent for their threshold by now, and returns how many. Waits for
nobody: those that are locked are noted as busy. The caller holds core.lock_outage, and has called
core.note_listening.';
