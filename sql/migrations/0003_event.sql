-- What the DPUs report. Rows of core.event are never updated or deleted by the service.

create table core.event (
  time timestamptz not null,
  received_at timestamptz not null,
  dpu_id integer not null,
  direction integer not null,
  sequence smallint not null,
  constraint event_pkey primary key (dpu_id, time, sequence),
  constraint event_sequence_check check (sequence >= 0)
);
comment on table core.event is 'One report of a DPU. Identity: dpu_id, time, sequence. It belongs to the DPU; which doorway it counted for follows from the placement at its time. No foreign key on dpu_id: api.record_events resolves it, and DPUs are never deleted.';
comment on column core.event.time is 'The device''s own instant.';
comment on column core.event.received_at is 'When the service took it in.';
comment on column core.event.direction is 'People towards the DPU (into the side it is mounted on); negative: away from it.';
comment on column core.event.sequence is 'Tells apart events of one DPU at one instant.';

select public.create_hypertable('core.event', public.by_range('time', interval '1 day'), create_default_indexes => false);

alter table core.event set (
  timescaledb.enable_columnstore,
  timescaledb.segmentby = 'dpu_id',
  timescaledb.orderby = 'time, sequence'
);

create table core.dpu_state (
  dpu_id integer not null constraint dpu_state_pkey primary key constraint dpu_state_dpu_id_fkey references core.dpu,
  cumulative_count bigint not null default 0,
  latest_time timestamptz,
  last_seen_at timestamptz
) with (fillfactor = 50);
comment on table core.dpu_state is 'What the events of a DPU add up to, kept by api.record_events in the transaction that stores them. Its row is also the lock under which the events of a DPU are stored. Half-full pages: the updates stay on their page.';
comment on column core.dpu_state.cumulative_count is 'Sum of all directions.';
comment on column core.dpu_state.latest_time is 'The latest event''s own instant.';
comment on column core.dpu_state.last_seen_at is 'The latest device time accepted, or the instant it was received if that is earlier.';

create table core.rejected_event (
  digest bytea not null constraint rejected_event_pkey primary key,
  received_at timestamptz not null,
  code text not null,
  detail text not null,
  dpu text,
  time timestamptz,
  direction integer,
  sequence smallint,
  body text
);
create index rejected_event_received_at_idx on core.rejected_event (received_at);
comment on table core.rejected_event is 'Everything that was refused, with the reason. A refused event that is sent again is kept once.';
comment on column core.rejected_event.digest is 'SHA-256 of code, identity and body.';
comment on column core.rejected_event.body is 'The text as it came, for what could not be decoded.';

create table core.import (
  digest text not null constraint import_pkey primary key,
  file_name text not null,
  lines bigint not null,
  accepted bigint not null,
  duplicates bigint not null,
  rejected bigint not null,
  finished boolean not null,
  updated_at timestamptz not null
);
comment on table core.import is 'How far the import of each file has come, so that it can go on after an interruption.';
comment on column core.import.digest is 'SHA-256 of the file, hexadecimal.';
comment on column core.import.lines is 'Lines of the file that are done, header included.';
