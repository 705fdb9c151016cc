-- Notices: stored in the transaction of what they tell, sent by whoever claims them, one after the other on one subject.

create or replace function core.is_open(
  space_id integer,
  at timestamptz
)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_holder_id integer;
  v_hours jsonb;
begin
  select s.space_id, s.opening_hours into v_holder_id, v_hours
  from core.list_above(array[is_open.space_id]) a
  join core.space s on s.space_id = a.above_id
  where s.opening_hours is not null
  order by a.steps
  limit 1;
  return coalesce(
    (select core.get_week(v_hours) @> core.get_clock(is_open.at, h.time_zone) from core.list_schedules(array[v_holder_id]) h), true);
end
$$;
comment on function core.is_open(integer, timestamptz) is
'Whether a space is open at an instant: by its opening hours or those of the nearest space above that has some, in the zone of whichever has them. Without any: open.

By the rule of uptime (core.get_week): clock times that a change of the clocks repeats or skips are taken as they are shown.';

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
'How long to wait after so many failed tries: 5 s, doubled each time, 30 minutes at most; 20 % less or more (jitter: 0 to 1).';

create or replace function core.get_give_up_after()
returns interval
language sql immutable
as $$ select interval '24 hours' $$;
comment on function core.get_give_up_after() is
'How long a delivery is tried. Inlined by the planner: no search_path of its own.';

