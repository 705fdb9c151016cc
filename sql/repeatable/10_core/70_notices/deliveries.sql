-- Deliveries of notices to channels: claimed, tried, tried again, given up.

create or replace function core.get_retry_delay(
  tries integer,
  jitter double precision default random()
)
returns interval
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select least(5 * 2.0 ^ least(tries - 1, 20), 1800) * (0.8 + 0.4 * jitter) * interval '1 second'
$$;
comment on function core.get_retry_delay(integer, double precision) is
'How long to wait after so many failed tries: 5 s, doubled each time, 30 minutes at most; 20 % less or more (jitter: 0
to 1).';

create or replace function core.get_give_up_after()
returns interval
language sql immutable
as $$ select interval '24 hours' $$;
comment on function core.get_give_up_after() is
'How long a delivery is tried. Inlined by the planner: no search_path of its own.';

create or replace function core.describe_claims(deliveries bigint[])
returns table (
  delivery bigint,
  claim text,
  notice text,
  kind text,
  occurred_at timestamptz,
  details jsonb,
  channel text,
  channel_kind text,
  url text,
  recipients text[],
  secret text,
  family text
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select d.delivery_id, d.claim::text, n.id, n.kind, n.occurred_at, n.details, c.id, c.kind, c.url, c.recipients,
    c.secret, t.id
  from core.delivery d
  join core.notice n on n.notice_id = d.notice_id
  join core.channel c on c.channel_id = d.channel_id
  left join core.token t on t.token_id = c.family_id
  where d.delivery_id = any (deliveries)
  order by d.delivery_id;
end
$$;
comment on function core.describe_claims(bigint[]) is
'What the service needs to send deliveries that it has claimed, secrets included. family: the first of the family of
limited tokens that made the channel; null: nobody''s.';

create or replace function core.describe_deliveries(deliveries bigint[])
returns table (
  id bigint,
  channel text,
  notice text,
  kind text,
  space text,
  occurred_at timestamptz,
  details jsonb,
  state text,
  reason text,
  created_at timestamptz,
  settled_at timestamptz,
  next_try_at timestamptz,
  tries jsonb
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select
    d.delivery_id, c.id, n.id, n.kind, s.id, n.occurred_at, n.details, d.state, d.reason, d.created_at, d.settled_at,
    case when d.state = 'pending' then d.due_at end,
    coalesce((
      select jsonb_agg(
        jsonb_build_object(
          'at', t.at, 'duration_ms', t.duration_ms, 'delivered', t.is_delivered, 'status', t.status, 'answer', t.answer,
          'error', t.error)
        order by t.at)
      from core.delivery_try t
      where t.delivery_id = d.delivery_id), '[]')
  from core.delivery d
  join core.notice n on n.notice_id = d.notice_id
  join core.channel c on c.channel_id = d.channel_id
  left join core.space s on s.space_id = n.space_id
  where d.delivery_id = any (deliveries);
end
$$;
comment on function core.describe_deliveries(bigint[]) is
'Deliveries as api.list_deliveries gives them, in no order.';

create or replace function core.count_claimed(channels integer[])
returns bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set enable_seqscan = off
as $$
begin
  return (
    select count(*)
    from core.delivery d
    where d.channel_id = any (channels) and d.state = 'pending' and d.claim is not null
      and d.due_at > clock_timestamp());
end
$$;
comment on function core.count_claimed(integer[]) is
'How many deliveries of these channels are under way.';

create or replace function core.lock_due_channels(at timestamptz)
returns integer[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return (
    select array_agg(c.channel_id)
    from (
      select c.channel_id
      from core.channel c
      cross join lateral (
        select from core.delivery d
        where d.channel_id = c.channel_id and d.state = 'pending' and d.due_at <= lock_due_channels.at
        limit 1
      ) due
      for no key update of c skip locked
    ) c);
end
$$;
comment on function core.lock_due_channels(timestamptz) is
'Locks the channels with a delivery that is due, but those that others have locked. Null: there is none.';

create or replace function core.list_strays(deliveries bigint[])
returns setof bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  with sent as materialized (
    select d.delivery_id, d.notice_id, n.space_id, c.under_id, c.family_id
    from core.delivery d
    join core.channel c on c.channel_id = d.channel_id and c.family_id is not null
    join core.notice n on n.notice_id = d.notice_id and n.kind <> 'test'
    where d.delivery_id = any (deliveries)
  ),
  hung as materialized (
    select h.notice_id, h.space_id from core.list_notice_places(array(select distinct s.notice_id from sent s)) h
  ),
  above as materialized (
    select a.space_id, a.above_id
    from core.list_above(array(select s.space_id from sent s union select h.space_id from hung h)) a
  )
  select s.delivery_id
  from sent s
  where not exists (select from above a where a.space_id = s.space_id and a.above_id = s.under_id)
    or not exists (
      select from hung h
      join above a on a.space_id = h.space_id
      where h.notice_id = s.notice_id and a.above_id = s.under_id)
    and not exists (
      select from hung h where h.notice_id = s.notice_id and not core.is_channel_cut(s.family_id, h.space_id));
end
$$;
comment on function core.list_strays(bigint[]) is
'Of deliveries those of channels that a family of limited tokens has, about a space that is not below the channel''s
under by now, or about none, and those of which the family reads none of core.list_notice_places. Tests are never among
them.';

create or replace function core.list_front(
  channels integer[],
  at timestamptz
)
returns table (
  delivery_id bigint,
  channel_id integer,
  subject text,
  due_at timestamptz,
  is_capacity boolean
)
-- few, as a rule: what is joined to them is found by its index
language plpgsql stable rows 20
set search_path = pg_catalog, pg_temp
-- in the order of the index, and no further than needed
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
begin
  return query
  select d.delivery_id, c.channel_id, d.subject, d.due_at, k.is_capacity
  from unnest(channels) as c (channel_id)
  cross join (values (false), (true)) as k (is_capacity)
  cross join lateral (
    select e.delivery_id, e.subject, e.due_at
    from core.delivery e
    where e.channel_id = c.channel_id and (coalesce(e.subject, '') like 'space %') = k.is_capacity
      and e.state = 'pending' and e.due_at <= list_front.at
    order by e.due_at, e.delivery_id
    limit 100
  ) d;
end
$$;
comment on function core.list_front(integer[], timestamptz) is
'Of each channel the first hundred deliveries that are due about capacity, and the first hundred of the others. What
waits behind them costs nothing.';

create or replace function core.clear_channels(
  channels integer[],
  at timestamptz,
  max_rows integer default 1000
)
returns integer[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_rest integer := max_rows;
  v_channel record;
  v_open integer[] := '{}';
  v_cleared integer;
begin
  for v_channel in
    select c.channel_id, c.failing_since is not null as is_failing,
      case
        when c.deleted_at is not null then 'channel_deleted'
        when core.is_channel_cut(c.family_id, c.under_id) then 'out_of_reach'
      end as reason
    from core.channel c
    where c.channel_id = any (channels)
    order by c.channel_id
  loop
    if v_channel.reason is null then
      v_open := v_open || v_channel.channel_id;
    end if;
    continue when v_channel.reason is null and not v_channel.is_failing or v_rest <= 0;
    -- what is being tried is left to whoever tries it
    update core.delivery d
    set state = case when v_channel.reason is null then 'failed' else 'cancelled' end, reason = v_channel.reason,
      settled_at = clear_channels.at
    where d.delivery_id = any (array(
        select e.delivery_id
        from core.delivery e
        where e.channel_id = v_channel.channel_id and e.state = 'pending' and e.due_at <= clear_channels.at
        order by e.due_at, e.delivery_id
        limit case when v_channel.reason is null then 100 else v_rest end))
      and d.settled_at is null
      and (v_channel.reason is not null or d.tries = 0 and d.give_up_at <= clear_channels.at);
    get diagnostics v_cleared = row_count;
    v_rest := v_rest - v_cleared;
  end loop;
  update core.delivery d set state = 'cancelled', reason = 'out_of_reach', settled_at = clear_channels.at
  where d.delivery_id = any (array(
      select s.delivery_id
      from core.list_strays(array(
        select f.delivery_id
        from core.list_front(
          array(select c.channel_id from core.channel c where c.channel_id = any (v_open) and c.family_id is not null),
          clear_channels.at) f)) as s (delivery_id)
      limit v_rest))
    and d.settled_at is null;
  return v_open;
end
$$;
comment on function core.clear_channels(integer[], timestamptz, integer) is
'Settles what waits in vain for these channels: cancels what is due of those that were deleted or are
core.is_channel_cut, max_rows at a time, and core.list_strays among the core.list_front of the others; and gives up what
is too old and was never tried of those whose last try failed, 100 of each at a time. Returns those that may be sent
to. The caller holds locks on the channels.';

create or replace function core.put_off_deliveries(
  channels integer[],
  at timestamptz
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  -- Whoever waits for another of its subject waits as long as that one, and so comes behind it.
  with front as materialized (
    select f.* from core.list_front(channels, put_off_deliveries.at) f
  ),
  blocked as (
    select d.delivery_id, first.due_at
    from front f
    cross join lateral (
      select e.due_at
      from core.delivery e
      where e.channel_id = f.channel_id and e.subject = f.subject and e.state = 'pending'
        and e.delivery_id < f.delivery_id
      order by e.delivery_id
      limit 1
    ) first
    -- by its key: settled_at is null means pending, and makes no index of all that wait look cheap
    join core.delivery d on d.delivery_id = f.delivery_id and d.settled_at is null
    where first.due_at > f.due_at
    for no key update of d skip locked
  )
  update core.delivery d set due_at = b.due_at from blocked b where d.delivery_id = b.delivery_id;
end
$$;
comment on function core.put_off_deliveries(integer[], timestamptz) is
'Puts off deliveries of channels that are due, to when an earlier one on the same subject is due. Waits for nobody.';

create or replace function core.list_next_deliveries(
  channels integer[],
  places bigint[],
  families integer[],
  family_places bigint[],
  failing_places bigint,
  max_rows integer,
  at timestamptz
)
returns setof bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  with candidate as (
    select
      d.delivery_id, c.channel_id, c.places,
      row_number() over (partition by c.channel_id order by d.is_capacity, d.due_at, d.delivery_id) as place
    from core.list_front(channels, list_next_deliveries.at) d
    join unnest(channels, places) as c (channel_id, places) on c.channel_id = d.channel_id
    left join lateral (
      select e.delivery_id
      from core.delivery e
      where e.channel_id = c.channel_id and e.subject = d.subject and e.state = 'pending'
        and e.delivery_id < d.delivery_id
      order by e.delivery_id
      limit 1
    ) first on true
    where first.delivery_id is null
  ),
  -- what came to the front only now was not cleared yet
  stray as materialized (
    select s.delivery_id
    from core.list_strays(array(select n.delivery_id from candidate n where n.place <= n.places)) as s (delivery_id)
  ),
  -- families take turns, and so do the channels of nobody's
  turn as (
    select n.delivery_id, c.family_id, c.failing_since is not null as is_failing,
      case when c.family_id is null then n.place
        else row_number() over (partition by c.family_id order by n.place, n.delivery_id)
      end as place
    from candidate n
    join core.channel c on c.channel_id = n.channel_id
    where n.place <= n.places and n.delivery_id not in (select s.delivery_id from stray s)
  ),
  fitting as (
    select t.*, row_number() over (partition by t.is_failing order by t.place, t.delivery_id) as of_all
    from turn t
    left join unnest(families, family_places) as f (family_id, places) on f.family_id = t.family_id
    where f.family_id is null or t.place <= f.places
  )
  select f.delivery_id
  from fitting f
  where not f.is_failing or f.of_all <= failing_places
  order by f.place, f.delivery_id
  limit max_rows;
end
$$;
comment on function core.list_next_deliveries(integer[], bigint[], integer[], bigint[], bigint, integer, timestamptz) is
'The deliveries to send next. Of each subject of a channel only the first: the others wait for it. Of each channel those
about capacity come after all others. No core.list_strays.

channels, places: how many of each channel may be claimed now, beside each other; families, family_places: the same of
families of limited tokens; failing_places: of all channels whose last try failed. Families take turns. At most
max_rows.';

create or replace function core.note_replay(
  channel_id integer,
  family_id integer,
  channel_replays integer,
  token_replays integer
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_now timestamptz := clock_timestamp();
begin
  if (
    select count(*) filter (where r.channel_id = note_replay.channel_id) >= channel_replays
      -- an e-mail counts once for each recipient
      or sum(greatest(cardinality(c.recipients), 1)) filter (where r.family_id = note_replay.family_id) >= token_replays
    from core.replay r
    join core.channel c on c.channel_id = r.channel_id
    where r.at > v_now - interval '1 minute' and r.at <= v_now
  ) then
    perform core.refuse(
      429,
      format(
        'In a minute a channel can replay %s deliveries, and a token can replay %s (mail: to as many recipients).',
        channel_replays, token_replays),
      null, 'Nothing was sent; try again in a minute.');
  end if;
  -- also those from ahead: the clock was set back since
  delete from core.replay r
  where r.ctid in (
    select o.ctid from core.replay o where o.at <= v_now - interval '1 minute' or o.at > v_now for update skip locked);
  insert into core.replay (channel_id, family_id, at) values (note_replay.channel_id, note_replay.family_id, v_now);
end
$$;
comment on function core.note_replay(integer, integer, integer, integer) is
'Counts a replay of a delivery for its channel and for a family (null: nobody''s). The caller holds locks on both.
Errors: PT429 where either has had as many within a minute as it can have (null: any number).';
