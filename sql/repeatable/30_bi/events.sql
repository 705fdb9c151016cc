-- Two columns are expressions. TimescaleDB 2.28.3 crashes the server on a query that compares two columns of a
-- compressed chunk with constants. 95_public.sql switches off what crashes, but a login can switch it on again.
create or replace view bi.events as
select d.id as dpu, e.time, e.sequence + 0::smallint as sequence, e.direction + 0 as direction,
  e.time + e.lag_ms * interval '1 millisecond' as received_at, w.id as doorway
from core.event e
join core.dpu d on d.dpu_id = e.dpu_id
left join core.placement p
  on p.dpu_id = e.dpu_id and p.superseded_at is null
  and e.time >= lower(p.during) and e.time < coalesce(upper(p.during), 'infinity')
left join core.doorway w on w.doorway_id = p.doorway_id;
comment on view bi.events is
'What the DPUs reported: one row an event. There are very many: always filter on time. Retention drops old events,
but not the quarter-hours of the other views.';
comment on column bi.events.dpu is 'Id of the DPU.';
comment on column bi.events.time is 'When it happened, by the clock of the DPU.';
comment on column bi.events.sequence is 'Tells apart events of one DPU at one instant.';
comment on column bi.events.direction is 'People towards the DPU; negative: away from it.';
comment on column bi.events.received_at is 'When the service took it in.';
comment on column bi.events.doorway is
'Id of the doorway above which the DPU was placed then; null: it was not placed.';
