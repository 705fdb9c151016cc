-- Incidents: the outage of a DPU, or of most of a site at once. Made of core.outage by api.detect_outages.

create or replace function core.list_dpu_sites(
  dpus integer[],
  at timestamptz
)
returns table (dpu_id integer, space_id integer, site_id integer)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  with placed as (
    select h.dpu_id, h.space_id from core.list_placed(list_dpu_sites.at) h where h.dpu_id = any (dpus)
  ),
  root as (
    select a.space_id, a.above_id
    from core.list_above(array(select distinct h.space_id from placed h)) a
    join core.space s on s.space_id = a.above_id
    where s.parent_id is null
  )
  select d.dpu_id, h.space_id, r.above_id
  from (select distinct unnest(dpus) as dpu_id) d
  left join placed h on h.dpu_id = d.dpu_id
  left join root r on r.space_id = h.space_id;
end
$$;
comment on function core.list_dpu_sites(integer[], timestamptz) is
'The space to which each DPU belongs as a sensor at an instant, and the root of its tree; nulls for one that is placed
nowhere.';

create or replace function core.is_end_awaited(incident core.incident)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- as long as it ends when it was absorbed, or opened as absorbed
  select incident.absorbed_by is not null and incident.ended_at = greatest(incident.recorded_at, (
    select n.recorded_at from core.incident n where n.incident_id = incident.absorbed_by))
$$;
comment on function core.is_end_awaited(core.incident) is
'Whether an incident of a DPU was absorbed, and its own end is still to come.';

create or replace function core.describe_incidents(incidents bigint[])
returns table (incident_id bigint, details jsonb)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  c_format constant text := 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"';
begin
  return query
  select i.incident_id, jsonb_build_object(
    'incident', i.incident_id::text,
    'kind', i.kind,
    'dpus', (
      select coalesce(jsonb_agg(m.id), '[]')
      from (
        select d.id
        from core.incident_dpu m
        join core.dpu d on d.dpu_id = m.dpu_id
        where m.incident_id = i.incident_id
        order by d.id
        limit 100
      ) m),
    'dpu_count', (select count(*) from core.incident_dpu m where m.incident_id = i.incident_id),
    'space', s.id,
    'started_at', to_char(i.started_at at time zone 'UTC', c_format),
    'ended_at', case when not core.is_end_awaited(i) then to_char(i.ended_at at time zone 'UTC', c_format) end,
    'corrected', i.corrected)
  from core.incident i
  left join core.space s on s.space_id = i.space_id
  where i.incident_id = any (incidents);
end
$$;
comment on function core.describe_incidents(bigint[]) is
'What notices say of incidents: {incident, kind, dpus (the first 100), dpu_count, space, started_at, ended_at,
corrected}.';

