-- What one token may use of what all share: its own reports, and a bound on the DPUs that it may register.

alter table core.report add column token_id integer constraint report_token_id_fkey references core.token on delete set null;
alter table core.report add column asked_now_at timestamptz;
alter table core.report add column snapshot pg_snapshot;
create index report_token_id_idx on core.report (token_id, created_at);
comment on column core.report.token_id is 'The token that asked for it. Null: none was needed, or it was asked for before tokens were noted.';
comment on column core.report.asked_now_at is 'The end of its windows as asked for. Null: the latest poll.';
comment on column core.report.snapshot is 'What was committed when somebody last began to compute it: all of this is in it. Null: nobody has begun.';

alter table core.change add column is_polled boolean not null default false;
comment on column core.change.is_polled is 'Polls were stored. A report that was begun before lacks them.';

create table core.registration (
  is_only boolean not null default true constraint registration_pkey primary key constraint registration_is_only_check check (is_only),
  burst integer not null default 20000 constraint registration_burst_check check (burst >= 0),
  per_hour integer not null default 1000 constraint registration_per_hour_check check (per_hour >= 0),
  max_unplaced integer not null default 100000 constraint registration_max_unplaced_check check (max_unplaced >= 0),
  unplaced integer,
  counted_at timestamptz
);
comment on table core.registration is 'One row: how many unknown DPUs may register themselves by what they send. Its lock is held while some of them do.';
comment on column core.registration.burst is 'DPUs that a token may register at once.';
comment on column core.registration.per_hour is 'DPUs that a token may register an hour beyond that.';
comment on column core.registration.max_unplaced is 'DPUs that may be registered while nobody has ever placed or named them.';
comment on column core.registration.unplaced is 'How many of these there are at most: those counted at counted_at, and those registered since. Null: not counted yet.';

create table core.registrar (
  token_id integer not null constraint registrar_pkey primary key constraint registrar_token_id_fkey references core.token on delete cascade,
  remaining double precision not null,
  at timestamptz not null
);
comment on table core.registrar is 'How many DPUs a token might still register at an instant. Since then core.registration.per_hour are added each hour, up to burst.';
