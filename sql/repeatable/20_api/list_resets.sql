create or replace function api.list_resets(
  space text,
  from_at timestamptz default null,
  to_at timestamptz default null,
  inout scheduled boolean default false,
  after timestamptz default null,
  max_rows integer default 100,
  out at timestamptz,
  out count integer,
  out recorded_at timestamptz
)
returns setof record
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_space_id integer := core.find_space(space);
  v_to timestamptz := coalesce(to_at, clock_timestamp());
  v_from timestamptz := coalesce(from_at, case when scheduled then v_to - interval '31 days' else '-infinity' end);
  v_time_zone text;
  v_reset_at text;
begin
  if list_resets.scheduled then
    if v_to - v_from > interval '3660 days' then
      perform core.refuse(
        422, 'The range is longer than ten years.', 'from', 'Ask for daily resets in shorter ranges.');
    end if;
    select s.time_zone, s.reset_at into v_time_zone, v_reset_at from core.list_schedules(array[v_space_id]) s;
  end if;
  return query
  select r.scheduled, r.at, r.count, r.recorded_at
  from (
    select false as scheduled, r.at, r.count, r.recorded_at
    from core.reset r
    where r.space_id = v_space_id and r.superseded_at is null
    union all
    -- where a clock skips a whole day, its reset and the next day's fall on one instant
    select distinct true, d.at, 0, null::timestamptz
    from generate_series((v_from at time zone v_time_zone)::date - 1, (v_to at time zone v_time_zone)::date + 1,
      interval '1 day') as day (day)
    cross join lateral core.get_scheduled_reset(day.day::date, v_time_zone, v_reset_at::time) as d (at)
    where list_resets.scheduled and v_reset_at <> 'never'
      and not exists (select from core.reset r where r.space_id = v_space_id and r.superseded_at is null
        and r.at = d.at)
  ) r
  where r.at >= v_from and r.at < v_to and (after is null or r.at > after)
  order by r.at
  limit max_rows;
end
$$;
comment on function api.list_resets(text, timestamptz, timestamptz, boolean, timestamptz, integer) is
'The resets of a space in [from_at, to_at), oldest first: the explicit ones, and with scheduled the daily ones too
(recorded_at null).

to_at null: now. from_at null: from the beginning, or with scheduled the 31 days before to_at. An explicit reset stands
for a daily one at the same instant. Errors: PT404; PT422 for daily resets over more than ten years.';
