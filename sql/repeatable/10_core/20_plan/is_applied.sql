-- Whether a site is already as it is wanted.

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
    left join core.space s on s.id = i->>'id' and (v_reach is null or s.space_id = any (v_reach))
    left join core.space p on p.space_id = s.parent_id and s.space_id is distinct from v_root
    left join core.schedule h on h.space_id = s.space_id and h.superseded_at is null
    -- joined: as not exists below an or, all of it would be read
    left join core.live_space l on l.space_id = s.space_id
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
    left join core.doorway w on w.id = i->>'id'
      and (v_reach is null or (
        (w.side_a_id is null or w.side_a_id = any (v_reach)) and (w.side_b_id is null or w.side_b_id = any (v_reach))))
    left join core.space a on a.space_id = w.side_a_id
    left join core.space b on b.space_id = w.side_b_id
    where w.doorway_id is null or i - array['id', 'name', 'sides', 'retired'] <> '{}'
      or (i ? 'retired' and (i->>'retired')::boolean <> (w.retired_at is not null))
      or (i ? 'name' and i->>'name' is distinct from w.name)
      or (i ? 'sides' and i->'sides' is distinct from jsonb_build_array(a.id, b.id))
  ) and not exists (
    select
    from jsonb_array_elements(site->'dpus') i
    left join core.dpu d on d.id = i->>'id'
    left join core.dpu_state t on t.dpu_id = d.dpu_id
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
  ) and not exists (
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
        from jsonb_array_elements(site->'placements') with ordinality as i (value, number)
        cross join lateral (
          select coalesce((i.value->>'from')::timestamptz, v_now) as from_at,
            (i.value->>'until')::timestamptz as until_at) t
      ) n
    ) n
    left join core.dpu d on d.id = n.dpu
    left join core.doorway w on w.id = n.doorway
      and (v_reach is null or (
        (w.side_a_id is null or w.side_a_id = any (v_reach)) and (w.side_b_id is null or w.side_b_id = any (v_reach))))
    left join core.space a on a.space_id = w.side_a_id
    left join core.space b on b.space_id = w.side_b_id
    cross join lateral (
      select case
        when w.doorway_id is null then null
        when n.mounted_in is not distinct from a.id then 1::smallint
        when n.mounted_in is not distinct from b.id then 2::smallint
      end as number
    ) side
    where d.dpu_id is null or n.during is null
      or (side.number is null and (n.doorway is not null or n.mounted_in is not null or v_reach is not null))
      or exists (select from unnest(n.rest) r where not core.is_placed(d.dpu_id, w.doorway_id, side.number, r))
  );
end
$$;
comment on function core.is_applied(jsonb) is
'Whether a floor plan, as api.apply_site takes it, changes nothing: then the lock of the floor plan is not needed. False
also where that is not certain, and for what the token cannot reach.';
