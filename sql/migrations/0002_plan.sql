-- The floor plan: what is where. Facts about it are superseded, never overwritten.

create table core.space (
  space_id integer generated always as identity constraint space_pkey primary key,
  id text collate "C" not null constraint space_id_key unique
    constraint space_id_check check (id ~ '^[A-Za-z0-9._:-]{1,64}$'),
  parent_id integer constraint space_parent_id_fkey references core.space,
  name text constraint space_name_check check (length(name) <= 200),
  capacity integer constraint space_capacity_check check (capacity >= 0),
  opening_hours jsonb
);
create index space_parent_id_idx on core.space (parent_id);
comment on table core.space is 'A place where people are counted: campus, building, floor, room. A tree.';
comment on column core.space.id is 'The id its owner gave it; space_id is ours and never shown.';
comment on column core.space.parent_id is 'The space around it. A fact about the building that always was: it applies to the whole history.';
comment on column core.space.capacity is 'How many people may be in it at once.';
comment on column core.space.opening_hours is 'Array of {day: 0 (Monday) to 6, open, close} in local time. Null: not known.';

create table core.schedule (
  schedule_id integer generated always as identity constraint schedule_pkey primary key,
  space_id integer not null constraint schedule_space_id_fkey references core.space on delete cascade,
  time_zone text,
  reset_at text constraint schedule_reset_at_check check (reset_at = 'never' or reset_at ~ '^([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?$'),
  recorded_at timestamptz not null,
  superseded_at timestamptz
);
create unique index schedule_space_id_idx on core.schedule (space_id) where superseded_at is null;
create index schedule_space_id_recorded_at_idx on core.schedule (space_id, recorded_at);
comment on table core.schedule is 'What a space itself says about its zone and its daily reset; null: as its parent says. The rows that hold now have no superseded_at.';
comment on column core.schedule.time_zone is 'IANA name.';
comment on column core.schedule.reset_at is 'Local time of the daily reset to 0, HH:MM or HH:MM:SS, or never.';

create table core.doorway (
  doorway_id integer generated always as identity constraint doorway_pkey primary key,
  id text collate "C" not null constraint doorway_id_key unique
    constraint doorway_id_check check (id ~ '^[A-Za-z0-9._:-]{1,64}$'),
  name text constraint doorway_name_check check (length(name) <= 200),
  side_a_id integer constraint doorway_side_a_id_fkey references core.space,
  side_b_id integer constraint doorway_side_b_id_fkey references core.space,
  constraint doorway_check check (side_a_id is distinct from side_b_id)
);
create index doorway_side_a_id_idx on core.doorway (side_a_id);
create index doorway_side_b_id_idx on core.doorway (side_b_id);
comment on table core.doorway is 'An opening between two sides; a side is a space, or null for the outside. The sides are fixed once a DPU was placed there.';

create table core.boundary (
  space_id integer not null constraint boundary_space_id_fkey references core.space,
  doorway_id integer not null constraint boundary_doorway_id_fkey references core.doorway,
  inner_side smallint not null constraint boundary_inner_side_check check (inner_side in (1, 2)),
  constraint boundary_pkey primary key (space_id, doorway_id)
);
create index boundary_doorway_id_idx on core.boundary (doorway_id);
comment on table core.boundary is 'The outer doorways of each space: those with exactly one side in its subtree. Derived from space and doorway by core.rebuild_boundary in the transaction that changes them.';
comment on column core.boundary.inner_side is 'The side in the subtree: 1 is side a, 2 is side b.';

create table core.dpu (
  dpu_id integer generated always as identity constraint dpu_pkey primary key,
  id text collate "C" not null constraint dpu_id_key unique
    constraint dpu_id_check check (id ~ '^[A-Za-z0-9._:-]{1,64}$'),
  name text constraint dpu_name_check check (length(name) <= 200),
  mac_address macaddr constraint dpu_mac_address_key unique,
  registered_at timestamptz not null default clock_timestamp()
);
comment on table core.dpu is 'A sensor above a doorway. One that was never placed is kept as well: its events count as soon as it is.';

create table core.placement (
  placement_id integer generated always as identity constraint placement_pkey primary key,
  dpu_id integer not null constraint placement_dpu_id_fkey references core.dpu,
  doorway_id integer not null constraint placement_doorway_id_fkey references core.doorway,
  mounted_side smallint not null constraint placement_mounted_side_check check (mounted_side in (1, 2)),
  during tstzrange not null constraint placement_during_check check (not isempty(during) and lower_inc(during) and not upper_inc(during)),
  recorded_at timestamptz not null,
  superseded_at timestamptz,
  constraint placement_dpu_id_during_excl exclude using gist (dpu_id with =, during with &&) where (superseded_at is null)
);
create index placement_doorway_id_idx on core.placement (doorway_id);
comment on table core.placement is 'One DPU above one doorway during [from, until). What was believed earlier stays, with the instant at which it was superseded.';
comment on column core.placement.mounted_side is 'The side it is mounted on: 1 is side a of the doorway, 2 is side b. A person who walks towards the DPU walks into that side.';

create table core.reset (
  reset_id integer generated always as identity constraint reset_pkey primary key,
  space_id integer not null constraint reset_space_id_fkey references core.space,
  at timestamptz not null,
  count integer not null constraint reset_count_check check (count >= 0),
  recorded_at timestamptz not null,
  superseded_at timestamptz
);
create unique index reset_space_id_at_idx on core.reset (space_id, at) where superseded_at is null;
create index reset_space_id_at_recorded_at_idx on core.reset (space_id, at, recorded_at);
comment on table core.reset is 'At this instant the space held exactly this many people. The daily ones follow from the schedule and are not stored.';
