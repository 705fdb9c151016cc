create or replace function api.list_uptimes(
  space text,
  from_at timestamptz default null,
  to_at timestamptz default null,
  grain text default null
)
returns table (time_zone text, start_at timestamptz, end_at timestamptz, uptime_seconds double precision, downtime_seconds double precision, polled boolean)
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
  if grain is not null and grain not in ('15m', '30m', '1h', '1d', '1w', '1mo') then
    perform core.refuse(
      422, format('%s is not an interval.', quote_literal(left(grain, 80))), 'interval',
      'Give 15m, 30m, 1h, 1d, 1w or 1mo.');
  end if;
  v_from := greatest(v_from, core.get_oldest_time());
  if v_to <= v_from then
    perform core.refuse(422, 'to is not after from.', 'to', 'Give a later instant.');
  end if;
  if v_to > clock_timestamp() + interval '366 days' then
    perform core.refuse(422, 'to lies in the far future.', 'to', 'Ask for what has been.');
  end if;
  if v_to - v_from > 10001 * (case grain when '15m' then interval '15 minutes' when '30m' then interval '30 minutes' when '1h' then interval '1 hour' else interval '24 hours' end) then
    perform core.refuse(
      422, 'That is more than 10,000 buckets.', 'interval', 'Ask for a shorter range or a longer interval.');
  end if;
  if grain is null then
    v_starts := array[v_from];
    v_ends := array[v_to];
  else
    select array_agg(greatest(b.start_at, v_from) order by b.start_at), array_agg(least(b.end_at, v_to) order by b.start_at) into v_starts, v_ends
    from core.list_buckets(v_from, v_to, grain, v_zone) b;
  end if;
  if cardinality(v_starts) > 10000 then
    perform core.refuse(
      422, 'That is more than 10,000 buckets.', 'interval', 'Ask for a shorter range or a longer interval.');
  end if;
  return query
  select v_zone, v_starts[u."window"], v_ends[u."window"], u.up / 1000000::double precision, u.down / 1000000::double precision, core.was_polled(v_space_id, v_to)
  from core.sum_uptimes(array[v_space_id], v_starts, v_ends, v_to) u
  order by u."window";
end
$$;
comment on function api.list_uptimes(text, timestamptz, timestamptz, text) is
'Active and other business time of a space in [from_at, to_at), in seconds: as a whole (grain null) or by buckets of local time, cut off at both ends, oldest first; at most 10,000.

grain: 15m, 30m, 1h, 1d, 1w (from Monday) or 1mo. to_at is the now of the rule: later polls do not count; null: the latest poll that is stored. from_at null: 168 hours before. So the parts add up to the whole, and the hour, day or week before an instant is what a report of then says. polled: whether it was ever polled by then; if not, all its business time is downtime, and that says nothing about it. Errors: PT404; PT422.';
