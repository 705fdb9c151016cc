create or replace function api.get_timeline(
  space text,
  inout from_at timestamptz default null,
  inout to_at timestamptz default null,
  max_polls integer default 10000,
  out time_zone text,
  out day_starts timestamptz[],
  out day_ends timestamptz[],
  out day_ups double precision[],
  out day_downs double precision[],
  out open_starts timestamptz[],
  out open_ends timestamptz[],
  out up_starts timestamptz[],
  out up_ends timestamptz[],
  out down_starts timestamptz[],
  out down_ends timestamptz[],
  out poll_times timestamptz[],
  out poll_actives boolean[],
  out poll_opens boolean[],
  out poll_count bigint,
  out polled boolean
)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
  v_space_id integer := core.find_space(space);
  v_week tsmultirange;
  v_business tstzmultirange;  -- up to to_at itself, where a poll may be an observation
  v_during tstzmultirange;
  v_open tstzmultirange;
  v_up tstzmultirange;
  v_down tstzmultirange;
begin
  to_at := coalesce(to_at, core.get_latest_poll(core.get_reach()), clock_timestamp());
  from_at := greatest(coalesce(from_at, to_at - interval '168 hours'), core.get_oldest_time());
  perform core.check_uptime_range(from_at, to_at);
  if to_at - from_at > interval '744 hours' then
    perform core.refuse(422, 'The range is longer than 31 days.', 'from', 'Ask for a shorter range.');
  end if;

  select b.time_zone, b.week, b.business into time_zone, v_week, v_business
  from core.list_business_times(array[v_space_id], from_at, to_at + interval '1 microsecond') b;
  v_during := tstzmultirange(tstzrange(from_at, to_at));
  v_open := v_business * v_during;
  v_up := v_open * coalesce((
    select u.up from core.list_up_times(array[v_space_id], array[time_zone], array[v_week], array[v_business], from_at,
      to_at) u), '{}');
  v_down := v_open - v_up;
  if (select count(*) from unnest(v_up)) > 10000 then
    perform core.refuse(422, 'The space went up and down more than 10,000 times.', 'from', 'Ask for a shorter range.');
  end if;

  select array_agg(d.start_at order by d.start_at), array_agg(d.end_at order by d.start_at),
    array_agg(core.measure(v_up * d.during) / 1000000::double precision order by d.start_at),
    array_agg(core.measure(v_down * d.during) / 1000000::double precision order by d.start_at)
  into day_starts, day_ends, day_ups, day_downs
  from (
    select b.start_at, b.end_at, tstzmultirange(tstzrange(b.start_at, b.end_at)) as during
    from core.list_buckets(from_at, to_at, '1d', time_zone) b
  ) d;
  select coalesce(array_agg(lower(r) order by r), '{}'), coalesce(array_agg(upper(r) order by r), '{}')
  into open_starts, open_ends
  from unnest(v_open) as r;
  select coalesce(array_agg(lower(r) order by r), '{}'), coalesce(array_agg(upper(r) order by r), '{}')
  into up_starts, up_ends
  from unnest(v_up) as r;
  select coalesce(array_agg(lower(r) order by r), '{}'), coalesce(array_agg(upper(r) order by r), '{}')
  into down_starts, down_ends
  from unnest(v_down) as r;

  polled := core.was_polled(v_space_id, to_at);
  select count(*) into poll_count from core.poll p where p.space_id = v_space_id and p.time >= from_at
    and p.time <= to_at;
  select
    coalesce(array_agg(n.time order by n.time, n.is_active), '{}'),
    coalesce(array_agg(n.is_active order by n.time, n.is_active), '{}'),
    coalesce(array_agg(v_business @> n.time order by n.time, n.is_active), '{}')
  into poll_times, poll_actives, poll_opens
  from (
    select p.time, p.is_active
    from core.poll p
    where p.space_id = v_space_id and p.time >= from_at and p.time <= to_at
    order by p.time desc, p.is_active desc
    limit max_polls
  ) n;
end
$$;
comment on function api.get_timeline(text, timestamptz, timestamptz, integer) is
'The uptime of a space in [from_at, to_at) in detail: when it was open, up and down, and its polls. At most 31 days.

to_at is the now of the rule: later polls do not count; null: the latest poll that is stored. from_at null: 168 hours
before. Arrays beside each other, oldest first. Days are those of the space''s zone, whole ones, with the seconds up and
down of what lies in the range. open, up and down lie in it, and up and down make up open. Polls are those from from_at
to to_at, both included: the newest max_polls of poll_count, with whether they were active and whether it was open then;
only those count. Before the first of them the rule may have found an older one; polled: whether there ever was one by
to_at. Errors: PT404; PT422, also for more than 10,000 changes.';
