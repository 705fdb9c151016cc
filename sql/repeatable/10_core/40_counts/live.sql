-- Current counts from a handful of rows (docs/explanation/counts.md).

create or replace function core.list_live_parts(
  spaces integer[],
  sinces timestamptz[]
)
returns table (space_id integer, dpu_id integer, sign smallint, from_at timestamptz, until_at timestamptz)
-- few, as a rule: what is joined to them is found by its index
language plpgsql stable rows 100
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select
    p.space_id,
    p.dpu_id,
    p.sign,
    greatest(lower(p.during), s.since + interval '1 microsecond', core.get_oldest_time()),
    coalesce(upper(p.during), 'infinity')
  from unnest(spaces, sinces) as s (space_id, since)
  join core.list_outer_placements(spaces) p on p.space_id = s.space_id
  where p.during && tstzrange(greatest(s.since + interval '1 microsecond', core.get_oldest_time()), null);
end
$$;
comment on function core.list_live_parts(integer[], timestamptz[]) is
'What the current count of each space is made of, since its latest reset: as core.list_parts, but open to the future,
and with DPUs that have not reported yet.';

create or replace function core.rederive_live(spaces integer[])
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- from the spaces to the rows of their few DPUs, which are in memory
set random_page_cost = 1
as $$
#variable_conflict use_column
declare
  v_now timestamptz := clock_timestamp();
  v_spaces integer[];
  v_sinces timestamptz[];
  v_bases integer[];
  v_owners integer[];
  v_dpus integer[];
  v_signs smallint[];
  v_froms timestamptz[];
  v_untils timestamptz[];
  -- froms and untils, narrowed to where there can be events; between quarter-hours, since a cut needs events
  v_sum_froms timestamptz[];
  v_sum_untils timestamptz[];
  v_nets bigint[];
  v_touched integer[];
begin
  select array_agg(s.space_id), array_agg(s.since), array_agg(s.base) into v_spaces, v_sinces, v_bases
  from core.list_starts(spaces, array_fill(v_now, array[cardinality(spaces)])) s;
  select
    array_agg(p.space_id), array_agg(p.dpu_id), array_agg(p.sign), array_agg(p.from_at), array_agg(p.until_at),
    array_agg(greatest(p.from_at, public.time_bucket(interval '15 minutes', coalesce(s.first_time, p.from_at)))),
    array_agg(least(p.until_at,
      greatest(public.time_bucket(interval '15 minutes', s.latest_time) + interval '15 minutes', p.from_at)))
  into v_owners, v_dpus, v_signs, v_froms, v_untils, v_sum_froms, v_sum_untils
  from core.list_live_parts(v_spaces, v_sinces) p
  join core.dpu_state s on s.dpu_id = p.dpu_id;
  select array_agg(coalesce(n.net, 0) order by p.part) into v_nets
  from generate_series(1, cardinality(v_dpus)) as p (part)
  left join (
    select s.part, sum(s.net) as net from core.sum_parts(v_dpus, v_sum_froms, v_sum_untils) s group by s.part
  ) n on n.part = p.part;
  if core.is_dry_run() then
    return;
  end if;

  insert into core.live_space as l (space_id, since, base, until_at, counted_since)
  select s.space_id, s.since, s.base, u.until_at, c.counted_since
  from unnest(v_spaces, v_sinces, v_bases) as s (space_id, since, base)
  join core.list_schedules(spaces) h on h.space_id = s.space_id
  join core.derive_counted_since(spaces) c on c.space_id = s.space_id
  -- without a call for each of many that are never reset
  cross join lateral (
    select case when h.reset_at = 'never' and not exists (select from core.reset r where r.space_id = s.space_id)
      then 'infinity' else core.get_next_reset(s.space_id, v_now, h.time_zone, h.reset_at) end as until_at
    offset 0
  ) u
  on conflict (space_id) do update set since = excluded.since, base = excluded.base, until_at = excluded.until_at,
    counted_since = excluded.counted_since
  -- most of them are as they were: another placement is no reset
  where (l.since, l.base, l.until_at, l.counted_since)
    is distinct from (excluded.since, excluded.base, excluded.until_at, excluded.counted_since);

  with gone as (
    delete from core.live_flow f where f.space_id = any (spaces) returning dpu_id
  )
  select array_agg(g.dpu_id) into v_touched from gone g;
  insert into core.live_flow (space_id, dpu_id, sign, from_at, until_at, net)
  select
    p.space_id, p.dpu_id, p.sign, p.from_at, p.until_at,
    p.net - case when p.until_at = 'infinity' then s.cumulative_count else 0 end
  from unnest(v_owners, v_dpus, v_signs, v_froms, v_untils, v_nets) as p (space_id, dpu_id, sign, from_at, until_at,
    net)
  join core.dpu_state s on s.dpu_id = p.dpu_id;

  update core.dpu_state s set live_from = n.live_from
  from (
    select d.dpu_id, coalesce(max(case when f.until_at = 'infinity' then f.from_at else f.until_at end),
      '-infinity') as live_from
    from (select distinct unnest(v_touched || v_dpus) as dpu_id) d
    left join core.live_flow f on f.dpu_id = d.dpu_id
    group by d.dpu_id
  ) n
  where s.dpu_id = n.dpu_id and s.live_from <> n.live_from;

  -- here and not with those who call it: who follows the feed by until_at finds a reset no more once it has moved on
  perform core.note_change(spaces => v_spaces);
