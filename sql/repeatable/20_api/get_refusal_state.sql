create or replace function api.get_refusal_state(
  out dropped_events bigint,
  out dropped_polls bigint
)
returns record
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select
    coalesce(max(d.count) filter (where d.kind = 'event'), 0),
    coalesce(max(d.count) filter (where d.kind = 'poll'), 0)
  from core.dropped_refusal d
$$;
comment on function api.get_refusal_state() is
'How many refused events and polls were dropped so far: because 30 days had passed, or beyond what is kept in an hour
(core.get_max_refused).';
