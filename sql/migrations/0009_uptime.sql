-- Uptime: what was polled, of which spaces, and the reports made of it.

create table core.poll (
  time timestamptz not null,
  lag_ms bigint not null,
  space_id integer not null,
  is_active boolean not null,
  constraint poll_pkey primary key (space_id, time, is_active)
);
comment on table core.poll is 'At this instant a space was active or inactive. Identity: all three, so that two polls of one instant that disagree are both kept. Rows are only ever added. No foreign key on space_id: api.record_polls resolves it, and a space that was polled is not deleted.';
comment on column core.poll.lag_ms is 'When the service took it in, as core.event.lag_ms.';

select public.create_hypertable('core.poll', public.by_range('time', interval '7 days'), create_default_indexes => false);

create table core.rejected_poll (
  digest bytea not null constraint rejected_poll_pkey primary key,
  received_at timestamptz not null,
  code text not null,
  detail text not null,
  space text,
  time timestamptz,
  is_active boolean,
  body text
);
create index rejected_poll_received_at_idx on core.rejected_poll (received_at);
comment on table core.rejected_poll is 'Polls that were refused, with the reason. One that is sent again is kept once.';
comment on column core.rejected_poll.digest is 'SHA-256 of code, identity and body.';
comment on column core.rejected_poll.body is 'The text as it came, for what could not be decoded.';

create table core.site (
  space_id integer not null constraint site_pkey primary key
    constraint site_space_id_fkey references core.space on delete cascade
);
comment on table core.site is 'Spaces of which uptime is told because they were polled or an import named them. Those whose opening hours are known are sites as well and need no row: core.list_sites.';

create table core.report (
  report_id bigint generated always as identity constraint report_pkey primary key,
  id text collate "C" not null constraint report_id_key unique,
  space_id integer constraint report_space_id_fkey references core.space on delete cascade,
  now_at timestamptz,
  format text not null constraint report_format_check check (format in ('csv', 'json')),
  state text not null default 'running' constraint report_state_check check (state in ('running', 'complete', 'failed')),
  detail text,
  attempts integer not null default 0,
  site_count bigint,
  created_at timestamptz not null,
  finished_at timestamptz
);
create index report_state_idx on core.report (report_id) where state = 'running';
create index report_space_id_idx on core.report (space_id);
comment on table core.report is 'Uptime reports. One that is running is computed by whoever has it in core.report_run, or waits for somebody.';
comment on column core.report.id is 'Random, so that it cannot be guessed.';
comment on column core.report.space_id is 'It tells of this space and all below it; null: of all.';
comment on column core.report.now_at is 'The end of its windows. Null until it is computed where nobody said: the latest poll then.';
comment on column core.report.attempts is 'How often somebody began to compute it.';
comment on column core.report.detail is 'Why it failed.';

create table core.report_run (
  report_id bigint not null constraint report_run_pkey primary key
    constraint report_run_report_id_fkey references core.report on delete cascade,
  lease_until timestamptz not null,
  progress double precision not null
);
comment on table core.report_run is 'Who computes a report says so here, again and again: from lease_until on it has died, and somebody else begins anew. Apart from core.report, since the transaction that computes ends by changing that row, which must not have changed meanwhile.';
comment on column core.report_run.progress is 'From 0 to 1.';

create table core.report_row (
  report_id bigint not null constraint report_row_report_id_fkey references core.report on delete cascade,
  site text collate "C" not null,
  space_id integer not null,
  hour_up bigint not null,
  day_up bigint not null,
  week_up bigint not null,
  hour_down bigint not null,
  day_down bigint not null,
  week_down bigint not null,
  constraint report_row_pkey primary key (report_id, site)
);
comment on table core.report_row is 'Business time of a site in the hour, the day and the week before the report''s now, up and down, in microseconds.';
comment on column core.report_row.site is 'The id of the space then. No foreign key on space_id: a report outlives what it tells of.';
