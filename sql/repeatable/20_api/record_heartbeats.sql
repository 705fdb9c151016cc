create or replace function api.record_heartbeats(
  dpus text[],
  mac_addresses text[],
  times timestamptz[],
  auto_register boolean default true,
  senders text[] default '{}',
  sender_sizes integer[] default '{}',
  backfill boolean default false
)
returns table (index integer, verdict text, detail text, dpu text, last_seen timestamptz)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '5s'
-- planned once a connection, as api.record_events is
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  v_now timestamptz;
  v_oldest timestamptz := core.get_horizon();
  v_ids integer[];
  v_here integer[];     -- the same, but null for DPUs that are out of reach by now
  v_from timestamptz[]; -- since when they are within reach; null: always
  v_unregistered text;  -- why unknown DPUs are not registered
  v_verdicts text[];
  v_seen bigint[];
  v_news bigint[];
begin
  if cardinality(mac_addresses) <> cardinality(dpus) or cardinality(times) <> cardinality(dpus) then
    perform core.refuse_lengths('dpus, mac_addresses, times', 'heartbeat');
  end if;

  -- the floor plan stays as it is until the end of this transaction
  perform core.share_plan();
  v_ids := core.list_seen_ids(dpus, mac_addresses);
  if core.get_reach() is not null then
    v_now := clock_timestamp();
    -- what is ahead counts as now
    v_ids := core.list_reached_ids(v_ids, array(
      select least(n.time, v_now) from unnest(times) with ordinality as n (time, ordinal) order by n.ordinal));
    v_here := core.list_reached_ids(v_ids, array_fill(v_now, array[cardinality(v_ids)]));
    v_from := array(
      select r.from_at
      from unnest(v_here) with ordinality as n (dpu_id, ordinal)
      left join core.list_seen_since(v_here, v_now) r on r.dpu_id = n.dpu_id
      order by n.ordinal);
  elsif auto_register and array_position(v_ids, null) is not null then
    v_unregistered := core.register_seen(dpus, mac_addresses, senders, sender_sizes);
    v_ids := core.list_seen_ids(dpus, mac_addresses);
  end if;

  v_here := coalesce(v_here, v_ids);
  v_now := clock_timestamp();
  v_verdicts := array(
    select core.judge_event(n.dpu_id, coalesce(n.time, v_now), v_now, v_oldest)
    from unnest(v_ids, times) with ordinality as n (dpu_id, time, ordinal)
    order by n.ordinal);
  -- one that is repeated within the arrays counts once
  v_seen := array(
    select min(n.ordinal)
    from unnest(v_ids, times, v_verdicts) with ordinality as n (dpu_id, time, verdict, ordinal)
    where n.verdict is null
    group by n.dpu_id, least(n.time, v_now));
  v_news := core.note_dpus_seen(
    array(select v_ids[o] from unnest(v_seen) as o), array(select least(times[o], v_now) from unnest(v_seen) as o),
    v_now,
    array(
      select distinct n.dpu_id from unnest(v_here, v_verdicts) as n (dpu_id, verdict)
      where n.verdict is not null and n.dpu_id is not null and not backfill),
    backfill,
    are_own => array(select times[o] is not null from unnest(v_seen) as o),
    are_away => array(select v_here[o] is null from unnest(v_seen) as o));
  v_news := array(select v_seen[o] from unnest(v_news) as o);
  perform core.note_heartbeat_clocks(v_now, v_here, times, v_verdicts);

  return query
  select (n.ordinal - 1)::integer, n.verdict, 
    case when n.verdict is not null
      then coalesce(case n.verdict when 'unknown_dpu' then v_unregistered end, core.explain_heartbeat(n.verdict)) end,
    d.id,
    case
      when n.dpu_id is not null and n.here_id is null or s.last_seen_at < v_from[n.ordinal]
        then least(times[n.ordinal], v_now)
      else s.last_seen_at
    end
  from (
    select n.dpu_id, n.here_id, n.ordinal,
      coalesce(n.verdict, case when w.ordinal is null then 'duplicate' end) as verdict
    from unnest(v_ids, v_here, v_verdicts) with ordinality as n (dpu_id, here_id, verdict, ordinal)
    left join unnest(v_news) as w (ordinal) on w.ordinal = n.ordinal
  ) n
  left join core.dpu d on d.dpu_id = n.dpu_id
  left join core.dpu_state s on s.dpu_id = n.here_id
  order by n.ordinal;
end
$$;
comment on function api.record_heartbeats(text[], text[], timestamptz[], boolean, text[], integer[], boolean) is
'Records heartbeats, given as parallel arrays, and returns a verdict on each, in their order.

Each names a DPU by its id or, where that is null, by its MAC address. One that is refused for its time changes the
clock state of its DPU (api.get_dpu). One with a time within 5 minutes of ours says that our clock is right, one from
further ahead that it may be wrong (core.is_clock_suspect). times: device time; null: now; what is ahead of the clock
counts as now. verdict: null (accepted), duplicate (not newer than the latest one, and not within what was taken for an
outage: nothing changed), in_future (more than 5 minutes ahead), clock_unset, too_old (before the horizon,
api.set_horizon), unknown_dpu (without auto_register, or beyond what core.registration allows: otherwise it is
registered; a MAC address that nobody has becomes the id of a new DPU, in lower case with colons). dpu: the id;
last_seen: when the DPU was heard from last. index counts from 0. senders, sender_sizes: the tokens that sent them and
how many each, in order; each token can register so many unknown DPUs.

A late heartbeat corrects outages of the past. The receipt of one that is not a duplicate is a sign of life too, also
where it is refused; not with backfill, for heartbeats that were kept for some time. A DPU that sends heartbeats is
armed: from then on its silence counts.

A limited token can report DPUs that were placed above its doorways at that time (now, where it is ahead); all others
are unknown_dpu. One of a DPU that is out of its reach by now is a sign at its own time only: it arms nothing and says
nothing of clocks, and last_seen is its time. So it is where the DPU was heard from last before it came into reach.
Errors: PT422 for arrays of different lengths.';
