-- Notices, and the channels that they go out by. A notice is stored in the transaction of what it tells (an outbox).

create table core.channel (
  channel_id integer generated always as identity constraint channel_pkey primary key,
  id text collate "C" not null constraint channel_id_check check (id ~ '^[A-Za-z0-9._:-]{1,64}$'),
  kind text not null constraint channel_kind_check check (kind in ('webhook', 'email', 'apprise')),
  url text,
  recipients text[],
  secret text,
  events text[] not null constraint channel_events_check check (cardinality(events) > 0 and events <@ array['offline', 'online', 'over_capacity']),
  under_id integer constraint channel_under_id_fkey references core.space on delete set null,
  only_in_opening_hours boolean not null,
  muted_until timestamptz,
  created_at timestamptz not null,
  deleted_at timestamptz,
  failing_since timestamptz,
  constraint channel_target_check check (deleted_at is not null
    or (kind = 'email') = (recipients is not null) and (kind = 'email') = (url is null) and (kind = 'webhook') = (secret is not null))
);
create unique index channel_id_idx on core.channel (id) where deleted_at is null;
create index channel_under_id_idx on core.channel (under_id);
comment on table core.channel is 'Where notices go. A deleted one stays, without its target and secret, since its deliveries are history.';
comment on column core.channel.recipients is 'Of e-mail: the addresses.';
comment on column core.channel.secret is 'Of a webhook: whsec_ and the key, base64, that signs what is sent. The receiver has it too, so it cannot be a digest.';
comment on column core.channel.under_id is 'Only notices about this space and those below it; null: all.';
comment on column core.channel.failing_since is 'The first of the failed tries since the last one that went well; null while all is well.';

create table core.notice (
  notice_id bigint generated always as identity constraint notice_pkey primary key,
  id text collate "C" not null constraint notice_id_key unique,
  kind text not null constraint notice_kind_check check (kind in ('offline', 'online', 'correction', 'over_capacity', 'capacity_ok', 'test')),
  incident_id bigint,
  space_id integer constraint notice_space_id_fkey references core.space on delete set null,
  occurred_at timestamptz not null,
  created_at timestamptz not null,
  details jsonb not null
);
create index notice_space_id_idx on core.notice (space_id);
create index notice_created_at_idx on core.notice (created_at);
comment on table core.notice is 'Something that people and programs are told, once for each channel.';
comment on column core.notice.id is 'The same in every delivery and every try: receivers know a repetition by it.';

create table core.delivery (
  delivery_id bigint generated always as identity constraint delivery_pkey primary key,
  notice_id bigint not null constraint delivery_notice_id_fkey references core.notice on delete cascade,
  channel_id integer not null constraint delivery_channel_id_fkey references core.channel,
  subject text,
  state text not null constraint delivery_state_check check (state in ('pending', 'delivered', 'failed', 'suppressed', 'cancelled')),
  reason text,
  created_at timestamptz not null,
  settled_at timestamptz,
  due_at timestamptz not null,
  give_up_at timestamptz not null,
  claim uuid,
  tries integer not null default 0,
  constraint delivery_settled_at_check check ((state = 'pending') = (settled_at is null))
) with (fillfactor = 80);
create index delivery_due_at_idx on core.delivery (due_at) where state = 'pending';
create index delivery_channel_id_subject_idx on core.delivery (channel_id, subject, delivery_id);
create index delivery_notice_id_idx on core.delivery (notice_id);
comment on table core.delivery is 'One notice on its way by one channel; also one that was not sent, with the reason.';
comment on column core.delivery.subject is 'What it is about: of one subject a channel gets one after the other.';
comment on column core.delivery.due_at is 'Not to be tried before; while somebody tries it, the end of the lease.';
comment on column core.delivery.give_up_at is 'A try that fails after this one is the last.';
comment on column core.delivery.claim is 'Of whoever tries it, or tried it last and has not said what came of it.';

create table core.delivery_try (
  delivery_id bigint not null constraint delivery_try_delivery_id_fkey references core.delivery on delete cascade,
  at timestamptz not null,
  duration_ms integer not null,
  is_delivered boolean not null,
  status integer,
  answer text constraint delivery_try_answer_check check (length(answer) <= 500),
  error text constraint delivery_try_error_check check (length(error) <= 500)
);
create index delivery_try_delivery_id_at_idx on core.delivery_try (delivery_id, at);
comment on table core.delivery_try is 'Every try of every delivery.';

create table core.full_space (
  space_id integer not null constraint full_space_pkey primary key constraint full_space_space_id_fkey references core.space on delete cascade,
  since timestamptz not null
);
comment on table core.full_space is 'Spaces that are over their capacity, as was told.';

create table core.capacity_watch (
  is_only boolean not null default true constraint capacity_watch_pkey primary key constraint capacity_watch_is_only_check check (is_only),
  snapshot pg_snapshot not null,
  at timestamptz not null
);
comment on table core.capacity_watch is 'Up to where in the feed of changes (core.change) spaces were looked at for being over their capacity. No row: not at all.';
