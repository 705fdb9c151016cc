create or replace function api.get_dpu(dpu text)
returns table (
  id text,
  name text,
  mac_address text,
  state text,
  last_seen timestamptz,
  doorway text,
  mounted_in text,
  from_at timestamptz,
  until_at timestamptz,
  recorded_at timestamptz,
  cumulative_count bigint,
  latest_timestamp timestamptz,
  rejected_last_day bigint,
  clock text,
  retired_at timestamptz,
  offline_after_seconds integer,
  effective_offline_after_seconds integer,
  first_heard timestamptz
)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select d.* from core.describe_dpus(array[core.find_dpu(dpu)]) d
$$;
comment on function api.get_dpu(text) is
'One DPU: state, the placement that holds now (from_at null: none), and what its events add up to.

state: online, offline (silent for effective_offline_after_seconds), quiet (the same, but its silence means nothing: it
sends no heartbeats, and neither it nor a space has offline_after_seconds; or nothing has come from it live yet),
never_seen or retired. last_seen: when it was heard from last. first_heard: when its first live message came (not
backfilled or imported); null: none did. offline_after_seconds: its own threshold; effective: that one, else that of the
space in which it is mounted or of the nearest one above, else 600. cumulative_count: sum of all its directions.
rejected_last_day: its events that were refused in the last 24 hours and did not go in since. clock: ok; ahead, unset or
behind, where its latest events were refused for that; stuck, where all of them carry one instant.

A limited token is told of no instant from before the DPU came into its reach: last_seen is null then, and first_heard
is when it came. Errors: PT404.';
