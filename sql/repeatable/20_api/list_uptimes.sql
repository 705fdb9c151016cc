create or replace function api.list_uptimes(
  space text,
  from_at timestamptz default null,
  to_at timestamptz default null,
  grain text default null
)
returns table (time_zone text, start_at timestamptz, end_at timestamptz, uptime_seconds double precision,
  downtime_seconds double precision, polled boolean)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_space_id integer := core.find_space(space);
  v_zone text := (select h.time_zone from core.list_schedules(array[v_space_id]) h);
  v_to timestamptz := coalesce(to_at, core.get_latest_poll(core.get_reach()), clock_timestamp());
  v_from timestamptz := coalesce(from_at, v_to - interval '168 hours');
  v_starts timestamptz[];
  v_ends timestamptz[];
begin
  perform core.check_grain(grain);
  v_from := greatest(v_from, core.get_oldest_time());
  perform core.check_uptime_range(v_from, v_to);
  if grain is null then
    perform core.check_bucket_range(v_from, v_to, grain);
    v_starts := array[v_from];
    v_ends := array[v_to];
  else
    select b.starts, b.ends into v_starts, v_ends from core.get_buckets(v_from, v_to, grain, v_zone) b;
    v_starts[1] := greatest(v_starts[1], v_from);
    v_ends[cardinality(v_ends)] := least(v_ends[cardinality(v_ends)], v_to);
  end if;
  return query
  select v_zone, v_starts[u."window"], v_ends[u."window"], u.up / 1000000::double precision,
    u.down / 1000000::double precision, core.was_polled(v_space_id, v_to)
  from core.sum_uptimes(array[v_space_id], v_starts, v_ends, v_to) u
  order by u."window";
end
$$;
comment on function api.list_uptimes(text, timestamptz, timestamptz, text) is
'Active and other business time of a space in [from_at, to_at), in seconds: as a whole (grain null) or by buckets of
local time, cut off at both ends, oldest first; at most 10,000.

grain: 15m, 30m, 1h, 1d, 1w (from Monday) or 1mo. to_at is the now of the rule: later polls do not count; null: the
latest poll that is stored. from_at null: 168 hours before. The parts add up to the whole, and the hour, day or week
before an instant equals what a report of that instant says. polled: whether the space was ever polled by then; if not,
all its business time is downtime, which says nothing about it. Errors: PT404; PT422.';
