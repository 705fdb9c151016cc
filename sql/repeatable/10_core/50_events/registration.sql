-- DPUs that their first event registers.

create or replace function core.list_dpu_ids(dpus text[])
returns integer[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return array(
    select d.dpu_id
    from unnest(dpus) with ordinality as n (id, ordinal)
    left join core.dpu d on d.id = n.id
    order by n.ordinal);
end
$$;
comment on function core.list_dpu_ids(text[]) is
'The dpu_id of each DPU, in the order given; null for one that is not registered.';

create or replace function core.list_reached_ids(
  dpus integer[],
  times timestamptz[]
)
returns integer[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with seen as materialized (
    select p.dpu_id, range_agg(p.during) as during
    from core.list_seen_placements(array(select distinct n.dpu_id from unnest(dpus) as n (dpu_id)
      where n.dpu_id is not null)) p
    group by p.dpu_id
  )
  select coalesce(array_agg(
    case when s.during @> n.time and (n.time <= c.now_at or s.during @> c.now_at) then n.dpu_id end
    order by n.ordinal), '{}')
  from unnest(dpus, times) with ordinality as n (dpu_id, time, ordinal)
  cross join (select clock_timestamp() as now_at offset 0) c
  left join seen s on s.dpu_id = n.dpu_id
$$;
comment on function core.list_reached_ids(integer[], timestamptz[]) is
'The DPUs of events in the order given; null where a limited token cannot report the event: the DPU was not placed above
a doorway within reach at its time, or is not now, where its time is ahead.';

create or replace function core.register_dpus(dpus text[])
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  with added as (
    insert into core.dpu (id)
    select distinct n.id from unnest(dpus) as n (id) order by n.id
    on conflict (id) do nothing
    returning dpu_id
  )
  insert into core.dpu_state (dpu_id) select a.dpu_id from added a;
$$;
comment on function core.register_dpus(text[]) is
'Adds the DPUs that are not there yet, unplaced. In order of their ids, so that two transactions never wait for each
other.';

create or replace function core.get_registration()
returns core.registration
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_found core.registration;
begin
  select r.* into v_found from core.registration r where r.is_only for update;
  if not found then
    insert into core.registration (is_only) values (true) on conflict (is_only) do nothing;
    select r.* into v_found from core.registration r where r.is_only for update;
  end if;
  return v_found;
end
$$;
comment on function core.get_registration() is
'How many unknown DPUs may register themselves. The row stays locked until the transaction ends.';

create or replace function core.refill(
  remaining double precision,
  at timestamptz,
  now timestamptz,
  burst integer,
  per_hour integer
)
returns double precision
language sql immutable
as $$
  select least(burst, coalesce(remaining + greatest(extract(epoch from now - at), 0) / 3600 * per_hour, burst))
$$;
comment on function core.refill(double precision, timestamptz, timestamptz, integer, integer) is
'How many more a token may register now, of which there were so many remaining at an instant; nulls: it registered none
yet. Inlined by the planner: no search_path of its own.';

create or replace function core.count_unplaced()
returns integer
language sql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = on  -- all of them; who calls it looks for a few
as $$
  select count(*)::integer
  from core.dpu d
  where d.name is null and not exists (select from core.placement p where p.dpu_id = d.dpu_id)
$$;
comment on function core.count_unplaced() is
'How many DPUs nobody has ever placed or named.';

create or replace function core.list_unknown_dpus(
  dpus text[],
  ids integer[],
  senders text[],
  sender_sizes integer[]
)
returns table (id text, token_id integer)
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- planned for few, there may be many: then each would read all DPUs
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  return query
  select n.id, t.token_id
  from (
    select d.id, min(s.sender) as sender
    from unnest(dpus, ids) with ordinality as d (id, dpu_id, ordinal)
    left join (
      select g.sender, sum(g.size) over (order by g.ordinal) - g.size as low,
        sum(g.size) over (order by g.ordinal) as high
      from unnest(senders, sender_sizes) with ordinality as g (sender, size, ordinal)
    ) s on d.ordinal > s.low and d.ordinal <= s.high
    where d.dpu_id is null and d.id is not null
    group by d.id
  ) n
  left join core.token t on t.id = n.sender
  where not exists (select from core.dpu k where k.id = n.id);
end
$$;
comment on function core.list_unknown_dpus(text[], integer[], text[], integer[]) is
'The DPUs that are not registered, each once, with the token that sent it; null: none did. As core.admit_dpus takes
them.';

create or replace function core.list_remaining_dpus(
  tokens integer[],
  limits core.registration,
  now_at timestamptz
)
returns table (token_id integer, remaining double precision)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select n.token_id, core.refill(r.remaining, r.at, now_at, limits.burst, limits.per_hour)
  from (select distinct t.token_id from unnest(tokens) as t (token_id) where t.token_id is not null) n
  left join core.registrar r on r.token_id = n.token_id
$$;
comment on function core.list_remaining_dpus(integer[], core.registration, timestamptz) is
'How many DPUs each of the tokens may register now; nulls are left out.';

create or replace function core.admit_dpus(
  dpus text[],
  ids integer[],
  senders text[],
  sender_sizes integer[]
)
returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- planned for few, there may be many: then each would read all DPUs
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  v_now timestamptz := clock_timestamp();
  v_limits core.registration;
  v_unknown text[];      -- in order of their ids, so that of many the same ones are taken whoever is first
  v_tokens integer[];    -- beside them; null: they came without a token
  v_room integer;
  v_taken text[] := '{}';
begin
  -- first without the lock: who may register none waits for nobody, and nobody waits for them
  select r.* into v_limits from core.registration r where r.is_only;
  select array_agg(n.id), array_agg(n.token_id) into v_unknown, v_tokens
  from core.list_unknown_dpus(dpus, ids, senders, sender_sizes) n;
  v_room := greatest(v_limits.max_unplaced - coalesce(v_limits.unplaced, 0), 0);

  if v_unknown is not null
    and (v_room > 0 or coalesce(v_limits.counted_at < v_now - interval '10 seconds', true))
    and (array_position(v_tokens, null) is not null or exists (
      select from core.list_remaining_dpus(v_tokens, v_limits, v_now) r where coalesce(r.remaining >= 1, true))) then
    v_limits := core.get_registration();
    -- looked for anew: whoever held the lock until just now may have registered them
    select array_agg(n.id order by n.id collate "C"), array_agg(n.token_id order by n.id collate "C")
    into v_unknown, v_tokens
    from core.list_unknown_dpus(dpus, ids, senders, sender_sizes) n;
    if v_unknown is null then
      return null;
    end if;

    -- placed or named since, a DPU leaves room for another one
    if v_limits.unplaced is null
      or (v_limits.unplaced + cardinality(v_unknown) > v_limits.max_unplaced
        and v_limits.counted_at < v_now - interval '10 seconds') then
      v_limits.unplaced := core.count_unplaced();
      v_limits.counted_at := v_now;
    end if;
    v_room := greatest(v_limits.max_unplaced - v_limits.unplaced, 0);

    with requested as (
      select n.id, n.token_id, row_number() over (partition by n.token_id order by n.id collate "C") as place
      from unnest(v_unknown, v_tokens) as n (id, token_id)
    ),
    remaining as materialized (
      select r.token_id, r.remaining from core.list_remaining_dpus(v_tokens, v_limits, v_now) r
    ),
    taken as (
      select a.id, a.token_id
      from requested a
      left join remaining r on r.token_id = a.token_id
      where a.token_id is null or a.place <= r.remaining
      order by a.id collate "C"
      limit v_room
    ),
    noted as (
      insert into core.registrar (token_id, remaining, at)
      select r.token_id, r.remaining - (select count(*) from taken t where t.token_id = r.token_id), v_now
      from remaining r
      on conflict (token_id) do update set remaining = excluded.remaining, at = excluded.at
    )
    select coalesce(array_agg(t.id), '{}') into v_taken from taken t;
    perform core.register_dpus(v_taken);
    update core.registration r
    set unplaced = v_limits.unplaced + cardinality(v_taken), counted_at = v_limits.counted_at
    where r.is_only;
  end if;

  return case
    when v_unknown is null or cardinality(v_taken) = cardinality(v_unknown) then null
    when cardinality(v_taken) = v_room then format(
      'This DPU is not registered: there are %s DPUs already that nobody has placed or named. '
      'Place, name or delete some of them, or register this one with PUT /v1/dpus/{id}.',
      v_limits.max_unplaced)
    else format(
      'This DPU is not registered: the token has registered as many new DPUs as it may for now '
      '(%s at once, and %s an hour). Send it later, or register it with PUT /v1/dpus/{id}.',
      v_limits.burst, v_limits.per_hour)
  end;
end
$$;
comment on function core.admit_dpus(text[], integer[], text[], integer[]) is
'Registers unknown DPUs, unplaced, as far as core.registration allows. Returns why the others are not registered; null
where all are.

dpus, ids: the DPUs of a request (null: none) and, beside each, its dpu_id; null: it is unknown. senders, sender_sizes:
the tokens that sent them, and how many each sent, in order. DPUs after these, or of a null token, came without a token:
only max_unplaced bounds them.';
