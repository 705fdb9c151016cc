create or replace function api.claim_deliveries(
  max_rows integer,
  lease_seconds integer default 30,
  a_channel integer default 4
)
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
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_now timestamptz := clock_timestamp();
  v_channels integer[];
  v_claimed bigint[];
begin
  if not exists (select from core.delivery d where d.state = 'pending' and d.due_at <= v_now) then
    return;
  end if;
  -- the channels first, and in a statement of its own: what others have claimed is seen by the next one
  select array_agg(c.channel_id) into v_channels
  from (
    select c.channel_id
    from core.channel c
    where exists (select from core.delivery d where d.channel_id = c.channel_id and d.state = 'pending' and d.due_at <= v_now)
    for no key update skip locked
  ) c;

  -- whoever waits for another of its subject waits as long as that one
  with blocked as (
    select d.delivery_id, first.due_at
    from core.delivery d
    cross join lateral (
      select e.due_at
      from core.delivery e
      where e.channel_id = d.channel_id and e.subject = d.subject and e.state = 'pending' and e.delivery_id < d.delivery_id
      order by e.delivery_id
      limit 1
    ) first
    where d.channel_id = any (v_channels) and d.state = 'pending' and d.due_at <= v_now and first.due_at > v_now
    for no key update of d skip locked
  )
  update core.delivery d set due_at = b.due_at from blocked b where d.delivery_id = b.delivery_id;

  with running as (
    select d.channel_id, count(*) as number
    from core.delivery d
    where d.channel_id = any (v_channels) and d.state = 'pending' and d.due_at > v_now and d.claim is not null
    group by d.channel_id
  ),
  candidate as (
    select d.delivery_id, row_number() over (partition by d.channel_id order by d.due_at, d.delivery_id) as place, d.channel_id
    from core.delivery d
    where d.channel_id = any (v_channels) and d.state = 'pending' and d.due_at <= v_now
      and not exists (
        select from core.delivery e
        where e.channel_id = d.channel_id and e.subject = d.subject and e.state = 'pending' and e.delivery_id < d.delivery_id)
  ),
  chosen as (
    select n.delivery_id
    from candidate n
    join core.channel c on c.channel_id = n.channel_id
    left join running r on r.channel_id = n.channel_id
    where n.place + coalesce(r.number, 0) <= case when c.failing_since is null then a_channel else 1 end
    order by n.place, n.delivery_id
    limit max_rows
  ),
  locked as (
    select d.delivery_id
    from core.delivery d
    where d.delivery_id in (select h.delivery_id from chosen h) and d.state = 'pending' and d.due_at <= v_now
    for no key update of d skip locked
  ),
  claimed as (
    update core.delivery d set claim = gen_random_uuid(), due_at = v_now + lease_seconds * interval '1 second'
    from locked l
    where d.delivery_id = l.delivery_id
    returning d.delivery_id
  )
  select array_agg(c.delivery_id) into v_claimed from claimed c;
  return query select d.* from core.describe_claims(v_claimed) d;
end
$$;
comment on function api.claim_deliveries(integer, integer, integer) is
'Takes deliveries that are due, to be sent by the caller, who then says with api.finish_delivery what came of it.

max_rows: at most so many; lease_seconds: whoever has not said anything by then has died, and another one gets it; a_channel: at most so many of one channel are under way, and one where its last try failed. Of one subject (an incident, a space) a channel gets one after the other: the later one waits until the earlier is delivered or given up. For any number of processes at once. kind: offline, online, correction, over_capacity, capacity_ok or test; details: what receivers get as data. The rows hold secrets.';
