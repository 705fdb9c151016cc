-- Sensors that fall silent: when each was heard from, when somebody listened, outages and incidents.

alter table core.space add column offline_after_seconds integer
  constraint space_offline_after_seconds_check check (offline_after_seconds between 1 and 2678400);
comment on column core.space.offline_after_seconds is 'A DPU that is mounted in it is offline after so much silence. Null: as the parent says, at the root core.get_offline_after.';
create index space_offline_after_seconds_idx on core.space (offline_after_seconds) where offline_after_seconds is not null;

-- No index on any of these, and room on each page for all of its rows once more and what their lists of versions take:
-- the updates stay on their page, also where one transaction brings heartbeats of all of them.
alter table core.dpu_state set (fillfactor = 40);
alter table core.dpu_state add column last_seen_at timestamptz;
alter table core.dpu_state add column earlier_seen_at timestamptz;
alter table core.dpu_state add column last_heartbeat_at timestamptz;
alter table core.dpu_state add column earlier_heartbeat_at timestamptz;
alter table core.dpu_state add column steady_from timestamptz;
alter table core.dpu_state add column offline_at timestamptz;
alter table core.dpu_state add column offline_after_seconds integer;
comment on table core.dpu_state is 'What is known of a DPU: what its events add up to, and when it was heard from. Kept by whatever stores its events and heartbeats, in that transaction; its row is also the lock under which that is done. Pages are filled to 40 percent: the updates stay on their page.';
comment on column core.dpu_state.last_seen_at is 'The latest sign of life: an event or a heartbeat, at its device time or, if that is earlier, when it was received. Null: never seen.';
comment on column core.dpu_state.earlier_seen_at is 'last_seen_at before the last transaction that brought signs.';
comment on column core.dpu_state.last_heartbeat_at is 'The same of heartbeats alone.';
comment on column core.dpu_state.earlier_heartbeat_at is 'last_heartbeat_at before the last transaction that brought heartbeats.';
comment on column core.dpu_state.steady_from is 'Signs from here up to last_seen_at change nothing about its outages: it was heard here for the first time, or was back from its latest outage.';
comment on column core.dpu_state.offline_at is 'Since when it is offline; null: it is not. That of its open row in core.outage.';
comment on column core.dpu_state.offline_after_seconds is 'After how much silence it is offline, as the space says in which it is mounted now. Null: core.get_offline_after. Derived by core.rebase_offline_after.';

create table core.first_sign (
  dpu_id integer not null,
  at timestamptz not null,
  recorded_at timestamptz not null,
  constraint first_sign_pkey primary key (dpu_id, at)
);
comment on table core.first_sign is 'When a DPU was heard from for the first time, as far as was known: an earlier sign that comes later is a further row.';

create table core.listening (
  from_at timestamptz not null constraint listening_pkey primary key,
  until_at timestamptz not null,
  heard_before bigint not null,
  ticked_at timestamptz not null,
  constraint listening_check check (from_at <= until_at)
);
create index listening_heard_before_idx on core.listening (heard_before, from_at);
comment on table core.listening is 'When some process of the service was there to hear: what lies between two rows does not count as the sensors'' silence. The latest row grows in place while notes follow one another within 5 seconds.';
comment on column core.listening.heard_before is 'Microseconds of all earlier rows together.';
comment on column core.listening.ticked_at is 'Up to when planned moves have been looked at (api.detect_outages).';

create table core.incident (
  incident_id bigint generated always as identity constraint incident_pkey primary key,
  kind text not null constraint incident_kind_check check (kind in ('dpu_offline', 'site_offline')),
  space_id integer constraint incident_space_id_fkey references core.space on delete set null,
  dpu_id integer,
  started_at timestamptz not null,
  ended_at timestamptz,
  corrected boolean not null default false,
  absorbed_by bigint constraint incident_absorbed_by_fkey references core.incident,
  recorded_at timestamptz not null
);
create index incident_space_id_idx on core.incident (space_id);
create index incident_open_idx on core.incident (incident_id) where ended_at is null;
comment on table core.incident is 'What people are told of: the outage of a DPU, or of most of a site at once. Made, ended and corrected by api.detect_outages alone.';
comment on column core.incident.space_id is 'dpu_offline: the space in which the DPU was mounted (null: it hung nowhere). site_offline: the root of the tree.';
comment on column core.incident.dpu_id is 'Of dpu_offline.';
comment on column core.incident.corrected is 'There was no such outage: a sign that came late says so.';
comment on column core.incident.absorbed_by is 'The incident of the site that has taken the place of this one.';

create table core.incident_dpu (
  incident_id bigint not null constraint incident_dpu_incident_id_fkey references core.incident,
  dpu_id integer not null,
  offline_at timestamptz not null,
  constraint incident_dpu_pkey primary key (incident_id, dpu_id)
);
create index incident_dpu_dpu_id_idx on core.incident_dpu (dpu_id);
comment on table core.incident_dpu is 'The DPUs of an incident, and when each went offline for the first time in it.';

create table core.outage (
  outage_id bigint generated always as identity constraint outage_pkey primary key,
  dpu_id integer not null,
  heard_at timestamptz not null,
  offline_at timestamptz not null,
  back_at timestamptz,
  offline_after_seconds integer not null,
  recorded_at timestamptz not null,
  superseded_at timestamptz,
  detected_at timestamptz not null,
  incident_id bigint constraint outage_incident_id_fkey references core.incident,
  pending boolean not null,
  constraint outage_check check (heard_at < offline_at and offline_at < back_at)
);
create unique index outage_dpu_id_heard_at_idx on core.outage (dpu_id, heard_at) where superseded_at is null;
create index outage_dpu_id_offline_at_idx on core.outage (dpu_id, offline_at);
create index outage_offline_at_idx on core.outage (offline_at) where superseded_at is null;
create index outage_incident_id_idx on core.outage (incident_id);
create index outage_pending_idx on core.outage (outage_id) where pending;
comment on table core.outage is 'When DPUs were offline: from offline_at until back_at. Facts are superseded, never rewritten: also when the DPU comes back. Two flips each.';
comment on column core.outage.heard_at is 'The last sign of life before.';
comment on column core.outage.back_at is 'The first sign of life after; null: none yet.';
comment on column core.outage.offline_after_seconds is 'After how much silence it began: what held when it was recorded.';
comment on column core.outage.detected_at is 'When it was recorded first, whatever was corrected since.';
comment on column core.outage.incident_id is 'The incident it belongs to. Null: none yet, or it was over for long when it became known.';
comment on column core.outage.pending is 'The incidents have to be brought in line with it.';

-- placements that begin or end by the clock alone
create index placement_from_idx on core.placement (lower(during)) where superseded_at is null;
create index placement_until_idx on core.placement (upper(during)) where superseded_at is null;

alter table core.change add column flipped_ids integer[];
comment on column core.change.flipped_ids is 'DPUs that went offline, came back, or were heard from for the first time.';

update core.dpu_state s set last_seen_at = least(s.latest_time, clock_timestamp()), steady_from = least(s.first_time, clock_timestamp())
where s.latest_time is not null;
insert into core.first_sign (dpu_id, at, recorded_at)
select s.dpu_id, s.steady_from, d.registered_at
from core.dpu_state s
join core.dpu d on d.dpu_id = s.dpu_id
where s.steady_from is not null;
