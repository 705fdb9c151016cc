create or replace view bi.dpus as
select d.id as dpu, d.name, d.mac_address::text as mac_address, d.registered_at, s.last_seen_at, s.latest_time,
  s.cumulative_count,
  core.get_dpu_state(
    s.last_seen_at, s.offline_at, s.armed_at, coalesce(s.offline_after_seconds, core.get_offline_after()), now(),
    s.retired_at) as state,
  s.last_heartbeat_at, s.retired_at,
  coalesce(s.offline_after_seconds, core.get_offline_after()) as offline_after_seconds,
  core.get_clock(k, s.latest_time) as clock, coalesce(r.count, 0) as rejected_last_day
from core.dpu d
left join core.dpu_state s on s.dpu_id = d.dpu_id
left join core.dpu_clock k on k.dpu_id = d.dpu_id
left join (
  select c.dpu, greatest(sum(c.count), 0)::bigint as count
  from core.refused_of_dpu c
  where c.hour >= date_trunc('hour', now() - interval '24 hours', 'UTC')
  group by c.dpu
) r on r.dpu = d.id;
comment on view bi.dpus is 'Sensors: one row each, placed or not.';
comment on column bi.dpus.dpu is 'Id.';
comment on column bi.dpus.name is 'What people call it.';
comment on column bi.dpus.mac_address is 'MAC address; null: not known.';
comment on column bi.dpus.registered_at is 'When it became known to the service.';
comment on column bi.dpus.last_seen_at is
'When it was heard from last: the time of an event or a heartbeat, or when a message of it was received; null: never.';
comment on column bi.dpus.latest_time is 'The latest instant among its events, by its own clock.';
comment on column bi.dpus.cumulative_count is 'Sum of the directions of all its events.';
comment on column bi.dpus.state is
'online, offline, quiet, never_seen or retired, now. quiet: silent for as long, but its silence means nothing, since it
sends no heartbeats and nobody set offline_after_seconds, or nothing has come from it live yet.';
comment on column bi.dpus.last_heartbeat_at is 'Its latest heartbeat; null: none.';
comment on column bi.dpus.retired_at is 'When it was retired; null: it is in use.';
comment on column bi.dpus.offline_after_seconds is 'After how many seconds of silence it is offline, or quiet.';
comment on column bi.dpus.clock is
'ok, ahead (more than 5 minutes), unset (nobody ever set it), behind (before the horizon) or stuck (it stands still), by
its latest events and heartbeats.';
comment on column bi.dpus.rejected_last_day is
'Events of it that were refused in the last 24 hours, and the rest of the hour before them, and did not go in since,
without those from a token that does not reach it.';
