create or replace function api.record_hours(
  spaces text[],
  days smallint[],
  opens text[],
  closes text[],
  auto_register boolean default true,
  assumed_zone text default 'America/Chicago'
)
returns table (index integer, verdict text, detail text)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_ids integer[];
  v_new jsonb[];
  v_changed integer[];
  v_ordinals bigint[];   -- of the rows that were added
begin
  if cardinality(days) <> cardinality(spaces) or cardinality(opens) <> cardinality(spaces)
    or cardinality(closes) <> cardinality(spaces) then
    perform core.refuse_lengths('spaces, days, opens, closes', 'row');
  end if;
  perform core.lock_plan();
  v_ids := core.resolve_spaces(spaces, auto_register);
  perform core.add_sites(v_ids);
  perform core.assume_time_zone(v_ids, assumed_zone);

  select array_agg(jsonb_build_object('day', n.day, 'open', n.open, 'close', n.close) order by n.ordinal) into v_new
  from unnest(days, opens, closes) with ordinality as n (day, open, close, ordinal);
  for v_number in 1 .. coalesce(cardinality(v_new), 0) loop
    perform core.check_opening_hours(jsonb_build_array(v_new[v_number]), format('rows[%s]', v_number - 1));
  end loop;

  with given as (
    select distinct on (n.space_id, n.hours) n.space_id, n.hours, n.ordinal
    from unnest(v_ids, v_new) with ordinality as n (space_id, hours, ordinal)
    where n.space_id is not null
    order by n.space_id, n.hours, n.ordinal
  ),
  added as materialized (
    select g.space_id, g.hours, g.ordinal
    from given g
    join core.space s on s.space_id = g.space_id
    where not coalesce(s.opening_hours, '[]') @> jsonb_build_array(g.hours)
  ),
  changed as (
    update core.space s set opening_hours = coalesce(s.opening_hours, '[]') || a.hours
    from (select a.space_id, jsonb_agg(a.hours order by a.ordinal) as hours from added a group by a.space_id) a
    where s.space_id = a.space_id
    returning s.space_id
  )
  select array(select a.ordinal from added a), array(select c.space_id from changed c) into v_ordinals, v_changed;
  if cardinality(v_changed) > 0 then
    perform core.note_change(spaces => v_changed,
      ids => array(select s.id from core.space s where s.space_id = any (v_changed)));
  end if;

  return query
  select
    (n.ordinal - 1)::integer,
    case when n.space_id is null then 'unknown_space' else 'duplicate' end,
    case when n.space_id is null then core.explain_poll_verdict('unknown_space')
      else 'The space has these hours already.' end
  from unnest(v_ids) with ordinality as n (space_id, ordinal)
  where n.ordinal not in (select unnest(v_ordinals))
  order by n.ordinal;
end
$$;
comment on function api.record_hours(text[], smallint[], text[], text[], boolean, text) is
'Adds rows to the opening hours of spaces, given as parallel arrays, and returns a verdict for each that was not added.

The rows that a space has stay (api.put_space can replace them). days: 0 (Monday) to 6; opens, closes: local time, HH:MM
or HH:MM:SS, as in api.put_space. index counts from 0. verdict: duplicate (the space has these hours), unknown_space (as
api.record_polls). assumed_zone: as api.record_polls. From then on all of these spaces are sites: uptime is reported for
them. Errors: PT422 for arrays of different lengths, or a row with a wrong value.';
