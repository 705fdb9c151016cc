-- Recomputing what is derived from the facts, for api.list_differences: where what is stored differs.

create or replace function core.list_sum_differences()
returns table ("check" text, item text, stored text, recomputed text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with horizon as materialized (
    -- before it there are quarter-hours only
    select s.events_from from core.rollup_state s
  ),
  recomputed as (
    select
      coalesce(e.dpu_id, b.dpu_id) as dpu_id, coalesce(b.net, 0) + coalesce(e.net, 0) as net,
      -- of what was dropped the quarter-hour is known
      case when b.dpu_id is null then e.first when public.time_bucket(interval '15 minutes', s.first_time) = b.first
        then s.first_time else b.first end as first,
      case when e.dpu_id is not null then e.latest
        when public.time_bucket(interval '15 minutes', s.latest_time) = b.latest then s.latest_time
        else b.latest end as latest
    from (
      select e.dpu_id, sum(e.direction) as net, min(e.time) as first, max(e.time) as latest
      from core.event e
      where e.time >= (select h.events_from from horizon h)
      group by e.dpu_id
    ) e
    full join (
      select f.dpu_id, sum(f.net) as net, min(f.bucket) as first, max(f.bucket) as latest
      from core.dpu_flow_15m_v1 f
      where f.bucket < (select h.events_from from horizon h)
      group by f.dpu_id
    ) b on b.dpu_id = e.dpu_id
    left join core.dpu_state s on s.dpu_id = coalesce(e.dpu_id, b.dpu_id)
  )
  select
    'dpu_state', coalesce(d.id, 'dpu_id ' || coalesce(s.dpu_id, r.dpu_id)),
    format('cumulative_count %s, first_time %s, latest_time %s', s.cumulative_count, s.first_time, s.latest_time),
    format('cumulative_count %s, first_time %s, latest_time %s', coalesce(r.net, 0), r.first, r.latest)
  from core.dpu_state s
  full join recomputed r on r.dpu_id = s.dpu_id
  left join core.dpu d on d.dpu_id = coalesce(s.dpu_id, r.dpu_id)
  where (s.cumulative_count, s.first_time, s.latest_time) is distinct from (coalesce(r.net, 0), r.first, r.latest)
$$;
comment on function core.list_sum_differences() is
'What the events of each DPU add up to.';

create or replace function core.list_first_event_differences()
returns table ("check" text, item text, stored text, recomputed text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with horizon as materialized (
    -- before it there are quarter-hours only
    select s.events_from from core.rollup_state s
  )
  select
    'first_event', format('dpu %s from %s', d.id, lower(p.during)),
    coalesce('at ' || f.at, 'none'), coalesce('at ' || r.at, 'at infinity')
  from core.placement p
  join core.dpu d on d.dpu_id = p.dpu_id
  left join lateral (select min(f.at) as at from core.first_event f where f.placement_id = p.placement_id) f on true
  left join lateral (
    select case when public.time_bucket(interval '15 minutes', f.at) = e.bucket then f.at else e.at end as at
    from (
      select min(e.time) as at, null::timestamptz as bucket
      from core.event e
      where e.dpu_id = p.dpu_id and e.time >= lower(p.during) and e.time < coalesce(upper(p.during), 'infinity')
        and e.time >= (select h.events_from from horizon h)
      union all
      select min(k.time), null
      from core.kept_event k
      where k.dpu_id = p.dpu_id and k.time >= lower(p.during) and k.time < coalesce(upper(p.during), 'infinity')
      union all
      -- of what was dropped the quarter-hour is known
      select min(b.bucket), min(b.bucket)
      from core.dpu_flow_15m_v1 b
      where b.dpu_id = p.dpu_id and b.bucket >= lower(p.during) and b.bucket < coalesce(upper(p.during), 'infinity')
        and b.bucket < (select h.events_from from horizon h)
        and not exists (
          select from core.kept_event k
          where k.dpu_id = p.dpu_id and k.time >= b.bucket and k.time < b.bucket + interval '15 minutes')
    ) e
    where e.at is not null
    order by e.at
    limit 1
  ) r on true
  where p.superseded_at is null and f.at is distinct from coalesce(r.at, 'infinity')
  union all
  select 'dpu_state', d.id, format('first_from %s', s.first_from),
    format('first_from below an event that may be a first one: %s', r.at)
  from core.dpu_state s
  join core.dpu d on d.dpu_id = s.dpu_id
  cross join lateral (
    select max(least(f.at, upper(p.during))) as at
    from core.placement p
    cross join lateral (select min(e.at) as at from core.first_event e where e.placement_id = p.placement_id) f
    where p.dpu_id = s.dpu_id and p.superseded_at is null
  ) r
  where s.first_from < r.at
$$;
comment on function core.list_first_event_differences() is
'The earliest event of each placement, and dpu_state.first_from.';

create or replace function core.list_boundary_differences()
returns table ("check" text, item text, stored text, recomputed text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select
    'boundary', format('space %s, doorway %s', s.id, w.id),
    coalesce('inner_side ' || b.inner_side, 'none'), coalesce('inner_side ' || r.inner_side, 'none')
  from core.boundary b
  full join core.derive_boundary() r on r.space_id = b.space_id and r.doorway_id = b.doorway_id
  join core.space s on s.space_id = coalesce(b.space_id, r.space_id)
  join core.doorway w on w.doorway_id = coalesce(b.doorway_id, r.doorway_id)
  where b.inner_side is distinct from r.inner_side
$$;
comment on function core.list_boundary_differences() is
'Which doorways are the outer ones of each space.';

create or replace function core.list_live_differences()
returns table ("check" text, item text, stored text, recomputed text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with horizon as materialized (
    -- before it there are quarter-hours only
    select s.events_from from core.rollup_state s
  )
  select 'dpu_state', d.id, format('live_from %s', s.live_from), format('live_from %s', r.live_from)
  from core.dpu_state s
  join core.dpu d on d.dpu_id = s.dpu_id
  left join (
    select f.dpu_id, max(case when f.until_at = 'infinity' then f.from_at else f.until_at end) as live_from
    from core.live_flow f
    group by f.dpu_id
  ) r on r.dpu_id = s.dpu_id
  where s.live_from <> coalesce(r.live_from, '-infinity')
  union all
  select
    'live_flow', format('space %s, dpu %s from %s', s.id, d.id, coalesce(f.from_at, r.from_at)),
    format('sign %s, until %s, net %s', f.sign, f.until_at, f.net),
    format('sign %s, until %s, net %s', r.sign, r.until_at, r.net)
  from (
    select f.space_id, f.dpu_id, f.from_at, f.until_at, f.sign, f.net + case when f.until_at = 'infinity'
      then s.cumulative_count else 0 end as net
    from core.live_flow f
    join core.dpu_state s on s.dpu_id = f.dpu_id
  ) f
  full join (
    select p.*, (
      select coalesce(sum(e.direction), 0) from core.event e
      where e.dpu_id = p.dpu_id and e.time >= p.from_at and e.time < p.until_at
        and e.time >= (select h.events_from from horizon h)
    ) + (
      select coalesce(sum(n.net), 0)
      from horizon h
      cross join lateral core.sum_parts(array[p.dpu_id], array[p.from_at], array[least(p.until_at, h.events_from)]) n
      where p.from_at < h.events_from
    ) as net
    from core.list_live_parts(
      array(select l.space_id from core.live_space l order by l.space_id),
      array(select l.since from core.live_space l order by l.space_id)
    ) p
  ) r on r.space_id = f.space_id and r.dpu_id = f.dpu_id and r.from_at = f.from_at
  join core.space s on s.space_id = coalesce(f.space_id, r.space_id)
  join core.dpu d on d.dpu_id = coalesce(f.dpu_id, r.dpu_id)
  where (f.sign, f.until_at, f.net) is distinct from (r.sign, r.until_at, r.net)
  union all
  select
    'live_space', s.id,
    format('since %s, base %s, until %s, counted_since %s', l.since, l.base, l.until_at, l.counted_since),
    format('since %s, base %s, until %s, counted_since %s', r.since, r.base, n.until_at, c.counted_since)
  from core.space s
  left join core.live_space l on l.space_id = s.space_id
  left join core.list_starts(
    array(select s.space_id from core.space s), array(select clock_timestamp() from core.space s)) r
    on r.space_id = s.space_id
  left join core.list_schedules(array(select s.space_id from core.space s)) h on h.space_id = s.space_id
  left join lateral (
    select core.get_next_reset(s.space_id, clock_timestamp(), h.time_zone, h.reset_at) as until_at
  ) n on true
  left join core.derive_counted_since(array(select s.space_id from core.space s)) c on c.space_id = s.space_id
  where l.until_at is null or l.counted_since is distinct from c.counted_since
    or (l.until_at > clock_timestamp() and l.since <= clock_timestamp() and (l.since, l.base, l.until_at)
      is distinct from (r.since, r.base, n.until_at))
$$;
comment on function core.list_live_differences() is
'The rows that current counts are read from.';

create or replace function core.list_rollup_differences()
returns table ("check" text, item text, stored text, recomputed text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with horizon as materialized (
    -- before it there are quarter-hours only
    select s.events_from from core.rollup_state s
  )
  select
    'dpu_flow_15m', format('dpu %s at %s', coalesce(d.id, 'dpu_id ' || coalesce(f.dpu_id, r.dpu_id)),
      coalesce(f.bucket, r.bucket)),
    format('net %s, towards %s, away %s, moment %s, net_at_start %s', f.net, f.towards, f.away, f.moment,
      f.net_at_start),
    format('net %s, towards %s, away %s, moment %s, net_at_start %s', r.net, r.towards, r.away, r.moment,
      r.net_at_start)
  from (
    select f.bucket, f.dpu_id, sum(f.net) as net, sum(f.towards) as towards, sum(f.away) as away,
      sum(f.net_at_start) as net_at_start, sum(f.moment) as moment
    from (
      select f.bucket, f.dpu_id, f.net, f.towards, f.away, f.net_at_start,
        f.moment + f.moment_carry * 1000000000000000000::numeric as moment
      from core.dpu_flow_15m_v1 f
      union all
      select a.bucket, a.dpu_id, a.net, a.towards, a.away, a.net_at_start, a.moment from core.added_flow a
    ) f
    where f.bucket < (select s.materialized_until from core.rollup_state s)
      and (f.bucket >= (select h.events_from from horizon h) or exists (
        select from core.kept_event k
        where k.dpu_id = f.dpu_id and k.time >= f.bucket and k.time < f.bucket + interval '15 minutes'))
    group by f.bucket, f.dpu_id
  ) f
  full join (
    select
      public.time_bucket(interval '15 minutes', e.time) as bucket, e.dpu_id, sum(e.direction) as net,
      sum(greatest(e.direction, 0)) as towards, sum(greatest(-e.direction::bigint, 0))::bigint as away,
      sum(e.direction * extract(epoch from e.time
        - public.time_bucket(interval '15 minutes', e.time)) * 1000000) as moment,
      coalesce(sum(e.direction) filter (where e.time = public.time_bucket(interval '15 minutes', e.time)),
        0) as net_at_start
    from (
      select e.time, e.dpu_id, e.direction from core.event e
      where e.time < (select s.materialized_until from core.rollup_state s)
        and e.time >= (select h.events_from from horizon h)
      union all
      select k.time, k.dpu_id, k.direction from core.kept_event k
    ) e
    group by 1, 2
  ) r on r.dpu_id = f.dpu_id and r.bucket = f.bucket
  left join core.dpu d on d.dpu_id = coalesce(f.dpu_id, r.dpu_id)
  where (f.net, f.towards, f.away, f.moment, f.net_at_start)
    is distinct from (r.net, r.towards, r.away, r.moment, r.net_at_start)
    and not exists (
      select from core.void_mark m
      where m.dpu_id = coalesce(f.dpu_id, r.dpu_id) and m.bucket = coalesce(f.bucket, r.bucket))
$$;
comment on function core.list_rollup_differences() is
'The rollups with what late marks add to them, but for quarter-hours with a void mark.';

create or replace function core.list_total_differences()
returns table ("check" text, item text, stored text, recomputed text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with state as materialized (
    select least(s.totals_until, s.materialized_until) as totals_until from core.rollup_state s
  ),
  stored as (
    select t.dpu_id, t.day, n.point, n.total - lag(n.total, 1, 0::bigint) over (partition by t.dpu_id, t.day
      order by n.point) as net
    from core.dpu_total t
    cross join lateral unnest(t.points, t.totals) as n (point, total)
  ),
  recomputed as (
    -- the quarter-hours themselves are looked at by core.list_rollup_differences
    select p.dpu_id, p.day, n.point, n.total - lag(n.total, 1, 0::bigint) over (partition by p.dpu_id, p.day
      order by n.point) as net
    from state s
    cross join lateral core.list_day_points('-infinity', s.totals_until) p
    cross join lateral unnest(p.points, p.totals) as n (point, total)
  ),
  difference as (
    select
      coalesce(t.dpu_id, r.dpu_id) as dpu_id,
      coalesce(t.day, r.day) + coalesce(t.point, r.point) / 2 * interval '15 minutes' as bucket, t.net,
      r.net as expected
    from stored t
    full join recomputed r on r.dpu_id = t.dpu_id and r.day = t.day and r.point = t.point
    where t.net is distinct from r.net
  )
  select
    'dpu_total', format('dpu %s at %s', coalesce(d.id, 'dpu_id ' || n.dpu_id), n.bucket), 'net ' || n.net,
    'net ' || n.expected
  from difference n
  left join core.dpu d on d.dpu_id = n.dpu_id
  where n.bucket < (select s.totals_until from state s)
    and not exists (select from core.void_mark m where m.dpu_id = n.dpu_id and m.bucket = n.bucket)
  union all
  select
    'dpu_total', format('dpu %s on %s', coalesce(d.id, 'dpu_id ' || n.dpu_id), n.day), 'before ' || n.before,
    'before ' || n.expected
  from (
    select t.dpu_id, t.day, t.before, coalesce(sum(t.totals[cardinality(t.totals)]) over (
      partition by t.dpu_id order by t.day rows between unbounded preceding and 1 preceding), 0) as expected
    from core.dpu_total t
  ) n
  left join core.dpu d on d.dpu_id = n.dpu_id
  where n.before <> n.expected
$$;
comment on function core.list_total_differences() is
'Running totals, but for quarter-hours with a void mark.';

create or replace function core.list_flow_differences()
returns table ("check" text, item text, stored text, recomputed text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select 'turned_event', format('dpu %s at %s', coalesce(d.id, 'dpu_id ' || t.dpu_id), t.time), 'people ' || t.people,
    coalesce('direction ' || e.direction, 'no event')
  from core.turned_event t
  left join core.dpu d on d.dpu_id = t.dpu_id
  left join core.event e on e.dpu_id = t.dpu_id and e.time = t.time and e.sequence = t.sequence
  where t.time >= (select s.events_from from core.rollup_state s)
    and abs(e.direction::bigint) is distinct from t.people
$$;
comment on function core.list_flow_differences() is
'Events of which the flow is not the sign of the direction, beside the events.';

create or replace function core.list_outage_differences()
returns table ("check" text, item text, stored text, recomputed text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- not from the signs of life themselves: of heartbeats only the latest is kept
  select 'outage', format('dpu %s from %s', d.id, o.heard_at), 'offline ' || o.offline_at, 'offline ' || n.offline_at
  from core.outage o
  join core.dpu d on d.dpu_id = o.dpu_id
  left join lateral core.list_offline_at(greatest(o.heard_at, o.counted_from), o.offline_after_seconds) n on true
  where o.superseded_at is null and o.offline_at is distinct from n.offline_at
  union all
  select 'dpu_state', format('dpu %s', d.id), format('offline %s, last_seen %s', s.offline_at, s.last_seen_at),
    format('offline %s, last_seen %s', o.offline_at, o.heard_at)
  from core.dpu_state s
  join core.dpu d on d.dpu_id = s.dpu_id
  full join (select p.* from core.outage p where p.superseded_at is null and p.back_at is null) o on o.dpu_id = s.dpu_id
  where s.offline_at is distinct from o.offline_at
    or o.heard_at <> greatest(s.last_seen_at,
      -- or when the outage before stopped to count, with no sign
      (select max(e.back_at) from core.outage e where e.dpu_id = s.dpu_id and e.superseded_at is null))
  union all
  select 'dpu_state', format('dpu %s', d.id), coalesce(s.offline_after_seconds::text, 'default'),
    coalesce(coalesce(d.offline_after_seconds, a.seconds)::text, 'default')
  from core.dpu_state s
  join core.dpu d on d.dpu_id = s.dpu_id
  left join core.list_placed(clock_timestamp()) h on h.dpu_id = s.dpu_id
  left join core.list_offline_after(array(select p.space_id from core.space p)) a on a.space_id = h.space_id
  where s.offline_after_seconds is distinct from coalesce(d.offline_after_seconds, a.seconds)
  union all
  select 'dpu_state', format('dpu %s', d.id), format('armed %s', s.armed_at),
    format('first heard %s, heartbeats %s, offline after %s', s.first_heard_at, s.sends_heartbeats,
      s.offline_after_seconds)
  from core.dpu_state s
  join core.dpu d on d.dpu_id = s.dpu_id
  where (s.armed_at is not null)
    <> (s.first_heard_at is not null and (s.sends_heartbeats or s.offline_after_seconds is not null))
    or s.armed_at < s.first_heard_at
$$;
comment on function core.list_outage_differences() is
'Outages, and what the states of DPUs follow from.';
