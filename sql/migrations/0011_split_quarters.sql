-- The quarter-hours within which placements begin or end (core.split_quarter): those of a day are few among all placements.
create index placement_from_quarter_idx on core.placement (public.time_bucket(interval '15 minutes', lower(during))) where superseded_at is null;
create index placement_until_quarter_idx on core.placement (public.time_bucket(interval '15 minutes', upper(during))) where superseded_at is null;
analyze core.placement;
