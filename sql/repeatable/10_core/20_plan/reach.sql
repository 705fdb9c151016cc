-- The scope of a token that is limited to a space: what it reaches. A statement on its behalf has the token's id in the
-- setting headcount.token; without that setting everything can be reached. Whatever finds or lists things asks here.

create or replace function core.find_lowest(spaces integer[])
returns integer
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  if cardinality(spaces) = 1 then
    return spaces[1];
  end if;
  return coalesce((
    select a.space_id
    from core.list_above(spaces) a
    where a.above_id = any (spaces)
    group by a.space_id
    having count(*) = cardinality(spaces)), 0);
end
$$;
comment on function core.find_lowest(integer[]) is
'Of spaces, each named once, the one that lies in all others. 0 (no space has it): there is none.';

create or replace function core.find_reach(token core.token)
returns integer
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  if token.created_by_id is null
    or not exists (select from core.token t where t.token_id = token.created_by_id and t.space_id is not null) then
    return token.space_id;
  end if;
  return core.find_lowest(array(
    select distinct t.space_id
    from core.list_makers(token.token_id) m
    join core.token t on t.token_id = m.maker_id
    where t.space_id is not null));
end
$$;
comment on function core.find_reach(core.token) is
'The space that a token reaches with all below it, by the tree as it is now, whether or not it is valid: of its own
space and those of the limited tokens that made it (core.list_makers) the one that lies in all others. Null: everything.
0 (no space has it): nothing, since one of them was moved out of another.';

create or replace function core.list_reaches(tokens text[])
returns table (token text, space_id integer)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  with valid as materialized (
    select t.token_id, t.id
    from core.token t
    where t.id = any (tokens) and core.is_token_valid(t.revoked_at, t.expires_at, statement_timestamp())
  ),
  limits as materialized (
    select v.id, array_agg(distinct t.space_id) filter (where t.space_id is not null) as spaces
    from core.list_makers_of(array(select v.token_id from valid v)) m
    join valid v on v.token_id = m.token_id
    cross join lateral (select p.space_id from core.token p where p.token_id = m.maker_id offset 0) t
    group by v.id
  ),
  -- many tokens, few reaches
  lowest as materialized (
    select d.spaces, core.find_lowest(d.spaces) as space_id from (select distinct l.spaces from limits l) d
  )
  select n.token, case when n.token <> '' then coalesce(w.space_id, case when l.id is null then 0 end) end
  from (select distinct unnest(tokens) as token) n
  left join limits l on l.id = n.token
  left join lowest w on w.spaces = l.spaces;
end
$$;
comment on function core.list_reaches(text[]) is
'What core.get_reach would say on behalf of each of many tokens, each once. An empty text stands for none.';

create or replace function core.get_reach()
returns integer
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_token text := nullif(current_setting('headcount.token', true), '');
  v_found core.token;
begin
  if v_token is null then
    return null;
  end if;
  select t.* into v_found
  from core.token t
  -- by one instant: the same in all of a statement, also where the token expires meanwhile
  where t.id = v_token and core.is_token_valid(t.revoked_at, t.expires_at, statement_timestamp());
  return case when found then core.find_reach(v_found) else 0 end;
end
$$;
comment on function core.get_reach() is
'The space to which the token of the statement is limited: it reaches that space and all below it (core.find_reach).
Null: everything. 0 (no space has it): nothing, since the token is no longer valid, or its space was moved out of that
of a token that made it.';

create or replace function core.get_own_space()
returns integer
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_reach integer := core.get_reach();
begin
  if v_reach = 0 then
    perform core.refuse(
      403,
      'This token reaches no space: it is no longer valid, or its space was moved out of that of a token that made it.',
      null, 'Use another token.');
  end if;
  return v_reach;
end
$$;
comment on function core.get_own_space() is
'core.get_reach for what is made in the token''s own space unless the request names another. Errors: PT403 where the
token reaches nothing.';

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

