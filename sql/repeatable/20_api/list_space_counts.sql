create or replace function api.list_space_counts(
  space text,
  from_at timestamptz default null,
  to_at timestamptz default null,
  grain text default '1h',
  inout time_zone text default null,
  exact boolean default false,
  out resolution text,
  out start_at timestamptz,
  out end_at timestamptz,
  out count bigint,
  out raw_count bigint,
  out min bigint,
  out max bigint,
  out average double precision,
  out entries bigint,
  out exits bigint,
  out utilization double precision
)
returns setof record
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_now timestamptz := clock_timestamp();
  v_space_id integer := core.find_space(space);
  v_zone text := list_space_counts.time_zone;
  v_to timestamptz := coalesce(to_at, v_now);
  v_from timestamptz := coalesce(from_at, v_to - interval '24 hours');
  v_low timestamptz;
  v_high timestamptz;
  v_is_exact boolean;
  v_before bigint;            -- raw count just before v_low
  v_starts timestamptz[];     -- buckets
  v_ends timestamptz[];
  v_resets timestamptz[];
  v_bases integer[];
  -- The range is cut wherever a bucket begins or a reset falls; between two cuts the count only moves by events.
  v_cuts timestamptz[];
  v_nexts timestamptz[];
  v_buckets bigint[];         -- which bucket each cut lies in
  v_legs bigint[];            -- how many resets are behind it
  v_are_resets boolean[];     -- whether a reset falls on it
begin
  perform core.check_grain(grain);
  if v_zone is null then
    select s.time_zone into v_zone from core.list_schedules(array[v_space_id]) s;
  else
    perform core.check_time_zone(v_zone, 'time_zone');
  end if;
  perform core.check_count_range(v_from, v_to, v_now);
  v_from := greatest(v_from, core.get_oldest_time());
  v_to := greatest(least(v_to, v_now), v_from + interval '1 microsecond');
  select b.starts, b.ends into v_starts, v_ends from core.get_buckets(v_from, v_to, grain, v_zone) b;
  v_low := v_starts[1];
  v_high := least(v_ends[cardinality(v_ends)], v_now);
  v_is_exact := (exact or v_high - v_low <= interval '169 hours')
    and v_low >= (select s.events_from from core.rollup_state s);

  select c.raw_count into v_before
  from core.sum_spaces(array[v_space_id], array[v_low - interval '1 microsecond'], place => 'from') c;
  select array_agg(r.at order by r.at), array_agg(r.count order by r.at) into v_resets, v_bases
  from core.list_space_resets(v_space_id, v_low, v_high) r;

  select c.cuts, c.nexts, c.buckets, c.legs, c.are_resets into v_cuts, v_nexts, v_buckets, v_legs, v_are_resets
  from core.cut_buckets(v_starts, v_resets, v_bases, v_high) c;

  return query
  with piece as (
    select
      c.cut, v_buckets[c.cut] as bucket, c.at, c.next,
      l.base + coalesce(sum(s.net) over earlier, 0) as value,
      l.base + s.low as low, l.base + s.high as high,
      coalesce(s.net, 0) as net, coalesce(s.entries, 0) as entries, coalesce(s.exits, 0) as exits,
      coalesce(s.area, 0) as area, coalesce(s.moves_at_once, false) as moves_at_once
    from unnest(v_cuts, v_nexts) with ordinality as c (at, next, cut)
    cross join lateral (select case when v_legs[c.cut] = 0 then v_before else v_bases[v_legs[c.cut]] end) as l (base)
    left join core.sum_cuts(
      v_space_id, v_low, v_high, v_is_exact, v_resets, v_cuts, v_nexts, v_legs, v_are_resets) s on s.cut = c.cut
    window earlier as (partition by v_legs[c.cut] order by c.cut rows between unbounded preceding and 1 preceding)
  ),
  bucket as (
    select
      p.bucket, (array_agg(p.value + p.net order by p.cut desc))[1]::bigint as raw_count,
      least(pg_catalog.min(p.value) filter (where not p.moves_at_once), pg_catalog.min(p.low))::bigint as low,
      greatest(pg_catalog.max(p.value) filter (where not p.moves_at_once), pg_catalog.max(p.high))::bigint as high,
      sum(p.value * extract(epoch from p.next - p.at) + p.area)
        / nullif(sum(extract(epoch from p.next - p.at)), 0) as average,
      sum(p.entries)::bigint as entries, sum(p.exits)::bigint as exits
    from piece p group by p.bucket
  )
  select
    v_zone, case when v_is_exact then 'event' else '15m' end, v_starts[b.bucket], v_ends[b.bucket],
    greatest(b.raw_count, 0), b.raw_count, b.low, b.high, b.average::double precision, b.entries, b.exits,
    greatest(b.raw_count, 0)::double precision
      / nullif((select s.capacity from core.space s where s.space_id = v_space_id), 0)
  from bucket b order by b.bucket;
end
$$;
comment on function api.list_space_counts(text, timestamptz, timestamptz, text, text, boolean) is
'How the count of a space went: buckets of local time that overlap [from_at, to_at), oldest first; at most 10,000.

grain: 15m, 30m, 1h, 1d, 1w (from Monday) or 1mo. time_zone: that of the buckets, null: the space''s own. to_at null:
now; from_at null: 24 hours before. A bucket that is not over yet is told as far as it has come.

count, raw_count: at the end of the bucket, events before it; entries, exits: people through the outer doorways; min,
max, average: of raw_count as a step function over the bucket, the average weighted by time. resolution: event where min
and max are exact (up to a week, and with exact), 15m where they are taken over quarter-hours (longer ranges, and those
that begin before what is kept: api.get_retention). exact: that min and max are worth reading the events of a long
range. Errors: PT404; PT422.';
