create or replace function api.compare_counts(facts jsonb)
returns table (
  space text,
  from_at timestamptz,
  to_at timestamptz,
  largest_change bigint,
  at timestamptz,
  before bigint,
  after bigint
)
-- stable: all of it reads one snapshot
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
  c_instant constant interval := interval '1 microsecond';
  v_now timestamptz := (facts->>'now')::timestamptz;
  v_spaces jsonb := facts->'spaces';   -- by their number from 1
  v_lows timestamptz[];   -- from when on anything counts for each
  -- parts: 2 * number before, 2 * number + 1 after the change
  v_owners integer[];
  v_dpus integer[];
  v_signs integer[];
  v_froms timestamptz[];
  v_untils timestamptz[];
  -- resets: the count each sets before and after; null: that side has none
  v_reset_numbers integer[];
  v_reset_ats timestamptz[];
  v_befores integer[];
  v_afters integer[];
  -- questions: the sums of which parts in (since, at]
  v_asked integer[];
  v_sinces timestamptz[];
  v_ats timestamptz[];
  v_bases bigint[];
  -- parts that count otherwise
  v_turned integer[];
  v_turned_dpus integer[];
  v_turned_signs integer[];
  v_turned_froms timestamptz[];
  v_turned_untils timestamptz[];
  -- differences
  v_found integer[];
  v_found_froms timestamptz[];
  v_found_tos timestamptz[];
  v_found_ats timestamptz[];
  v_found_changes bigint[];
