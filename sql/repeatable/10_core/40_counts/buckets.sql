-- Buckets of local time.

create or replace function core.list_buckets(
  from_at timestamptz,
  to_at timestamptz,
  grain text,
  time_zone text
)
returns table (start_at timestamptz, end_at timestamptz)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_first date := (from_at at time zone list_buckets.time_zone)::date - 1;
  v_last date := (to_at at time zone list_buckets.time_zone)::date + 1;
  v_step interval := case grain when '1d' then interval '1 day' when '1w' then interval '7 days' when '1mo'
    then interval '1 month' end;
  v_minutes integer := case grain when '15m' then 15 when '30m' then 30 when '1h' then 60 end;
begin
  if v_step is not null then
    v_first := date_trunc(case grain when '1w' then 'week' when '1mo' then 'month'
      else 'day' end, v_first::timestamp)::date;
    return query
    select e.start_at, e.end_at
    from (
      select d.start_at, lead(d.start_at) over (order by d.start_at) as end_at
      from (
        -- the day that a clock skips has no bucket
        select distinct core.get_scheduled_reset(s.day::date, time_zone, time '00:00') as start_at
        from generate_series(v_first::timestamp, (v_last + v_step)::timestamp, v_step) as s (day)
      ) d
    ) e
    where e.start_at < to_at and e.end_at > from_at
    order by e.start_at;
  else
    -- A bucket begins wherever the clock shows a multiple of its length, and where the clock jumps over one.
    return query
    select e.start_at, e.end_at
    from (
      select q.at as start_at, lead(q.at) over (order by q.at) as end_at
      from (
        select
          q.at,
          extract(epoch from q.at at time zone list_buckets.time_zone)::bigint / 60 as minute,
          extract(epoch from (q.at - interval '15 minutes') at time zone list_buckets.time_zone)::bigint
            / 60 as minute_before
        from generate_series(
          public.time_bucket(interval '15 minutes', from_at) - interval '3 hours',
          to_at + interval '3 hours', interval '15 minutes') as q (at)
      ) q
      where q.minute % v_minutes = 0 or q.minute / v_minutes <> q.minute_before / v_minutes
    ) e
    where e.start_at < to_at and e.end_at > from_at
    order by e.start_at;
  end if;
end
$$;
comment on function core.list_buckets(timestamptz, timestamptz, text, text) is
'The buckets [start_at, end_at) of local time that overlap [from_at, to_at). grain: 15m, 30m, 1h, 1d, 1w (from Monday)
or 1mo.

Hours that repeat are buckets of their own; days have 23 and 25 hours where they have; an hour that is cut short or
prolonged by half an hour is one bucket.';

create or replace function core.check_grain(grain text)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if grain not in ('15m', '30m', '1h', '1d', '1w', '1mo') then
    perform core.refuse(
      422, format('%s is not an interval.', quote_literal(left(grain, 80))), 'interval',
      'Give 15m, 30m, 1h, 1d, 1w or 1mo.');
  end if;
end
$$;
comment on function core.check_grain(text) is
'Errors: PT422 naming interval for a text that is no length of a bucket. Null passes.';

create or replace function core.check_bucket_range(
  from_at timestamptz,
  to_at timestamptz,
  grain text
)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_length interval := case grain
    when '15m' then interval '15 minutes' when '30m' then interval '30 minutes' when '1h' then interval '1 hour'
    else interval '24 hours'
  end;
begin
  if to_at - from_at > 10001 * v_length then
    perform core.refuse_buckets();
  end if;
end
$$;
comment on function core.check_bucket_range(timestamptz, timestamptz, text) is
'Errors: PT422 naming interval for a range that certainly has more than 10,000 buckets. grain null: of a day.';

create or replace function core.refuse_buckets()
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  perform core.refuse(
    422, 'The range has more than 10,000 buckets.', 'interval', 'Ask for a shorter range or a longer interval.');
end
$$;
comment on function core.refuse_buckets() is
'Raises PT422 naming interval: there would be too many buckets.';

create or replace function core.get_buckets(
  from_at timestamptz,
  to_at timestamptz,
  grain text,
  time_zone text,
  out starts timestamptz[],
  out ends timestamptz[]
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  perform core.check_bucket_range(from_at, to_at, grain);
  select array_agg(b.start_at order by b.start_at), array_agg(b.end_at order by b.start_at) into starts, ends
  from core.list_buckets(from_at, to_at, grain, time_zone) b;
  if cardinality(starts) > 10000 then
    perform core.refuse_buckets();
  end if;
end
$$;
comment on function core.get_buckets(timestamptz, timestamptz, text, text) is
'The buckets of core.list_buckets as parallel arrays, oldest first. Errors: PT422 naming interval for more than
10,000.';
