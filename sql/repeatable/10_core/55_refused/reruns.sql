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
  select ids[o], 'unknown_dpu', 'The token that sent it cannot report this DPU at that time. Send it again with one that can.'
  from generate_subscripts(ids, 1) as o
  where codes[o] <> 'invalid' and o <> all (places);
end
$$;
comment on function core.judge_reruns(bigint[], text[], text[], integer[], integer[], text[], text[]) is
'What became of each refused event that was run again; verdict null: it was accepted.

ids, codes, details: of the refused events, beside each other. places: which of them (from 1) api.record_events got, in that order; indexes (from 0 among these), verdicts, reasons: what it said of those that it did not accept.';
