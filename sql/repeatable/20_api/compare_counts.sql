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
  v_values bigint[];      -- by how many people each makes the count another one
  -- questions: the sums of which parts in (since, at]
  v_requested integer[];
  v_sinces timestamptz[];
  v_bases bigint[];
  -- parts that count otherwise
  v_flipped integer[];
  v_flipped_dpus integer[];
  v_flipped_signs integer[];
  v_flipped_froms timestamptz[];
  v_flipped_untils timestamptz[];
  -- differences
  v_found integer[];
  v_found_froms timestamptz[];
  v_found_tos timestamptz[];
  v_found_ats timestamptz[];
  v_found_changes bigint[];
begin
  select p.owners, p.dpus, p.signs, p.froms, p.untils into v_owners, v_dpus, v_signs, v_froms, v_untils
  from core.get_fact_parts(v_spaces, v_now) p;
  select r.numbers, r.ats, r.befores, r.afters into v_reset_numbers, v_reset_ats, v_befores, v_afters
  from core.get_fact_resets(v_spaces, v_now, v_owners, v_froms) r;
  v_values := core.get_reset_values(
    v_reset_numbers, v_reset_ats, v_befores, v_afters, v_owners, v_dpus, v_signs, v_froms, v_untils);
  select t.numbers, t.dpus, t.signs, t.froms, t.untils
  into v_flipped, v_flipped_dpus, v_flipped_signs, v_flipped_froms, v_flipped_untils
  from core.get_flipped_parts(v_owners, v_dpus, v_signs, v_froms, v_untils) t;

  select array_agg(c.number), array_agg(c.from_at), array_agg(c.to_at), array_agg(c.at), array_agg(c.value)
  into v_found, v_found_froms, v_found_tos, v_found_ats, v_found_changes
  from (
    select
      d.number, min(d.at) as from_at, max(coalesce(d.until_at - c_instant, v_now)) as to_at,
      (array_agg(d.at order by abs(d.value) desc, d.at))[1] as at,
      (array_agg(d.value order by abs(d.value) desc, d.at))[1] as value
    from core.list_count_changes(
      v_reset_numbers, v_reset_ats, v_values, v_flipped, v_flipped_dpus, v_flipped_signs, v_flipped_froms,
      v_flipped_untils) d
    where d.value <> 0
    group by d.number
  ) c;

  -- the count before, where it differs most
  select array_agg(2 * c.number order by c.place), array_agg(coalesce(b.at, '-infinity') order by c.place),
    array_agg(coalesce(b.before, 0) order by c.place)
  into v_requested, v_sinces, v_bases
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
  left join core.sum_questions(v_requested, v_sinces, v_found_ats, v_owners, v_dpus, v_signs, v_froms, v_untils) n
    on n.question = c.question
  order by abs(c.value) desc, 1;
end
$$;
comment on function api.compare_counts(jsonb) is
'How the raw counts of spaces would change, at every instant of their history up to now, by a change that
api.preview_change made: the largest differences first. facts: as it returned them.

from_at, to_at: the first and the last instant at which the raw count would be another; to_at is the instant of the dry
run where it still is. largest_change: by how many people at most; at: the first instant of that; before, after: the raw
count then. Errors: PT422 where it would need events that were dropped.';