end
$$;
comment on function core.rederive_live(integer[]) is
'Derives the live rows of some spaces anew, and notes those spaces in the feed. The caller holds core.lock_plan, so that
no event is stored meanwhile. In a dry run nothing is written, but what would be refused is.';

create or replace function core.rederive_changed()
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_spaces integer[];
begin
  with changed as (
    delete from core.live_change returning space_id
  )
  select array_agg(distinct c.space_id) into v_spaces from changed c;
  if v_spaces is not null then
    if not core.is_dry_run() then
      perform core.derive_first_events(v_spaces);
    end if;
    perform core.rederive_live(v_spaces);
  end if;
end
$$;
comment on function core.rederive_changed() is
'Derives the live rows anew of all spaces in core.live_change, and empties it. The last thing that a change of the floor
plan does.';

create or replace procedure core.rederive_due()
language plpgsql
as $$
declare
  v_spaces integer[];
  v_is_blocked boolean := false;
begin
  loop
    -- a few at a time: nobody stores events meanwhile
    select array_agg(d.space_id) into v_spaces
    from (select l.space_id from core.live_space l where l.until_at <= clock_timestamp() or l.since > clock_timestamp()
      limit 200) d;
    exit when v_spaces is null;
    begin
      -- who waits for this lock holds up whoever comes after: better come again
      perform set_config('lock_timeout', '500ms', true);
      perform core.lock_plan();
      perform core.rederive_live(v_spaces);
    exception when lock_not_available then
      v_is_blocked := true;
    end;
    commit;
    exit when v_is_blocked;
  end loop;
end
$$;
comment on procedure core.rederive_due() is
'Derives the live rows anew of all spaces whose daily reset has come, or whose latest reset lies ahead because the clock
was set back. Before that their current counts are right too, but cost as much as those of any other instant. Call it on
its own, outside of a transaction.';

create or replace function core.count_live(
  spaces integer[],
  at timestamptz
)
returns table (space_id integer, raw_count bigint, since timestamptz, dpus_placed integer, dpus_online integer,
  counted_since timestamptz)
-- few, as a rule: what is joined to them is found by its index
language plpgsql stable rows 10
set search_path = pg_catalog, pg_temp
-- from the space to its few DPUs, whatever the planner thinks of reading all
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  v_at timestamptz := at;
  v_due integer[];
begin
  return query
  select
    l.space_id,
    l.base + coalesce(sum(f.sign * (
      f.net
      + case when f.until_at = 'infinity' then s.cumulative_count else 0 end
      - case when s.latest_time > v_at and f.until_at > v_at and f.from_at <= s.latest_time
        then core.look_ahead(f.dpu_id, f.from_at, f.until_at, s.latest_time, v_at)
        else 0 end)), 0)::bigint,
    nullif(l.since, '-infinity'),
    (count(*) filter (where f.from_at <= v_at and f.until_at > v_at and s.retired_at is null))::integer,
    (count(*) filter (where f.from_at <= v_at and f.until_at > v_at and s.retired_at is null
      and s.last_seen_at is not null and s.offline_at is null))::integer,
    l.counted_since
  from core.live_space l
  left join core.live_flow f on f.space_id = l.space_id
  left join core.dpu_state s on s.dpu_id = f.dpu_id
  where l.space_id = any (spaces) and l.until_at > v_at and l.since <= v_at
  group by l.space_id;

  -- a reset has come, or the clock was set back to before it
  v_due := array(select l.space_id from core.live_space l where l.space_id = any (spaces)
    and (l.until_at <= v_at or l.since > v_at));
  if cardinality(v_due) > 0 then
    return query
    select v_due[c.ordinal], c.raw_count, c.since, c.dpus_placed, c.dpus_online, c.counted_since
    from core.count_spaces(v_due, array_fill(v_at, array[cardinality(v_due)])) c;
  end if;
end
$$;
comment on function core.count_live(integer[], timestamptz) is
'As core.count_spaces, for now and from live rows. at: clock_timestamp().';

create or replace function core.look_ahead(
  dpu_id integer,
  from_at timestamptz,
  until_at timestamptz,
  latest_time timestamptz,
  at timestamptz,
  out net bigint
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
declare
  v_at timestamptz := at;
begin
  select coalesce(sum(e.direction), 0) into net
  from core.event e
  where e.dpu_id = look_ahead.dpu_id and e.time > v_at and e.time <= latest_time
    and e.time >= look_ahead.from_at and e.time < look_ahead.until_at;
end
$$;
comment on function core.look_ahead(integer, timestamptz, timestamptz, timestamptz, timestamptz) is
'The part of a live row that comes from events after an instant: the clock of a DPU may be up to 5 minutes fast.';
