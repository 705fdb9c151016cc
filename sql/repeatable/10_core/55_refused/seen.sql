-- Which refused events a token sees.

create or replace function core.list_seen_periods()
returns table (dpu text, during tstzrange)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select d.id, p.during
  from core.list_seen_placements(
    -- only who is limited needs them
    array(select d.dpu_id from core.dpu d where core.get_reach() is not null)) p
  join core.dpu d on d.dpu_id = p.dpu_id
$$;
comment on function core.list_seen_periods() is
'Which DPUs a limited token reaches, and when they were placed at its doorways; nothing for any other token.';

create or replace function core.list_seen_refusals(
  dpu text,
  source text,
  code text,
  from_at timestamptz,
  to_at timestamptz,
  before_at timestamptz,
  before_id bigint,
  rerun boolean
)
returns setof core.rejected_event
language sql stable
as $$
  select r.*
  from core.rejected_event r
  -- once for all; nothing where the token is not limited
  left join (
    select p.dpu, range_agg(p.during) as during from core.list_seen_periods() p group by p.dpu
  ) s on s.dpu = r.dpu
  where (list_seen_refusals.dpu is null or r.dpu = list_seen_refusals.dpu)
    and (list_seen_refusals.source is null or r.source = list_seen_refusals.source)
    and (list_seen_refusals.code is null or r.code = list_seen_refusals.code)
    and (from_at is null or r.received_at >= from_at)
    and (to_at is null or r.received_at < to_at)
    and (before_at is null or (r.received_at, r.rejected_id) < (before_at, before_id))
    and (r.rerun_at is not null) = rerun
    and ((select core.get_reach()) is null or (
      s.during @> r.received_at and (r.token = (select current_setting('headcount.token', true)) or (
        r.is_within and (s.during @> r.time or not exists (
          -- it was placed elsewhere then; a clock that is wrong tells of times at which it was placed nowhere
          select from core.dpu d join core.placement p on p.dpu_id = d.dpu_id
          where d.id = r.dpu and p.superseded_at is null and p.during @> r.time))))))
$$;
comment on function core.list_seen_refusals(text, text, text, timestamptz, timestamptz, timestamptz, bigint, boolean) is
'Refused events that fit (nulls: any), as far as the token reaches: what DPUs sent while they were placed at its
doorways. What another limited token sent about DPUs outside its space is left out, and what others sent of a time at
which the DPU were placed elsewhere. rerun: those that went in later, or those that did not. Inlined by the planner: no
search_path of its own.';

create or replace function core.count_refusals(
  at timestamptz,
  dpus text[] default null
)
returns table (dpu text, count bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
  v_from timestamptz := date_trunc('hour', count_refusals.at - interval '24 hours', 'UTC');
begin
  if core.get_reach() is null then
    return query
    select c.dpu, greatest(sum(c.count), 0)::bigint
    from core.refused_of_dpu c
    where c.hour >= v_from and (dpus is null or c.dpu = any (dpus))
    group by c.dpu;
    return;
  end if;
  return query
  select c.dpu, greatest(sum(
    case when p.during @> tstzrange(c.hour, least(c.hour + interval '1 hour', count_refusals.at)) then c.count
    else (
      -- it was placed, or taken away, in this hour
      select count(*) from core.rejected_event r
      where r.dpu = c.dpu and r.received_at >= c.hour and r.received_at < c.hour + interval '1 hour'
        and p.during @> r.received_at and r.is_within and r.rerun_at is null)
    end), 0)::bigint
  from core.list_seen_periods() p
  join core.refused_of_dpu c on c.dpu = p.dpu and tstzrange(c.hour, c.hour + interval '1 hour') && p.during
  where c.hour >= v_from and (dpus is null or c.dpu = any (dpus))
  group by c.dpu;
end
$$;
comment on function core.count_refusals(timestamptz, text[]) is
'How many events of each DPU, or of these, were refused in the 24 hours before an instant and the rest of the hour
before those, and did not go in since; a DPU without any has no row, or 0. Counted when they are refused, not when they
are read. For a limited token: while the DPU was placed at its doorways.';
