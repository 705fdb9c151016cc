-- What becomes of refused events that are run again.

create or replace function core.judge_reruns(
  ids bigint[],
  codes text[],
  details text[],
  places integer[],
  indexes integer[],
  verdicts text[],
  reasons text[]
)
returns table (id bigint, verdict text, detail text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select ids[o] as id, v.verdict, v.detail
  from unnest(places) with ordinality as p (o, place)
  left join unnest(indexes, verdicts, reasons) as v (index, verdict, detail) on v.index = p.place - 1
  union all
  select ids[o], 'invalid', details[o]
  from generate_subscripts(ids, 1) as o
  where codes[o] = 'invalid'
  union all
  select ids[o], 'unknown_dpu',
    'The token that sent it cannot report this DPU at that time. Send it again with one that can.'
  from generate_subscripts(ids, 1) as o
  where codes[o] <> 'invalid' and o <> all (places);
end
$$;
comment on function core.judge_reruns(bigint[], text[], text[], integer[], integer[], text[], text[]) is
'What became of each refused event that was run again; verdict null: it was accepted.

ids, codes, details: of the refused events, beside each other. places: which of them (from 1) api.record_events got, in
that order; indexes (from 0 among these), verdicts, reasons: what it said of those that it did not accept.';

create or replace function core.note_reruns(
  ids bigint[],
  verdicts text[],
  details text[]
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_open bigint[];   -- those that nobody else has run meanwhile
begin
  v_open := array(
    select r.rejected_id from core.rejected_event r
    where r.rejected_id = any (ids) and r.rerun_at is null
    order by r.rejected_id
    for update);
  update core.rejected_event r set
    -- its reason may be another one by now
    code = coalesce(nullif(t.verdict, 'duplicate'), r.code),
    detail = case when t.verdict <> 'duplicate' then t.detail else r.detail end,
    rerun_at = case when t.verdict is null or t.verdict = 'duplicate' then clock_timestamp() end
  from unnest(ids, verdicts, details) as t (id, verdict, detail)
  where r.rejected_id = t.id and t.id = any (v_open);
  -- after the events, as core.refuse_events does: two transactions never wait for each other
  insert into core.refused_of_dpu as c (dpu, hour, count)
  select r.dpu, date_trunc('hour', r.received_at, 'UTC'), -count(*)
  from core.rejected_event r
  where r.rejected_id = any (v_open) and r.rerun_at is not null and r.dpu is not null and r.is_within
    and date_trunc('hour', r.received_at, 'UTC') > clock_timestamp() - interval '26 hours'
  group by 1, 2
  order by 1, 2
  on conflict (dpu, hour) do update set count = c.count + excluded.count;
end
$$;
comment on function core.note_reruns(bigint[], text[], text[]) is
'Notes what became of refused events that were run again (core.judge_reruns): that they went in, or the reason that they
have by now. Those that went in are no longer counted in core.refused_of_dpu. What another transaction has run meanwhile
is left as it is.';
