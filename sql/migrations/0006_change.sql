-- The feed of changes behind GET /v1/live: what a transaction changed, found again by the transaction's id.

create table core.change (
  xid xid8 not null default pg_current_xact_id(),
  changed_at timestamptz not null,
  dpu_ids integer[],
  space_ids integer[],
  spaces text[],
  ahead_until timestamptz
);
create index change_xid_idx on core.change (xid);
create index change_ahead_until_idx on core.change (ahead_until) where ahead_until is not null;
comment on table core.change is 'What the transactions of the last hour changed. Insert-only, so that writers never wait for one another; read by snapshot (api.list_changes), so that a transaction which began early and commits late is not missed.';
comment on column core.change.dpu_ids is 'DPUs of which events were stored.';
comment on column core.change.space_ids is 'Spaces whose count was derived anew: moves, resets, schedules, the tree.';
comment on column core.change.spaces is 'The ids, as their owners gave them, of spaces that were created, changed or deleted themselves.';
comment on column core.change.ahead_until is 'The latest of the events'' own instants if it lay ahead of the clock: until then counts change without a transaction.';

-- which daily resets came due
create index live_space_until_at_idx on core.live_space (until_at);
