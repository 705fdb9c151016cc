create or replace view bi.space_counts_15m as
select
  s.id as space,
  d.start_at + q.quarter * interval '15 minutes' as bucket,
  greatest(c.raw_counts[q.quarter + 1], 0) as count,
  c.raw_counts[q.quarter + 1] as raw_count
-- one instant for all rows; not by WITH, or the planner would ask for all spaces before it looks which are wanted
from (select clock_timestamp() as at offset 0) k
cross join lateral core.list_bi_blocks(k.at) d
join core.list_block_quarters() q on d.start_at + q.quarter * interval '15 minutes' < k.at
cross join core.space s
-- Not as a function in from: the planner would think that to call it again costs nothing. The condition, always true,
-- names everything else, so that this is joined last, to what filters have left.
left join lateral (select core.count_quarters(s.space_id, d.start_at, k.at) as raw_counts offset 0) c
  on q.quarter >= 0 and d.start_at < k.at and s.space_id > 0;
comment on view bi.space_counts_15m is 'How many people a space held: one row for each quarter-hour since the first event, also where nothing happened. Always filter on bucket.';
comment on column bi.space_counts_15m.space is 'Id of the space.';
comment on column bi.space_counts_15m.bucket is 'Start of the quarter-hour.';
comment on column bi.space_counts_15m.count is 'People in it at the end of the quarter-hour (of the running one: now); never below 0.';
comment on column bi.space_counts_15m.raw_count is 'The same without that floor: below 0 where sensors missed people.';
