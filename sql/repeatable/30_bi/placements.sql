create or replace view bi.placements as
select
  d.id as dpu, w.id as doorway, case p.mounted_side when 1 then a.id else b.id end as mounted_in,
  lower(p.during) as from_at, upper(p.during) as until_at, p.recorded_at
from core.placement p
join core.dpu d on d.dpu_id = p.dpu_id
join core.doorway w on w.doorway_id = p.doorway_id
left join core.space a on a.space_id = w.side_a_id
left join core.space b on b.space_id = w.side_b_id
where p.superseded_at is null;
comment on view bi.placements is 'Which DPU hung above which doorway, and when: one row a period, as believed now.';
comment on column bi.placements.dpu is 'Id of the DPU.';
comment on column bi.placements.doorway is 'Id of the doorway.';
comment on column bi.placements.mounted_in is 'Id of the space on the side it is mounted on, into which a person walks who walks towards it; null: outside.';
comment on column bi.placements.from_at is 'First instant of the period.';
comment on column bi.placements.until_at is 'First instant after it; null: until further notice.';
comment on column bi.placements.recorded_at is 'When this was recorded.';
