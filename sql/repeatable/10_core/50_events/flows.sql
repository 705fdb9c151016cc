-- Events that say which flow they belong to. All others belong to the flow of their direction.

create or replace function core.store_flows(
  dpus integer[],
  times timestamptz[],
  directions integer[],
  sequences smallint[],
  flows smallint[],
  received_at timestamptz,
  backfill boolean default false,
  out ordinals bigint[],
  out doubles bigint[],
  out stored integer[]
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  select s.ordinals, s.doubles, s.stored into ordinals, doubles, stored
  from core.store_events(dpus, times, directions, sequences, store_flows.received_at, backfill) s;
  insert into core.turned_event (dpu_id, time, sequence, people)
  select dpus[o], times[o], sequences[o], abs(directions[o]::bigint)
  from unnest(ordinals) as o
  where directions[o] <> 0 and flows[o] <> sign(directions[o]);
end
$$;
comment on function core.store_flows(integer[], timestamptz[], integer[], smallint[], smallint[], timestamptz,
  boolean) is
'As core.store_events, for events that say which flow they belong to: 1 towards the DPU, -1 away from it, null that of
their direction. A double keeps the flow that it was stored with.';

create or replace function core.list_turned(
  dpus integer[],
  froms timestamptz[],
  untils timestamptz[]
)
returns table ("time" timestamptz, net bigint, net_at_start bigint, entries bigint, exits bigint, moment numeric)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select t.time, 0::bigint, 0::bigint, -t.people, -t.people, 0::numeric
  from unnest(dpus, froms, untils) as p (dpu_id, from_at, until_at)
  join core.turned_event t on t.dpu_id = p.dpu_id and t.time >= p.from_at and t.time < p.until_at;
end
$$;
comment on function core.list_turned(integer[], timestamptz[], timestamptz[]) is
'What entries and exits by the sign of directions have too many, of DPUs in [from, until) each, from parallel arrays:
the same of both, whichever side is inside. Columns as core.list_flows.';
