create or replace function api.list_incidents(
  open boolean default null,
  after bigint default null,
  max_rows integer default 100
)
returns table (
  id text,
  kind text,
  dpus text[],
  space text,
  started_at timestamptz,
  ended_at timestamptz,
  corrected boolean,
  absorbed_by text
)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_reach integer[] := core.list_reach();
begin
  return query
  select i.incident_id::text, i.kind, m.dpus, s.id, i.started_at, i.ended_at, i.corrected, i.absorbed_by::text
  from core.incident i
  cross join lateral (
    select coalesce(array_agg(d.id order by d.id), '{}') as dpus
    from core.incident_dpu n
    join core.dpu d on d.dpu_id = n.dpu_id
    where n.incident_id = i.incident_id
      and (v_reach is null or exists (
        select from core.list_seen_placements(array[n.dpu_id]) p where p.during @> n.offline_at))
  ) m
  left join core.space s on s.space_id = i.space_id and (v_reach is null or s.space_id = any (v_reach))
  where (list_incidents.open is null or list_incidents.open = (i.ended_at is null))
    and (after is null or i.incident_id < after)
    and (v_reach is null or cardinality(m.dpus) > 0)
  order by i.incident_id desc
  limit max_rows;
end
$$;
comment on function api.list_incidents(boolean, bigint, integer) is
'Incidents: outages that people are told of, the newest first.

open: true for those that last, false for those that are over. kind: dpu_offline, or site_offline (most of a site at
once; then the space is the root of its tree). dpus: all that it concerns. A limited token sees those that were placed
above its doorways then, and only incidents with such. corrected: a late sign of life showed that there was no such
outage. absorbed_by: the incident of the site that took its place; ended_at then is when, until its own end has come.
after: the id behind which to go on.';
