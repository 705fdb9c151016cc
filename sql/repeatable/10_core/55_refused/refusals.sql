-- Keeping refused events and polls.

create or replace function core.shorten_body(body text)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case when length(body) > 1100
    then left(body, 1000) || format(' … (the first of %s characters)', to_char(length(body), 'FM999,999,999'))
    else body
  end
$$;
comment on function core.shorten_body(text) is
'The text of something refused as it is kept: its first 1,000 characters. The service shortens it before; this leaves
room for the note that it adds.';

create or replace function core.tell_apart(
  body text,
  digest bytea
)
returns jsonb
language sql immutable
as $$ select case when digest is null then to_jsonb(body) else jsonb_build_array(encode(digest, 'hex')) end $$;
comment on function core.tell_apart(text, bytea) is
'By what something that could not be decoded is told apart from others: its body; or its digest, where the body that is
shown is not all of it. Services before 0.2.0 send no digests. Inlined by the planner: no search_path of its own.';

create or replace function core.get_max_refused(
  is_limited boolean,
  is_within boolean
)
returns integer
language sql immutable
as $$ select case when not is_within then 10000 when is_limited then 100000 else 1000000 end $$;
comment on function core.get_max_refused(boolean, boolean) is
'How many refused events of a family of tokens are kept in an hour: of DPUs that it does not reach (is_within: false),
of a limited family, or of any other. Inlined by the planner: no search_path of its own.';

create or replace function core.get_max_refused_of_dpu()
returns integer
language sql immutable
as $$ select 100000 $$;
comment on function core.get_max_refused_of_dpu() is
'How many refused events of a DPU are kept in an hour. Inlined by the planner: no search_path of its own.';

