create or replace view bi.resets as
select s.id as space, r.at, r.count, r.recorded_at
from core.reset r
join core.space s on s.space_id = r.space_id
where r.superseded_at is null;
comment on view bi.resets is
'Resets of counts that were recorded: one row each. Daily resets are not here: they follow from bi.spaces.reset_at.';
comment on column bi.resets.space is 'Id of the space.';
comment on column bi.resets.at is 'The instant. An event exactly then counts as before the reset.';
comment on column bi.resets.count is 'How many people it held.';
comment on column bi.resets.recorded_at is 'When this was recorded.';
