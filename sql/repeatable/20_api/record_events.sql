create or replace function api.record_events(
  dpus text[],
  times timestamptz[],
  directions integer[],
  sequences smallint[],
  auto_register boolean default true,
  refused_bodies text[] default '{}',
  refused_details text[] default '{}',
  refused_dpus text[] default '{}',
  keep_refused boolean default true,
  senders text[] default '{}',
  sender_sizes integer[] default '{}',
  backfill boolean default false,
  refused_digests bytea[] default '{}'
)
returns table (index integer, verdict text, detail text)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
-- a replay into compressed chunks may touch any number of rows and must not fail for it
set timescaledb.max_tuples_decompressed_per_dml_transaction = 0
-- a chunk that is being compressed locks out late events: better to be told to come back than to hold up others
set lock_timeout = '5s'
-- planned once a connection: for a few events planning would cost more than all the rest
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  v_now timestamptz;
  v_ids integer[];
  v_here integer[];     -- the same, but null for DPUs that are out of reach by now
  v_unregistered text;  -- why unknown DPUs are not registered
  v_count integer := coalesce(cardinality(dpus), 0);
  v_stored bigint[];
  v_doubles bigint[];   -- ordinals of the events that could have been stored, but were there
  v_found integer[];    -- beside v_doubles: the direction that is stored
  v_refused_dpus text[] := refused_dpus;
  v_unread integer[] := '{}';   -- beside v_refused_dpus
  v_refused bigint[] := '{}';   -- ordinals, verdicts and details of what was not accepted
  v_verdicts text[] := '{}';
  v_details text[] := '{}';
  v_is_suspect boolean := false;  -- our clock may be wrong
begin
  if cardinality(times) <> v_count or cardinality(directions) <> v_count or cardinality(sequences) <> v_count
    or cardinality(refused_details) <> cardinality(refused_bodies)
    or cardinality(refused_dpus) not in (0, cardinality(refused_bodies)) then
    perform core.refuse_lengths('dpus, times, directions, sequences', 'event');
  end if;

  -- the floor plan stays as it is until the end of this transaction
  perform core.share_plan();
  v_ids := core.list_dpu_ids(dpus);
  if core.get_reach() is not null then
    v_ids := core.list_reached_ids(v_ids, times);
    -- what hangs elsewhere by now does not live there by what is said of it here
    v_here := core.list_reached_ids(v_ids, array_fill(clock_timestamp(), array[v_count]));
    backfill := backfill or v_here is distinct from v_ids;
  elsif auto_register then
    if cardinality(refused_dpus) > 0 then
      v_unread := core.list_dpu_ids(refused_dpus);
    end if;
    if array_position(v_ids || v_unread, null) is not null then
      v_unregistered := core.admit_dpus(dpus || refused_dpus, v_ids || v_unread, senders, sender_sizes);
      v_ids := core.list_dpu_ids(dpus);
    end if;
  end if;

  v_here := coalesce(v_here, v_ids);
  v_now := clock_timestamp();
  if cardinality(refused_dpus) > 0 then
    select u.ids, u.names into v_unread, v_refused_dpus from core.find_unread_dpus(refused_dpus, v_now) u;
  end if;
  select s.ordinals, s.doubles, s.stored into v_stored, v_doubles, v_found
  from core.store_events(v_ids, times, directions, sequences, v_now, backfill, array_remove(v_unread, null)) s;
  if cardinality(v_stored) < v_count then
    select j.refused, j.verdicts, j.details, j.is_suspect into v_refused, v_verdicts, v_details, v_is_suspect
    from core.judge_unstored(
      v_ids, times, directions, sequences, v_now, backfill, v_unregistered, v_stored, v_doubles, v_found) j;
  end if;

  -- what is kept already was noted when it came
  if keep_refused and cardinality(v_refused) > 0 then
    perform core.note_clocks(v_now,
      array(select v_here[o] from unnest(v_refused) as o), array(select times[o] from unnest(v_refused) as o),
      v_verdicts);
    if v_is_suspect then
      perform core.note_suspicion(v_now);
    end if;
  end if;
  if keep_refused and (cardinality(v_refused) > 0 or cardinality(refused_bodies) > 0) then
    perform core.refuse_sent(
      v_now, v_here, dpus, times, directions, sequences, v_refused, v_verdicts, v_details,
      refused_bodies, refused_details, v_refused_dpus, refused_digests, core.list_event_senders(senders, sender_sizes));
  end if;

  return query
  select (r.ordinal - 1)::integer, r.verdict, r.detail
  from unnest(v_refused, v_verdicts, v_details) as r (ordinal, verdict, detail)
  order by r.ordinal;
end
$$;
comment on function api.record_events(text[], timestamptz[], integer[], smallint[], boolean, text[], text[],
  text[], boolean, text[], integer[], boolean, bytea[]) is
'Stores events, given as parallel arrays, and returns a verdict for each that was not accepted.

index counts from 0. verdict: duplicate (the same identity and direction is stored already, or came earlier in the
arrays), conflict (the same identity with another direction: the first stands), in_future (more than 5 minutes ahead, or
2 seconds where core.get_most_ahead of the DPU are), clock_unset (within 2 days of the instant at which clocks that were
never set begin), too_old (before the horizon, api.set_horizon, or before what is kept, api.get_retention), unknown_dpu
(without auto_register, or beyond what core.registration allows: otherwise an unknown DPU is registered unplaced).
Everything but duplicates is kept in core.rejected_event, as are refused_bodies: events that could not even be decoded,
with refused_details saying why and, where it could be read, refused_dpus of which DPU (null: of none). An unknown DPU
of those is registered too.
refused_digests: of what their bodies are not all of, so that each is kept by itself; null where a body is all of it.
keep_refused: false for events that are kept there already; they do not change the clock state again.

A limited token can report what DPUs saw above its doorways, by the time of the event, and now too where that is ahead.
All other events are unknown_dpu, and nothing is registered. Refused events of DPUs that are out of its reach by now
count for nobody, and say nothing of clocks.

senders, sender_sizes: the tokens that sent the events and how many each sent, in order; after them the same for the
refused_bodies. Each token can register so many unknown DPUs.

Events may be late, repeated and out of order, also in compressed chunks. Events of one DPU are stored by one
transaction at a time.

Signs of life of a DPU: each accepted event, at its device time unless that is ahead, and the receipt of each message
that is not a duplicate. backfill: the receipt is not a sign, for events that were kept for some time, are imported or
are run again; and so it is for the events of a limited token where one of the DPUs is out of its reach by now.

Units: directions in people towards the DPU; times in device time. Errors: PT422 for arrays of different lengths; PT503
with the constraint clock_suspect where most DPUs of the last minute are ahead (core.is_clock_suspect), except with
backfill: nothing is stored. After 10 minutes in which nothing confirmed the suspicion events are accepted again
(core.is_suspicion_over).';
