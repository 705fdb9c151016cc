-- Rollups per DPU (model.md section 4, layer 2), what says how far they can be trusted, and live rows (layer 3).

-- Events say how late they came, not when: in the columnstore a small number takes a third of an instant's bytes.
alter table core.event rename to old_event;
alter table core.old_event rename constraint event_pkey to old_event_pkey;

create table core.event (
  time timestamptz not null,
  lag_ms bigint not null,
  dpu_id integer not null,
  direction integer not null,
  sequence smallint not null,
  constraint event_pkey primary key (dpu_id, time, sequence),
  constraint event_sequence_check check (sequence >= 0)
);
comment on table core.event is 'One report of a DPU. Identity: dpu_id, time, sequence. It belongs to the DPU; which doorway it counted for follows from the placement at its time. No foreign key on dpu_id: api.record_events resolves it, and DPUs are never deleted.';
comment on column core.event.time is 'The device''s own instant.';
comment on column core.event.lag_ms is 'When the service took it in: whole milliseconds after time, rounded down; negative for a clock that is ahead. core.get_received_at makes it an instant.';
comment on column core.event.direction is 'People towards the DPU (into the side it is mounted on); negative: away from it.';
comment on column core.event.sequence is 'Tells apart events of one DPU at one instant.';

select public.create_hypertable('core.event', public.by_range('time', interval '1 day'), create_default_indexes => false);

insert into core.event (time, lag_ms, dpu_id, direction, sequence)
select e.time, floor(extract(epoch from e.received_at - e.time) * 1000)::bigint, e.dpu_id, e.direction, e.sequence
from core.old_event e;
drop table core.old_event;

-- no bloom filters, which would take a fifth of the bytes: batches are found by dpu_id and time
alter table core.event set (
  timescaledb.enable_columnstore,
  timescaledb.segmentby = 'dpu_id',
  timescaledb.orderby = 'time, sequence',
  timescaledb.sparse_index = ''
);

-- What was last heard is the latest event, by the clock of the DPU or, where that is ahead, ours.
alter table core.dpu_state drop column last_seen_at;
alter table core.dpu_state add column first_time timestamptz;
alter table core.dpu_state add column earlier_time timestamptz;
alter table core.dpu_state add column live_from timestamptz not null default '-infinity';
comment on column core.dpu_state.first_time is 'The earliest event''s own instant.';
comment on column core.dpu_state.earlier_time is 'latest_time before the last transaction that stored events: later ones of that transaction cannot be stored yet.';
update core.dpu_state s set first_time = e.first_time
from (select e.dpu_id, min(e.time) as first_time from core.event e group by e.dpu_id) e
where e.dpu_id = s.dpu_id;
comment on column core.dpu_state.live_from is 'Events from here on leave core.live_flow as it is.';

create materialized view core.dpu_flow_15m_v1
with (timescaledb.continuous, timescaledb.materialized_only = true) as
select
  public.time_bucket(interval '15 minutes', e.time) as bucket,
  e.dpu_id,
  sum(e.direction) as net,
  sum(greatest(e.direction, 0)) as towards,
  sum(greatest(-e.direction::bigint, 0))::bigint as away,
  -- people times microseconds into the quarter-hour: whole 10^18 (none but for absurd directions), and the rest
  div(sum(e.direction * extract(epoch from e.time - public.time_bucket(interval '15 minutes', e.time)) * 1000000), 1000000000000000000)::integer as moment_carry,
  mod(sum(e.direction * extract(epoch from e.time - public.time_bucket(interval '15 minutes', e.time)) * 1000000), 1000000000000000000)::bigint as moment,
  coalesce(sum(e.direction) filter (where e.time = public.time_bucket(interval '15 minutes', e.time)), 0)::bigint as net_at_start
from core.event e
group by 1, 2
with no data;
comment on view core.dpu_flow_15m_v1 is 'What a DPU reported in each quarter-hour. Only what was materialised: core.dpu_flow_15m says what is true.';

create materialized view core.dpu_flow_1d_v1
with (timescaledb.continuous, timescaledb.materialized_only = true) as
select
  public.time_bucket(interval '1 day', f.bucket) as bucket,
  f.dpu_id,
  sum(f.net)::bigint as net
from core.dpu_flow_15m_v1 f
group by 1, 2
with no data;
comment on view core.dpu_flow_1d_v1 is 'The same by UTC days, for long sums.';

