create or replace function api.record_time_zones(
  spaces text[],
  time_zones text[],
  auto_register boolean default true
)
returns table (index integer, verdict text, detail text)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_now timestamptz;
  v_known text[];
  v_good bigint[];         -- ordinals of the rows whose zone is one
  v_ids integer[];         -- beside v_good
  v_changed bigint[];      -- ordinals of the rows that change something
  v_spaces integer[];      -- whose zone changes, beside each other with what it will be
  v_zones text[];
  v_resets text[];
  v_below integer[];       -- they and all below them
begin
  if cardinality(time_zones) <> cardinality(spaces) then
    perform core.refuse_lengths('spaces, time_zones', 'row');
  end if;
  v_now := core.lock_plan();
  v_known := core.list_time_zones(time_zones);
  v_good := array(
    select n.ordinal from unnest(time_zones) with ordinality as n (time_zone, ordinal)
    where n.time_zone = any (v_known)
    order by n.ordinal);
  v_ids := core.resolve_spaces(array(select spaces[o] from unnest(v_good) with ordinality as g (o, place)
    order by place), auto_register);
  perform core.add_sites(v_ids);

  select
    coalesce(array_agg(g.ordinal) filter (where g.time_zone is distinct from g.earlier_zone), '{}'),
    array_agg(g.space_id) filter (where g.is_new), array_agg(g.time_zone) filter (where g.is_new), array_agg(g.reset_at)
      filter (where g.is_new)
  into v_changed, v_spaces, v_zones, v_resets
  from (
    select
      g.ordinal, g.space_id, n.time_zone, h.reset_at,
      lag(n.time_zone, 1, h.time_zone) over (partition by g.space_id order by g.ordinal) as earlier_zone,
      n.time_zone is distinct from h.time_zone
        and not lead(true, 1, false) over (partition by g.space_id order by g.ordinal) as is_new
    from unnest(v_ids, v_good) as g (space_id, ordinal)
    cross join lateral (select time_zones[g.ordinal] as time_zone) n
    left join core.schedule h on h.space_id = g.space_id and h.superseded_at is null
    where g.space_id is not null
  ) g;
  if v_spaces is not null then
    update core.schedule h set superseded_at = v_now where h.space_id = any (v_spaces) and h.superseded_at is null;
    insert into core.schedule (space_id, time_zone, reset_at, recorded_at)
    select n.space_id, n.time_zone, n.reset_at, v_now
    from unnest(v_spaces, v_zones, v_resets) as n (space_id, time_zone, reset_at);
    -- counts depend on the zone by the daily reset alone
    v_below := array(
      select n.space_id from unnest(v_spaces) as n (space_id)
      union
      select core.list_subtree(n.space_id) from unnest(v_spaces) as n (space_id)
      where exists (select from core.space c where c.parent_id = n.space_id));
    insert into core.live_change (space_id) select h.space_id from core.list_schedules(v_below) h
    where h.reset_at <> 'never';
    perform core.note_change(spaces => v_spaces,
      ids => array(select s.id from core.space s where s.space_id = any (v_spaces)));
    perform core.rederive_changed();
  end if;

  return query
  select (n.ordinal - 1)::integer, n.verdict, case n.verdict
    when 'invalid' then (select e.message || ' ' || e.hint from core.explain_time_zone(time_zones[n.ordinal]) e)
    when 'unknown_space' then core.explain_poll_verdict(n.verdict)
    else 'The space has this zone already.'
  end
  from (
    select n.ordinal, case
      when g.ordinal is null then 'invalid'
      when g.space_id is null then 'unknown_space'
      else 'duplicate'
    end as verdict
    from generate_series(1, cardinality(spaces)) as n (ordinal)
    left join unnest(v_ids, v_good) as g (space_id, ordinal) on g.ordinal = n.ordinal
    where n.ordinal not in (select unnest(v_changed))
  ) n
  order by n.ordinal;
end
$$;
comment on function api.record_time_zones(text[], text[], boolean) is
'Sets the zones of spaces, given as parallel arrays, and returns a verdict for each that set nothing.

As api.put_space with time_zone, for many at once; of several rows of a space the last one holds. index counts from 0.
verdict: duplicate (the space has this zone), invalid (the text is not an IANA name, or is also an abbreviation, such as
CET), unknown_space (as api.record_polls). From then on all of these spaces are sites: uptime is reported for them.
Errors: PT422 for arrays of different lengths.';
