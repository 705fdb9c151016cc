-- Finding things of the floor plan by the ids their owners gave them, and walking the tree.

create or replace function core.is_dry_run()
returns boolean
language sql stable
as $$
  select coalesce(current_setting('headcount.dry_run', true) = pg_current_xact_id_if_assigned()::text, false)
$$;
comment on function core.is_dry_run() is
'Whether what is done now will be rolled back (core.begin_dry_run). Then nothing may be written or locked that who stores events waits for: live rows, states of DPUs, outages. Inlined by the planner: no search_path of its own.';

create or replace function core.begin_dry_run()
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- the number of this transaction, so that it says nothing in another one
  perform set_config('headcount.dry_run', pg_current_xact_id()::text, true);
end
$$;
comment on function core.begin_dry_run() is
'Says that what follows will be rolled back. Call it first in a block that ends with an error: with the block what it says is gone.';

create or replace function core.lock_plan()
returns timestamptz
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception using errcode = 'PT422', message = 'The floor plan cannot be changed from an older snapshot.', detail = 'transaction_isolation',
      hint = 'Change it in a transaction that is read committed.';
  end if;
  if core.is_dry_run() then
    lock table core.lock_plan in share update exclusive mode;
  else
    lock table core.lock_plan in exclusive mode;
  end if;
  return clock_timestamp();
end
$$;
comment on function core.lock_plan() is
'Waits until no other transaction changes the floor plan, and returns the instant to record the change with.

In a dry run others go on storing events; only changes wait for it. Call it in a statement of its own before the first one that reads, so that what is read is fresh. Held until the transaction ends.';

create or replace function core.share_plan()
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  lock table core.lock_plan in row share mode;
end
$$;
comment on function core.share_plan() is
'Waits until no other transaction changes the floor plan, and keeps all from changing it until this one ends. Many can hold it at once.';

create or replace function core.find_space(
  space text,
  place text default 'space'
)
returns integer
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_space_id integer;
begin
  select s.space_id into v_space_id from core.space s where s.id = find_space.space;
  if not found or not core.is_space_in_reach(v_space_id) then
    raise exception using errcode = 'PT404', message = format('There is no space %s.', quote_literal(space)),
      detail = place, hint = 'Create it with PUT /v1/spaces/{id}, or look at GET /v1/spaces.';
  end if;
  return v_space_id;
end
$$;
comment on function core.find_space(text, text) is
'The space_id of a space. Errors: PT404 naming place, also for one beyond the token''s reach.';

create or replace function core.find_doorway(
  doorway text,
  place text default 'doorway'
)
returns integer
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_doorway_id integer;
begin
  select d.doorway_id into v_doorway_id from core.doorway d where d.id = find_doorway.doorway;
  if not found or not core.is_doorway_seen(v_doorway_id) then
    raise exception using errcode = 'PT404', message = format('There is no doorway %s.', quote_literal(doorway)),
      detail = place, hint = 'Create it with PUT /v1/doorways/{id}, or look at GET /v1/doorways.';
  end if;
  return v_doorway_id;
end
$$;
comment on function core.find_doorway(text, text) is
'The doorway_id of a doorway. Errors: PT404 naming place, also for one beyond the token''s reach.';

create or replace function core.find_dpu(
  dpu text,
  place text default 'dpu'
)
returns integer
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_dpu_id integer;
begin
  select d.dpu_id into v_dpu_id from core.dpu d where d.id = find_dpu.dpu;
  if not found or not core.is_dpu_seen(v_dpu_id) then
    raise exception using errcode = 'PT404', message = format('There is no DPU %s.', quote_literal(dpu)),
      detail = place, hint = 'It is registered by its first event, or with PUT /v1/dpus/{id}.';
  end if;
  return v_dpu_id;
end
$$;
comment on function core.find_dpu(text, text) is
'The dpu_id of a DPU. Errors: PT404 naming place, also for one beyond the token''s reach.';

create or replace function core.refer_to_space(
  space text,
  place text
)
returns integer
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_space_id integer;
begin
  if space is null then
    return null;
  end if;
  select s.space_id into v_space_id from core.space s where s.id = refer_to_space.space;
  if not found or not core.is_space_in_reach(v_space_id) then
    raise exception using errcode = 'PT422', message = format('There is no space %s to refer to.', quote_literal(space)),
      detail = place, hint = 'Create it first with PUT /v1/spaces/{id}.';
  end if;
  return v_space_id;
end
$$;
comment on function core.refer_to_space(text, text) is
'The space_id of a space that a request refers to; null for null. Errors: PT422 naming place.';

create or replace function core.check_id(
  id text,
  place text
)
returns void
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  if id is null or id !~ '^[A-Za-z0-9._:-]{1,64}$' or id in ('.', '..') then
    raise exception using errcode = 'PT422', message = format('%s is not an id.', coalesce(quote_literal(left(id, 80)), 'null')),
      detail = place, hint = 'An id is 1 to 64 of A-Z a-z 0-9 . _ : -, but not `.` or `..`';
  end if;
end
$$;
comment on function core.check_id(text, text) is
'Raises PT422 naming place unless the text can be an id.';

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
    from unnest(coalesce(doorways, array(select a.doorway_id from core.doorway a))) as n (doorway_id)
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
'The outer doorways of each space, from the tree: doorways with exactly one side in its subtree, and which side that is. For some doorways, or all (null).';

create or replace function core.rebuild_boundary(doorways integer[])
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  insert into core.live_change (space_id)
  select b.space_id from core.boundary b where b.doorway_id = any (doorways)
  union
  select d.space_id from core.derive_boundary(doorways) d;
  delete from core.boundary b where b.doorway_id = any (doorways);
  insert into core.boundary (space_id, doorway_id, inner_side)
  select d.space_id, d.doorway_id, d.inner_side from core.derive_boundary(doorways) d;
$$;
comment on function core.rebuild_boundary(integer[]) is
'Brings core.boundary up to date for some doorways, and leaves the spaces concerned in core.live_change. Call it under core.lock_plan.';
