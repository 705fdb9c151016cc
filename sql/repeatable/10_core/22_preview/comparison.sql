-- Comparing counts before and after a change of the floor plan (api.compare_counts): see facts.sql.

create or replace function core.get_fact_parts(
  spaces jsonb,
  now_at timestamptz,
  out owners integer[],
  out dpus integer[],
  out signs integer[],
  out froms timestamptz[],
  out untils timestamptz[]
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  select array_agg(2 * p.number + p.side), array_agg(p.dpu_id), array_agg(p.sign), array_agg(c.from_at),
    array_agg(c.until_at)
  into owners, dpus, signs, froms, untils
  from (
    select
      s.number, f.side, (p.value->>0)::integer as dpu_id, (p.value->>1)::integer as sign,
      (p.value->>2)::timestamptz as from_at, (p.value->>3)::timestamptz as until_at
    from jsonb_array_elements(spaces) with ordinality as s (value, number)
    cross join lateral (values (0, s.value->'before'->'parts'), (1, s.value->'after'->'parts')) as f (side, parts)
    cross join lateral jsonb_array_elements(coalesce(f.parts, '[]')) p
  ) p
  join core.dpu_state d on d.dpu_id = p.dpu_id and d.first_time <= now_at
  cross join lateral (
    -- as core.list_parts
    select greatest(p.from_at, public.time_bucket(interval '30 days', d.first_time)) as from_at,
      least(p.until_at, now_at + interval '1 microsecond') as until_at
  ) c
  where c.from_at < c.until_at;
end
$$;
comment on function core.get_fact_parts(jsonb, timestamptz) is
'The parts of the facts of core.list_changed_facts, up to now_at, beside each other. owners: twice the number of the
space (from 1) for a part before the change, and one more for a part after it.';

create or replace function core.get_fact_resets(
  spaces jsonb,
  now_at timestamptz,
  owners integer[],
  froms timestamptz[],
  out numbers integer[],
  out ats timestamptz[],
  out befores integer[],
  out afters integer[]
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_lows timestamptz[];   -- from when on anything counts for each space
begin
  -- recorded resets: those that the change concerns stand in the facts
  select array_agg(r.number), array_agg(r.at), array_agg(r.before), array_agg(r.after)
  into numbers, ats, befores, afters
  from (
    select s.number, r.at, r.count as before, r.count as after
    from jsonb_array_elements(spaces) with ordinality as s (value, number)
    join core.reset r on r.space_id = (s.value->>'space_id')::integer and r.superseded_at is null and r.at <= now_at
    where 'array' not in (
      coalesce(jsonb_typeof(s.value->'before'->'resets'), ''), coalesce(jsonb_typeof(s.value->'after'->'resets'), ''))
    union all
    select
      s.number, (r.value->>0)::timestamptz,
      max((r.value->>1)::integer) filter (where f.side = 0), max((r.value->>1)::integer) filter (where f.side = 1)
    from jsonb_array_elements(spaces) with ordinality as s (value, number)
    cross join lateral (values (0, s.value->'before'->'resets'), (1, s.value->'after'->'resets')) as f (side, resets)
    cross join lateral jsonb_array_elements(case jsonb_typeof(f.resets) when 'array' then f.resets else '[]' end) r
    group by s.number, (r.value->>0)::timestamptz
  ) r;

  select array_agg(l.low order by l.number) into v_lows
  from (
    select s.number, min(n.at) as low
    from generate_series(1, jsonb_array_length(spaces)) as s (number)
    left join (
      select p.owner / 2 as number, p.at from unnest(owners, froms) as p (owner, at)
      union all
      select r.number, r.at from unnest(numbers, ats) as r (number, at)
    ) n on n.number = s.number
    group by s.number
  ) l;

  -- daily ones as well: a recorded one stands for a daily one at its instant
  with schedule as materialized (
    select s.number, f.side, f.value->>'time_zone' as time_zone, f.value->>'reset_at' as reset_at,
      v_lows[s.number] as low
    from jsonb_array_elements(spaces) with ordinality as s (value, number)
    cross join lateral (values (0, s.value->'before'), (1, s.value->'after')) as f (side, value)
    where f.value->>'reset_at' <> 'never' and v_lows[s.number] <= now_at
  ),
  daily as materialized (
    select distinct z.time_zone, z.reset_at, d.at
    from (select s.time_zone, s.reset_at, min(s.low) as low from schedule s group by s.time_zone, s.reset_at) z
    cross join generate_series((z.low at time zone z.time_zone)::date - 1, (now_at at time zone z.time_zone)::date + 1,
      interval '1 day') as g (day)
    cross join lateral core.get_scheduled_reset(g.day::date, z.time_zone, z.reset_at::time) as d (at)
    where d.at >= z.low and d.at <= now_at
  )
  select array_agg(r.number), array_agg(r.at), array_agg(r.before), array_agg(r.after)
  into numbers, ats, befores, afters
  from (
    select n.number, n.at, coalesce(max(n.before), max(n.daily_before)) as before,
      coalesce(max(n.after), max(n.daily_after)) as after
    from (
      select t.number, t.at, t.before, t.after, null::integer as daily_before, null::integer as daily_after
      from unnest(numbers, ats, befores, afters) as t (number, at, before, after)
      union all
      select s.number, d.at, null, null, case s.side when 0 then 0 end, case s.side when 1 then 0 end
      from schedule s
      join daily d on d.time_zone = s.time_zone and d.reset_at = s.reset_at and d.at >= s.low
    ) n
    group by n.number, n.at
  ) r;
end
$$;
comment on function core.get_fact_resets(jsonb, timestamptz, integer[], timestamptz[]) is
'The resets of the facts of core.list_changed_facts up to now_at, recorded and daily ones, beside each other: the number
of the space (from 1), the instant, and the count that it sets before and after the change (null: there is none on that
side).

owners, froms: as core.get_fact_parts has them.';

create or replace function core.get_open_questions(
  numbers integer[],
  reset_ats timestamptz[],
  befores integer[],
  afters integer[],
  out owners integer[],
  out sinces timestamptz[],
  out ats timestamptz[],
  out bases bigint[]
)
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  -- where one side alone has a reset, the count of the other one goes on: it is asked for
  select array_agg(q.owner), array_agg(coalesce(q.since, '-infinity')), array_agg(q.at), array_agg(coalesce(q.base, 0))
  into owners, sinces, ats, bases
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
      from unnest(numbers, reset_ats, befores, afters) as t (number, at, before, after)
    ) r
    window before as (partition by r.number, r.befores), after as (partition by r.number, r.afters)
  ) q
  where q.is_asked;
