-- Heartbeats say something of our clock as well, and what speaks against it alone for long ends in single refusals.

alter table core.dpu_state add column agreed_at timestamptz;
comment on column core.dpu_state.agreed_at is 'When a heartbeat came the last time whose own time agreed with our clock; null: none did. One without a time says nothing.';
alter table core.dpu_clock add column heartbeat_time timestamptz;
comment on column core.dpu_clock.heartbeat_time is 'The own instant of the heartbeat that was refused for its time the last time.';

create table core.clock_suspicion (
  is_only boolean not null default true constraint clock_suspicion_pkey primary key
    constraint clock_suspicion_is_only_check check (is_only),
  since_at timestamptz not null,
  judged_at timestamptz not null,
  is_confirmed boolean not null
);
comment on table core.clock_suspicion is 'The latest time in which most DPUs were ahead of our clock; no row: there was none. core.note_suspicion writes it.';
comment on column core.clock_suspicion.since_at is 'When it began.';
comment on column core.clock_suspicion.judged_at is 'When it was looked at the last time.';
comment on column core.clock_suspicion.is_confirmed is 'Whether something else than those few DPUs spoke against our clock then (core.is_suspicion_confirmed).';
