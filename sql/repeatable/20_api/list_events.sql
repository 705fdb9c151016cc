create or replace function api.list_events(
  inout dpu text default null,
  space text default null,
  from_at timestamptz default null,
  to_at timestamptz default null,
  after_time timestamptz default null,
  after_dpu text default null,
  after_sequence smallint default null,
  max_rows integer default 100,
  out "time" timestamptz,
  out direction integer,
  out sequence smallint,
  out received_at timestamptz,
  out sign smallint
)
returns setof record
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
  v_dpu_id integer;
  v_spaces integer[];
  v_low timestamptz := greatest(coalesce(from_at, '-infinity'), after_time);
  v_high timestamptz := coalesce(to_at, 'infinity');
begin
  if (list_events.dpu is null) = (space is null) then
    raise exception using errcode = 'PT422', message = 'Events are listed for a DPU or for a space.', detail = 'dpu', hint = 'Give dpu or space, not both.';
  end if;
  if list_events.dpu is not null then
    v_dpu_id := core.find_dpu(list_events.dpu);
  else
    v_spaces := array[core.find_space(space)];
  end if;
  return query
  select d.id, e.time, e.direction, e.sequence, e.received_at, p.sign
  from (
    select v_dpu_id as dpu_id, null::smallint as sign, tstzrange(null, null) as during where v_dpu_id is not null
    union all
    select p.dpu_id, p.sign, p.during from core.list_outer_placements(v_spaces) p
  ) p
  join core.dpu d on d.dpu_id = p.dpu_id
  cross join lateral (
    select e.*
    from core.event e
    where e.dpu_id = p.dpu_id
      and e.time >= v_low and e.time < v_high and p.during @> e.time
      and (after_time is null or e.time > after_time or d.id > after_dpu or (d.id = after_dpu and e.sequence > after_sequence))
    order by e.time, e.sequence
    limit max_rows
  ) e
  order by e.time, d.id, e.sequence
  limit max_rows;
end
$$;
comment on function api.list_events(text, text, timestamptz, timestamptz, timestamptz, text, smallint, integer) is
'Raw events in [from_at, to_at), in order of time, DPU and sequence: of one DPU, or those that counted for one space, each with its sign (+1: direction people entered).

after_time, after_dpu, after_sequence: the event behind which to go on. Errors: PT404; PT422 unless exactly one of dpu and space is given.';
