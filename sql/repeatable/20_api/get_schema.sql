create or replace function api.get_schema()
returns table (number integer, sha256 text, breaking boolean)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select m.number, m.sha256, m.breaking from meta.migration m
  union all
  select 0, r.sha256, false from meta.repeatable r where r.name = 'repeatable'
  order by 1
$$;
comment on function api.get_schema() is
'The migrations that were applied, and as number 0 the hash of the repeatable files: what the service checks at its
start.';
