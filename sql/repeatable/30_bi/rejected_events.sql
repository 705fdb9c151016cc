create or replace view bi.rejected_events as
select r.rejected_id::text as id, r.received_at, r.dpu, r.code, r.detail, r.time, r.direction, r.sequence, r.body,
  r.source,
  r.rerun_at, r.token
from core.rejected_event r;
comment on view bi.rejected_events is
'Events that were refused in the last 30 days, one row each. One that its token sent again is there once.';
comment on column bi.rejected_events.id is 'Id, as in GET /v1/rejected.';
comment on column bi.rejected_events.received_at is 'When it was received and refused.';
comment on column bi.rejected_events.dpu is 'Id of the DPU that it names; null: that could not be read.';
comment on column bi.rejected_events.code is
'Why, in a word: invalid, conflict, in_future, clock_unset, too_old or unknown_dpu.';
comment on column bi.rejected_events.detail is 'Why, and what to do about it.';
comment on column bi.rejected_events.time is 'Its own instant, by the clock of the DPU; null: it could not be decoded.';
comment on column bi.rejected_events.direction is
'People towards the DPU, or away from it where negative; null: it could not be decoded.';
comment on column bi.rejected_events.sequence is 'Number among events of one instant; null: it could not be decoded.';
comment on column bi.rejected_events.body is
'Its text as it came, the first 1,000 characters; null: it could be decoded.';
comment on column bi.rejected_events.source is 'The source by which it came; null: it came without one.';
comment on column bi.rejected_events.rerun_at is
'When it was run again and went in; null: it did not, and is not counted.';
comment on column bi.rejected_events.token is 'Id of the token that sent it; null: it came without one.';