begin
  select array_agg(2 * p.number + p.side), array_agg(p.dpu_id), array_agg(p.sign), array_agg(c.from_at), array_agg(c.until_at)
  into v_owners, v_dpus, v_signs, v_froms, v_untils
  from (
    select
      s.number, f.side, (p.value->>0)::integer as dpu_id, (p.value->>1)::integer as sign,
      (p.value->>2)::timestamptz as from_at, (p.value->>3)::timestamptz as until_at
    from jsonb_array_elements(v_spaces) with ordinality as s (value, number)
    cross join lateral (values (0, s.value->'before'->'parts'), (1, s.value->'after'->'parts')) as f (side, parts)
    cross join lateral jsonb_array_elements(coalesce(f.parts, '[]')) p
  ) p
  join core.dpu_state d on d.dpu_id = p.dpu_id and d.first_time <= v_now
  cross join lateral (
    -- as core.list_parts
    select greatest(p.from_at, public.time_bucket(interval '30 days', d.first_time)) as from_at, least(p.until_at, v_now + c_instant) as until_at
  ) c
  where c.from_at < c.until_at;

  -- recorded resets: those that the change concerns stand in the facts
  select array_agg(r.number), array_agg(r.at), array_agg(r.before), array_agg(r.after)
  into v_reset_numbers, v_reset_ats, v_befores, v_afters
  from (
    select s.number, r.at, r.count as before, r.count as after
    from jsonb_array_elements(v_spaces) with ordinality as s (value, number)
    join core.reset r on r.space_id = (s.value->>'space_id')::integer and r.superseded_at is null and r.at <= v_now
    where 'array' not in (
      coalesce(jsonb_typeof(s.value->'before'->'resets'), ''), coalesce(jsonb_typeof(s.value->'after'->'resets'), ''))
    union all
    select
      s.number, (r.value->>0)::timestamptz,
      max((r.value->>1)::integer) filter (where f.side = 0), max((r.value->>1)::integer) filter (where f.side = 1)
    from jsonb_array_elements(v_spaces) with ordinality as s (value, number)
    cross join lateral (values (0, s.value->'before'->'resets'), (1, s.value->'after'->'resets')) as f (side, resets)
    cross join lateral jsonb_array_elements(case jsonb_typeof(f.resets) when 'array' then f.resets else '[]' end) r
    group by s.number, (r.value->>0)::timestamptz
  ) r;

  select array_agg(l.low order by l.number) into v_lows
  from (
    select s.number, min(n.at) as low
    from generate_series(1, jsonb_array_length(v_spaces)) as s (number)
    left join (
      select p.owner / 2 as number, p.at from unnest(v_owners, v_froms) as p (owner, at)
      union all
      select r.number, r.at from unnest(v_reset_numbers, v_reset_ats) as r (number, at)
    ) n on n.number = s.number
    group by s.number
  ) l;

  -- daily ones as well: a recorded one stands for a daily one at its instant
  with schedule as materialized (
    select s.number, f.side, f.value->>'time_zone' as time_zone, f.value->>'reset_at' as reset_at, v_lows[s.number] as low
    from jsonb_array_elements(v_spaces) with ordinality as s (value, number)
    cross join lateral (values (0, s.value->'before'), (1, s.value->'after')) as f (side, value)
    where f.value->>'reset_at' <> 'never' and v_lows[s.number] <= v_now
  ),
  daily as materialized (
    select distinct z.time_zone, z.reset_at, d.at
    from (select s.time_zone, s.reset_at, min(s.low) as low from schedule s group by s.time_zone, s.reset_at) z
    cross join generate_series((z.low at time zone z.time_zone)::date - 1, (v_now at time zone z.time_zone)::date + 1, interval '1 day') as g (day)
    cross join lateral core.get_scheduled_reset(g.day::date, z.time_zone, z.reset_at::time) as d (at)
    where d.at >= z.low and d.at <= v_now
  )
  select array_agg(r.number), array_agg(r.at), array_agg(r.before), array_agg(r.after)
  into v_reset_numbers, v_reset_ats, v_befores, v_afters
  from (
    select n.number, n.at, coalesce(max(n.before), max(n.daily_before)) as before, coalesce(max(n.after), max(n.daily_after)) as after
    from (
      select t.number, t.at, t.before, t.after, null::integer as daily_before, null::integer as daily_after
      from unnest(v_reset_numbers, v_reset_ats, v_befores, v_afters) as t (number, at, before, after)
      union all
      select s.number, d.at, null, null, case s.side when 0 then 0 end, case s.side when 1 then 0 end
      from schedule s
      join daily d on d.time_zone = s.time_zone and d.reset_at = s.reset_at and d.at >= s.low
    ) n
    group by n.number, n.at
  ) r;

  -- where one side alone has a reset, the count of the other one goes on: it is asked for
  select array_agg(q.owner), array_agg(coalesce(q.since, '-infinity')), array_agg(q.at), array_agg(coalesce(q.base, 0))
  into v_asked, v_sinces, v_ats, v_bases
  from (
    select
      2 * r.number + case when r.before is null then 0 else 1 end as owner, r.at,
      case when r.before is null then max(r.at) filter (where r.before is not null) over before
        else max(r.at) filter (where r.after is not null) over after end as since,
      case when r.before is null then max(r.before) over before else max(r.after) over after end as base,
      (r.before is null) <> (r.after is null) as is_asked
    from (
      select
        t.number, t.at, t.before, t.after,
        count(t.before) over (partition by t.number order by t.at) as befores,
        count(t.after) over (partition by t.number order by t.at) as afters
      from unnest(v_reset_numbers, v_reset_ats, v_befores, v_afters) as t (number, at, before, after)
    ) r
    window before as (partition by r.number, r.befores), after as (partition by r.number, r.afters)
  ) q
  where q.is_asked;

  select array_agg(t.number), array_agg(t.dpu_id), array_agg(t.sign), array_agg(t.at), array_agg(t.until_at)
  into v_turned, v_turned_dpus, v_turned_signs, v_turned_froms, v_turned_untils
  from (
    select
      e.number, e.dpu_id, e.at, sum(e.turn) over side as sign, lead(e.at) over side as until_at
    from (
      select p.owner / 2 as number, p.dpu_id, b.at, sum(b.turn)::integer as turn
      from unnest(v_owners, v_dpus, v_signs, v_froms, v_untils) as p (owner, dpu_id, sign, from_at, until_at)
      cross join lateral (select case p.owner % 2 when 1 then p.sign else -p.sign end as turn) t
      cross join lateral (values (p.from_at, t.turn), (p.until_at, -t.turn)) as b (at, turn)
      group by p.owner / 2, p.dpu_id, b.at
    ) e
    window side as (partition by e.number, e.dpu_id order by e.at)
  ) t
  where t.sign <> 0;

  -- what counts after less what counts before, as it goes: resets set it, events add to it
  with reset as (
    select
      r.number, r.at,
      case
        when r.before is null then r.after - (q.base + coalesce(n.net, 0))
        when r.after is null then q.base + coalesce(n.net, 0) - r.before
        else r.after - r.before
      end as value
    from unnest(v_reset_numbers, v_reset_ats, v_befores, v_afters) as r (number, at, before, after)
    left join unnest(v_asked, v_ats, v_bases) with ordinality as q (owner, at, base, question) on q.owner / 2 = r.number and q.at = r.at
    left join core.sum_questions(v_asked, v_sinces, v_ats, v_owners, v_dpus, v_signs, v_froms, v_untils) n on n.question = q.question
  ),
  flow as (
    select f.number, f.at, f.net from core.list_flow_changes(v_turned, v_turned_dpus, v_turned_signs, v_turned_froms, v_turned_untils) f
  ),
  step as (
    -- an event at the instant of a reset belongs to before it
    select number, at, max(value) as value, coalesce(sum(net), 0) as net
    from (
      select r.number, r.at, r.value, null::bigint as net from reset r
      union all
      select f.number, f.at, null, f.net from flow f
    ) s
    group by number, at
  ),
  numbered as (
    select s.*, count(s.value) over (partition by s.number order by s.at) as resets from step s
  ),
  difference as (
    select
      n.number, n.at, lead(n.at) over (partition by n.number order by n.at) as until_at,
      coalesce(max(n.value) over (partition by n.number, n.resets), 0)
        + sum(case when n.value is null then n.net else 0 end) over (partition by n.number, n.resets order by n.at) as value
    from numbered n
  )
  select array_agg(c.number), array_agg(c.from_at), array_agg(c.to_at), array_agg(c.at), array_agg(c.value)
  into v_found, v_found_froms, v_found_tos, v_found_ats, v_found_changes
  from (
    select
      d.number, min(d.at) as from_at, max(coalesce(d.until_at - c_instant, v_now)) as to_at,
      (array_agg(d.at order by abs(d.value) desc, d.at))[1] as at, (array_agg(d.value order by abs(d.value) desc, d.at))[1] as value
    from difference d
    where d.value <> 0
    group by d.number
  ) c;

  -- the count before, where it differs most
  select array_agg(2 * c.number order by c.place), array_agg(coalesce(b.at, '-infinity') order by c.place), array_agg(coalesce(b.before, 0) order by c.place)
  into v_asked, v_sinces, v_bases
  from unnest(v_found, v_found_ats) with ordinality as c (number, at, place)
  left join lateral (
    select r.at, r.before
    from unnest(v_reset_numbers, v_reset_ats, v_befores) as r (number, at, before)
    where r.number = c.number and r.before is not null and r.at <= c.at
    order by r.at desc
    limit 1
  ) b on true;
  return query
  select
    coalesce(s.value->'after', s.value->'before')->>'space', c.from_at, c.to_at, abs(c.value), c.at,
    c.base + coalesce(n.net, 0), c.base + coalesce(n.net, 0) + c.value
  from unnest(v_found, v_found_froms, v_found_tos, v_found_ats, v_found_changes, v_bases)
    with ordinality as c (number, from_at, to_at, at, value, base, question)
  join jsonb_array_elements(v_spaces) with ordinality as s (value, number) on s.number = c.number
  left join core.sum_questions(v_asked, v_sinces, v_found_ats, v_owners, v_dpus, v_signs, v_froms, v_untils) n on n.question = c.question
  order by abs(c.value) desc, 1;
end
$$;
comment on function api.compare_counts(jsonb) is
'How raw counts of spaces would differ, over all their history up to now and at every instant, where the facts differ that api.preview_change returned: those that differ most first.

from_at, to_at: the first and the last instant at which the raw count would be another one; to_at is the instant of the dry run where it still would. largest_change: by how many people at most; at: the first instant of that; before, after: the raw count then. Errors: PT422 where it would need events that were dropped.';
