-- The scope of a token that is limited to a space: what it reaches. A statement on its behalf has the token's id in the
-- setting headcount.token; without that setting everything can be reached. Whatever finds or lists things asks here.

create or replace function core.get_reach()
returns integer
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_token text := nullif(current_setting('headcount.token', true), '');
  v_space_id integer;
begin
  if v_token is null then
    return null;
  end if;
  select t.space_id into v_space_id
  from core.token t
  -- by one instant: the same in all of a statement, also where the token expires meanwhile
  where t.id = v_token and core.is_token_valid(t.revoked_at, t.expires_at, statement_timestamp());
  return case when found then v_space_id else 0 end;
end
$$;
comment on function core.get_reach() is
'The space to which the token of the statement is limited: it reaches that space and all below it. Null: everything. 0
(no space has it): nothing, since the token is no longer valid.';

create or replace function core.list_reach()
returns integer[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_reach integer := core.get_reach();
begin
  return case when v_reach is not null then array(select core.list_subtree(v_reach)) end;
end
$$;
comment on function core.list_reach() is
'The spaces within reach; null: all.';

create or replace function core.is_space_in_reach(space_id integer)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_reach integer := core.get_reach();
begin
  return v_reach is null or exists (select from core.list_above(array[is_space_in_reach.space_id]) a
    where a.above_id = v_reach);
end
$$;
comment on function core.is_space_in_reach(integer) is
'Whether a space is within the scope of the token; true for a token without a space.';

create or replace function core.list_requested_spaces(
  spaces text[],
  under text,
  known_only boolean default false
)
returns integer[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  v_ids integer[];
  v_missing text;
  v_reach integer := core.get_reach();
  v_under integer := case when under is not null then core.find_space(under, 'under') else v_reach end;
begin
  if spaces is not null and under is not null then
    perform core.refuse(422, 'space and under cannot be combined.', 'under', 'Give one of them.');
  end if;
  if spaces is not null then
    -- all names in one go: a look for each costs ten times as much
    select coalesce(array_agg(s.space_id order by n.place), '{}') into v_ids
    from (
      select a.id, min(a.place) as place from unnest(spaces) with ordinality as a (id, place) group by a.id
    ) n
    cross join lateral (select c.space_id from core.space c where c.id = n.id offset 0) s
    where v_reach is null or s.space_id in (
      select r.space_id
      from core.list_above(array(select t.space_id from core.space t where t.id = any (spaces))) r
      where r.above_id = v_reach);
    if not known_only
      and cardinality(v_ids) < (select count(*) from (select distinct a.id from unnest(spaces) as a (id)) n) then
      select a.id into v_missing
      from unnest(spaces) with ordinality as a (id, place)
      where not exists (select from core.space s where s.id = a.id and s.space_id = any (v_ids))
      order by a.place
      limit 1;
      perform core.find_space(v_missing);  -- raises
    end if;
  elsif v_under is not null then
    select array_agg(s.space_id order by s.id) into v_ids
    from core.space s
    where s.space_id = any (array(select core.list_subtree(v_under)))
      and (s.retired_at is null or s.id = list_requested_spaces.under);
  else
    select array_agg(s.space_id order by s.id) into v_ids from core.space s where s.retired_at is null;
  end if;
  return v_ids;
end
$$;
comment on function core.list_requested_spaces(text[], text, boolean) is
'The spaces that a request asks for, as far as its token reaches: those named (in that order, each once), or one and all
below it, or all by their ids. Retired spaces only where they are named.

known_only: leave out spaces that are unknown or that the token does not reach. Errors: PT404 for such a space
otherwise; PT422 for both spaces and under.';

create or replace function core.list_requested_trees(selections jsonb)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_own text := current_setting('headcount.token', true);
  v_tokens text[];
  v_reaches integer[];
  v_token text;
  v_requested bigint[];
  v_roots integer[];
begin
  v_tokens := array(
    select distinct coalesce(a.asked ->> 'token', '')
    from jsonb_array_elements(selections) as a (asked)
    where jsonb_typeof(a.asked -> 'spaces') is distinct from 'array');
  foreach v_token in array v_tokens loop
    perform set_config('headcount.token', v_token, true);
    v_reaches := v_reaches || core.get_reach();
  end loop;
  perform set_config('headcount.token', coalesce(v_own, ''), true);

  with tree as materialized (
    select
      a.ordinal, t.reach,
      case when a.asked ->> 'under' is null then t.reach when u.retired_at is null then u.space_id end as root_id
    from jsonb_array_elements(selections) with ordinality as a (asked, ordinal)
    join unnest(v_tokens, v_reaches) as t (token, reach) on t.token = coalesce(a.asked ->> 'token', '')
    left join core.space u on u.id = a.asked ->> 'under'
    where jsonb_typeof(a.asked -> 'spaces') is distinct from 'array'
  )
  select array_agg(t.ordinal order by t.ordinal), array_agg(t.root_id order by t.ordinal) into v_requested, v_roots
  from tree t
  where t.root_id is not null
    and (t.reach is null or (t.root_id, t.reach) in (
      select l.space_id, l.above_id from core.list_above(array(select r.root_id from tree r)) l));

  return coalesce((
    select jsonb_object_agg(a.ordinal, m.ids)
    from unnest(v_requested, v_roots) as a (ordinal, root_id)
    join (
      select b.root_id, jsonb_agg(s.id order by s.id) as ids
      from core.list_subtrees(v_roots) b
      join core.space s on s.space_id = b.space_id
      where s.retired_at is null
      group by b.root_id
    ) m on m.root_id = a.root_id
  ), '{}');
end
$$;
comment on function core.list_requested_trees(jsonb) is
'The ids that core.list_requested_spaces would find, by the number of the selection, of all that ask for a space and all
below it, or for all that a limited token reaches. selections: as api.list_selections gets them. Left out: all spaces,
unknown and retired ones, and those beyond reach.';

create or replace function core.is_doorway_seen(doorway_id integer)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return core.get_reach() is null or exists (
    select from core.doorway d
    where d.doorway_id = is_doorway_seen.doorway_id
      and (core.is_space_in_reach(d.side_a_id) or core.is_space_in_reach(d.side_b_id)));
end
$$;
comment on function core.is_doorway_seen(integer) is
'Whether a doorway can be read: one of its sides is within reach.';

create or replace function core.check_doorway(
  doorway_id integer,
  place text
)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if core.get_reach() is not null and exists (
    select from core.doorway d cross join unnest(array[d.side_a_id, d.side_b_id]) as side (space_id)
    where d.doorway_id = check_doorway.doorway_id and side.space_id is not null
      and not core.is_space_in_reach(side.space_id)
  ) then
    perform core.refuse(
      403, 'One side of the doorway is outside this token''s space.', place,
      'Use a token whose space contains both sides.');
  end if;
end
$$;
comment on function core.check_doorway(integer, text) is
'Errors: PT403 naming place if one side of a doorway is outside the token''s space. Such a doorway can be read, but not
changed.';

create or replace function core.list_seen_placements(dpus integer[])
returns table (dpu_id integer, doorway_id integer, during tstzrange)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_reach integer[] := core.list_reach();
begin
  return query
  select p.dpu_id, p.doorway_id, p.during
  from core.placement p
  join core.doorway w on w.doorway_id = p.doorway_id
  where p.dpu_id = any (dpus) and p.superseded_at is null
    and (v_reach is null or w.side_a_id = any (v_reach) or w.side_b_id = any (v_reach));
end
$$;
comment on function core.list_seen_placements(integer[]) is
'When DPUs were, or are, placed above doorways that the token can read. A limited token may know and report what DPUs
saw in these periods.';

create or replace function core.is_dpu_seen(dpu_id integer)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return core.get_reach() is null or exists (
    select from core.list_seen_placements(array[is_dpu_seen.dpu_id]) p where p.during @> clock_timestamp());
end
$$;
comment on function core.is_dpu_seen(integer) is
'Whether a DPU is within reach: it is placed above a doorway that can be read, now.';

create or replace function core.check_dpu(
  dpu_id integer,
  during tstzrange,
  place text
)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_reach integer[] := core.list_reach();
  v_own tstzmultirange;
begin
  if v_reach is null then
    return;
  end if;
  select range_agg(p.during) into v_own
  from core.placement p
  join core.doorway w on w.doorway_id = p.doorway_id
  where p.dpu_id = check_dpu.dpu_id and p.superseded_at is null
    and (w.side_a_id is null or w.side_a_id = any (v_reach))
    and (w.side_b_id is null or w.side_b_id = any (v_reach));
  if not coalesce(v_own @> check_dpu.during, false) then
    perform core.refuse(
      403, 'For part of that period the DPU is placed outside this token''s space.', place,
      'Use a token without a space, or one in whose space it is placed all the time.');
  end if;
end
$$;
comment on function core.check_dpu(integer, tstzrange, text) is
'Errors: PT403 naming place unless a DPU is placed, for the whole of a period, above doorways of which both sides are
within the token''s space. So a limited token never gains a DPU, or time of one, by what it does itself.';
