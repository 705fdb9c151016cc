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
'How long to wait after so many failed tries: 5 s, doubled each time, 30 minutes at most; 20 % less or more (jitter: 0 to 1).';

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
