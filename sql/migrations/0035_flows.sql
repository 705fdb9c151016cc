-- Which events belong to the other flow than their direction says: corrections of what counters of people in (or out)
-- had contributed. They are few, so they stand beside the events, and entries and exits are corrected by them.

create table core.turned_event (
  dpu_id integer not null,
  time timestamptz not null,
  sequence smallint not null,
  people bigint not null,
  constraint turned_event_pkey primary key (dpu_id, time, sequence),
  constraint turned_event_people_check check (people > 0)
);
comment on table core.turned_event is
'Events of which the flow is not the sign of the direction: fewer people in (direction < 0, flow in) are no exit, and
fewer out no entry. Written by core.store_flows with the event. Rows stay when events are dropped.';
comment on column core.turned_event.time is 'Of the event, as dpu_id and sequence.';
comment on column core.turned_event.people is
'The amount of its direction. Events were added up by the sign of their direction: both entries and exits are less by
it.';
