create or replace function api.list_sensors(
  inout space text default null,
  inout state text default null,
  out id text,
  out name text,
  out mac_address text,
  out last_heartbeat timestamptz,
  out last_seen timestamptz,
  out since timestamptz,
  out rejected_last_day bigint,
  out clock text,
  after_offline boolean default null,
  after_id text default null,
  max_rows integer default null
)
returns setof record
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
-- a plan for those of a few spaces, or one for all
set plan_cache_mode = force_custom_plan
-- from the DPUs of a page to their placements and doorways, which are in memory
set random_page_cost = 1
as $$
#variable_conflict use_column
declare
  v_now timestamptz := clock_timestamp();
  v_state text := state;
  v_reach integer[] := core.list_reach();
  v_within integer[] := v_reach;   -- spaces that are asked for; null: all
  v_dpus integer[];   -- that are placed above their doorways; null: all
  v_ids text[];       -- of those of a page; null: all
begin
  if space is not null then
    v_within := array(select core.list_subtree(core.find_space(space)));
  end if;
  if v_within is not null then
    v_dpus := array(
      select p.dpu_id
      from core.doorway w
      join core.placement p on p.doorway_id = w.doorway_id
      where (w.side_a_id = any (v_within) or w.side_b_id = any (v_within)) and p.superseded_at is null
        and p.during @> v_now);
  end if;
  if max_rows is not null then
    v_dpus := core.list_sensor_page(v_dpus, v_state, v_now, after_offline, after_id, max_rows);
    v_ids := array(select d.id from core.dpu d where d.dpu_id = any (v_dpus));
  end if;
  return query
  select
    p.id, n.state, d.id, d.name, d.mac_address::text,
    case when v_reach is null or s.last_heartbeat_at >= r.from_at then s.last_heartbeat_at end,
    case when v_reach is null or s.last_seen_at >= r.from_at then s.last_seen_at end,
    case when v_reach is null or c.since >= r.from_at then c.since when c.since is not null then r.from_at end,
    coalesce(f.count, 0), core.get_clock(k, s.latest_time)
  from core.dpu d
  join core.dpu_state s on s.dpu_id = d.dpu_id
  cross join lateral (
    select core.get_dpu_state(s.last_seen_at, s.offline_at, s.armed_at,
      coalesce(s.offline_after_seconds, core.get_offline_after()), v_now, s.retired_at) as state
  ) n
  cross join lateral (
    select core.get_state_since(n.state, s.last_seen_at, s.offline_at, s.steady_from,
      coalesce(s.offline_after_seconds, core.get_offline_after())) as since
  ) c
  -- for a token that is not limited nothing is asked of it: the planner leaves it out
  left join (
    select b.dpu_id, max(b.from_at) as from_at from core.list_seen_since(v_dpus, v_now) b group by b.dpu_id
  ) r on r.dpu_id = d.dpu_id
  left join core.dpu_clock k on k.dpu_id = d.dpu_id
  left join core.count_refusals(v_now, v_ids) f on f.dpu = d.id
  left join core.list_placed(v_now) h on h.dpu_id = d.dpu_id and (v_dpus is null or h.dpu_id = any (v_dpus))
  left join core.space p
    on p.space_id = case when v_reach is null or h.space_id = any (v_reach) then h.space_id else h.other_id end
    and (v_reach is null or p.space_id = any (v_reach))
  -- not by retired_at: without statistics the planner would expect a handful, and look for the placements of each
  where (v_state = 'retired' or n.state <> 'retired')
    and (v_state is null or n.state = v_state)
    and (v_dpus is null or d.dpu_id = any (v_dpus))
  order by n.state = 'offline' desc, d.id;
end
$$;
comment on function api.list_sensors(text, text, boolean, text, integer) is
'All DPUs as sensors, those that are offline first, then by id.

space: those above a doorway of that space or of one below it; in the answer the space that a DPU is mounted in, or,
mounted outside, the other one (null: it is placed nowhere). state: online, offline, quiet (silent, but its silence
means nothing), never_seen or retired; without it those that are retired are left out. last_seen: when it was heard from
last. since: from when on it has been in this state, null for never_seen and retired. A limited token is told of no
instant from before the DPU came into its reach: last_heartbeat and last_seen are null then, and since is when it came.
rejected_last_day, clock: as api.get_dpu.

max_rows: so many of them at most, without reading the others (null: all). after_offline, after_id: behind a DPU with
this id that is offline, or is not. Errors: PT404 for an unknown space.';
