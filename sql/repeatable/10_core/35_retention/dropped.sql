-- Dropping old events (docs/explanation/counts.md). Of the time before rollup_state.events_from the rollups
-- are left, and core.kept_event: the events of quarter-hours within which a placement begins or ends or a reset falls.
--
-- events_from moves first, and chunks are dropped long after: a reader whose snapshot is older finds them still there.
-- No late mark ever stands before it, and no refresh reaches there: it would delete rollups whose events are gone.
--
-- Here: refusing what would need dropped events.

create or replace function core.find_dropped(
  dpus integer[],
  froms timestamptz[],
  untils timestamptz[],
  out dpu text,
  out bucket timestamptz
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
declare
  v_low timestamptz := (select min(f) from unnest(froms) f) - interval '15 minutes';
  v_high timestamptz := least((select s.events_from from core.rollup_state s), (select max(u) from unnest(untils) u));
begin
  select d.id, f.bucket into dpu, bucket
  from unnest(dpus, froms, untils) as p (dpu_id, from_at, until_at)
  join core.dpu_flow_15m_v1 f on f.dpu_id = p.dpu_id and f.bucket > p.from_at - interval '15 minutes'
    and f.bucket < p.until_at
  join core.dpu d on d.dpu_id = p.dpu_id
  where f.dpu_id = any (dpus) and f.bucket > v_low and f.bucket < v_high
    and not exists (
      select from core.kept_event k
      where k.dpu_id = f.dpu_id and k.time >= f.bucket and k.time < f.bucket + interval '15 minutes')
  limit 1;
end
$$;
comment on function core.find_dropped(integer[], timestamptz[], timestamptz[]) is
'A quarter-hour whose events were dropped and that overlaps one of the ranges [from, until) of DPUs, given as parallel
arrays. Nulls where there is none.';

create or replace function core.check_kept(
  dpus integer[],
  froms timestamptz[],
  untils timestamptz[],
  place text
)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_dropped record := core.find_dropped(dpus, froms, untils);
begin
  if v_dropped.dpu is null then
    return;
  end if;
  perform core.refuse(
    422, core.explain_dropped(v_dropped.dpu, v_dropped.bucket), place,
    case place
      when 'known_at' then 'Of that time only sums are left. Leave known_at out.'
      when 'at' then format(
        'Of that time only quarter-hours are left. Ask for the start of one without a reset or move in it, such as %s.',
        core.format_second(v_dropped.bucket + interval '15 minutes'))
      when 'from' then 'A reset or a move falls within that quarter-hour. Ask for a range after the next reset.'
      when 'bucket' then 'A reset or a move falls within that quarter-hour. Filter on bucket or space.'
      else 'The current count of a space would need them. Record a reset of the space first.'
    end);
end
$$;
comment on function core.check_kept(integer[], timestamptz[], timestamptz[], text) is
'Errors: PT422 naming place where events in the ranges of core.find_dropped were dropped. place: the parameter that asks
for them; null where the current count of a space would need them.';

create or replace function core.check_cut(
  dpus integer[],
  at timestamptz,
  place text
)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_dropped record;
begin
  if at is null or at = public.time_bucket(interval '15 minutes', at)
    or at >= (select s.events_from from core.rollup_state s) then
    return;
  end if;
  v_dropped := core.find_dropped(dpus, array_fill(at, array[cardinality(dpus)]),
    array_fill(at + interval '1 microsecond', array[cardinality(dpus)]));
  if v_dropped.dpu is not null then
    perform core.refuse(
      422, core.explain_dropped(v_dropped.dpu, v_dropped.bucket), place,
      format('Of that time only quarter-hours are left. Give the start of one, such as %s.',
        core.format_second(v_dropped.bucket + interval '15 minutes')));
  end if;
end
$$;
comment on function core.check_cut(integer[], timestamptz, text) is
'Errors: PT422 naming place for an instant (null passes) within a quarter-hour in which events of one of the DPUs were
dropped: such a quarter-hour cannot be cut any more.';

create or replace function core.check_listed(
  dpus integer[],
  from_at timestamptz,
  to_at timestamptz
)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_events_from timestamptz := (select s.events_from from core.rollup_state s);
begin
  if (from_at < v_events_from or to_at <= v_events_from) and exists (
    select from core.dpu_state s
    where s.dpu_id = any (dpus) and s.first_time < v_events_from and (to_at is null or s.first_time < to_at)
  ) then
    perform core.refuse(
      422, format('Events before %s were dropped (retention).', core.format_second(v_events_from)),
      case when from_at < v_events_from then 'from' else 'to' end,
      'Ask for later events, or for counts at quarter-hours.');
  end if;
end
$$;
comment on function core.check_listed(integer[], timestamptz, timestamptz) is
'Errors: PT422 naming from or to where the range includes events of the DPUs that were dropped. A bound that is null
never does.';

create or replace function core.explain_dropped(
  dpu text,
  bucket timestamptz
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format('Events before %s were dropped (retention), and this needs those of %s from %s to %s.',
    core.format_second(s.events_from), quote_literal(dpu), core.format_second(bucket),
    core.format_second(bucket + interval '15 minutes'))
  from core.rollup_state s
$$;
comment on function core.explain_dropped(text, timestamptz) is
'A sentence that says which events were dropped.';