end
$$;
comment on function core.get_open_questions(integer[], timestamptz[], integer[], integer[]) is
'What has to be summed where one side alone has a reset (core.get_fact_resets), since the count of the other side goes
on there: a question for core.sum_questions each, and beside it the count that it starts from.';

create or replace function core.get_flipped_parts(
  owners integer[],
  part_dpus integer[],
  part_signs integer[],
  part_froms timestamptz[],
  part_untils timestamptz[],
  out numbers integer[],
  out dpus integer[],
  out signs integer[],
  out froms timestamptz[],
  out untils timestamptz[]
)
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  select array_agg(t.number), array_agg(t.dpu_id), array_agg(t.sign), array_agg(t.at), array_agg(t.until_at)
  into numbers, dpus, signs, froms, untils
  from (
    select
      e.number, e.dpu_id, e.at, sum(e.turn) over side as sign, lead(e.at) over side as until_at
    from (
      select p.owner / 2 as number, p.dpu_id, b.at, sum(b.turn)::integer as turn
      from unnest(owners, part_dpus, part_signs, part_froms, part_untils) as p (owner, dpu_id, sign, from_at, until_at)
      cross join lateral (select case p.owner % 2 when 1 then p.sign else -p.sign end as turn) t
      cross join lateral (values (p.from_at, t.turn), (p.until_at, -t.turn)) as b (at, turn)
      group by p.owner / 2, p.dpu_id, b.at
    ) e
    window side as (partition by e.number, e.dpu_id order by e.at)
  ) t
  where t.sign <> 0;
