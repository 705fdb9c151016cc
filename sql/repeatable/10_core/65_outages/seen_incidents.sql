-- What a limited token may know of incidents.

create or replace function core.list_seen_incidents(
  reach integer[],
  after bigint default null
)
returns setof bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
begin
  return query
  with seen as materialized (
    select p.dpu_id, p.during
    from core.placement p
    join core.doorway w on w.doorway_id = p.doorway_id
    where p.superseded_at is null and (w.side_a_id = any (reach) or w.side_b_id = any (reach))
  )
  select distinct m.incident_id
  from core.incident_dpu m
  join seen p on p.dpu_id = m.dpu_id and p.during @> m.offline_at
  where after is null or m.incident_id < after;
end
$$;
comment on function core.list_seen_incidents(integer[], bigint) is
'Incidents with DPUs that were placed, when they went offline, above doorways with a side in reach (core.list_reach).
after: only those before that one.';

create or replace function core.find_seen_until(
  dpu_id integer,
  from_at timestamptz,
  at timestamptz,
  reach integer[]
)
returns timestamptz
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return (
    select case
      when bool_or(p.during @> from_at) is not true then null
      when bool_or(p.during @> find_seen_until.at) then 'infinity'
      else greatest(from_at, max(upper(p.during)) filter (where upper(p.during) <= find_seen_until.at))
    end
    from core.placement p
    join core.doorway w on w.doorway_id = p.doorway_id
    where p.dpu_id = find_seen_until.dpu_id and p.superseded_at is null
      and (w.side_a_id = any (reach) or w.side_b_id = any (reach)));
end
$$;
comment on function core.find_seen_until(integer, timestamptz, timestamptz, integer[]) is
'Until when a token may know what became, by an instant, of a DPU that it saw at an earlier one (from_at): infinity
where the DPU is above a doorway with a side in reach (core.list_reach), then; else when it was last taken away from
such. Null: it was not seen at from_at.';
