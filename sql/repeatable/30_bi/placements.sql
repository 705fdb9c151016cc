-- A part for each side, since only so a filter on mounted_in finds its few doorways.
create or replace view bi.placements as
select d.id as dpu, w.id as doorway, s.id as mounted_in, lower(p.during) as from_at, upper(p.during) as until_at,
  p.recorded_at
from core.placement p
join core.dpu d on d.dpu_id = p.dpu_id
join core.doorway w on w.doorway_id = p.doorway_id
left join core.space s on s.space_id = w.side_a_id
where p.superseded_at is null and p.mounted_side = 1
union all
select d.id, w.id, s.id, lower(p.during), upper(p.during), p.recorded_at
from core.placement p
join core.dpu d on d.dpu_id = p.dpu_id
join core.doorway w on w.doorway_id = p.doorway_id
left join core.space s on s.space_id = w.side_b_id
where p.superseded_at is null and p.mounted_side = 2;
comment on view bi.placements is 'Which DPU was placed above which doorway, and when: one row a period, as known now.';
comment on column bi.placements.dpu is 'Id of the DPU.';
comment on column bi.placements.doorway is 'Id of the doorway.';
comment on column bi.placements.mounted_in is
'Id of the space on the side where it is mounted: a person who walks towards it walks into this space. Null: outside.';
comment on column bi.placements.from_at is 'First instant of the period.';
comment on column bi.placements.until_at is 'First instant after it; null: until further notice.';
comment on column bi.placements.recorded_at is 'When this was recorded.';
