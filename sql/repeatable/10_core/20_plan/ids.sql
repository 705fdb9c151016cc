-- Finding things of the floor plan by the ids that their owners gave them.

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
    perform core.refuse(
      404, format('There is no space %s.', quote_literal(space)), place,
      'Create it with PUT /v1/spaces/{id}, or look at GET /v1/spaces.');
  end if;
  return v_space_id;
end
$$;
comment on function core.find_space(text, text) is
'The space_id of a space. Errors: PT404 naming place, also for one outside the token''s space.';

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
    perform core.refuse(
      404, format('There is no doorway %s.', quote_literal(doorway)), place,
      'Create it with PUT /v1/doorways/{id}, or look at GET /v1/doorways.');
  end if;
  return v_doorway_id;
end
$$;
comment on function core.find_doorway(text, text) is
'The doorway_id of a doorway. Errors: PT404 naming place, also for one outside the token''s space.';

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
    perform core.refuse(
      404, format('There is no DPU %s.', quote_literal(dpu)), place,
      'It is registered by its first event, or with PUT /v1/dpus/{id}.');
  end if;
  return v_dpu_id;
end
$$;
comment on function core.find_dpu(text, text) is
'The dpu_id of a DPU. Errors: PT404 naming place, also for one outside the token''s space.';

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
    perform core.refuse(
      422, format('There is no space %s to refer to.', quote_literal(space)), place,
      'Create it first with PUT /v1/spaces/{id}.');
  end if;
  return v_space_id;
end
$$;
comment on function core.refer_to_space(text, text) is
'The space_id of a space that a request refers to; null for null. Errors: PT422 naming place.';

create or replace function core.is_id(id text)
returns boolean
language sql immutable
as $$
  -- as ~ '^[A-Za-z0-9._:-]{1,64}$', which takes longer
  select coalesce(length(id) between 1 and 64 and id !~ '[^A-Za-z0-9._:-]' and id not in ('.', '..'), false)
$$;
comment on function core.is_id(text) is
'Whether a text can be an id. Inlined by the planner: no search_path of its own.';

create or replace function core.check_id(
  id text,
  place text
)
returns void
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  if not core.is_id(id) then
    perform core.refuse(
      422, format('%s is not an id.', coalesce(quote_literal(left(id, 80)), 'null')), place,
      'An id is 1 to 64 of A-Z a-z 0-9 . _ : -, but not `.` or `..`');
  end if;
end
$$;
comment on function core.check_id(text, text) is
'Errors: PT422 naming place unless the text can be an id.';
