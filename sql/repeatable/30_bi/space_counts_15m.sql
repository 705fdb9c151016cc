create or replace view bi.space_counts_15m as
select
  s.id as space,
  d.start_at + q.quarter * interval '15 minutes' as bucket,
  greatest(c.raw_counts[q.quarter + 1], 0) as count,
  c.raw_counts[q.quarter + 1] as raw_count
-- one instant for all rows; not by WITH, or the planner would ask for all spaces before it looks which are wanted
from (select clock_timestamp() as at offset 0) k
cross join core.space s
join core.live_space l on l.space_id = s.space_id
cross join lateral (
  select public.time_bucket(interval '15 minutes', greatest(l.counted_since, core.get_oldest_time())) as at
  where l.counted_since is not null
) f
cross join lateral core.list_bi_blocks(f.at, k.at) d
join core.list_block_quarters() q
  on d.start_at + q.quarter * interval '15 minutes' < k.at and d.start_at + q.quarter * interval '15 minutes' >= f.at
-- Not as a function in from: the planner would think that to call it again costs nothing. The condition, always true,
-- names everything else, so that this is joined last, to what filters have left.
left join lateral (select core.count_quarters(s.space_id, d.start_at, k.at) as raw_counts offset 0) c
  on q.quarter >= 0 and d.start_at < k.at and s.space_id > 0;
comment on view bi.space_counts_15m is
'How many people a space held: one row for each quarter-hour since something counts for it (bi.spaces.counted_since),
also where nothing happened. None for a space that nothing counts. Always filter on bucket.';
comment on column bi.space_counts_15m.space is 'Id of the space.';
comment on column bi.space_counts_15m.bucket is 'Start of the quarter-hour.';
comment on column bi.space_counts_15m.count is
'People in it at the end of the quarter-hour (of the running one: now); never below 0. A maximum over it is that of
quarter-hour ends: in between, more people may have been in the space.';
comment on column bi.space_counts_15m.raw_count is 'The same without that floor: below 0 where sensors missed people.';
