-- What limited tokens may know of incidents. Each function takes many incidents at once: what is looked up for each
-- sensor of each incident by itself takes seconds.

create or replace function core.list_seen_spans(
  reach integer[],
  dpus integer[] default null
)
returns table (dpu_id integer, during tstzrange)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
begin
  return query
  select p.dpu_id, p.during
  from core.placement p
  join core.doorway w on w.doorway_id = p.doorway_id
  where (dpus is null or p.dpu_id = any (dpus)) and p.superseded_at is null
    and (w.side_a_id = any (reach) or w.side_b_id = any (reach));
end
$$;
comment on function core.list_seen_spans(integer[], integer[]) is
'When DPUs were, or are, placed above doorways with a side in reach (core.list_reach). dpus: only these.';

create or replace function core.list_seen_incidents(
  reach integer[],
  after bigint default null,
  open boolean default null
)
returns setof bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
  v_dpus integer[];
  v_spans tstzmultirange[];
  v_lasting bigint[];
begin
  select array_agg(s.dpu_id), array_agg(s.during) into v_dpus, v_spans
  from (select l.dpu_id, range_agg(l.during) as during from core.list_seen_spans(reach) l group by l.dpu_id) s;
  if list_seen_incidents.open then
    v_lasting := array(
      select o.incident_id
      from core.outage o
      where o.dpu_id = any (v_dpus) and o.superseded_at is null and o.back_at is null and o.incident_id is not null);
  end if;
  return query
  select distinct m.incident_id
  from core.incident_dpu m
  join unnest(v_dpus, v_spans) as s (dpu_id, during) on s.dpu_id = m.dpu_id and s.during @> m.offline_at
  left join core.incident i on i.incident_id = m.incident_id
  left join core.incident n on n.incident_id = i.absorbed_by
  where m.dpu_id = any (v_dpus) and (after is null or m.incident_id < after)
    and (list_seen_incidents.open is not true or i.ended_at is null
      -- as core.is_end_awaited, which takes long for many
      or i.absorbed_by is not null and i.ended_at = greatest(i.recorded_at, n.recorded_at)
      -- that of a site may last for a part of it
      or i.kind = 'site_offline' and i.incident_id = any (v_lasting))
  order by m.incident_id desc;
end
$$;
comment on function core.list_seen_incidents(integer[], bigint, boolean) is
'Incidents with DPUs that were placed, when they went offline, above doorways with a side in reach (core.list_reach).
The newest come first. after: only those before that one. open: true leaves out what is over for certain.';

