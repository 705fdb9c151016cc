-- Which DPU is placed where and when. Changing that: see spaces.sql.

create or replace function core.list_outer_placements(
  spaces integer[],
  known_at timestamptz default 'infinity'
)
returns table (space_id integer, dpu_id integer, sign smallint, during tstzrange)
language sql stable
as $$
  select b.space_id, p.dpu_id, (case when p.mounted_side = b.inner_side then 1 else -1 end)::smallint, p.during
  from core.boundary b
  join core.placement p on p.doorway_id = b.doorway_id
  where b.space_id = any (spaces)
    and p.recorded_at <= known_at
    and (p.superseded_at is null or p.superseded_at > known_at)
$$;
comment on function core.list_outer_placements(integer[], timestamptz) is
'Which DPUs count for each space, when, and with which sign: +1 where a person who walks towards the DPU enters the
space. Inlined by the planner: no search_path of its own.';

create or replace function core.clip_outer_placements(
  space_id integer,
  from_at timestamptz,
  to_at timestamptz,
  out dpus integer[],
  out signs smallint[],
  out froms timestamptz[],
  out untils timestamptz[]
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
begin
  select
    array_agg(p.dpu_id), array_agg(p.sign),
    array_agg(greatest(lower(p.during), from_at)), array_agg(least(upper(p.during), to_at))
  into dpus, signs, froms, untils
  from core.list_outer_placements(array[clip_outer_placements.space_id]) p
  where p.during && tstzrange(from_at, to_at);
end
$$;
comment on function core.clip_outer_placements(integer, timestamptz, timestamptz) is
'Which DPUs count for a space in [from_at, to_at), as core.list_outer_placements: parallel arrays, each with its part of
that time; nulls where there are none.';

create or replace function core.list_placed(at timestamptz)
returns table (dpu_id integer, mounted_id integer, other_id integer, space_id integer)
language sql stable
as $$
  select p.dpu_id, s.mounted_id, s.other_id, coalesce(s.mounted_id, s.other_id)
  from core.placement p
  join core.doorway w on w.doorway_id = p.doorway_id
  cross join lateral (
    select
      case p.mounted_side when 1 then w.side_a_id else w.side_b_id end as mounted_id,
      case p.mounted_side when 1 then w.side_b_id else w.side_a_id end as other_id
  ) s
  where p.superseded_at is null and p.during @> list_placed.at
$$;
comment on function core.list_placed(timestamptz) is
'Where DPUs are placed at an instant: the spaces on both sides of the doorway (null: outside), and the one to which the
DPU belongs as a sensor: that in which it is mounted, or, mounted outside, the other one. Inlined by the planner: no
search_path of its own.';

create or replace function core.get_period(
  from_at timestamptz,
  until_at timestamptz,
  place text
)
returns tstzrange
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  if until_at <= from_at then
    perform core.refuse(
      422, 'until is not after from.', place || 'until',
      'A placement lasts from one instant up to a later one; leave until out if it still holds.');
  end if;
  return tstzrange(from_at, until_at);
end
$$;
comment on function core.get_period(timestamptz, timestamptz, text) is
'The range [from_at, until_at); until_at null: open. Errors: PT422 naming place if it is empty.';

create or replace function core.find_mounting(
  doorway text,
  mounted_in text,
  place text,
  out doorway_id integer,
  out mounted_side smallint
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  v_doorway core.doorway;
  v_mounted_id integer;
begin
  if doorway is null then
    if mounted_in is not null then
      perform core.refuse(
        422, 'A DPU that is taken down is mounted nowhere.', place || 'mounted_in',
        'Leave mounted_in out, or name the doorway.');
    end if;
    return;
  end if;
  select d.* into v_doorway from core.doorway d where d.id = find_mounting.doorway;
  if not found or not core.is_doorway_seen(v_doorway.doorway_id) then
    perform core.refuse(
      422, format('There is no doorway %s to refer to.', quote_literal(doorway)), place || 'doorway',
      'Create it first with PUT /v1/doorways/{id}.');
  end if;
  perform core.check_doorway(v_doorway.doorway_id, place || 'doorway');
  v_mounted_id := core.refer_to_space(mounted_in, place || 'mounted_in');
  find_mounting.doorway_id := v_doorway.doorway_id;
  find_mounting.mounted_side := case
    when v_mounted_id is not distinct from v_doorway.side_a_id then 1
    when v_mounted_id is not distinct from v_doorway.side_b_id then 2
  end;
  if find_mounting.mounted_side is null then
    perform core.refuse(
      422,
      format('%s is not a side of the doorway %s.', coalesce(quote_literal(mounted_in), 'The outside'),
        quote_literal(doorway)),
      place || 'mounted_in', 'Name one of its two sides; null is the outside.');
  end if;
end
$$;
comment on function core.find_mounting(text, text, text) is
'The doorway and which of its sides (1: a, 2: b) a DPU is mounted on; nulls for no doorway. Errors: PT422 naming
place.';

create or replace function core.is_placed(
  dpu_id integer,
  doorway_id integer,
  mounted_side smallint,
  during tstzrange
)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
begin
  if doorway_id is null then
    return not exists (
      select from core.placement p
      where p.dpu_id = is_placed.dpu_id and p.superseded_at is null and p.during && is_placed.during);
  end if;
  return coalesce((
    select range_agg(p.during) @> is_placed.during
    from core.placement p
    where p.dpu_id = is_placed.dpu_id and p.superseded_at is null and p.during && is_placed.during
      and p.doorway_id = is_placed.doorway_id and p.mounted_side = is_placed.mounted_side), false);
end
$$;
comment on function core.is_placed(integer, integer, smallint, tstzrange) is
'Whether a DPU is placed above a doorway, mounted on that side, for the whole of a period, as far as is known now. Null
doorway: whether it is placed nowhere for the whole period.';

create or replace function core.get_placement_room(dpu_id integer)
returns integer
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  return case when core.get_reach() is not null then greatest(
    core.get_most_placements_of_limited(),
    (
      select count(*) from core.placement p
      where p.dpu_id = get_placement_room.dpu_id and p.superseded_at is null)) end;
end
$$;
comment on function core.get_placement_room(integer) is
'How many placements of a DPU may hold after a change by the token: as many as now, or 1,000. Null: any number, since
the token is not limited.';

create or replace function core.check_placement_room(
  dpu_id integer,
  room integer,
  place text
)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  if (
    select count(*) from core.placement p
    where room is not null and p.dpu_id = check_placement_room.dpu_id and p.superseded_at is null
  ) > room then
    perform core.refuse(
      409, format('The DPU would have more than %s placements.', core.get_most_placements_of_limited()), place,
      'Put fewer and longer ones in their place, or use a token without a space.');
  end if;
end
$$;
comment on function core.check_placement_room(integer, integer, text) is
'Errors: PT409 naming place where more placements of a DPU hold than its room (core.get_placement_room, before the
change).';

create or replace function core.place_dpu(
  dpu_id integer,
  doorway text,
  mounted_in text,
  from_at timestamptz,
  until_at timestamptz,
  recorded_at timestamptz,
  place text default ''
)
returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  v_during tstzrange := core.get_period(from_at, until_at, place);
  v_mounting record := core.find_mounting(doorway, mounted_in, place);
  v_room constant integer := core.get_placement_room(dpu_id);
  v_old core.placement;
  v_change_id bigint;
  v_changed boolean := false;
begin
  if doorway is null then
    -- also where nothing would change: that it was elsewhere then is not for everybody to know
    perform core.check_dpu(dpu_id, v_during, place || 'dpu');
  end if;
  if core.is_placed(dpu_id, v_mounting.doorway_id, v_mounting.mounted_side, v_during) then
    return 'unchanged';
  end if;
  perform core.check_dpu(dpu_id, v_during, place || 'dpu');
  perform core.check_cut(array[place_dpu.dpu_id], from_at, place || 'from');
  perform core.check_cut(array[place_dpu.dpu_id], until_at, place || 'until');

  insert into core.placement_change (dpu_id, during, recorded_at) values (place_dpu.dpu_id, v_during,
    place_dpu.recorded_at)
  returning change_id into v_change_id;
  for v_old in
    select p.* from core.placement p
    where p.dpu_id = place_dpu.dpu_id and p.superseded_at is null and p.during && v_during
  loop
    v_changed := true;
    update core.placement p set superseded_at = place_dpu.recorded_at, superseded_by = v_change_id
    where p.placement_id = v_old.placement_id;
    insert into core.live_change (space_id) select b.space_id from core.boundary b
    where b.doorway_id = v_old.doorway_id;
    insert into core.placement (dpu_id, doorway_id, mounted_side, during, recorded_at, change_id)
    select v_old.dpu_id, v_old.doorway_id, v_old.mounted_side, r.during, place_dpu.recorded_at, v_old.change_id
    from unnest(tstzmultirange(v_old.during) - tstzmultirange(v_during)) as r (during);
  end loop;
  if doorway is not null then
    insert into core.placement (dpu_id, doorway_id, mounted_side, during, recorded_at, change_id)
    values (place_dpu.dpu_id, v_mounting.doorway_id, v_mounting.mounted_side, v_during, place_dpu.recorded_at,
      v_change_id);
    insert into core.live_change (space_id) select b.space_id from core.boundary b
    where b.doorway_id = v_mounting.doorway_id;
  end if;
  perform core.check_placement_room(dpu_id, v_room, place || 'dpu');
  return case when v_changed or doorway is null then 'updated' else 'created' end;
end
$$;
comment on function core.place_dpu(integer, text, text, timestamptz, timestamptz, timestamptz, text) is
'Records that a DPU is above a doorway during [from_at, until_at). Earlier placements are superseded for that period and
kept outside it. Null doorway: it is placed nowhere then. The caller goes on with core.rederive_offline_after. Returns
created (no placement was known for that period), updated or unchanged. Errors: PT422, also for a bound within a
quarter-hour whose events were dropped; PT403 outside the token''s space; PT409 as core.check_placement_room.';

create or replace function core.undo_placement(
  dpu_id integer,
  from_at timestamptz,
  recorded_at timestamptz
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  v_change core.placement_change;
  v_later core.placement_change;
  v_old record;
  v_doorways integer[];   -- above which it is no longer, or is again
  v_is_limited boolean := core.get_reach() is not null;
  v_room constant integer := core.get_placement_room(dpu_id);
begin
  -- in the order of change_id, in which they were made: the clock may have been put back between two of them
  select c.* into v_change
  from core.placement_change c
  where c.dpu_id = undo_placement.dpu_id and lower(c.during) = undo_placement.from_at and c.undone_at is null
  order by c.change_id desc
  limit 1;
  if not found or (v_is_limited and not exists (
    select from core.list_seen_placements(array[undo_placement.dpu_id]) p
    where lower(p.during) = undo_placement.from_at))
  then
    -- what a later one left of it, after its end, was not told by itself
    select c.* into v_later
    from core.placement_change c
    where c.dpu_id = undo_placement.dpu_id and upper(c.during) = undo_placement.from_at and c.undone_at is null
    order by c.change_id desc
    limit 1;
    perform core.refuse(
      404, 'No placement of this DPU starts at that instant.', 'from',
      case
        when found and not v_is_limited then format(
          'An older placement goes on from there. To change that, undo the one that ends there: '
          'DELETE /v1/dpus/{id}/placements?from=%s.',
          core.format_instant(lower(v_later.during)))
        else 'GET /v1/dpus/{id}/placements lists them. Give the from of one of them.'
      end);
  end if;
  select c.* into v_later
  from core.placement_change c
  where c.dpu_id = undo_placement.dpu_id and c.during && v_change.during and c.undone_at is null
    and c.change_id > v_change.change_id
  order by c.change_id desc
  limit 1;
  if found then
    perform core.refuse(
      409, 'A later placement changed this period.', 'from',
      case
        -- it may be one that the token does not see
        when v_is_limited then 'Undo it first, if GET /v1/dpus/{id}/placements lists it.'
        else format('Undo it first: DELETE /v1/dpus/{id}/placements?from=%s.',
          core.format_instant(lower(v_later.during)))
      end);
  end if;
  perform core.check_dpu(dpu_id, v_change.during, 'dpu');

  update core.placement_change c set undone_at = undo_placement.recorded_at where c.change_id = v_change.change_id;
  with gone as (
    update core.placement p set superseded_at = undo_placement.recorded_at
    where p.change_id = v_change.change_id and p.superseded_at is null
    returning doorway_id
  )
  select array_agg(g.doorway_id) into v_doorways from gone g;
  for v_old in
    select p.doorway_id, p.mounted_side, p.change_id, p.during * v_change.during as during
    from core.placement p
    where p.superseded_by = v_change.change_id
  loop
    perform core.check_doorway(v_old.doorway_id, 'from');
    perform core.check_cut(array[undo_placement.dpu_id], lower(v_old.during), 'from');
    perform core.check_cut(array[undo_placement.dpu_id], upper(v_old.during), 'from');
    v_doorways := v_doorways || v_old.doorway_id;
    -- one piece with what was left over of it on both sides
    with rest as (
      update core.placement p set superseded_at = undo_placement.recorded_at
      where p.dpu_id = undo_placement.dpu_id and p.superseded_at is null and p.change_id = v_old.change_id
        and p.doorway_id = v_old.doorway_id and p.mounted_side = v_old.mounted_side and p.during -|- v_old.during
      returning during
    )
    select range_merge(range_agg(r.during)) into v_old.during
    from (select g.during from rest g union all select v_old.during) r;
    insert into core.placement (dpu_id, doorway_id, mounted_side, during, recorded_at, change_id)
    values (undo_placement.dpu_id, v_old.doorway_id, v_old.mounted_side, v_old.during, undo_placement.recorded_at,
      v_old.change_id);
  end loop;
  insert into core.live_change (space_id) select b.space_id from core.boundary b where b.doorway_id = any (v_doorways);
  perform core.check_placement_room(dpu_id, v_room, 'from');
end
$$;
comment on function core.undo_placement(integer, timestamptz, timestamptz) is
'Takes back the placement of a DPU that was recorded last from from_at on: the earlier placements of that period hold
again. The caller goes on with core.rederive_offline_after. Errors: PT404 where none starts there (the hint names the
one that ends there); PT409 naming the latest one that changed that period since, and as core.check_placement_room;
PT422 for a bound within a quarter-hour whose events were dropped; PT403 outside the token''s space.';