create or replace function core.list_family_reach()
returns integer[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return case when core.get_reach() is not null then array(
    select core.list_subtree(t.space_id)
    from core.token t
    where t.token_id = core.get_family(current_setting('headcount.token', true))) end;
end
$$;
comment on function core.list_family_reach() is
'The spaces that the first token of the family is limited to: what the bounds on limited tokens count in. Else each
token of a family would have bounds of its own. Null: the token is not limited.';

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
    select coalesce(array_agg(s.space_id order by s.id), '{}') into v_ids
    from core.space s
    where s.space_id = any (array(select core.list_subtree(v_under)))
      and (s.retired_at is null or s.id = list_requested_spaces.under);
  else
    select coalesce(array_agg(s.space_id order by s.id), '{}') into v_ids
    from core.space s
    where s.retired_at is null;
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
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return (
    with asked as materialized (
      select a.ordinal, coalesce(a.asked ->> 'token', '') as token, a.asked ->> 'under' as under
      from jsonb_array_elements(selections) with ordinality as a (asked, ordinal)
      where jsonb_typeof(a.asked -> 'spaces') is distinct from 'array'
    ),
    tree as materialized (
      select
        a.ordinal, r.space_id as reach,
        case when a.under is null then r.space_id when u.retired_at is null then u.space_id end as root_id
      from asked a
      join core.list_reaches(array(select distinct b.token from asked b)) r on r.token = a.token
      left join core.space u on u.id = a.under
    ),
    above as materialized (
      select l.space_id, l.above_id from core.list_above(array(select distinct t.root_id from tree t)) l
    )
    select coalesce(jsonb_object_agg(t.ordinal, t.root_id), '{}')
    from tree t
    where t.root_id is not null
      and (t.reach is null or (t.root_id, t.reach) in (select l.space_id, l.above_id from above l))
  );
end
$$;
comment on function core.list_requested_trees(jsonb) is
'By the number of the selection, the space below which all is asked for, of those that ask for a space and all below it,
or for all that a limited token reaches. selections: as api.list_selections gets them. Left out: all spaces, unknown and
retired ones, and those beyond reach.';

create or replace function core.list_trees(roots integer[])
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return coalesce((
    select jsonb_object_agg(m.root_id, m.ids)
    from (
      select b.root_id, jsonb_agg(s.id order by s.id) as ids
      from core.list_subtrees(roots) b
      join core.space s on s.space_id = b.space_id
      where s.retired_at is null
      group by b.root_id
    ) m
  ), '{}');
end
$$;
comment on function core.list_trees(integer[]) is
'By space_id, the ids of a space and all below it, without retired ones, by id.';

create or replace function core.list_known_names(selections jsonb)
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return (
    with asked as materialized (
      select a.ordinal, coalesce(a.asked ->> 'token', '') as token, n.id, min(n.place) as place
      from jsonb_array_elements(selections) with ordinality as a (asked, ordinal)
      cross join lateral jsonb_array_elements_text(
        case when jsonb_typeof(a.asked -> 'spaces') = 'array' then a.asked -> 'spaces' else '[]' end
      ) with ordinality as n (id, place)
      where (a.asked ->> 'known_only')::boolean
      group by 1, 2, 3
    ),
    found as materialized (
      select s.space_id, n.id
      from (select distinct a.id from asked a) n
      cross join lateral (select c.space_id from core.space c where c.id = n.id offset 0) s
    ),
    above as materialized (
      select l.space_id, l.above_id from core.list_above(array(select f.space_id from found f)) l
    )
    select coalesce(jsonb_object_agg(k.ordinal, k.ids), '{}')
    from (
      select a.ordinal, coalesce(jsonb_agg(a.id order by a.place) filter (
        where f.space_id is not null
          and (r.space_id is null or (f.space_id, r.space_id) in (select l.space_id, l.above_id from above l))
      ), '[]') as ids
      from asked a
      join core.list_reaches(array(select distinct b.token from asked b)) r on r.token = a.token
      left join found f on f.id = a.id
      group by a.ordinal
    ) k
  );
end
$$;
comment on function core.list_known_names(jsonb) is
'The ids that core.list_requested_spaces would find, by the number of the selection, of all that name spaces, with
known_only. selections: as api.list_selections gets them.';

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

create or replace function core.list_seen_since(
  dpus integer[],
  at timestamptz
)
returns table (dpu_id integer, from_at timestamptz)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  if core.get_reach() is null then
    return;
  end if;
  return query
  with seen as materialized (
    select p.dpu_id, range_agg(p.during) as during from core.list_seen_placements(dpus) p group by p.dpu_id
  )
  select n.dpu_id, coalesce(
    (select coalesce(lower(r), '-infinity') from unnest(s.during) as r where r @> list_seen_since.at), 'infinity')
  from (select distinct unnest(dpus) as dpu_id) n
  left join seen s on s.dpu_id = n.dpu_id;
end
$$;
comment on function core.list_seen_since(integer[], timestamptz) is
'Since when DPUs have been placed, without a break up to an instant, above doorways that the token can read; infinity:
they are not placed above such then. A limited token is told nothing from before. No row for a token that is not
limited.';

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
