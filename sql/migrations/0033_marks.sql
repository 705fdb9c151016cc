-- Late marks say what they bring, so that counts need not read it from the events of every marked quarter-hour.

alter table core.late_mark
  add column net bigint,
  add column net_at_start bigint,
  add column towards bigint,
  add column away bigint,
  add column moment numeric;
comment on table core.late_mark is 'Quarter-hours of DPUs in which events were stored late, and what these add to the rollups. Insert-only for those who store events, so that they never wait for one another; core.refresh_rollups takes the marks away.';
comment on column core.late_mark.net is 'As the columns behind it, in the meaning of core.dpu_flow_15m_v1 (moment with its carry): what the transaction added. Null: the rollups may hold it already; the quarter-hour is read from events.';
create index late_mark_void_idx on core.late_mark (dpu_id, bucket) where net is null;

-- A refresh that runs while this is applied knows nothing of these columns: until the next one begins, all marks count as under refresh.
alter table core.rollup_state
  add column refreshing_from timestamptz not null default '-infinity',
  add column refreshing_until timestamptz not null default 'infinity';
comment on column core.rollup_state.refreshing_from is 'From here to before refreshing_until the rollups are being refreshed: they may hold what marks bring. A refresh that failed leaves it until the next one begins.';