create or replace function core.add_notices(
  kinds text[],
  incident_ids bigint[],
  space_ids integer[],
  occurred_ats timestamptz[],
  details jsonb[]
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_now timestamptz := clock_timestamp();
  v_kind text;
  v_event text;
  v_beginning text;
  v_notices bigint[];
begin
  -- what ends comes after what began, also within one call
  foreach v_kind in array array['offline', 'over_capacity', 'online', 'capacity_ok', 'correction'] loop
    continue when not v_kind = any (kinds);
    v_event := case v_kind when 'correction' then 'offline' when 'capacity_ok' then 'over_capacity' else v_kind end;
    v_beginning := case v_kind when 'online' then 'offline' when 'capacity_ok' then 'over_capacity' end;

    with made as (
      insert into core.notice (id, kind, incident_id, space_id, occurred_at, created_at, details)
      select 'msg_' || replace(gen_random_uuid()::text, '-', ''), g.kind, g.incident_id, g.space_id, g.occurred_at, v_now, coalesce(g.details, '{}')
      from unnest(kinds, incident_ids, space_ids, occurred_ats, details) with ordinality as g (kind, incident_id, space_id, occurred_at, details, place)
      where g.kind = v_kind
      order by g.place
      returning notice_id
    )
    select array_agg(m.notice_id order by m.notice_id) into v_notices from made m;

    if v_kind = 'correction' then
      -- nobody needs to hear of what nobody has heard of
      update core.delivery d set state = 'cancelled', reason = 'corrected', settled_at = v_now
      from core.notice n
      where n.notice_id = any (v_notices) and d.subject = 'incident ' || n.incident_id
        and d.channel_id in (select c.channel_id from core.channel c where c.deleted_at is null)
        and d.state = 'pending' and d.tries = 0 and d.claim is null
        and not exists (
          select from core.delivery o
          where o.channel_id = d.channel_id and o.subject = d.subject
            and (o.state in ('delivered', 'failed') or o.tries > 0 or o.claim is not null));
    end if;

    insert into core.delivery (notice_id, channel_id, subject, state, reason, created_at, settled_at, due_at, give_up_at)
    with notice as materialized (
      select n.notice_id, n.space_id, coalesce('incident ' || n.incident_id, 'space ' || n.space_id) as subject
      from core.notice n
      where n.notice_id = any (v_notices)
    ),
    above as (
      select a.space_id as of_id, a.above_id as space_id from core.list_above(array(select n.space_id from notice n)) a
    ),
    place as materialized (
      select n.space_id, n.space_id is null or core.is_open(n.space_id, v_now) as is_open
      from (select distinct n.space_id from notice n) n
      where exists (select from core.channel c where c.only_in_opening_hours and c.deleted_at is null)
    ),
    told as (
      select
        n.notice_id, c.channel_id, n.subject,
        case
          when v_kind = 'correction' then before.state
          when began.state is not null then began.state
          -- it wants to know what begins, and did not hear of this
          when v_beginning = any (c.events) then 'suppressed'
        end as state,
        case
          when c.muted_until > v_now then 'muted'
          when c.only_in_opening_hours and not p.is_open then 'closed'
        end as reason
      from notice n
      join core.channel c on c.deleted_at is null and v_event = any (c.events)
      left join place p on p.space_id is not distinct from n.space_id
      left join lateral (
        select d.state
        from core.delivery d
        join core.notice b on b.notice_id = d.notice_id and b.kind = v_beginning
        where d.channel_id = c.channel_id and d.subject = n.subject
        order by d.delivery_id desc
        limit 1
      ) began on v_beginning is not null
      left join lateral (
        select coalesce(min(d.state) filter (where d.state not in ('cancelled', 'suppressed')), min(d.state), 'suppressed') as state
        from core.delivery d
        where d.channel_id = c.channel_id and d.subject = n.subject
      ) before on v_kind = 'correction'
      where c.under_id is null or began.state is not null or before.state <> 'suppressed'
        or exists (select from above a where a.of_id = n.space_id and a.space_id = c.under_id)
    ),
    verdict as (
      select t.notice_id, t.channel_id, t.subject, v.state, v.reason
      from told t
      cross join lateral (
        select
          case
            when t.state = 'cancelled' and v_kind = 'correction' then 'cancelled'
            when t.state in ('suppressed', 'cancelled') then 'suppressed'
            when t.state is not null or t.reason is null then 'pending'
            else 'suppressed'
          end as state,
          case
            when t.state = 'cancelled' and v_kind = 'correction' then 'corrected'
            when t.state in ('suppressed', 'cancelled') then 'not_told'
            when t.state is null then t.reason
          end as reason
      ) v
    )
    select
      v.notice_id, v.channel_id, v.subject, v.state, v.reason, v_now, case when v.state <> 'pending' then v_now end,
      v_now, v_now + core.get_give_up_after()
    from verdict v
    order by v.notice_id, v.channel_id;
  end loop;
end
$$;
comment on function core.add_notices(text[], bigint[], integer[], timestamptz[], jsonb[]) is
'Stores notices, and for each channel that wants one its delivery, in the caller''s transaction. The arrays lie beside each other.

kinds: offline, online, correction (of an incident, incident_ids), over_capacity, capacity_ok (of a space). space_ids: what it is about, null for no space: that is for channels without under. details: what receivers get as data. A channel wants it by its events (a correction with offline, capacity_ok with over_capacity) and its under. While it is muted, or closed, the delivery is suppressed. What ends goes exactly to those who were told of the beginning, also where they are muted or closed by then (else suppressed: not_told); a channel that does not want beginnings gets ends like anything else. A correction of what was not tried yet cancels it, and itself.';

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
  secret text
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select d.delivery_id, d.claim::text, n.id, n.kind, n.occurred_at, n.details, c.id, c.kind, c.url, c.recipients, c.secret
  from core.delivery d
  join core.notice n on n.notice_id = d.notice_id
  join core.channel c on c.channel_id = d.channel_id
  where d.delivery_id = any (deliveries)
  order by d.delivery_id;
end
$$;
comment on function core.describe_claims(bigint[]) is
'What the service needs to send deliveries that it has claimed, secrets included.';

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
          'at', t.at, 'duration_ms', t.duration_ms, 'delivered', t.is_delivered, 'status', t.status, 'answer', t.answer, 'error', t.error)
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