create or replace function core.list_event_senders(
  senders text[],
  sender_sizes integer[]
)
returns text[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select array(
    select coalesce(s.sender, nullif(current_setting('headcount.token', true), ''))
    from unnest(senders, sender_sizes) with ordinality as s (sender, size, ordinal)
    cross join generate_series(1, s.size) as n (place)
    order by s.ordinal, n.place)
$$;
comment on function core.list_event_senders(text[], integer[]) is
'The token that sent each event, from the tokens and how many each sent, in their order; null for those that came
without one.';

create or replace function core.are_reached_by_senders(
  senders text[],
  dpus integer[],
  times timestamptz[]
)
returns boolean[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with sender as materialized (
    select t.id, t.space_id is not null as is_limited, array(select core.list_subtree(core.find_reach(t))) as within
    from core.token t
    where t.id = any (senders)
  ),
  seen as materialized (
    select s.id, p.dpu_id, range_agg(p.during) as during
    from sender s
    join core.doorway w on s.is_limited and (w.side_a_id = any (s.within) or w.side_b_id = any (s.within))
    join core.placement p on p.doorway_id = w.doorway_id
    where p.superseded_at is null and p.dpu_id = any (dpus)
    group by s.id, p.dpu_id
  )
  select coalesce(
    -- of a token that is not known any more nobody can say what it could report
    array_agg(
      n.sender is null or coalesce(not s.is_limited, false) or coalesce(e.during @> n.time, false) order by n.ordinal),
    '{}')
  from unnest(senders, dpus, times) with ordinality as n (sender, dpu_id, time, ordinal)
  left join sender s on s.id = n.sender
  left join seen e on e.id = n.sender and e.dpu_id = n.dpu_id
$$;
comment on function core.are_reached_by_senders(text[], integer[], timestamptz[]) is
'Whether the token that sent an event can report it, for each of the events in parallel arrays: it is not limited to a
space, or the DPU was placed above a doorway within its reach at that time (core.find_reach). A token that is no longer
valid counts as if it were: the caller decides. One that is not known can report nothing; null: nobody''s event.';

create or replace function core.refuse_events(
  received_at timestamptz,
  codes text[],
  details text[],
  dpus text[],
  times timestamptz[],
  directions integer[],
  sequences smallint[],
  bodies text[],
  tokens text[],
  are_within boolean[],
  digests bytea[]
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  with sender as materialized (
    select n.token, coalesce(core.get_family(n.token), 0) as family_id,
      exists (select from core.token t where t.id = n.token and t.space_id is not null) as is_limited
    from (select distinct n.token from unnest(tokens) as n (token)) n
  ),
  refused as materialized (
    select distinct on (r.digest) r.*
    from (
      select n.code, n.detail, n.dpu, n.time, n.direction, n.sequence, core.shorten_body(n.body) as body, n.token,
        n.is_within, n.ordinal,
        -- what one token sends never stands in the way of what another one sends
        sha256(convert_to((jsonb_build_array(
          n.code, n.dpu, extract(epoch from n.time), n.direction, n.sequence,
          core.tell_apart(n.body, n.digest))
          || case when n.token is null then '[]' else jsonb_build_array(n.token) end)::text, 'UTF8')) as digest
      from unnest(codes, details, dpus, times, directions, sequences, bodies, tokens, are_within, digests)
        with ordinality as n (code, detail, dpu, time, direction, sequence, body, token, is_within, digest, ordinal)
    ) r
    where not exists (select from core.rejected_event k where k.digest = r.digest)
    order by r.digest, r.ordinal
  ),
  placed as materialized (
    select r.*, s.family_id,
      row_number() over (partition by s.family_id, r.is_within order by r.ordinal) + coalesce(f.count, 0)
        <= core.get_max_refused(s.is_limited, r.is_within)
      and (r.dpu is null or not r.is_within
        or row_number() over (partition by r.dpu, r.is_within order by r.ordinal) + coalesce(d.count, 0)
          <= core.get_max_refused_of_dpu()) as is_kept
    from refused r
    join sender s on s.token is not distinct from r.token
    left join core.refused_of_family f
      on f.family_id = s.family_id and f.is_within = r.is_within
        and f.hour = date_trunc('hour', refuse_events.received_at, 'UTC')
    left join core.refused_of_dpu d on d.dpu = r.dpu and d.hour = date_trunc('hour', refuse_events.received_at, 'UTC')
  ),
  numbered as materialized (
    select p.*, nextval('core.rejected_event_rejected_id_seq') as rejected_id
    from (select * from placed where is_kept order by ordinal) p
  ),
  kept as (
    insert into core.rejected_event
      (digest, received_at, code, detail, dpu, time, direction, sequence, body, token, is_within, rejected_id)
    overriding system value
    select p.digest, refuse_events.received_at, p.code, p.detail, p.dpu, p.time, p.direction, p.sequence, p.body,
      p.token, p.is_within, p.rejected_id
    from numbered p
    order by p.digest
    on conflict (digest) do nothing
    returning dpu, token, is_within
  ),
  -- in order, so that two transactions never wait for each other
  of_dpus as (
    insert into core.refused_of_dpu as c (dpu, hour, count)
    select k.dpu, date_trunc('hour', refuse_events.received_at, 'UTC'), count(*)
    from kept k
    where k.dpu is not null and k.is_within
    group by k.dpu
    order by k.dpu
    on conflict (dpu, hour) do update set count = c.count + excluded.count
    returning 1
  ),
  of_families as (
    insert into core.refused_of_family as c (family_id, hour, is_within, count)
    select s.family_id, date_trunc('hour', refuse_events.received_at, 'UTC'), k.is_within, count(*)
    from kept k
    join sender s on s.token is not distinct from k.token
    -- all of the DPUs before any of the families
    where (select count(*) from of_dpus) >= 0
    group by s.family_id, k.is_within
    order by s.family_id, k.is_within
    on conflict (family_id, hour, is_within) do update set count = c.count + excluded.count
    returning 1
  )
  insert into core.dropped_refusal as d (kind, count)
  select 'event', count(*)
  from placed p
  where not p.is_kept and (select count(*) from of_families) >= 0
  having count(*) > 0
  on conflict (kind) do update set count = d.count + excluded.count;
end
$$;
comment on function core.refuse_events(timestamptz, text[], text[], text[], timestamptz[], integer[],
  smallint[], text[], text[], boolean[], bytea[]) is
'Keeps refused events with their reasons, from parallel arrays; each once, however often its token sends it. Their ids
are in the order of the arrays.

digests: of what the bodies are not all of (core.tell_apart). tokens: who sent them (null: nobody known). are_within:
false for what a limited token sent about DPUs outside its space. What is beyond core.get_max_refused and
core.get_max_refused_of_dpu in an hour is dropped and counted; transactions at the same time may keep a little more.';

create or replace function core.drop_refused()
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_before timestamptz := clock_timestamp() - interval '30 days';
  v_events bigint;
  v_polls bigint;
begin
  delete from core.rejected_event r
  where r.digest in (
    select o.digest from core.rejected_event o where o.received_at < v_before order by o.received_at limit 100000);
  get diagnostics v_events = row_count;
  delete from core.rejected_poll r
  where r.digest in (
    select o.digest from core.rejected_poll o where o.received_at < v_before order by o.received_at limit 100000);
  get diagnostics v_polls = row_count;
  delete from core.refused_of_dpu c where c.hour < clock_timestamp() - interval '26 hours';
  delete from core.refused_of_family c where c.hour < clock_timestamp() - interval '2 hours';
  insert into core.dropped_refusal as d (kind, count)
  select n.kind, n.count from (values ('event', v_events), ('poll', v_polls)) as n (kind, count) where n.count > 0
  on conflict (kind) do update set count = d.count + excluded.count;
end
$$;
comment on function core.drop_refused() is
'Drops events and polls that were refused more than 30 days ago, up to 100,000 of each at a time, and counts them.';

create or replace function core.refuse_sent(
  now_at timestamptz,
  ids integer[],
  dpus text[],
  times timestamptz[],
  directions integer[],
  sequences smallint[],
  refused bigint[],
  verdicts text[],
  details text[],
  refused_bodies text[],
  refused_details text[],
  refused_dpus text[],
  refused_digests bytea[],
  senders text[]
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  if cardinality(refused_digests) not in (0, cardinality(refused_bodies)) then
    perform core.refuse_lengths('refused_bodies, refused_digests', 'event');
  end if;
  perform core.refuse_events(now_at,
    array_agg(n.verdict), array_agg(n.detail), array_agg(n.dpu), array_agg(n.time), array_agg(n.direction),
    array_agg(n.sequence), array_agg(n.body),
    array_agg(coalesce(n.sender, nullif(current_setting('headcount.token', true), ''))), array_agg(n.is_within),
    array_agg(n.digest))
  from (
    -- in the order in which they were sent: so they are run again
    select r.verdict, r.detail, dpus[r.ordinal], times[r.ordinal], directions[r.ordinal], sequences[r.ordinal], null,
      senders[r.ordinal], ids[r.ordinal] is not null or core.get_reach() is null, null, r.ordinal
    from unnest(refused, verdicts, details) as r (ordinal, verdict, detail)
    where r.verdict <> 'duplicate'
    union all
    select 'invalid', r.detail, r.dpu, null, null, null, r.body,
      senders[coalesce(cardinality(times), 0) + r.ordinal], r.dpu is not null or core.get_reach() is null,
      r.digest, coalesce(cardinality(times), 0) + r.ordinal
    from unnest(refused_bodies, refused_details, refused_dpus, refused_digests) with ordinality
      as r (body, detail, dpu, digest, ordinal)
    order by ordinal
  ) as n (verdict, detail, dpu, time, direction, sequence, body, sender, is_within, digest, ordinal)
  having count(*) > 0;
end
$$;
comment on function core.refuse_sent(timestamptz, integer[], text[], timestamptz[], integer[], smallint[],
  bigint[], text[], text[], text[], text[], text[], bytea[], text[]) is
'Keeps what api.record_events refused: events, by their ordinals, but for duplicates, and the bodies that could not be
decoded. senders: the tokens that sent the events, and behind them those of the bodies. refused_digests: beside the
bodies (core.tell_apart).';
