create or replace function api.list_dpus(
  space text default null,
  inout state text default null,
  placed boolean default null,
  after text default null,
  max_rows integer default 100,
  retired boolean default false,
  out id text,
  out name text,
  out mac_address text,
  out last_seen timestamptz,
  out doorway text,
  out mounted_in text,
  out from_at timestamptz,
  out until_at timestamptz,
  out recorded_at timestamptz,
  out cumulative_count bigint,
  out latest_timestamp timestamptz,
  out rejected_last_day bigint,
  out clock text,
  out retired_at timestamptz,
  out offline_after_seconds integer,
  out effective_offline_after_seconds integer,
  out first_heard timestamptz
)
returns setof record
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_now timestamptz := clock_timestamp();
  v_subtree integer[];
  v_reach integer[] := core.list_reach();
begin
  if space is not null then
    v_subtree := array(select core.list_subtree(core.find_space(space)));
  end if;
  return query
  select d.state, d.id, d.name, d.mac_address, d.last_seen, d.doorway, d.mounted_in, d.from_at, d.until_at,
    d.recorded_at, d.cumulative_count, d.latest_timestamp,
    d.rejected_last_day, d.clock, d.retired_at,
    d.offline_after_seconds, d.effective_offline_after_seconds, d.first_heard
  from core.describe_dpus(array(
    select d.dpu_id
    from core.dpu d
    join core.dpu_state s on s.dpu_id = d.dpu_id
    left join core.placement p on p.dpu_id = d.dpu_id and p.superseded_at is null and p.during @> v_now
    left join core.doorway w on w.doorway_id = p.doorway_id
    where (after is null or d.id > after)
      and (s.retired_at is not null) = (retired or coalesce(list_dpus.state = 'retired', false))
      and (list_dpus.state is null or list_dpus.state
        = core.get_dpu_state(s.last_seen_at, s.offline_at, s.armed_at,
          coalesce(s.offline_after_seconds, core.get_offline_after()), v_now, s.retired_at))
      and (placed is null or placed = (p.placement_id is not null))
      and (v_subtree is null or w.side_a_id = any (v_subtree) or w.side_b_id = any (v_subtree))
      and (v_reach is null or w.side_a_id = any (v_reach) or w.side_b_id = any (v_reach))
    order by d.id
    limit max_rows
  ), v_now) d
  order by d.id;
end
$$;
comment on function api.list_dpus(text, text, boolean, text, integer, boolean) is
'DPUs in order of their ids, as api.get_dpu.

space: those above a doorway of that space or of one below it; state: online, offline, quiet, never_seen or retired;
placed: whether they are placed anywhere now; after: the id behind which to go on; retired: those that are no longer in
use, and no others. Errors: PT404 for an unknown space.';
