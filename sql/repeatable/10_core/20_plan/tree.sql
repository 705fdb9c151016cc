-- The tree of spaces, and which doorways are the outer ones of each space.

create or replace function core.list_subtree(space_id integer)
returns setof integer
language sql stable
set search_path = pg_catalog, pg_temp
-- from each space to those below it, whatever the planner thinks of reading all
set enable_seqscan = off
as $$
  with recursive below as (
    select list_subtree.space_id as space_id
    union all
    select s.space_id
    from below b
    -- offset 0: a look for each; joined, all spaces would be read at each step
    cross join lateral (select s.space_id from core.space s where s.parent_id = b.space_id offset 0) s
  )
  select b.space_id from below b
$$;
comment on function core.list_subtree(integer) is
'A space and all spaces below it.';

create or replace function core.list_subtrees(roots integer[])
returns table (root_id integer, space_id integer)
language plpgsql stable rows 1000
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  with recursive below as (
    select distinct r.space_id as root_id, r.space_id from unnest(roots) as r (space_id)
    union all
    select b.root_id, s.space_id
    from below b
    -- as in core.list_subtree
    cross join lateral (select s.space_id from core.space s where s.parent_id = b.space_id offset 0) s
  )
  select b.root_id, b.space_id from below b;
end
$$;
comment on function core.list_subtrees(integer[]) is
'As core.list_subtree for many spaces at once: each with itself and all spaces below it.';

create or replace function core.list_above(spaces integer[])
returns table (space_id integer, above_id integer, steps integer)
-- few, as a rule: what is joined to them is found by its index
language plpgsql stable rows 20
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  with recursive chain as (
    select s.space_id, s.space_id as above_id, s.parent_id, 0 as steps
    from core.space s
    where s.space_id = any (spaces)
    union all
    select c.space_id, c.parent_id, s.parent_id, c.steps + 1
    from chain c
    -- as in core.list_subtree
    cross join lateral (select s.parent_id from core.space s where s.space_id = c.parent_id offset 0) s
  )
  select c.space_id, c.above_id, c.steps from chain c;
end
$$;
comment on function core.list_above(integer[]) is
'Each space with itself and all spaces it lies in. steps: how many levels above it that is; 0 for itself.';

create or replace function core.derive_boundary(doorways integer[] default null)
returns table (space_id integer, doorway_id integer, inner_side smallint)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with recursive holder as (
    -- every space whose subtree holds a side
    select d.doorway_id, side.number as side, side.space_id
    from (select distinct unnest(coalesce(doorways, array(select a.doorway_id from core.doorway a)))) as n (doorway_id)
    join core.doorway d on d.doorway_id = n.doorway_id
    cross join lateral (values (1::smallint, d.side_a_id), (2::smallint, d.side_b_id)) as side (number, space_id)
    where side.space_id is not null
    union all
    select h.doorway_id, h.side, above.parent_id
    from holder h
    -- one by one: of a few doorways, all spaces would be read at each step
    cross join lateral (select s.parent_id from core.space s where s.space_id = h.space_id offset 0) above
    where above.parent_id is not null
  )
  select h.space_id, h.doorway_id, min(h.side)
  from holder h
  group by h.space_id, h.doorway_id
  having count(*) = 1
$$;
comment on function core.derive_boundary(integer[]) is
'The outer doorways of each space, from the tree: doorways with exactly one side in its subtree, and which side that is.
For some doorways, or all (null).';

create or replace function core.rebuild_boundary(doorways integer[])
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  -- a doorway without a DPU counts nothing for anybody
  v_placed integer[] := array(
    select d.doorway_id
    from unnest(doorways) as d (doorway_id)
    where exists (select from core.placement p where p.doorway_id = d.doorway_id));
begin
  if v_placed <> '{}' then
    insert into core.live_change (space_id)
    select b.space_id from core.boundary b where b.doorway_id = any (v_placed);
  end if;
  delete from core.boundary b where b.doorway_id = any (doorways);
  with added as (
    insert into core.boundary (space_id, doorway_id, inner_side)
    select d.space_id, d.doorway_id, d.inner_side from core.derive_boundary(doorways) d
    returning space_id, doorway_id
  )
  insert into core.live_change (space_id)
  select a.space_id from added a where a.doorway_id = any (v_placed);
end
$$;
comment on function core.rebuild_boundary(integer[]) is
'Updates core.boundary for some doorways, and adds the spaces whose counts it concerns to core.live_change. The caller
holds core.lock_plan.';
