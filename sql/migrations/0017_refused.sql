-- What was refused can be listed, run again and counted; it is bounded and does not stay for ever. And from when on
-- events are taken at all.

alter table core.rollup_state add column horizon_at timestamptz not null default '2010-01-01 00:00:00+00';
comment on column core.rollup_state.horizon_at is 'Events, heartbeats and polls before this instant are refused as too_old: HEADCOUNT_EVENTS_FROM, written by api.set_horizon. What is stored of before stays and counts.';

alter table core.rejected_event add column rejected_id bigint generated always as identity;
alter table core.rejected_event add column source text;
alter table core.rejected_event add column rerun_at timestamptz;
create unique index rejected_event_rejected_id_idx on core.rejected_event (rejected_id);
create index rejected_event_received_at_rejected_id_idx on core.rejected_event (received_at, rejected_id);
create index rejected_event_dpu_received_at_rejected_id_idx on core.rejected_event (dpu, received_at, rejected_id) where dpu is not null;
drop index core.rejected_event_received_at_idx;
comment on table core.rejected_event is 'Everything that was refused, with the reason, for 30 days. A refused event that is sent again is kept once.';
comment on column core.rejected_event.source is 'The source by which it came; null: it came without one.';
comment on column core.rejected_event.rerun_at is 'When it was run again and went in; null: it did not.';
comment on column core.rejected_event.body is 'The text as it came, for what could not be decoded: the first 1,000 characters, and how many there were.';
update core.rejected_event r
set body = left(r.body, 1000) || format(' … (the first of %s characters)', to_char(length(r.body), 'FM999,999,999'))
where length(r.body) > 1000;
update core.rejected_poll r
set body = left(r.body, 1000) || format(' … (the first of %s characters)', to_char(length(r.body), 'FM999,999,999'))
where length(r.body) > 1000;

create table core.dpu_clock (
  dpu_id integer not null constraint dpu_clock_pkey primary key
    constraint dpu_clock_dpu_id_fkey references core.dpu on delete cascade,
  refused_at timestamptz,
  refused_time timestamptz,
  code text,
  repeated_time timestamptz,
  repeated_from timestamptz,
  repeated_until timestamptz,
  repeats integer not null default 0,
  conflicts integer not null default 0
);
create index dpu_clock_refused_at_idx on core.dpu_clock (refused_at) where code = 'in_future';
comment on table core.dpu_clock is 'What speaks against the clock of a DPU: the latest refusal for its time, and the instant that its messages repeat. No row: nothing. core.get_clock says what it amounts to.';
comment on column core.dpu_clock.refused_at is 'When an event of it was refused for its time the last time.';
comment on column core.dpu_clock.refused_time is 'That event''s own instant.';
comment on column core.dpu_clock.code is 'Why: in_future, too_old or clock_unset.';
comment on column core.dpu_clock.repeated_time is 'The one instant of all events of its latest message that had duplicates or conflicts; null: that had several.';
comment on column core.dpu_clock.repeated_from is 'When the first message came that repeated this instant.';
comment on column core.dpu_clock.repeated_until is 'When the latest one came.';
comment on column core.dpu_clock.repeats is 'How many messages repeated it.';
comment on column core.dpu_clock.conflicts is 'How many events of them were conflicts.';

create table core.dropped_refusal (
  kind text not null constraint dropped_refusal_pkey primary key
    constraint dropped_refusal_kind_check check (kind in ('event', 'poll')),
  count bigint not null
);
comment on table core.dropped_refusal is 'How many refused events and polls were dropped because they were 30 days old.';
