-- Whether a site is already as it is wanted.
-- By lateral and offset 0: a look for each thing, as in core.list_subtree, and none after the first that differs.
-- Joined, all spaces and doorways would be read to find out that a part of a site is new.

create or replace function core.are_placements_applied(
  placements jsonb,
  reach integer[],
  recorded_at timestamptz
)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  return not exists (
    select
    from (
      -- where two overlap the later one holds, as in api.apply_site
      select
        n.dpu, n.doorway, n.mounted_in, n.during,
        tstzmultirange(n.during) - coalesce(range_agg(n.during) over (
          partition by n.dpu order by n.number desc rows between unbounded preceding and 1 preceding), '{}') as rest
      from (
        select
          i.value->>'dpu' as dpu, i.value->>'doorway' as doorway, i.value->>'mounted_in' as mounted_in, i.number,
          case when t.until_at <= t.from_at then null else tstzrange(t.from_at, t.until_at) end as during
        from jsonb_array_elements(placements) with ordinality as i (value, number)
        cross join lateral (
          select coalesce((i.value->>'from')::timestamptz, recorded_at) as from_at,
            (i.value->>'until')::timestamptz as until_at) t
      ) n
    ) n
    left join lateral (select d.dpu_id from core.dpu d where d.id = n.dpu offset 0) d on true
    left join lateral (
      select w.* from core.doorway w where w.id = n.doorway and (reach is null or (
        (w.side_a_id is null or w.side_a_id = any (reach)) and (w.side_b_id is null or w.side_b_id = any (reach))))
      offset 0) w on true
    left join lateral (select a.id from core.space a where a.space_id = w.side_a_id offset 0) a on true
    left join lateral (select b.id from core.space b where b.space_id = w.side_b_id offset 0) b on true
    cross join lateral (
      select case
        when w.doorway_id is null then null
        when n.mounted_in is not distinct from a.id then 1::smallint
        when n.mounted_in is not distinct from b.id then 2::smallint
      end as number
    ) side
    where d.dpu_id is null or n.during is null
      or (side.number is null and (n.doorway is not null or n.mounted_in is not null or reach is not null))
      or exists (select from unnest(n.rest) r where not core.is_placed(d.dpu_id, w.doorway_id, side.number, r))
  );
end
$$;
comment on function core.are_placements_applied(jsonb, integer[], timestamptz) is
'core.is_applied for the placements of a site. reach: core.list_reach; recorded_at: when one begins that does not say
so.';

create or replace function core.is_applied(site jsonb)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  v_now timestamptz := clock_timestamp();
  v_root integer := core.get_reach();
  v_reach integer[] := core.list_reach();
begin
  return not exists (
    select
    from jsonb_array_elements(site->'spaces') i
    left join lateral (
      select s.* from core.space s where s.id = i->>'id' and (v_reach is null or s.space_id = any (v_reach)) offset 0) s
      on true
    left join lateral (
      select p.id from core.space p where p.space_id = s.parent_id and s.space_id is distinct from v_root offset 0) p
      on true
    left join lateral (
      select h.time_zone, h.reset_at from core.schedule h where h.space_id = s.space_id and h.superseded_at is null
      offset 0) h on true
    left join lateral (
      select l.space_id from core.live_space l where l.space_id = s.space_id offset 0) l on true
    where l.space_id is null
      or i - array['id', 'name', 'parent', 'capacity', 'opening_hours', 'offline_after_seconds', 'time_zone',
        'reset_at', 'retired'] <> '{}'
      or (i ? 'retired' and (i->>'retired')::boolean <> (s.retired_at is not null))
      or (i ? 'name' and i->>'name' is distinct from s.name)
      or (i ? 'parent' and i->>'parent' is distinct from p.id)
      or (i ? 'capacity' and i->>'capacity' is distinct from s.capacity::text)
      or (i ? 'opening_hours' and nullif(i->'opening_hours', 'null') is distinct from s.opening_hours)
      or (i ? 'offline_after_seconds' and i->>'offline_after_seconds' is distinct from s.offline_after_seconds::text)
      or (i ? 'time_zone' and i->>'time_zone' is distinct from h.time_zone)
      or (i ? 'reset_at' and i->>'reset_at' is distinct from h.reset_at)
  ) and not exists (
    select
    from jsonb_array_elements(site->'doorways') i
    left join lateral (
      select w.* from core.doorway w where w.id = i->>'id' and (v_reach is null or (
        (w.side_a_id is null or w.side_a_id = any (v_reach)) and (w.side_b_id is null or w.side_b_id = any (v_reach))))
      offset 0) w on true
    left join lateral (select a.id from core.space a where a.space_id = w.side_a_id offset 0) a on true
    left join lateral (select b.id from core.space b where b.space_id = w.side_b_id offset 0) b on true
    where w.doorway_id is null or i - array['id', 'name', 'sides', 'retired'] <> '{}'
      or (i ? 'retired' and (i->>'retired')::boolean <> (w.retired_at is not null))
      or (i ? 'name' and i->>'name' is distinct from w.name)
      or (i ? 'sides' and i->'sides' is distinct from jsonb_build_array(a.id, b.id))
  ) and not exists (
    select
    from jsonb_array_elements(site->'dpus') i
    left join lateral (select d.* from core.dpu d where d.id = i->>'id' offset 0) d on true
    left join lateral (select t.retired_at from core.dpu_state t where t.dpu_id = d.dpu_id offset 0) t on true
    where d.dpu_id is null or i - array['id', 'name', 'mac_address', 'offline_after_seconds', 'retired'] <> '{}'
      or (i ? 'retired' and (i->>'retired')::boolean <> (t.retired_at is not null))
      or (i ? 'name' and i->>'name' is distinct from d.name)
      or (i ? 'offline_after_seconds' and i->>'offline_after_seconds' is distinct from d.offline_after_seconds::text)
      or (i ? 'mac_address' and lower(i->>'mac_address') is distinct from d.mac_address::text)
      or (v_reach is not null and not exists (
        select
        from core.placement p
        join core.doorway w on w.doorway_id = p.doorway_id
        where p.dpu_id = d.dpu_id and p.superseded_at is null and p.during @> v_now
          and (w.side_a_id is null or w.side_a_id = any (v_reach))
          and (w.side_b_id is null or w.side_b_id = any (v_reach))))
  ) and core.are_placements_applied(site->'placements', v_reach, v_now);
end
$$;
comment on function core.is_applied(jsonb) is
'Whether a floor plan, as api.apply_site takes it, changes nothing: then the lock of the floor plan is not needed. False
also where that is not certain, and for what the token cannot reach.';
