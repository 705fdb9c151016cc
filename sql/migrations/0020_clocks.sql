-- What speaks against our own clock marks no DPU, and refused heartbeats speak against the clock of theirs.

alter table core.dpu_clock add column suspected_at timestamptz;
alter table core.dpu_clock add column heartbeat_refused_at timestamptz;
alter table core.dpu_clock add column heartbeat_code text;
create index dpu_clock_suspected_at_idx on core.dpu_clock (suspected_at) where suspected_at is not null;
create index dpu_clock_heartbeat_refused_at_idx on core.dpu_clock (dpu_id) where heartbeat_refused_at is not null;
comment on column core.dpu_clock.suspected_at is 'When an event of it was told to come again the last time, since our clock looked wrong (clock_suspect). It says nothing of the clock of the DPU.';
comment on column core.dpu_clock.heartbeat_refused_at is 'When a heartbeat of it was refused for its time the last time; null: none was, or one with a time was accepted since.';
comment on column core.dpu_clock.heartbeat_code is 'Why: in_future, too_old or clock_unset.';
