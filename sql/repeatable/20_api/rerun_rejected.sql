create or replace function api.rerun_rejected(
  dpu text default null,
  source text default null,
  code text default null,
  from_at timestamptz default null,
  to_at timestamptz default null,
  ids bigint[] default null,
  after_id bigint default null,
  auto_register boolean default true,
  max_rows integer default 10000,
  max_days integer default null
)
returns table (id bigint, verdict text, detail text)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '5s'
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
  v_now timestamptz := clock_timestamp();
  v_ids bigint[];
  v_codes text[];
  v_details text[];
  v_dpus text[];
  v_times timestamptz[];
  v_directions integer[];
  v_sequences smallint[];
  v_tokens text[];      -- who sent them
  v_within boolean[];
  v_allowed boolean[];  -- whether who sent them can report them
  v_places integer[];   -- of those that can be run again, from 1
  v_indexes integer[];  -- what was not accepted of them, from 0
  v_verdicts text[];
  v_reasons text[];
begin
  with found as materialized (
    select r.*
    from core.list_seen_refusals(
      rerun_rejected.dpu, rerun_rejected.source, rerun_rejected.code, from_at, to_at, null, null, false) r
    where (ids is null or r.rejected_id = any (ids)) and (after_id is null or r.rejected_id > after_id)
    order by r.rejected_id
    limit max_rows
  ),
  -- the first event of one day too many; what cannot be stored touches no day
  excess as materialized (
    select min(f.rejected_id) as rejected_id
    from found f
    where max_days is not null and f.time >= core.get_first_taken() and f.time <= core.get_latest_time(v_now)
    group by date_trunc('day', f.time, 'UTC')
    order by 1
    offset max_days limit 1
  )
  select
    coalesce(array_agg(n.rejected_id order by n.rejected_id), '{}'), array_agg(n.code order by n.rejected_id),
    array_agg(n.detail order by n.rejected_id), array_agg(n.dpu order by n.rejected_id),
    array_agg(n.time order by n.rejected_id), array_agg(n.direction order by n.rejected_id),
    array_agg(n.sequence order by n.rejected_id), array_agg(n.token order by n.rejected_id),
    array_agg(n.is_within order by n.rejected_id)
  into v_ids, v_codes, v_details, v_dpus, v_times, v_directions, v_sequences, v_tokens, v_within
  from found n
  where not exists (select from excess x where x.rejected_id <= n.rejected_id);
  -- what the reach of the caller hides of the sender's is judged by core.list_seen_refusals and api.record_events
  perform core.share_plan();
  v_allowed := core.are_reached_by_senders(v_tokens, core.list_dpu_ids(v_dpus), v_times);
  -- what could not be decoded has no fields
  v_places := array(
    select o from generate_subscripts(v_ids, 1) as o
    where v_codes[o] <> 'invalid' and v_allowed[o] and (v_within[o] or v_tokens[o] is not null));
  select coalesce(array_agg(r.index), '{}'), array_agg(r.verdict), array_agg(r.detail)
  into v_indexes, v_verdicts, v_reasons
  from api.record_events(
    array(select v_dpus[o] from unnest(v_places) as o), array(select v_times[o] from unnest(v_places) as o),
    array(select v_directions[o] from unnest(v_places) as o), array(select v_sequences[o] from unnest(v_places) as o),
    auto_register, keep_refused => false,
    senders => array(select v_tokens[o] from unnest(v_places) as o),
    sender_sizes => array_fill(1, array[cardinality(v_places)]), backfill => true) r;

  select array_agg(j.id), array_agg(j.verdict), array_agg(j.detail) into v_ids, v_verdicts, v_reasons
  from core.judge_reruns(v_ids, v_codes, v_details, v_places, v_indexes, v_verdicts, v_reasons) j;
  perform core.note_reruns(v_ids, v_verdicts, v_reasons);
  return query
  select t.id, t.verdict, t.detail from unnest(v_ids, v_verdicts, v_reasons) as t (id, verdict, detail) order by t.id;
end
$$;
comment on function api.rerun_rejected(text, text, text, timestamptz, timestamptz, bigint[], bigint, boolean,
  integer, integer) is
'Runs refused events again, in the order in which they were refused: those that api.list_rejected gives for the same
filter, or those of them with these ids. Returns what became of each.

verdict: null (accepted), or as api.record_events; what could not be decoded stays invalid. An event that is accepted,
or a duplicate by now, leaves the list, and is kept with rerun_at for the rest of its 30 days. The others stay with the
new reason. An accepted event has the received_at of this run, and is not a sign of life. An event from a limited token
is accepted only if both that token and the caller can report it: else it is unknown_dpu. A DPU that it registers counts
for the token that sent it.

after_id: the id behind which to go on. max_days: it stops before the first event of one UTC day more, of those that
could be stored by their time (null: it does not). Then only an answer without rows is the end.

Errors: as api.record_events.';
