create or replace view bi.dpu_flips as
select d.id as dpu, f.at, f.state, o.recorded_at
from core.outage o
join core.dpu d on d.dpu_id = o.dpu_id
cross join lateral (values (o.offline_at, 'offline'), (o.back_at, 'online')) as f (at, state)
where o.superseded_at is null and f.at is not null;
comment on view bi.dpu_flips is
'When sensors went offline and came back: one row for each time, as known now. Becoming quiet does not count.';
comment on column bi.dpu_flips.dpu is 'Id of the DPU.';
comment on column bi.dpu_flips.at is
'From when on it was in that state: offline after its threshold of silence; online from the first sign of life, or from
when its silence no longer counted.';
comment on column bi.dpu_flips.state is 'offline or online.';
comment on column bi.dpu_flips.recorded_at is 'When this was recorded, or corrected last.';