create or replace function core.describe_channels(channels integer[])
returns table (
  id text,
  kind text,
  url text,
  recipients text[],
  events text[],
  under text,
  only_in_opening_hours boolean,
  muted_until timestamptz,
  created_at timestamptz,
  failing_since timestamptz
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select
    c.id, c.kind, case c.kind when 'apprise' then split_part(c.url, '://', 1) || '://...' else c.url end, c.recipients, c.events, s.id,
    c.only_in_opening_hours, c.muted_until, c.created_at, c.failing_since
  from core.channel c
  left join core.space s on s.space_id = c.under_id
  where c.channel_id = any (channels);
end
$$;
comment on function core.describe_channels(integer[]) is
'Channels as api.list_channels gives them, in no order. Of an Apprise address the scheme alone: the rest of it is keys.';

create or replace function core.find_channel(channel text)
returns integer
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_channel core.channel;
begin
  select c.* into v_channel from core.channel c where c.id = find_channel.channel and c.deleted_at is null;
  if not found or not core.is_channel_in_reach(v_channel.under_id) then
    raise exception using errcode = 'PT404', message = format('There is no channel %s.', quote_literal(channel)),
      detail = 'channel', hint = 'Create it with PUT /v1/channels/{id}, or look at GET /v1/channels.';
  end if;
  return v_channel.channel_id;
end
$$;
comment on function core.find_channel(text) is
'The channel_id of a channel. Errors: PT404, also for one beyond the token''s reach.';

create or replace function core.get_max_channels()
returns integer
language sql immutable
as $$ select 20 $$;
comment on function core.get_max_channels() is
'How many channels a family of limited tokens can have at a time. Inlined by the planner: no search_path of its own.';

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
    where d.channel_id = any (channels) and d.state = 'pending' and d.claim is not null and d.due_at > clock_timestamp());
end
$$;
comment on function core.count_claimed(integer[]) is
'How many deliveries of these channels are under way.';

create or replace function core.is_channel_in_reach(under_id integer)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return core.get_reach() is null or (under_id is not null and core.is_space_in_reach(under_id));
end
$$;
comment on function core.is_channel_in_reach(integer) is
'Whether a limited token may know of a channel with this under: one that tells of its spaces alone.';

create or replace function core.list_shifted_spaces(
  snapshot pg_snapshot,
  at timestamptz,
  until_at timestamptz
)
returns setof integer
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
  v_low timestamptz := least(at, until_at);
  v_high timestamptz := greatest(at, until_at);
begin
  return query
  with change as materialized (
    select c.dpu_ids, c.space_ids, c.spaces from core.list_noted(list_shifted_spaces.snapshot, v_low) c
  )
  select f.space_id
  from (select distinct d.dpu_id from change c, unnest(c.dpu_ids) as d (dpu_id)) d
  join core.live_flow f on f.dpu_id = d.dpu_id
  union
  select i.space_id from change c, unnest(c.space_ids) as i (space_id)
  union
  select s.space_id from change c, unnest(c.spaces) as i (id) join core.space s on s.id = i.id
  union
  -- daily resets that came, or that are still to come because the clock was set back
  select l.space_id from core.live_space l where l.until_at > v_low and l.until_at <= v_high
  union
  select l.space_id from core.live_space l where l.since > v_low and l.since <= v_high;
end
$$;
comment on function core.list_shifted_spaces(pg_snapshot, timestamptz, timestamptz) is
'Spaces whose count or capacity may have changed since a snapshot, taken at an instant, up to another.';

create or replace function core.drop_old_notices()
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  delete from core.notice n
  where n.created_at < clock_timestamp() - interval '1 year'
    and not exists (select from core.delivery d where d.notice_id = n.notice_id and d.state = 'pending');
  delete from core.channel c
  where c.deleted_at < clock_timestamp() - interval '1 year'
    and not exists (select from core.delivery d where d.channel_id = c.channel_id);
end
$$;
comment on function core.drop_old_notices() is
'Forgets notices of more than a year ago with their deliveries, and the deleted channels that have none left.';
