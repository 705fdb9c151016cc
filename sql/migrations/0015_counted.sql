-- Since when something counts for each space. What follows from facts that are here already is derived by
-- repeatable/85_derived.sql, under the lock of the floor plan, in the transaction that brings the functions.

create table core.first_event (
  placement_id integer not null constraint first_event_placement_id_fkey references core.placement,
  at timestamptz not null,
  recorded_at timestamptz not null,
  constraint first_event_pkey primary key (placement_id, at)
);
comment on table core.first_event is 'The earliest event of a DPU during each placement, as far as was known: an earlier one that comes later is a further row. Of those recorded by an instant the lowest holds. Kept by the transaction that stores the event or records the placement; it stays when events are dropped.';
comment on column core.first_event.at is 'Device time. Infinity: no event was there when the placement was recorded.';
comment on column core.first_event.recorded_at is 'When it was known: the event had been received and the placement recorded.';

alter table core.dpu_state add column first_from timestamptz not null default '-infinity';
comment on column core.dpu_state.first_from is 'Events from here on leave core.first_event as it is.';

alter table core.live_space add column counted_since timestamptz;
comment on column core.live_space.counted_since is 'The earliest event with a sign for the space, or explicit reset of it; null: nothing counts for it. It never goes out of date.';
