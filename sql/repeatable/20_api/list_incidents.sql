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
  v_seen bigint[];
  v_from integer := 1;
  v_size integer;
  v_left integer;
  v_found integer;
begin
  if v_reach is null then
    return query
    select i.incident_id::text, i.kind,
      array(
        select d.id
        from core.incident_dpu m
        join core.dpu d on d.dpu_id = m.dpu_id
        where m.incident_id = i.incident_id
        order by d.id),
      s.id, i.started_at, i.ended_at, i.corrected, i.absorbed_by::text
    from core.incident i
    left join core.space s on s.space_id = i.space_id
    where (list_incidents.open is not true or i.ended_at is null)
      and (list_incidents.open is not false or i.ended_at is not null)
      and (after is null or i.incident_id < after)
    order by i.incident_id desc
    limit max_rows;
    return;
  end if;
  v_seen := array(select core.list_seen_incidents(v_reach, after, list_incidents.open));
  v_left := least(max_rows, cardinality(v_seen));
  -- as many as are wanted, then ever more: of some nothing is shown, or not with open
  v_size := v_left;
  while v_left > 0 and v_from <= cardinality(v_seen) loop
    return query
    select i.incident_id::text, i.kind, i.dpus, i.space, i.started_at, i.ended_at, i.corrected, i.absorbed_by::text
    from core.describe_seen_incidents(v_seen[v_from : v_from + v_size - 1], v_reach, statement_timestamp()) i
    where list_incidents.open is null or list_incidents.open = (i.ended_at is null)
    order by i.incident_id desc
    limit v_left;
    get diagnostics v_found = row_count;
    v_left := v_left - v_found;
    v_from := v_from + v_size;
    v_size := 2 * v_size;
  end loop;
end
$$;
comment on function api.list_incidents(boolean, bigint, integer) is
'Incidents: outages that people are told of, the newest first.

open: true for those that last, false for those that are over. kind: dpu_offline, or site_offline (most of a site at
once; then the space is the root of its tree). dpus: all that it concerns. A limited token sees those that were placed
above its doorways then, and only incidents with such, opened before these had left. Once the last of them has left its
doorways, the incident is over for it at that instant, whatever comes later. corrected: a late sign of life showed that
there was no such outage. absorbed_by: the incident of the site that took its place; ended_at then is when, until its
own end has come. after: the id behind which to go on.

A limited token is told nothing that comes of DPUs beyond its reach. One that does not reach the whole site sees the
incident of each DPU as if it were by itself, as channels for a part are told of it: never absorbed, and over when that
DPU is back. Where there is none, since it was opened before there was such a token or channel, it sees that of the site
with the DPUs that it sees alone: from the first of them that went offline until the last is back.';