create or replace function core.tell_incidents(
  kinds text[],
  incidents bigint[],
  at timestamptz
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  if cardinality(kinds) > 0 then
    perform core.add_notices(
      kinds, incidents, array_agg(i.space_id order by n.number),
      array_agg(case n.kind when 'offline' then i.started_at when 'online' then i.ended_at else tell_incidents.at end
        order by n.number),
      array_agg(d.details order by n.number))
    from unnest(kinds, incidents) with ordinality as n (kind, incident_id, number)
    join core.incident i on i.incident_id = n.incident_id
    join core.describe_incidents(incidents) d on d.incident_id = n.incident_id;
  end if;
end
$$;
comment on function core.tell_incidents(text[], bigint[], timestamptz) is
'Adds notices about incidents, given as parallel arrays. kinds: offline, online or correction.';

create or replace function core.list_down_at(
  dpu_id integer,
  started_at timestamptz,
  at timestamptz
)
returns table (down_at timestamptz)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case when not coalesce(bool_or(p.during @> list_down_at.at), false) then
    greatest(list_down_at.started_at,
      coalesce(max(upper(p.during)) filter (where upper(p.during) <= list_down_at.at), list_down_at.at))
  end
  from core.placement p
  where p.dpu_id = list_down_at.dpu_id and p.superseded_at is null
$$;
comment on function core.list_down_at(integer, timestamptz, timestamptz) is
'When a DPU that is placed nowhere at an instant was taken down, at the earliest when its incident began: one row, null
where the DPU is placed somewhere.';

create or replace function core.find_gone_at(
  dpu_id integer,
  started_at timestamptz,
  back_at timestamptz,
  at timestamptz
)
returns timestamptz
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select least(
    (
      select min(r.from_at)
      from core.retirement r
      where r.dpu_id = find_gone_at.dpu_id
        and tstzrange(r.from_at, r.until_at) @> coalesce(find_gone_at.back_at, 'infinity')),
    (select d.down_at from core.list_down_at(dpu_id, started_at, coalesce(back_at, find_gone_at.at)) d))
$$;
comment on function core.find_gone_at(integer, timestamptz, timestamptz, timestamptz) is
'When a DPU with an incident was retired or taken down, if it was so when it came back, or is so now (back_at null);
else null.';

create or replace function core.mark_moved(
  from_at timestamptz,
  at timestamptz
)
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  update core.outage o set pending = true
  from core.dpu_state s
  where s.offline_at is not null and o.dpu_id = s.dpu_id and o.offline_at = s.offline_at
    and o.superseded_at is null and o.back_at is null and o.incident_id is not null and not o.pending and exists (
      select from core.placement p
      where p.dpu_id = o.dpu_id and p.superseded_at is null and (
        (upper(p.during) > from_at and upper(p.during) <= mark_moved.at)
        or (lower(p.during) > from_at and lower(p.during) <= mark_moved.at)))
$$;
comment on function core.mark_moved(timestamptz, timestamptz) is
'Marks outages as pending again whose DPU was taken away or placed as planned, after from_at and up to at: their
incidents are looked at again. Placements that are recorded afterwards are marked by core.rederive_offline_after.';

create or replace function core.open_site_incident(
  site_id integer,
  outages bigint[],
  at timestamptz
)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_incident_id bigint;
  v_held bigint[];
  v_absorbed bigint[];
begin
  -- one that is being changed just now is pending, and joins later
  v_held := array(
    select o.outage_id from core.outage o
    where o.outage_id = any (outages) and o.superseded_at is null
    for update skip locked);
  insert into core.incident (kind, space_id, started_at, recorded_at)
  select 'site_offline', open_site_incident.site_id, min(o.offline_at), open_site_incident.at
  from core.outage o
  where o.outage_id = any (v_held)
  returning incident_id into v_incident_id;

  v_absorbed := array(select distinct o.incident_id from core.outage o where o.outage_id = any (v_held)
    and o.incident_id is not null);
  update core.incident i set ended_at = open_site_incident.at, absorbed_by = v_incident_id
  where i.incident_id = any (v_absorbed);
  update core.outage o set incident_id = v_incident_id, pending = false where o.outage_id = any (v_held);
  insert into core.incident_dpu (incident_id, dpu_id, offline_at)
  select v_incident_id, o.dpu_id, min(o.offline_at)
  from core.outage o
  where o.incident_id = v_incident_id and o.superseded_at is null
  group by o.dpu_id;
  return v_incident_id;
end
$$;
comment on function core.open_site_incident(integer, bigint[], timestamptz) is
'Makes one incident of several outages of a site; the incidents that some of them had are absorbed.';

create or replace function core.update_dpu_incidents(
  incidents bigint[],
  at timestamptz,
  out ended bigint[],
  out corrected bigint[]
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  with touched as (
    select
      i.incident_id, i.ended_at, i.corrected, count(o.outage_id) as outages, count(o.outage_id)
        filter (where o.back_at is null) as lasting,
      min(o.offline_at) as started_at, case when bool_and(o.back_at is not null) then max(o.back_at) end as back_at
    from core.incident i
    -- is true: by the index of the incidents alone, also where the statistics are old
    left join core.outage o on o.incident_id = i.incident_id and (o.superseded_at is null) is true
    where i.incident_id = any (incidents) and i.kind = 'dpu_offline'
    group by i.incident_id
  ),
  ended as (
    -- that it comes back while it is retired or is placed nowhere ends nothing: its incident was over before
    select t.*, core.find_gone_at(i.dpu_id, i.started_at, t.back_at, update_dpu_incidents.at) as gone_at
    from touched t
    join core.incident i on i.incident_id = t.incident_id
  ),
  changed as (
    update core.incident i set
      started_at = coalesce(t.started_at, i.started_at),
      ended_at = case when t.outages = 0 then coalesce(i.ended_at, update_dpu_incidents.at)
        else coalesce(t.gone_at, t.back_at) end,
      corrected = t.outages = 0
    from ended t
    where i.incident_id = t.incident_id
    returning
      i.incident_id, t.outages = 0 and not t.corrected as is_corrected, t.outages > 0 and t.lasting = 0
        and t.ended_at is null and t.gone_at is null as is_ended
  )
  select
    coalesce(array_agg(c.incident_id order by c.incident_id) filter (where c.is_ended), '{}'),
    coalesce(array_agg(c.incident_id order by c.incident_id) filter (where c.is_corrected), '{}')
  into ended, corrected
  from changed c;
end
$$;
comment on function core.update_dpu_incidents(bigint[], timestamptz) is
'Brings incidents of one DPU in line with their outages, and returns those that it ended or corrected. Incidents of
sites are left alone.';

create or replace function core.join_site_incidents(
  at timestamptz,
  inout outages bigint[],
  inout incidents bigint[]
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  with joined as (
    update core.outage o set incident_id = i.incident_id
    from core.list_dpu_sites(array(select p.dpu_id from core.outage p where p.outage_id = any (outages)),
      join_site_incidents.at) s
    join core.incident i on i.space_id = s.site_id and i.kind = 'site_offline' and i.ended_at is null
    where o.outage_id = any (outages) and s.dpu_id = o.dpu_id
    returning o.outage_id, o.incident_id, o.dpu_id, o.offline_at
  ),
  member as (
    insert into core.incident_dpu (incident_id, dpu_id, offline_at)
    select j.incident_id, j.dpu_id, min(j.offline_at) from joined j group by j.incident_id, j.dpu_id
    on conflict (incident_id, dpu_id) do nothing
  )
  select
    array(select unnest(outages) except select j.outage_id from joined j),
    incidents || array(select distinct j.incident_id from joined j)
  into outages, incidents;
end
$$;
comment on function core.join_site_incidents(timestamptz, bigint[], bigint[]) is
'Adds new outages to the incident of their site, if it has an open one. Returns the outages that are left, and the
incidents with those that gained members.';

create or replace function core.open_site_incidents(
  at timestamptz,
  inout outages bigint[],
  out opened bigint[]
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_near bigint[];
  v_site record;
begin
  opened := '{}';
  v_near := array(
    select o.outage_id
    from core.outage o
    left join core.incident i on i.incident_id = o.incident_id
    where o.superseded_at is null
      and o.offline_at > (select min(p.offline_at) from core.outage p where p.outage_id = any (outages))
        - interval '1 minute'
      and (o.outage_id = any (outages) or (o.incident_id is null and o.pending and o.back_at is null)
        or (i.kind = 'dpu_offline' and i.ended_at is null)));
  for v_site in
    select s.site_id, array_agg(o.outage_id) as outages, max(o.offline_at) as latest
    from core.list_dpu_sites(array(select p.dpu_id from core.outage p where p.outage_id = any (v_near)),
      open_site_incidents.at) s
    join core.outage o on o.dpu_id = s.dpu_id and o.outage_id = any (v_near)
    where s.site_id is not null
    group by s.site_id
    having count(distinct s.dpu_id) >= 3 and bool_or(o.outage_id = any (outages))
  loop
    select array_agg(o.outage_id) into v_site.outages
    from core.outage o
    where o.outage_id = any (v_site.outages) and o.offline_at > v_site.latest - interval '1 minute'
    having count(distinct o.dpu_id) >= 3 and count(distinct o.dpu_id) * 2 > (
      select count(*)
      from core.list_placed(open_site_incidents.at) h
      join core.dpu_state s on s.dpu_id = h.dpu_id
      cross join lateral core.get_dpu_state(
        s.last_seen_at, s.offline_at, s.armed_at, coalesce(s.offline_after_seconds, core.get_offline_after()),
        open_site_incidents.at,
        s.retired_at) n (state)
      -- silence of the others means nothing
      where n.state in ('online', 'offline') and h.space_id in (select core.list_subtree(v_site.site_id)));
    if v_site.outages is not null then
      opened := opened || core.open_site_incident(v_site.site_id, v_site.outages, open_site_incidents.at);
      outages := array(select unnest(outages) except select unnest(v_site.outages));
    end if;
  end loop;
end
$$;
comment on function core.open_site_incidents(timestamptz, bigint[]) is
'Opens an incident for each site most of which went offline within a minute, new outages among them. At least 3 DPUs,
and more than half of those at the site that are online or offline. Returns the outages that are left, and the
incidents.';

create or replace function core.update_site_incidents(
  incidents bigint[],
  at timestamptz,
  out ended bigint[],
  out corrected bigint[]
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  with hung as materialized (
    select h.dpu_id, h.space_id
    from core.list_placed(update_site_incidents.at) h
    where h.dpu_id in (select d.dpu_id from core.incident_dpu d where d.incident_id = any (incidents))
  ),
  inside as materialized (
    select h.dpu_id, a.above_id as space_id
    from hung h
    join core.list_above(array(select distinct g.space_id from hung g)) a on a.space_id = h.space_id
  ),
  touched as (
    select i.incident_id, i.started_at, i.ended_at, i.corrected, m.members, m.lasting, m.outages, m.backs
    from core.incident i
    cross join lateral (
      select
        count(*) as members, count(*) filter (where n.is_lasting) as lasting,
        sum(case when n.is_lasting is null then 0 else 1 end) as outages,
        array_agg(coalesce(n.back_at, i.started_at) order by coalesce(n.back_at, i.started_at))
          filter (where n.is_lasting is not true) as backs
      from (
        select l.back_at, case when l.outage_id is not null then l.back_at is null end as is_lasting
        from core.incident_dpu d
        -- its latest says all, however many it has; not distinct: never by the index of all of the incident
        left join lateral (
          select o.outage_id, o.back_at
          from core.outage o
          where o.dpu_id = d.dpu_id and o.superseded_at is null and o.incident_id is not distinct from d.incident_id
          order by o.heard_at desc
          limit 1
        ) l on true
        where d.incident_id = i.incident_id
          and d.dpu_id not in (select s.dpu_id from core.dpu_state s where s.retired_at is not null)
          and exists (select from inside n where n.dpu_id = d.dpu_id and n.space_id = i.space_id)
      ) n
    ) m
    where i.incident_id = any (incidents) and i.kind = 'site_offline'
  ),
  changed as (
    update core.incident i set
      -- of those that are retired or do not hang there any more nothing is told; where none is left it is over
      ended_at = coalesce(i.ended_at, case when t.members = 0 or t.outages = 0 then update_site_incidents.at
        else t.backs[(t.members + 1) / 2] end),
      corrected = coalesce(t.outages = 0, i.corrected)
    from touched t
    where i.incident_id = t.incident_id and (t.outages = 0 or t.lasting * 2 <= t.members)
    returning i.incident_id, t.outages = 0 and not t.corrected as is_corrected, t.outages > 0
      and t.ended_at is null as is_ended
  )
  select
    coalesce(array_agg(c.incident_id order by c.incident_id) filter (where c.is_ended), '{}'),
    coalesce(array_agg(c.incident_id order by c.incident_id) filter (where c.is_corrected), '{}')
  into ended, corrected
  from changed c;
end
$$;
comment on function core.update_site_incidents(bigint[], timestamptz) is
'Ends incidents of sites of whose DPUs no more than half are still offline, and returns those that it ended or
corrected. DPUs that hang elsewhere by now do not count; an incident of which none is left is over, and is not returned.
Incidents of one DPU are left alone.';

create or replace function core.open_absorbed_incidents(
  outages bigint[],
  at timestamptz
)
returns bigint[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_opened bigint[];
begin
  with member as materialized (
    select distinct on (o.dpu_id) o.dpu_id, o.offline_at, o.incident_id, s.space_id, s.site_id
    from core.outage o
    join core.list_dpu_sites(array(select p.dpu_id from core.outage p where p.outage_id = any (outages)),
      open_absorbed_incidents.at) s on s.dpu_id = o.dpu_id
    where o.outage_id = any (outages) and not exists (
      select
      from core.incident_dpu m
      join core.incident i on i.incident_id = m.incident_id
      where m.dpu_id = o.dpu_id and i.absorbed_by = o.incident_id and core.is_end_awaited(i))
    order by o.dpu_id, o.offline_at
  ),
  part as materialized (
    select distinct a.space_id, c.under_id
    from core.list_above(array(select distinct m.space_id from member m)) a
    join core.channel c on c.under_id = a.above_id and c.deleted_at is null and c.events && array['offline', 'online']
  ),
  side as materialized (
    select m.dpu_id, m.site_id, s.space_id
    from member m
    join core.placement p on p.dpu_id = m.dpu_id and p.superseded_at is null and p.during @> m.offline_at
    join core.doorway w on w.doorway_id = p.doorway_id
    cross join lateral (values (w.side_a_id), (w.side_b_id)) as s (space_id)
  ),
  watched as materialized (
    -- by tokens that see a part of the site, of which they may be shown nothing that comes of the others
    select distinct s.dpu_id
    from core.list_above(array(select distinct s.space_id from side s)) a
    join core.token t on t.space_id = a.above_id
      and core.is_token_valid(t.revoked_at, t.expires_at, open_absorbed_incidents.at)
    join side s on s.space_id = a.space_id and s.site_id is distinct from t.space_id
  ),
  own as (
    insert into core.incident (kind, space_id, dpu_id, started_at, ended_at, absorbed_by, recorded_at)
    select 'dpu_offline', m.space_id, m.dpu_id, m.offline_at, open_absorbed_incidents.at, m.incident_id,
      open_absorbed_incidents.at
    from member m
    where exists (select from part p where p.space_id = m.space_id and p.under_id <> m.site_id)
      or m.space_id is not null and m.dpu_id in (select w.dpu_id from watched w)
    order by m.offline_at, m.dpu_id
    returning incident_id, dpu_id, started_at
  ),
  noted as (
    insert into core.incident_dpu (incident_id, dpu_id, offline_at)
    select i.incident_id, i.dpu_id, i.started_at from own i
  )
  select coalesce(array_agg(i.incident_id order by i.incident_id), '{}') into v_opened from own i;
  return v_opened;
end
$$;
comment on function core.open_absorbed_incidents(bigint[], timestamptz) is
'For outages that are now part of the incident of a site: opens an incident of its own, absorbed from the beginning, for
each DPU in a part of the site for which there are channels or limited tokens. These are not told of the whole site.
None for a DPU whose incident was absorbed and still waits for its end. Returns those opened.';

create or replace function core.update_absorbed_incidents(
  outages bigint[],
  at timestamptz,
  out ended bigint[],
  out corrected bigint[]
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  with looked_at as (
    select distinct i.incident_id
    from core.outage o
    join core.incident n on n.incident_id = o.incident_id and n.kind = 'site_offline'
    join core.incident_dpu m on m.dpu_id = o.dpu_id
    join core.incident i on i.incident_id = m.incident_id and i.absorbed_by = n.incident_id
    where o.outage_id = any (outages) and not i.corrected
  ),
  touched as (
    select i.incident_id, i.dpu_id, coalesce(min(o.offline_at), i.started_at) as started_at,
      core.is_end_awaited(i) as is_awaited, greatest(i.recorded_at, n.recorded_at) as absorbed_at,
      count(o.outage_id) as outages, count(o.outage_id) filter (where o.back_at is null) as lasting,
      case when bool_and(o.back_at is not null) then max(o.back_at) end as back_at
    from looked_at l
    join core.incident i on i.incident_id = l.incident_id
    join core.incident n on n.incident_id = i.absorbed_by
    left join core.outage o on o.incident_id = i.absorbed_by and o.dpu_id = i.dpu_id and o.superseded_at is null
      and i.started_at < coalesce(o.back_at, 'infinity')
      -- a later one of the same DPU has an incident of its own
      and not exists (
        select
        from core.incident_dpu m
        join core.incident k on k.incident_id = m.incident_id
        where m.dpu_id = i.dpu_id and k.absorbed_by = i.absorbed_by and k.started_at > i.started_at
          and k.started_at < coalesce(o.back_at, 'infinity'))
    group by i.incident_id, n.incident_id
  ),
  judged as (
    select t.*, core.find_gone_at(t.dpu_id, t.started_at, t.back_at, update_absorbed_incidents.at) as gone_at
    from touched t
  ),
  changed as (
    -- to the same as if it were by itself (core.update_dpu_incidents), but for the end that it has while it lasts
    update core.incident i set
      started_at = v.started_at,
      ended_at = case
        when v.outages > 0 then coalesce(v.gone_at, v.back_at, v.absorbed_at)
        when v.is_awaited then update_absorbed_incidents.at
        else i.ended_at
      end,
      corrected = v.outages = 0
    from judged v
    where i.incident_id = v.incident_id
    returning i.incident_id, i.corrected as is_corrected,
      v.outages > 0 and v.lasting = 0 and v.is_awaited and v.gone_at is null as is_ended
  )
  select
    coalesce(array_agg(c.incident_id order by c.incident_id) filter (where c.is_ended), '{}'),
    coalesce(array_agg(c.incident_id order by c.incident_id) filter (where c.is_corrected), '{}')
  into ended, corrected
  from changed c;
end
$$;
comment on function core.update_absorbed_incidents(bigint[], timestamptz) is
'Ends or corrects the absorbed incidents of DPUs with these outages, each when its own DPU is back, and returns them:
whoever was told of one is told of its end.';

create or replace function core.reopen_incidents(
  outages bigint[],
  at timestamptz
)
returns bigint[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_reopened bigint[];
begin
  with chosen as (
    select distinct on (o.outage_id) o.outage_id, i.incident_id
    from core.outage o
    join core.incident n on n.incident_id = o.incident_id and n.kind = 'site_offline' and n.ended_at is not null
    join core.dpu_state s on s.dpu_id = o.dpu_id and s.retired_at is null
    join core.incident_dpu m on m.dpu_id = o.dpu_id
    join core.incident i on i.incident_id = m.incident_id and i.absorbed_by = n.incident_id
    where o.outage_id = any (outages) and o.superseded_at is null and o.back_at is null
      -- or its DPU was away meanwhile
      and (core.is_end_awaited(i) or i.started_at = o.offline_at and not i.corrected)
      and exists (
        select from core.placement p
        where p.dpu_id = o.dpu_id and p.superseded_at is null and p.during @> reopen_incidents.at)
    order by o.outage_id, i.incident_id desc
  ),
  freed as (
    update core.incident i set absorbed_by = null, ended_at = null
    from chosen c
    where i.incident_id = c.incident_id
  ),
  linked as (
    update core.outage o set incident_id = c.incident_id from chosen c where o.outage_id = c.outage_id
  )
  select coalesce(array_agg(c.incident_id order by c.incident_id), '{}') into v_reopened from chosen c;
  return v_reopened;
end
$$;
comment on function core.reopen_incidents(bigint[], timestamptz) is
'Where the incident of a site is over, and these outages last: the incidents of DPUs that it had absorbed go on. Returns
them. The caller tells of them again; channels that were told are not (core.add_notices).';

create or replace function core.open_dpu_incidents(
  outages bigint[],
  at timestamptz,
  out opened bigint[],
  out ended bigint[]
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  with own as (
    insert into core.incident (kind, space_id, dpu_id, started_at, ended_at, recorded_at)
    select 'dpu_offline', s.space_id, o.dpu_id, o.offline_at, o.back_at, open_dpu_incidents.at
    from core.outage o
    join core.list_dpu_sites(array(select p.dpu_id from core.outage p where p.outage_id = any (outages)),
      open_dpu_incidents.at) s on s.dpu_id = o.dpu_id
    -- nobody is told of one that is placed nowhere
    where o.outage_id = any (outages) and s.space_id is not null
    order by o.offline_at, o.dpu_id
    returning incident_id, dpu_id, started_at, ended_at
  ),
  linked as (
    update core.outage o set incident_id = i.incident_id
    from own i
    where o.outage_id = any (outages) and o.dpu_id = i.dpu_id and o.offline_at = i.started_at
  ),
  member as (
    insert into core.incident_dpu (incident_id, dpu_id, offline_at)
    select i.incident_id, i.dpu_id, i.started_at from own i
  )
  select
    coalesce(array_agg(i.incident_id order by i.incident_id), '{}'),
    coalesce(array_agg(i.incident_id order by i.incident_id) filter (where i.ended_at is not null), '{}')
  into opened, ended
  from own i;
end
$$;
comment on function core.open_dpu_incidents(bigint[], timestamptz) is
'Opens an incident for each outage of a DPU that is placed somewhere. Returns all of them as opened, and those that are
over already as ended too.';

create or replace function core.hold_pending(at timestamptz)
returns bigint[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  c_most constant integer := 1000;
  v_held bigint[];
begin
  -- What is new waits two seconds, until the others of a site that went with it have been detected.
  -- What another transaction is changing is looked at again in the next second.
  v_held := array(
    select o.outage_id from core.outage o
    where o.pending and (o.superseded_at is not null or o.incident_id is not null
      or o.detected_at <= hold_pending.at - interval '2 seconds')
    order by o.outage_id
    limit c_most
    for update skip locked);
  -- those it passed over on its way
  perform core.note_busy(array(
    select o.dpu_id from core.outage o
    where o.pending and (o.superseded_at is not null or o.incident_id is not null
        or o.detected_at <= hold_pending.at - interval '2 seconds')
      and (v_held[c_most] is null or o.outage_id < v_held[c_most]) and o.outage_id <> all (v_held)),
    hold_pending.at);
  return v_held;
end
$$;
comment on function core.hold_pending(timestamptz) is
'The outages with which incidents have to be brought in line, held until the transaction ends. 1,000 at most,
those recorded first; the others are left to the next run. Waits for nobody: DPUs whose outages are locked are noted as
busy. The caller holds core.lock_outage.';

create or replace function core.update_incidents(at timestamptz)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_due bigint[];        -- outages to look at
  v_touched bigint[];    -- their incidents
  v_new bigint[];        -- those of them that have none
  v_found bigint[];
  v_reopened bigint[];
  v_opened_parts bigint[];
  v_opened_sites bigint[];
  v_opened bigint[];
  v_ended_dpus bigint[];
  v_ended_sites bigint[];
  v_over_sites bigint[];
  v_ended bigint[];
  v_ended_absorbed bigint[];
  v_corrected_dpus bigint[];
  v_corrected_absorbed bigint[];
  v_corrected bigint[];
begin
  if not exists (select from core.outage o where o.pending) then
    return;
  end if;
  v_due := core.hold_pending(update_incidents.at);
  if cardinality(v_due) = 0 then
    return;
  end if;
  update core.outage o set incident_id = i.absorbed_by
  from core.incident i
  where o.outage_id = any (v_due) and i.incident_id = o.incident_id and i.absorbed_by is not null;
  v_touched := array(select distinct o.incident_id from core.outage o where o.outage_id = any (v_due)
    and o.incident_id is not null);

  select u.ended, u.corrected into v_ended_dpus, v_corrected_dpus
  from core.update_dpu_incidents(v_touched, update_incidents.at) u;

  v_reopened := core.reopen_incidents(v_due, update_incidents.at);
  -- New outages; also what is still offline where the incident of the site is over. What was over for long when it
  -- became known is nothing to be told of.
  v_new := array(
    select o.outage_id
    from core.outage o
    join core.dpu_state s on s.dpu_id = o.dpu_id and s.retired_at is null
    left join core.incident i on i.incident_id = o.incident_id
    where o.outage_id = any (v_due) and o.superseded_at is null
      and (o.back_at is null or o.back_at > o.detected_at - interval '1 minute')
      and (o.incident_id is null or (i.kind = 'site_offline' and i.ended_at is not null and o.back_at is null)));
  v_found := v_new;
  select j.outages, j.incidents into v_new, v_touched
  from core.join_site_incidents(update_incidents.at, v_new, v_touched) j;
  select o.outages, o.opened into v_new, v_opened_sites
  from core.open_site_incidents(update_incidents.at, v_new) o;
  v_opened_parts := core.open_absorbed_incidents(
    array(
      (select unnest(v_found) except select unnest(v_new))
      union
      select o.outage_id from core.outage o
      where o.incident_id = any (v_opened_sites) and o.superseded_at is null),
    update_incidents.at);
  select u.ended, u.corrected into v_ended_sites, v_corrected
  from core.update_site_incidents(v_touched || v_opened_sites, update_incidents.at) u;
  select u.ended, u.corrected into v_ended_absorbed, v_corrected_absorbed
  from core.update_absorbed_incidents(v_due, update_incidents.at) u;
  -- what is still offline where one is over, also elsewhere by now; what is being changed just now is pending anyway
  v_over_sites := array(
    select i.incident_id from core.incident i
    where i.incident_id = any (v_touched || v_opened_sites) and i.kind = 'site_offline' and i.ended_at is not null);
  v_found := array(
    select o.outage_id
    from core.outage o
    join core.dpu_state s on s.dpu_id = o.dpu_id and s.retired_at is null
    where o.incident_id = any (v_over_sites) and o.superseded_at is null and o.back_at is null
    for update of o skip locked);
  v_reopened := v_reopened || core.reopen_incidents(v_found, update_incidents.at);
  v_new := v_new || array(
    select o.outage_id from core.outage o
    where o.outage_id = any (v_found) and o.incident_id = any (v_over_sites));

  -- each of the others by itself
  select o.opened, o.ended into v_opened, v_ended
  from core.open_dpu_incidents(v_new, update_incidents.at) o;

  update core.outage o set pending = false where o.outage_id = any (v_due) and o.pending;
  v_opened := v_opened_sites || v_opened_parts || v_reopened || v_opened;
  v_ended := v_ended_dpus || v_ended_absorbed || v_ended_sites || v_ended;
  v_corrected := v_corrected_dpus || v_corrected_absorbed || v_corrected;
  perform core.tell_incidents(
    array_fill('offline'::text, array[cardinality(v_opened)])
      || array_fill('online'::text, array[cardinality(v_ended)])
      || array_fill('correction'::text, array[cardinality(v_corrected)]),
    v_opened || v_ended || v_corrected, update_incidents.at);
end
$$;
comment on function core.update_incidents(timestamptz) is
'Brings incidents in line with the outages that are pending, and adds notices about those that it opens, ends or
corrects. The caller holds core.lock_outage; waits for nobody.';
