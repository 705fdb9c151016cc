-- Late marks say what they bring, so that counts need not read it from the events of every marked quarter-hour.

alter table core.late_mark
  add column net bigint,
  add column net_at_start bigint,
  add column towards bigint,
  add column away bigint,
  add column moment numeric,
  add column first_xid xid8,
  add column is_doubtful boolean not null default false;
-- Apart, so that the table is not written anew: to whoever began before, it would be empty.
alter table core.late_mark alter column first_xid set default pg_current_xact_id();
-- rows are written again and again, beside their place where there is room
alter table core.late_mark set (
  fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05
);
comment on table core.late_mark is 'Quarter-hours of DPUs in which events were stored late, and what these add to the rollups: one row each, as a rule. Who stores events never waits for it: what another transaction holds gets a further row. core.refresh_rollups takes the marks away.';
comment on column core.late_mark.xid is 'The last transaction that added to it.';
comment on column core.late_mark.first_xid is 'The first transaction that added to it. Null: not known, and neither is net.';
comment on column core.late_mark.net is 'As the columns behind it, in the meaning of core.dpu_flow_15m_v1 (moment with its carry): what the transactions added. Null: not known, or core.dpu_total may hold it already; the quarter-hour is read from events.';
comment on column core.late_mark.is_doubtful is 'core.dpu_flow_15m_v1 may hold some of it already. Where it is so, or net is null, the mark is void: the quarter-hour is read from events.';
create index late_mark_void_idx on core.late_mark (dpu_id, bucket) where net is null or is_doubtful;

-- A refresh that runs while this is applied knows nothing of these columns: until the next one begins, all marks count as under refresh.
alter table core.rollup_state
  add column refreshing_from timestamptz not null default '-infinity',
  add column refreshing_until timestamptz not null default 'infinity';
comment on column core.rollup_state.refreshing_from is 'From here to before refreshing_until the rollups are being refreshed: they may hold what marks bring. A refresh that failed leaves it until the next one begins.';

create table core.refreshed_range (
  from_at timestamptz not null,
  until_at timestamptz not null,
  refreshed_at timestamptz not null,
  readers text[]
);
comment on table core.refreshed_range is 'Where late marks went lately. Chunks of rollups there are not compressed yet: compressed rows are seen by statements that began before, and these see the marks, too.';
comment on column core.refreshed_range.readers is 'Transactions (pg_locks.virtualtransaction) that ran when the marks had gone. Null: not looked at yet.';
