create or replace view bi.space_counts_now as
select
  s.id as space, k.at, greatest(c.raw_count, 0) as count, c.raw_count, c.since, s.capacity,
  greatest(c.raw_count, 0)::double precision / nullif(s.capacity, 0) as utilization,
  c.dpus_placed, c.dpus_online,
  coalesce(c.counted_since <= k.at, false) as counted, c.counted_since
-- one instant for all rows; not by WITH, or the planner would ask for all spaces before it looks which are wanted
from (select clock_timestamp() as at offset 0) k
cross join core.space s
cross join lateral core.count_space_now(s.space_id, k.at) c
where s.retired_at is null;
comment on view bi.space_counts_now is
'How many people each space holds now: one row each, but for those that are retired.';
comment on column bi.space_counts_now.space is 'Id of the space.';
comment on column bi.space_counts_now.at is 'Now.';
comment on column bi.space_counts_now.count is 'People in it; never below 0. It means nothing where counted is false.';
comment on column bi.space_counts_now.raw_count is 'The same without that floor: below 0 where sensors missed people.';
comment on column bi.space_counts_now.since is 'The reset it counts from; null: it was never reset.';
comment on column bi.space_counts_now.capacity is 'How many people may be in it at once; null: not known.';
comment on column bi.space_counts_now.utilization is 'count / capacity.';
comment on column bi.space_counts_now.dpus_placed is 'DPUs above its outer doorways.';
comment on column bi.space_counts_now.dpus_online is 'Those of them that are online.';
comment on column bi.space_counts_now.counted is
'Whether anything counts for it yet. If not, its count is 0, however many people are there: it needs an event of a
sensor at an outer doorway, or a reset.';
comment on column bi.space_counts_now.counted_since is
'Its first event at an outer doorway, or explicit reset; null: nothing counts for it.';
