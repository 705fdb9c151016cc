-- What a change of the floor plan would do to counts. The change is made and rolled back, and the facts
-- before and after it are compared: of each space the parts that its count is made of (which DPU counts
-- when, with which sign), and its resets.

create or replace function core.get_facts(
  spaces integer[],
  with_resets boolean
)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with part as (
    select p.space_id, jsonb_agg(
      jsonb_build_array(p.dpu_id, p.sign, lower(p.during), coalesce(upper(p.during), 'infinity'))
        order by p.dpu_id, lower(p.during)) as parts
    from core.list_outer_placements(spaces) p
    group by p.space_id
  ),
  reset as (
    select r.space_id, jsonb_agg(jsonb_build_array(r.at, r.count) order by r.at) as resets
    from core.reset r
    where with_resets and r.space_id = any (spaces) and r.superseded_at is null
    group by r.space_id
  )
  select coalesce(jsonb_object_agg(s.space_id, jsonb_build_object(
    'space', s.id, 'time_zone', h.time_zone, 'reset_at', h.reset_at, 'parts', coalesce(p.parts, '[]'), 'resets',
    r.resets)), '{}')
  from core.space s
  join core.list_schedules(spaces) h on h.space_id = s.space_id
  left join part p on p.space_id = s.space_id
  left join reset r on r.space_id = s.space_id
$$;
comment on function core.get_facts(integer[], boolean) is
'What counts of spaces follow from, as JSON by space_id: {space, time_zone, reset_at, parts: [[dpu_id, sign, from,
until]], resets: [[at, count]]}. resets: the recorded ones, null unless asked for.';

create or replace function core.list_changed_facts(
  before jsonb,
  after jsonb
)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(jsonb_build_object('space_id', f.space_id, 'before', f.before, 'after', f.after)), '[]')
  from (
    select coalesce(b.key, a.key)::integer as space_id, b.value as before, a.value as after
    from jsonb_each(before) b
    full join jsonb_each(after) a on a.key = b.key
  ) f
  where f.before is distinct from f.after and (core.get_reach() is null or core.is_space_in_reach(f.space_id))
$$;
comment on function core.list_changed_facts(jsonb, jsonb) is
'The spaces within reach whose facts differ, as core.get_facts gave them: [{space_id, before, after}]. before is null
for a new one.';

create or replace function core.list_flow_changes(
  numbers integer[],
  dpus integer[],
  signs integer[],
  froms timestamptz[],
  untils timestamptz[]
)
returns table (number integer, at timestamptz, net bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
  v_low timestamptz := (select min(f) from unnest(froms) f);
  v_high timestamptz := (select max(u) from unnest(untils) u);
  v_events_from timestamptz := (select s.events_from from core.rollup_state s);
begin
  return query
  select p.number, e.time, sum(p.sign * e.direction::bigint)::bigint
  from unnest(numbers, dpus, signs, froms, untils) as p (number, dpu_id, sign, from_at, until_at)
  join core.event e on e.dpu_id = p.dpu_id and e.time >= p.from_at and e.time < p.until_at
  where e.dpu_id = any (dpus) and e.time >= greatest(v_low, v_events_from) and e.time < v_high
  group by p.number, e.time;
  if v_low >= v_events_from then
    return;
  end if;
  -- of what was dropped: what is kept of it, and else whole quarter-hours, as if all had happened at their end
  return query
  select p.number, k.time, sum(p.sign * k.direction::bigint)::bigint
  from unnest(numbers, dpus, signs, froms, untils) as p (number, dpu_id, sign, from_at, until_at)
  join core.kept_event k on k.dpu_id = p.dpu_id and k.time >= p.from_at and k.time < p.until_at
  where k.time < v_events_from
  group by p.number, k.time;
  return query
  select p.number, s.at, sum(p.sign * s.net)::bigint
  from unnest(numbers, dpus, signs, froms, untils) as p (number, dpu_id, sign, from_at, until_at)
  join core.dpu_flow_15m_v1 f on f.dpu_id = p.dpu_id and f.bucket >= p.from_at and f.bucket < p.until_at
  cross join lateral (values
    (f.bucket, f.net_at_start),
    (f.bucket + interval '15 minutes' - interval '1 microsecond', f.net - f.net_at_start)) as s (at, net)
  where f.dpu_id = any (dpus) and f.bucket >= v_low and f.bucket < least(v_high, v_events_from) and s.net <> 0
    and not exists (
      select from core.kept_event k
      where k.dpu_id = f.dpu_id and k.time >= f.bucket and k.time < f.bucket + interval '15 minutes')
  group by p.number, s.at;
end
$$;
comment on function core.list_flow_changes(integer[], integer[], integer[], timestamptz[], timestamptz[]) is
'The signed sum of directions at each instant of events of DPUs in [from, until) each, from parallel arrays. Where
events were dropped: by quarter-hours.';

create or replace function core.sum_questions(
  questions integer[],
  sinces timestamptz[],
  ats timestamptz[],
  owners integer[],
  dpus integer[],
  signs integer[],
  froms timestamptz[],
  untils timestamptz[]
)
returns table (question bigint, net bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_questions bigint[];
  v_signs integer[];
  v_dpus integer[];
  v_froms timestamptz[];
  v_untils timestamptz[];
begin
  select array_agg(q.question), array_agg(p.sign), array_agg(p.dpu_id), array_agg(c.from_at), array_agg(c.until_at)
  into v_questions, v_signs, v_dpus, v_froms, v_untils
  from unnest(questions, sinces, ats) with ordinality as q (number, since, at, question)
  join unnest(owners, dpus, signs, froms, untils) as p (number, dpu_id, sign, from_at, until_at) on p.number = q.number
  cross join lateral (
    select
      greatest(p.from_at, q.since + interval '1 microsecond') as from_at,
      least(p.until_at, q.at + interval '1 microsecond') as until_at
  ) c
  where c.from_at < c.until_at;
  return query
  select q.question, sum(q.sign * n.net)::bigint
  from core.sum_parts(v_dpus, v_froms, v_untils, 'infinity', 'at') n
  join unnest(v_questions, v_signs) with ordinality as q (question, sign, part) on q.part = n.part
  group by q.question;
end
$$;
comment on function core.sum_questions(integer[], timestamptz[], timestamptz[], integer[], integer[],
  integer[], timestamptz[], timestamptz[]) is
'For each question, by its place from 1: the signed sum in (since, at] over the parts of its owner. Questions and parts
are parallel arrays each. What sums to 0 can be left out. Errors: PT422 where it would need events that were dropped.';
