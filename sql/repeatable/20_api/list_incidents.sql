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
  v_now timestamptz := statement_timestamp();
  v_reach integer[] := core.list_reach();
  v_seen bigint[];
begin
  if v_reach is not null then
    v_seen := array(select core.list_seen_incidents(v_reach, after));
  end if;
  return query
  select i.incident_id::text, i.kind, m.dpus, s.id, least(i.started_at, m.known_until), k.ended_at,
    i.corrected and k.is_known, case when k.is_known then i.absorbed_by::text end
  from core.incident i
  cross join lateral (
    -- one that was absorbed lasts until its own end has come
    select case when v_reach is null or not core.is_end_awaited(i) then i.ended_at end as over_at
  ) e
  cross join lateral (
    select coalesce(array_agg(d.id order by d.id), '{}') as dpus, max(u.known_until) as known_until
    from core.incident_dpu n
    join core.dpu d on d.dpu_id = n.dpu_id
    cross join lateral (
      select case
        when v_reach is null then 'infinity'
        else core.find_seen_until(n.dpu_id, n.offline_at, coalesce(e.over_at, v_now), v_reach)
      end as known_until
      offset 0  -- computed once
    ) u
    -- that it was opened after the DPU had left would tell what became of it
    where n.incident_id = i.incident_id and u.known_until >= i.recorded_at
  ) m
  cross join lateral (
    select v_reach is null or m.known_until = 'infinity' or coalesce(e.over_at <= m.known_until, false) as is_known
  ) o
  cross join lateral (
    select o.is_known, case when o.is_known then i.ended_at else m.known_until end as ended_at
  ) k
  left join core.space s on s.space_id = i.space_id and (v_reach is null or s.space_id = any (v_reach))
  where (list_incidents.open is not true or i.ended_at is null)
    and (list_incidents.open is null or list_incidents.open = (k.ended_at is null))
    and (after is null or i.incident_id < after)
    and (v_reach is null or i.incident_id = any (v_seen) and cardinality(m.dpus) > 0)
  order by i.incident_id desc
  limit max_rows;
end
$$;
comment on function api.list_incidents(boolean, bigint, integer) is
'Incidents: outages that people are told of, the newest first.

open: true for those that last, false for those that are over. kind: dpu_offline, or site_offline (most of a site at
once; then the space is the root of its tree). dpus: all that it concerns. A limited token sees those that were placed
above its doorways then, and only incidents with such, opened before these had left. Once the last of them has left its
doorways, the incident is over for it at that instant, whatever comes later. corrected: a late sign of life showed that
there was no such outage. absorbed_by: the incident of the site that took its place; ended_at then is when, until its
own end has come. after: the id behind which to go on.';
