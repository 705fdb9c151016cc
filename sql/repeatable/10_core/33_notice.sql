-- Notices of what happens to incidents.

create or replace function core.add_notices(
  kinds text[],
  incident_ids bigint[],
  space_ids integer[],
  occurred_ats timestamptz[],
  details jsonb[]
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  null;
end
$$;
comment on function core.add_notices(text[], bigint[], integer[], timestamptz[], jsonb[]) is
'Makes notices of what happened to incidents, given as parallel arrays: offline, online or correction.';
