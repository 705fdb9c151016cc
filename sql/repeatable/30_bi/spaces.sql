create or replace view bi.spaces as
with recursive tree as (
  select s.space_id, s.id as path, 0 as depth, coalesce(h.time_zone, 'UTC') as time_zone,
    coalesce(h.reset_at, 'never') as reset_at
  from core.space s
  left join core.schedule h on h.space_id = s.space_id and h.superseded_at is null
  where s.parent_id is null
  union all
  select s.space_id, t.path || '/' || s.id, t.depth + 1, coalesce(h.time_zone, t.time_zone),
    coalesce(h.reset_at, t.reset_at)
  from tree t
  join core.space s on s.parent_id = t.space_id
  left join core.schedule h on h.space_id = s.space_id and h.superseded_at is null
)
select s.id as space, s.name, p.id as parent, t.path, t.depth, t.time_zone, t.reset_at, s.capacity,
  coalesce(l.counted_since <= clock_timestamp(), false) as counted, l.counted_since, s.retired_at
from tree t
join core.space s on s.space_id = t.space_id
left join core.live_space l on l.space_id = s.space_id
left join core.space p on p.space_id = s.parent_id;
comment on view bi.spaces is 'Places where people are counted: one row each. They form a tree.';
comment on column bi.spaces.space is 'Id.';
comment on column bi.spaces.name is 'What people call it.';
comment on column bi.spaces.parent is 'Id of the space around it; null at the root.';
comment on column bi.spaces.path is 'Ids from the root down to it, with / between.';
comment on column bi.spaces.depth is 'How many spaces are around it; 0 at the root.';
comment on column bi.spaces.time_zone is
'IANA name of the zone that holds for it, its own or one from above: bucket at time zone time_zone is its local time.';
comment on column bi.spaces.reset_at is 'Local time of the daily reset to 0 that holds for it, or never.';
comment on column bi.spaces.capacity is 'How many people may be in it at once; null: not known.';
comment on column bi.spaces.counted is 'Whether anything counts for it yet.';
comment on column bi.spaces.counted_since is
'Its first event at an outer doorway, or explicit reset: bi.space_counts_15m begins there. Null: nothing counts for
it.';
comment on column bi.spaces.retired_at is 'When it was retired; null: it is in use.';
