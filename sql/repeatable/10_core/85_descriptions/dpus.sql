-- DPUs as the API shows them.

create or replace function core.describe_dpus(
  dpus integer[],
  at timestamptz default clock_timestamp()
)
returns table (
  id text,
  name text,
  mac_address text,
  state text,
  last_seen timestamptz,
  doorway text,
  mounted_in text,
  from_at timestamptz,
  until_at timestamptz,
  recorded_at timestamptz,
  cumulative_count bigint,
  latest_timestamp timestamptz,
  rejected_last_day bigint,
  clock text,
  retired_at timestamptz,
  offline_after_seconds integer,
  effective_offline_after_seconds integer,
  first_heard timestamptz
)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select
    d.id,
    d.name,
    d.mac_address::text,
    core.get_dpu_state(
      s.last_seen_at, s.offline_at, s.armed_at, coalesce(s.offline_after_seconds, core.get_offline_after()),
      describe_dpus.at, s.retired_at),
    case when r.from_at > s.last_seen_at then null else s.last_seen_at end,
    w.id,
    m.id,
    lower(p.during),
    upper(p.during),
    p.recorded_at,
    t.cumulative_count,
    t.latest_time,
    coalesce(f.count, 0),
    core.get_clock(k, s.latest_time),
    s.retired_at,
    d.offline_after_seconds,
    coalesce(s.offline_after_seconds, core.get_offline_after()),
    case when r.from_at > s.first_heard_at then r.from_at else s.first_heard_at end
  from core.dpu d
  join core.dpu_state s on s.dpu_id = d.dpu_id
  join core.sum_dpus(dpus) t on t.dpu_id = d.dpu_id
  left join core.list_seen_since(dpus, describe_dpus.at) r on r.dpu_id = d.dpu_id
  left join core.dpu_clock k on k.dpu_id = d.dpu_id
  left join core.count_refusals(describe_dpus.at, array(select d.id from core.dpu d where d.dpu_id = any (dpus))) f
    on f.dpu = d.id
  left join core.placement p on p.dpu_id = d.dpu_id and p.superseded_at is null and p.during @> describe_dpus.at
  left join core.doorway w on w.doorway_id = p.doorway_id
  left join core.space m on m.space_id = case p.mounted_side when 1 then w.side_a_id else w.side_b_id end
    and core.is_space_in_reach(m.space_id)
  where d.dpu_id = any (dpus)
$$;
comment on function core.describe_dpus(integer[], timestamptz) is
'DPUs as api.get_dpu gives them, with the placement that holds at an instant, in no order.';
