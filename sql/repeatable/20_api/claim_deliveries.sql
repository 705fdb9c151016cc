create or replace function api.claim_deliveries(
  max_rows integer,
  lease_seconds integer default 30,
  a_channel integer default 4,
  a_family integer default 25,
  failing integer default 50
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
-- in the order of an index, and no further than needed, also where little waited when it was planned
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
  v_now timestamptz := clock_timestamp();
  v_channels integer[];
  v_places bigint[];
  v_families integer[];
  v_family_places bigint[];
  v_failing_places bigint;
  v_claimed bigint[];
begin
  -- the channels first, and in a statement of its own: what others have claimed is seen by the next one
  select array_agg(c.channel_id) into v_channels
  from (
    select c.channel_id
    from core.channel c
    cross join lateral (
      select from core.delivery d where d.channel_id = c.channel_id and d.state = 'pending' and d.due_at <= v_now limit 1
    ) due
    for no key update of c skip locked
  ) c;
  if v_channels is null then
    return;
  end if;

  -- of those the ones that may have more under way: one at a time where the last try failed
  select array_agg(p.channel_id), array_agg(p.places) into v_channels, v_places
  from (
    select
      c.channel_id,
      case when c.failing_since is null then a_channel else 1 end - (
        select count(*) from core.delivery d
        where d.channel_id = c.channel_id and d.state = 'pending' and d.claim is not null and d.due_at > v_now) as places
    from core.channel c
    where c.channel_id = any (v_channels)
  ) p
  where p.places > 0;

  -- and what families, and all those that fail, may have more
  select array_agg(f.family_id), array_agg(a_family - core.count_claimed(f.channels))
  into v_families, v_family_places
  from (
    select c.family_id, array_agg(c.channel_id) as channels
    from core.channel c
    where c.family_id in (select m.family_id from core.channel m where m.channel_id = any (v_channels))
    group by c.family_id
  ) f;
  v_failing_places := failing - core.count_claimed(
    array(select c.channel_id from core.channel c where c.failing_since is not null and c.deleted_at is null));

  -- Whoever waits for another of its subject waits as long as that one, and so comes behind it. Only the first hundred
  -- that are due are looked at, here and below: what waits behind them costs nothing.
  with front as materialized (
    select d.delivery_id, d.channel_id, d.subject, d.due_at
    from unnest(v_channels) as c (channel_id)
    cross join lateral (
      select e.delivery_id, e.channel_id, e.subject, e.due_at
      from core.delivery e
      where e.channel_id = c.channel_id and e.state = 'pending' and e.due_at <= v_now
      order by e.due_at, e.delivery_id
      limit 100
    ) d
  ),
  blocked as (
    select d.delivery_id, first.due_at
    from front f
    cross join lateral (
      select e.due_at
      from core.delivery e
      where e.channel_id = f.channel_id and e.subject = f.subject and e.state = 'pending' and e.delivery_id < f.delivery_id
      order by e.delivery_id
      limit 1
    ) first
    -- by its key: settled_at is null means pending, and makes no index of all that wait look cheap
    join core.delivery d on d.delivery_id = f.delivery_id and d.settled_at is null
    where first.due_at > f.due_at
    for no key update of d skip locked
  )
  update core.delivery d set due_at = b.due_at from blocked b where d.delivery_id = b.delivery_id;

  with candidate as (
    select
      d.delivery_id, c.channel_id, c.places, row_number() over (partition by c.channel_id order by d.due_at, d.delivery_id) as place
    from unnest(v_channels, v_places) as c (channel_id, places)
    cross join lateral (
      select e.delivery_id, e.subject, e.due_at
      from core.delivery e
      where e.channel_id = c.channel_id and e.state = 'pending' and e.due_at <= v_now
      order by e.due_at, e.delivery_id
      limit 100
    ) d
    left join lateral (
      select e.delivery_id
      from core.delivery e
      where e.channel_id = c.channel_id and e.subject = d.subject and e.state = 'pending' and e.delivery_id < d.delivery_id
      order by e.delivery_id
      limit 1
    ) first on true
    where first.delivery_id is null
  ),
  -- families take turns, and so do the channels of nobody's
  turn as (
    select n.delivery_id, c.family_id, c.failing_since is not null as is_failing,
      case when c.family_id is null then n.place
        else row_number() over (partition by c.family_id order by n.place, n.delivery_id)
      end as place
    from candidate n
    join core.channel c on c.channel_id = n.channel_id
    where n.place <= n.places
  ),
  fitting as (
    select t.*, row_number() over (partition by t.is_failing order by t.place, t.delivery_id) as of_all
    from turn t
    left join unnest(v_families, v_family_places) as f (family_id, places) on f.family_id = t.family_id
    where f.family_id is null or t.place <= f.places
  ),
  chosen as (
    select f.delivery_id
    from fitting f
    where not f.is_failing or f.of_all <= v_failing_places
    order by f.place, f.delivery_id
    limit max_rows
  ),
  locked as (
    select d.delivery_id
    from core.delivery d
    where d.delivery_id in (select h.delivery_id from chosen h) and d.settled_at is null
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
comment on function api.claim_deliveries(integer, integer, integer, integer, integer) is
'Takes deliveries that are due, to be sent by the caller, who then says with api.finish_delivery what came of it.

max_rows: at most so many; lease_seconds: whoever has not said anything by then has died, and another one gets it; a_channel: at most so many of one channel are under way, and one where its last try failed; a_family, failing: at most so many of the channels that one family of limited tokens made, and of all those whose last try failed. Families take turns. Of one subject (an incident, a space) a channel gets one after the other: the later one waits until the earlier is delivered or given up. For any number of processes at once. kind: offline, online, correction, over_capacity, capacity_ok or test; details: what receivers get as data. The rows hold secrets.';