create or replace function core.list_seen_until(
  dpus integer[],
  from_times timestamptz[],
  times timestamptz[],
  reach integer[]
)
returns timestamptz[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
begin
  return (
    with span as materialized (
      select s.dpu_id, s.during
      from core.list_seen_spans(reach, array(select distinct n.dpu_id from unnest(dpus) as n (dpu_id))) s
    ),
    found as (
      select n.ordinal, case
        when bool_or(s.during @> n.from_at) is not true then null
        when bool_or(s.during @> n.at) then 'infinity'
        else greatest(n.from_at, max(upper(s.during)) filter (where upper(s.during) <= n.at))
      end as known_until
      from unnest(dpus, from_times, times) with ordinality as n (dpu_id, from_at, at, ordinal)
      left join span s on s.dpu_id = n.dpu_id
      group by n.ordinal, n.from_at, n.at
    )
    select coalesce(array_agg(f.known_until order by f.ordinal), '{}') from found f
  );
end
$$;
comment on function core.list_seen_until(integer[], timestamptz[], timestamptz[], integer[]) is
'Until when a token may know what became, by an instant (times), of DPUs that it saw at an earlier one (from_times), in
the order given: infinity where the DPU is above a doorway with a side in reach (core.list_reach), then; else when it
was last taken away from such. Null: it was not seen at the earlier one.';

create or replace function core.list_seen_sites(
  incidents bigint[],
  reach integer[]
)
returns table (incident_id bigint, is_seen boolean)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
  v_within bigint[] := array(
    select i.incident_id
    from core.incident i
    where i.incident_id = any (incidents) and i.kind = 'site_offline'
      and (i.space_id = any (reach)) is not false);
  v_hidden bigint[];
begin
  with member as materialized (
    select m.incident_id, m.dpu_id, m.offline_at from core.incident_dpu m where m.incident_id = any (v_within)
  ),
  span as materialized (
    select s.dpu_id, s.during
    from core.list_seen_spans(reach, array(select distinct m.dpu_id from member m)) s
  )
  select array_agg(distinct m.incident_id) into v_hidden
  from member m
  left join span s on s.dpu_id = m.dpu_id and s.during @> m.offline_at
  where s.dpu_id is null;
  return query
  select i.incident_id, i.space_id = any (reach) and i.incident_id <> all (coalesce(v_hidden, '{}'))
  from core.incident i
  where i.incident_id = any (incidents) and i.kind = 'site_offline';
end
$$;
comment on function core.list_seen_sites(bigint[], integer[]) is
'Those of the incidents that are of sites, and whether each is about nothing beyond reach (core.list_reach): the site
and all that it concerned is within. If not, its instants may come from DPUs that are hidden.';

create or replace function core.describe_seen_wholes(
  incidents bigint[],
  reach integer[],
  at timestamptz
)
returns table (
  incident_id bigint, dpus text[], started_at timestamptz, ended_at timestamptz, corrected boolean, absorbed_by bigint
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
  v_incidents bigint[];
  v_dpus integer[];
  v_from timestamptz[];
  v_at timestamptz[];
  v_until timestamptz[];
begin
  select array_agg(m.incident_id), array_agg(m.dpu_id), array_agg(m.offline_at),
    -- one that was absorbed lasts until its own end has come
    array_agg(coalesce(
      case when i.absorbed_by is null or not core.is_end_awaited(i) then i.ended_at end, describe_seen_wholes.at))
  into v_incidents, v_dpus, v_from, v_at
  from core.incident i
  join core.incident_dpu m on m.incident_id = i.incident_id
  where i.incident_id = any (incidents);
  if v_incidents is null then
    return;
  end if;
  v_until := core.list_seen_until(v_dpus, v_from, v_at, reach);
  return query
  with member as (
    select m.incident_id, array_agg(d.id order by d.id) as dpus, max(m.known_until) as known_until
    from unnest(v_incidents, v_dpus, v_until) as m (incident_id, dpu_id, known_until)
    join core.incident i on i.incident_id = m.incident_id
    join core.dpu d on d.dpu_id = m.dpu_id
    -- that it was opened after the DPU had left would tell what became of it
    where m.known_until >= i.recorded_at
    group by m.incident_id
  )
  select i.incident_id, m.dpus, least(i.started_at, m.known_until),
    case when not o.is_known then m.known_until when w.is_seen then i.ended_at else e.over_at end,
    i.corrected and o.is_known, case when o.is_known and w.is_seen then i.absorbed_by end
  from member m
  join core.incident i on i.incident_id = m.incident_id
  left join core.incident n on n.incident_id = i.absorbed_by
  cross join lateral (
    -- absorbed by such; not all that it concerned: that would be looked at for each
    select i.kind = 'site_offline' or i.absorbed_by is null or coalesce(n.space_id = any (reach), false) as is_seen
  ) w
  cross join lateral (
    select case when i.absorbed_by is null or not core.is_end_awaited(i) then i.ended_at end as over_at
    offset 0  -- computed once
  ) e
  cross join lateral (
    select m.known_until = 'infinity' or coalesce(e.over_at <= m.known_until, false) as is_known
  ) o;
end
$$;
comment on function core.describe_seen_wholes(bigint[], integer[], timestamptz) is
'What a limited token may know at an instant of incidents of DPUs, and of those of sites that it sees
(core.list_seen_sites). No row: of none of the DPUs that it saw may it know that there was the incident.';

create or replace function core.list_part_members(
  incidents bigint[],
  reach integer[]
)
returns table (incident_id bigint, dpu_id integer, offline_at timestamptz)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
begin
  return query
  with span as materialized (
    select s.dpu_id, s.during
    from core.list_seen_spans(reach, array(
      select distinct m.dpu_id from core.incident_dpu m where m.incident_id = any (incidents))) s
  ),
  member as materialized (
    select m.incident_id, m.dpu_id, m.offline_at
    from core.incident_dpu m
    join span s on s.dpu_id = m.dpu_id and s.during @> m.offline_at
    where m.incident_id = any (incidents)
  ),
  own as materialized (
    select n.dpu_id, n.offline_at, i.started_at, i.absorbed_by
    from core.incident_dpu n
    join core.incident i on i.incident_id = n.incident_id
    where n.dpu_id = any (array(select distinct m.dpu_id from member m)) and i.kind = 'dpu_offline'
  )
  select m.incident_id, m.dpu_id, m.offline_at
  from member m
  where not exists (select from own o where o.dpu_id = m.dpu_id and o.absorbed_by = m.incident_id)
    and not exists (select from own o where o.dpu_id = m.dpu_id and o.offline_at = m.offline_at)
    and not exists (select from own o where o.dpu_id = m.dpu_id and o.started_at = m.offline_at);
end
$$;
comment on function core.list_part_members(bigint[], integer[]) is
'The DPUs of incidents of sites that were seen when they went offline, above doorways with a side in reach
(core.list_reach). Left out are those with an incident of their own, which tells the whole outage.';

create or replace function core.describe_seen_parts(
  incidents bigint[],
  reach integer[],
  at timestamptz
)
returns table (
  incident_id bigint, dpus text[], started_at timestamptz, ended_at timestamptz, corrected boolean
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
  v_incidents bigint[];
  v_dpus integer[];
  v_offline timestamptz[];
  v_back timestamptz[];
  v_is_corrected boolean[];
  v_at timestamptz[];
  v_until timestamptz[];
begin
  select array_agg(m.incident_id), array_agg(m.dpu_id), array_agg(m.offline_at),
    array_agg(o.back_at), array_agg(o.is_corrected), array_agg(coalesce(o.back_at, describe_seen_parts.at))
  into v_incidents, v_dpus, v_offline, v_back, v_is_corrected, v_at
  from core.list_part_members(incidents, reach) m
  join (
    select o.incident_id, o.dpu_id, count(*) filter (where o.superseded_at is null) = 0 as is_corrected,
      case when count(*) filter (where o.superseded_at is null and o.back_at is null) = 0 then
        coalesce(max(o.back_at) filter (where o.superseded_at is null), max(o.superseded_at))
      end as back_at
    from core.outage o
    where o.incident_id = any (incidents)
    group by o.incident_id, o.dpu_id
  ) o on o.incident_id = m.incident_id and o.dpu_id = m.dpu_id;
  if v_incidents is null then
    return;
  end if;
  v_until := core.list_seen_until(v_dpus, v_offline, v_at, reach);
  return query
  with seen as (
    select m.incident_id, d.id, m.offline_at, m.is_corrected and m.known_until = 'infinity' as is_corrected,
      case when m.known_until < 'infinity' then m.known_until else coalesce(r.from_at, m.back_at) end as ended_at
    from unnest(v_incidents, v_dpus, v_offline, v_back, v_is_corrected, v_until)
      as m (incident_id, dpu_id, offline_at, back_at, is_corrected, known_until)
    join core.dpu d on d.dpu_id = m.dpu_id
    left join lateral (
      -- as core.find_gone_at; where the DPU is seen until then, it is placed
      select min(r.from_at) as from_at
      from core.retirement r
      where r.dpu_id = m.dpu_id and tstzrange(r.from_at, r.until_at) @> coalesce(m.back_at, 'infinity')
    ) r on true
  )
  select s.incident_id, array_agg(s.id order by s.id), min(s.offline_at),
    case when bool_and(s.ended_at is not null) then max(s.ended_at) end, bool_and(s.is_corrected)
  from seen s
  group by s.incident_id;
end
$$;
comment on function core.describe_seen_parts(bigint[], integer[], timestamptz) is
'What a limited token may know at an instant of incidents of sites that it does not see as a whole
(core.list_seen_sites): the DPUs that it saw when they went offline, and when the first of them did, and the last was
back (null: some are offline). All comes of these alone. Left out are DPUs that have an incident of their own. No row:
none is left.';

create or replace function core.describe_seen_incidents(
  incidents bigint[],
  reach integer[],
  at timestamptz
)
returns table (
  incident_id bigint, kind text, dpus text[], space text, started_at timestamptz, ended_at timestamptz,
  corrected boolean, absorbed_by bigint
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
  v_parts bigint[];
  v_left_out bigint[];
begin
  select coalesce(array_agg(s.incident_id) filter (where not s.is_seen), '{}'),
    coalesce(array_agg(s.incident_id) filter (where s.is_seen is not true), '{}')
  into v_parts, v_left_out
  from core.list_seen_sites(incidents, reach) s;
  return query
  with described as materialized (
    select w.incident_id, w.dpus, w.started_at, w.ended_at, w.corrected, w.absorbed_by
    from core.describe_seen_wholes(array(select unnest(incidents) except select unnest(v_left_out)), reach, at) w
    union all
    select p.incident_id, p.dpus, p.started_at, p.ended_at, p.corrected, null
    from core.describe_seen_parts(v_parts, reach, at) p
  )
  select i.incident_id, i.kind, n.dpus, s.id, n.started_at, n.ended_at, n.corrected, n.absorbed_by
  from described n
  join core.incident i on i.incident_id = n.incident_id and i.incident_id = any (incidents)
  left join core.space s on s.space_id = i.space_id and s.space_id = any (reach);
end
$$;
comment on function core.describe_seen_incidents(bigint[], integer[], timestamptz) is
'What a limited token may know at an instant of incidents. None for one of which it may know nothing.';
