-- Derives what numbered files made room for and only functions can fill. Where all of it is there, it only looks.

do $$
begin
  -- 0015
  if exists (select from core.placement p
    where not exists (select from core.first_event f where f.placement_id = p.placement_id))
    or exists (
      select from core.live_space l
      where l.counted_since is null
        and exists (select from core.reset r where r.space_id = l.space_id and r.superseded_at is null))
  then
    perform core.lock_plan();
    -- nobody stores events from here on
    perform core.derive_first_events();
    update core.live_space l set counted_since = c.counted_since
    from core.derive_counted_since(array(select s.space_id from core.space s)) c
    where c.space_id = l.space_id and l.counted_since is distinct from c.counted_since;
  end if;
end
$$;

-- Until 0.2.0 a doorway that a site listed twice, with other words each time, counted for nobody.
do $$
declare
  v_doorways integer[] := array(
    select w.doorway_id from core.doorway w
    where not exists (select from core.boundary b where b.doorway_id = w.doorway_id));
begin
  if v_doorways <> '{}' then
    perform core.lock_plan();
    perform core.rebuild_boundary(v_doorways);
    perform core.rederive_changed();
    raise warning using errcode = '01HC0',
      message = format('%s doorway(s) counted for no space, since they were listed twice in a site.',
        cardinality(v_doorways)),
      hint = 'Their events count now, for all of the past too.';
  end if;
end
$$;

-- Until 0.1.2 names were taken that PostgreSQL counts as a fixed offset. What was believed
-- until now stays as it was told.
do $$
declare
  v_now timestamptz;
  v_spaces integer[];
  v_ids text[];
  v_notified text;
begin
  if exists (select from core.schedule h where h.superseded_at is null
    and core.get_zone_instead(h.time_zone) is not null) then
    v_now := core.lock_plan();
    with meant as (
      update core.schedule h set superseded_at = v_now
      from core.space s
      where s.space_id = h.space_id and h.superseded_at is null and core.get_zone_instead(h.time_zone) is not null
      returning h.space_id, s.id, h.time_zone, core.get_zone_instead(h.time_zone) as instead, h.reset_at
    ),
    recorded as (
      insert into core.schedule (space_id, time_zone, reset_at, recorded_at)
      select m.space_id, m.instead, m.reset_at, v_now from meant m
    )
    select array_agg(m.space_id), array_agg(m.id),
      string_agg(distinct format('%s (now %s)', m.time_zone, m.instead), ', ')
    into v_spaces, v_ids, v_notified
    from meant m;
    insert into core.live_change (space_id)
    select distinct b.space_id from unnest(v_spaces) as n (space_id)
    cross join lateral core.list_subtree(n.space_id) as b (space_id);
    perform core.note_change(spaces => v_spaces, ids => v_ids);
    perform core.rederive_changed();
    raise warning using errcode = '01HC0',
      message = format('The time zone of %s space(s) was counted as a fixed offset, without summer time: %s.',
        cardinality(v_spaces), v_notified),
      hint = 'Their days and daily resets are right now, for all of the past too. Give the new names in site files.';
  end if;
end
$$;

-- Until 0.2.0 sums came from days and 30 days too.
do $$
declare
  v_rollup text;
begin
  for v_rollup in
    select format('%I.%I', a.view_schema, a.view_name)
    from timescaledb_information.continuous_aggregates a
    where a.view_schema = 'core' and a.view_name in ('dpu_flow_1d_v1', 'dpu_flow_30d_v1')
    -- the one of 30 days stands on the other
    order by a.view_name desc
  loop
    execute format('drop materialized view %s', v_rollup);
  end loop;
end
$$;