end
$$;
comment on function core.get_flipped_parts(integer[], integer[], integer[], timestamptz[], timestamptz[]) is
'The parts (core.get_fact_parts) that count otherwise after the change: the number of the space, and the sign that they
add.';

create or replace function core.get_reset_values(
  numbers integer[],
  ats timestamptz[],
  befores integer[],
  afters integer[],
  owners integer[],
  dpus integer[],
  signs integer[],
  froms timestamptz[],
  untils timestamptz[]
)
returns bigint[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_requested integer[];
  v_sinces timestamptz[];
  v_ats timestamptz[];
  v_bases bigint[];
  v_values bigint[];
begin
  select q.owners, q.sinces, q.ats, q.bases into v_requested, v_sinces, v_ats, v_bases
  from core.get_open_questions(numbers, ats, befores, afters) q;
  select array_agg(case
      when r.before is null then r.after - (q.base + coalesce(n.net, 0))
      when r.after is null then q.base + coalesce(n.net, 0) - r.before
      else r.after - r.before
    end order by r.ordinal) into v_values
  from unnest(numbers, ats, befores, afters) with ordinality as r (number, at, before, after, ordinal)
  left join unnest(v_requested, v_ats, v_bases) with ordinality as q (owner, at, base, question)
    on q.owner / 2 = r.number
    and q.at = r.at
  left join core.sum_questions(v_requested, v_sinces, v_ats, owners, dpus, signs, froms, untils) n
    on n.question = q.question;
  return v_values;
end
$$;
comment on function core.get_reset_values(integer[], timestamptz[], integer[], integer[], integer[], integer[],
  integer[], timestamptz[], timestamptz[]) is
'By how many people the count after the change differs from the count before it, at each reset of core.get_fact_resets.
The other arrays are those of core.get_fact_parts. Errors: PT422 where it would need events that were dropped.';

create or replace function core.list_count_changes(
  reset_numbers integer[],
  reset_ats timestamptz[],
  reset_values bigint[],
  numbers integer[],
  dpus integer[],
  signs integer[],
  froms timestamptz[],
  untils timestamptz[]
)
returns table (number integer, at timestamptz, until_at timestamptz, value numeric)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  -- what counts after less what counts before, as it goes: resets set it, events add to it
  return query
  with flow as (
    select f.number, f.at, f.net from core.list_flow_changes(numbers, dpus, signs, froms, untils) f
  ),
  step as (
    -- an event at the instant of a reset belongs to before it
    select number, at, max(value) as value, coalesce(sum(net), 0) as net
    from (
      select r.number, r.at, r.value, null::bigint as net
      from unnest(reset_numbers, reset_ats, reset_values) as r (number, at, value)
      union all
      select f.number, f.at, null, f.net from flow f
    ) s
    group by number, at
  ),
  numbered as (
    select s.*, count(s.value) over (partition by s.number order by s.at) as resets from step s
  )
  select
    n.number, n.at, lead(n.at) over (partition by n.number order by n.at) as until_at,
    coalesce(max(n.value) over (partition by n.number, n.resets), 0)
      + sum(case when n.value is null then n.net else 0 end) over (partition by n.number, n.resets
        order by n.at) as value
  from numbered n;
end
$$;
comment on function core.list_count_changes(integer[], timestamptz[], bigint[], integer[], integer[],
  integer[], timestamptz[], timestamptz[]) is
'How the raw count after the change less that before it goes, for each space by its number: value from at up to until_at
(null: still).

reset_values: as core.get_reset_values, beside the resets; the other arrays are those of core.get_flipped_parts.';
