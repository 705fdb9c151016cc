-- bi.space_counts_15m counts a space ten days at a time, and only those of which somebody wants a quarter-hour: filters
-- on bucket come first, and what was counted for a block is remembered (Memoize). The planner does that where it
-- believes in few blocks, many quarter-hours and a dear count; and not too much of it, or it compiles the query (JIT).

create or replace function core.list_bi_blocks(
  from_at timestamptz,
  until_at timestamptz
)
returns table (start_at timestamptz)
language sql immutable rows 2
set search_path = pg_catalog, pg_temp
as $$
  select public.time_bucket(interval '10 days', from_at) + n * interval '240 hours'
  from generate_series(0,
    floor(extract(epoch from until_at - public.time_bucket(interval '10 days', from_at)) / 864000)::integer) as n
  where public.time_bucket(interval '10 days', from_at) + n * interval '240 hours' < until_at
$$;
comment on function core.list_bi_blocks(timestamptz, timestamptz) is
'The starts of the blocks of ten days from the one of an instant to another instant; none from null.';

create or replace function core.list_block_quarters()
returns table (quarter integer)
language plpgsql immutable rows 500000
set search_path = pg_catalog, pg_temp
as $$
begin
  return query select generate_series(0, 959);
end
$$;
comment on function core.list_block_quarters() is
'0 to 959: the quarter-hours of a block.';

create or replace function core.count_quarters(
  space_id integer,
  from_at timestamptz,
  until_at timestamptz
)
returns bigint[]
language plpgsql stable security definer cost 10000
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_low timestamptz := from_at;
  v_high timestamptz := least(from_at + interval '240 hours', until_at);
  v_before bigint;
  v_resets timestamptz[];
  v_bases integer[];
begin
  select c.raw_count into v_before
  from core.sum_spaces(array[count_quarters.space_id], array[v_low - interval '1 microsecond'], place => 'bucket') c;

  select coalesce(array_agg(r.at order by r.at), '{}'), array_agg(r.count order by r.at) into v_resets, v_bases
  from core.list_space_resets(count_quarters.space_id, v_low, v_high) r;

  return (
    with flow as (
      -- leg: how many resets are behind it; what came exactly at a reset is void behind it
      select
        floor(extract(epoch from f.time - v_low) / 900)::integer as quarter,
        width_bucket(f.time, v_resets) as leg,
        case when f.time = any (v_resets) then f.net - f.net_at_start else f.net end as net
      from core.list_flows(count_quarters.space_id, v_low, v_high, v_resets, 'bucket') f
    ),
    quarter as (
      select q.quarter, (select count(*) from unnest(v_resets) r
        where r < v_low + (q.quarter + 1) * interval '15 minutes' and r < v_high) as leg
      from generate_series(0, ceil(extract(epoch from v_high - v_low) / 900)::integer - 1) as q (quarter)
    )
    select array_agg(c.raw_count order by c.quarter)
    from (
      select
        q.quarter,
        (case when q.leg = 0 then v_before else v_bases[q.leg] end
          + sum(coalesce(f.net, 0)) over (partition by q.leg order by q.quarter))::bigint as raw_count
      from quarter q
      left join (select f.quarter, f.leg, sum(f.net) as net from flow f group by f.quarter, f.leg) f
        on f.quarter = q.quarter and f.leg = q.leg
    ) c
  );
end
$$;
comment on function core.count_quarters(integer, timestamptz, timestamptz) is
'The raw counts of a space at the ends of the quarter-hours of a block, the last one as far as it has come at
until_at.';

create or replace function core.count_space_now(
  space_id integer,
  at timestamptz
)
returns table (raw_count bigint, since timestamptz, dpus_placed integer, dpus_online integer, counted_since timestamptz)
language sql stable security definer cost 10000 rows 1
set search_path = pg_catalog, pg_temp
as $$
  select c.raw_count, c.since, c.dpus_placed, c.dpus_online, c.counted_since
  from core.count_live(array[count_space_now.space_id], count_space_now.at) c
$$;
comment on function core.count_space_now(integer, timestamptz) is
'core.count_live of one space, for a view.';
