create or replace view bi.doorways as
select d.id as doorway, d.name, a.id as side_a, b.id as side_b, d.retired_at
from core.doorway d
left join core.space a on a.space_id = d.side_a_id
left join core.space b on b.space_id = d.side_b_id;
comment on view bi.doorways is 'Doorways, each between two sides: one row each.';
comment on column bi.doorways.doorway is 'Id.';
comment on column bi.doorways.name is 'What people call it.';
comment on column bi.doorways.side_a is 'Id of the space on one side; null: outside.';
comment on column bi.doorways.side_b is 'Id of the space on the other side; null: outside.';
comment on column bi.doorways.retired_at is 'When it was retired; null: it is in use.';
