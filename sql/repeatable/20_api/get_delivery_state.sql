create or replace function api.get_delivery_state(
  out pending bigint,
  out oldest_seconds double precision
)
returns record
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select count(*), coalesce(extract(epoch from clock_timestamp() - min(d.created_at)), 0)::double precision
  from core.delivery d
  where d.state = 'pending'
$$;
comment on function api.get_delivery_state() is
'How many deliveries are pending, and how many seconds the oldest of them has waited (0: there is none).';
