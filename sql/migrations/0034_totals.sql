-- Running totals of DPUs, so that "up to here" is a look-up. They come from the quarter-hours, which are all there
-- before rollup_state.materialized_until; core.refresh_rollups fills them, a day at a time. They take the place of the
-- days and 30 days, which repeatable/85_derived.sql drops.

create table core.dpu_total (
  dpu_id integer not null,
  day timestamptz not null,
  before bigint not null,
  points smallint[] not null,
  totals bigint[] not null,
  constraint dpu_total_pkey primary key (dpu_id, day)
);
comment on table core.dpu_total is
'What the events of a DPU add up to, from the first one on: a row for each day (UTC) that moves it. Holds before
rollup_state.totals_until, as far as no late_mark stands: between two instants it grows by what the quarter-hours
between them say, but for those that are marked. Written by core.refresh_rollups alone.';
comment on column core.dpu_total.before is 'Sum of directions on all days before.';
comment on column core.dpu_total.points is
'Where the sum changes on this day, ascending: 2 q for the instant at which quarter-hour q (from 0) begins, 2 q + 1 for
its end.';
comment on column core.dpu_total.totals is
'Beside points: sum of directions on this day up to there; at an instant at which a quarter-hour begins, with what came
exactly then.';

alter table core.rollup_state add column totals_until timestamptz not null default '-infinity';
comment on column core.rollup_state.totals_until is 'Everything before it is in core.dpu_total.';
