-- What the events of a DPU add up to.

create or replace function core.sum_dpus(dpus integer[])
returns table (dpu_id integer, cumulative_count bigint, latest_time timestamptz)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_dpus integer[];
  v_froms timestamptz[];
  v_untils timestamptz[];
begin
  if core.get_reach() is null then
    return query select s.dpu_id, s.cumulative_count, s.latest_time from core.dpu_state s where s.dpu_id = any (dpus);
    return;
  end if;
  select
    array_agg(p.dpu_id),
    array_agg(greatest(lower(p.during), core.get_oldest_time())),
    array_agg(coalesce(upper(p.during), 'infinity'))
  into v_dpus, v_froms, v_untils
  from core.list_seen_placements(dpus) p
  where upper_inf(p.during) or upper(p.during) > core.get_oldest_time();
  return query
  with part as (
    select p.dpu_id, p.from_at, p.until_at, p.part
    from unnest(v_dpus, v_froms, v_untils) with ordinality as p (dpu_id, from_at, until_at, part)
  ),
  total as (
    select p.dpu_id, sum(n.net)::bigint as net
    from core.sum_parts(v_dpus, v_froms, v_untils) n
    join part p on p.part = n.part
    group by p.dpu_id
  )
  select s.dpu_id, coalesce(t.net, 0), case
    when exists (select from part p where p.dpu_id = s.dpu_id and s.latest_time >= p.from_at
      and s.latest_time < p.until_at)
      then s.latest_time
    else (
      select max(e.time)
      from part p
      join core.event e on e.dpu_id = p.dpu_id and e.time >= p.from_at and e.time < p.until_at
      where p.dpu_id = s.dpu_id)
  end
  from core.dpu_state s
  left join total t on t.dpu_id = s.dpu_id
  where s.dpu_id = any (dpus);
end
$$;
comment on function core.sum_dpus(integer[]) is
'What the events of each DPU add up to, and the latest one''s own instant: for a limited token over the periods alone
that it may know of.';