create materialized view core.dpu_flow_30d_v1
with (timescaledb.continuous, timescaledb.materialized_only = true) as
select
  public.time_bucket(interval '30 days', f.bucket) as bucket,
  f.dpu_id,
  sum(f.net)::bigint as net
from core.dpu_flow_1d_v1 f
group by 1, 2
with no data;
comment on view core.dpu_flow_30d_v1 is 'The same by 30 days, for sums over years.';

select public.set_chunk_time_interval('core.dpu_flow_1d_v1', interval '180 days');
select public.set_chunk_time_interval('core.dpu_flow_30d_v1', interval '3600 days');
alter materialized view core.dpu_flow_15m_v1 set (
  timescaledb.enable_columnstore, timescaledb.segmentby = 'dpu_id', timescaledb.orderby = 'bucket');

create table core.rollup_state (
  is_only boolean not null default true constraint rollup_state_pkey primary key constraint rollup_state_is_only_check check (is_only),
  materialized_until timestamptz not null,
  refreshed_at timestamptz,
  keep_days integer constraint rollup_state_keep_days_check check (keep_days >= 8),
  events_from timestamptz not null default '-infinity',
  retired_at timestamptz,
  constraint rollup_state_check check (events_from <= materialized_until)
);
comment on table core.rollup_state is 'One row: everything before materialized_until has been refreshed. Moves only after the refresh that covers it has committed.';
comment on column core.rollup_state.keep_days is 'Events older than this are dropped. Null: never.';
comment on column core.rollup_state.events_from is 'Events before this instant, a midnight of UTC, are not read any more, nor taken: rollups and core.kept_event stand for them. Their chunks are dropped later.';
comment on column core.rollup_state.retired_at is 'When events_from moved last.';
insert into core.rollup_state (materialized_until) values ('2000-01-01 00:00:00+00');

create table core.late_mark (
  dpu_id integer not null,
  bucket timestamptz not null,
  xid xid8 not null default pg_current_xact_id()
);
create index late_mark_dpu_id_bucket_idx on core.late_mark (dpu_id, bucket);
comment on table core.late_mark is 'Quarter-hours of DPUs in which an event was stored late: until the next refresh has covered them, their rollups are wrong. Insert-only, so that writers never wait for one another.';

create table core.kept_event (
  time timestamptz not null,
  lag_ms bigint not null,
  dpu_id integer not null,
  direction integer not null,
  sequence smallint not null,
  constraint kept_event_pkey primary key (dpu_id, time, sequence)
);
comment on table core.kept_event is 'Events before rollup_state.events_from that are still needed: those of quarter-hours within which a placement begins or ends or a reset falls, so that their rollup does not do. Of a DPU and a quarter-hour all or none. Columns as core.event.';

create table core.live_space (
  space_id integer not null constraint live_space_pkey primary key
    constraint live_space_space_id_fkey references core.space on delete cascade,
  since timestamptz not null,
  base integer not null,
  until_at timestamptz not null
);
comment on table core.live_space is 'Where the current count of a space starts, as core.live_flow has it. Derived; from until_at on (the next daily reset) it is out of date, and readers count anew until core.rebase_due has been.';

create table core.live_flow (
  space_id integer not null constraint live_flow_space_id_fkey references core.space on delete cascade,
  dpu_id integer not null constraint live_flow_dpu_id_fkey references core.dpu,
  from_at timestamptz not null,
  until_at timestamptz not null,
  sign smallint not null,
  net bigint not null,
  constraint live_flow_pkey primary key (space_id, dpu_id, from_at)
) with (fillfactor = 50);
create index live_flow_dpu_id_idx on core.live_flow (dpu_id);
comment on table core.live_flow is 'What the current count of a space is made of: each DPU above an outer doorway since live_space.since, in [from_at, until_at). Kept by the transaction that stores the events; derived anew by whatever changes placements, resets, schedules or the tree. Half-full pages: the updates stay on their page.';
comment on column core.live_flow.net is 'Where until_at is infinity: what to add to core.dpu_state.cumulative_count for the sum of directions in [from_at, until_at), so that events that are not late change nothing here. Else that sum itself.';

create table core.live_change (
  space_id integer not null
);
comment on table core.live_change is 'Spaces whose live rows the running transaction has to derive anew before it ends; empty outside of one.';

insert into core.live_space (space_id, since, base, until_at)
select s.space_id, '-infinity', 0, '-infinity' from core.space s;
