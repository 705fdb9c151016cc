-- Silence that counts, and silence that means nothing (docs/sensors.md). What is received is a sign of life as well.

alter table core.dpu add column offline_after_seconds integer
  constraint dpu_offline_after_seconds_check check (offline_after_seconds between 1 and 2678400);
comment on column core.dpu.offline_after_seconds is 'It is offline after so much silence. Null: as its space says, or a space above, else core.get_offline_after.';
create index dpu_offline_after_seconds_idx on core.dpu (offline_after_seconds) where offline_after_seconds is not null;

alter table core.dpu_state add column sends_heartbeats boolean not null default false;
alter table core.dpu_state add column first_heard_at timestamptz;
alter table core.dpu_state add column armed_at timestamptz;
comment on column core.dpu_state.last_seen_at is 'The latest sign of life: an event or a heartbeat at its device time (or its receipt, if that is earlier), or the receipt of any message that is not a duplicate or backfilled. Null: never seen.';
comment on column core.dpu_state.last_heartbeat_at is 'Its latest heartbeat, at its device time or, if that is earlier, at its receipt.';
comment on column core.dpu_state.offline_after_seconds is 'After how much silence it is offline, as it says itself or else the space in which it is mounted now. Null: nobody says; core.get_offline_after. Derived by core.rebase_offline_after.';
comment on column core.dpu_state.sends_heartbeats is 'It has sent a heartbeat, maybe a refused one.';
comment on column core.dpu_state.first_heard_at is 'When the first message of it was received that was not backfilled. Null: none was.';
comment on column core.dpu_state.armed_at is 'Since when its silence counts: it was heard, and it sends heartbeats or has offline_after_seconds. Null: its silence means nothing.';

-- Made with its DPU (core.register_dpus). A transaction that updates a row twice would look its DPU up each time.
alter table core.dpu_state drop constraint dpu_state_dpu_id_fkey;

alter table core.outage add column counted_from timestamptz;
comment on column core.outage.back_at is 'The first sign of life after, or when its silence no longer counted; null: it lasts.';
comment on column core.outage.counted_from is 'Since when this silence counted: heard_at, or when the DPU was armed if that was later. Null: heard_at.';

-- Up to now all silence counted, from the first sign on.
update core.dpu_state s set
  sends_heartbeats = s.last_heartbeat_at is not null,
  first_heard_at = f.recorded_at,
  armed_at = case when s.last_heartbeat_at is not null or s.offline_after_seconds is not null then f.recorded_at end
from (select g.dpu_id, min(g.recorded_at) as recorded_at from core.first_sign g group by g.dpu_id) f
where f.dpu_id = s.dpu_id;

-- The silence of the others means nothing: they are not offline, and whoever was told so is told that this is corrected.
update core.outage o set superseded_at = clock_timestamp(), pending = o.incident_id is not null
from core.dpu_state s
where s.dpu_id = o.dpu_id and s.armed_at is null and o.superseded_at is null and o.back_at is null;
update core.dpu_state s set
  offline_at = null,
  steady_from = greatest(
    (select min(f.at) from core.first_sign f where f.dpu_id = s.dpu_id),
    (select max(o.back_at) from core.outage o where o.dpu_id = s.dpu_id and o.superseded_at is null))
where s.armed_at is null and s.offline_at is not null;
