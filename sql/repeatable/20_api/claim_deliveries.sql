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
  secret text,
  family text
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
  v_channels := core.lock_due_channels(v_now);
  if v_channels is null then
    return;
  end if;
  v_channels := core.clear_channels(v_channels, v_now);

  -- of those the ones that may have more under way: one at a time where the last try failed
  select array_agg(p.channel_id), array_agg(p.places) into v_channels, v_places
  from (
    select
      c.channel_id,
      case when c.failing_since is null then a_channel else 1 end - (
        select count(*) from core.delivery d
        where d.channel_id = c.channel_id and d.state = 'pending' and d.claim is not null and d.due_at > v_now
      ) as places
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

  perform core.put_off_deliveries(v_channels, v_now);

  with locked as (
    select d.delivery_id
    from core.delivery d
    where d.delivery_id = any (array(
        select core.list_next_deliveries(
          v_channels, v_places, v_families, v_family_places, v_failing_places, max_rows, v_now)))
      and d.settled_at is null
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
'Claims deliveries that are due. The caller sends them, and reports the outcome with api.finish_delivery.

max_rows: how many at most. lease_seconds: a claim ends after this time, and another process gets the delivery.
a_channel: how many of one channel are under way at most; one where its last try failed. a_family, failing: how many at
most of all channels that one family of limited tokens made, and of all channels whose last try failed. Families take
turns. On one subject (an incident, a space) a channel gets one after the other: the later one waits until the earlier
is delivered or given up. What is about capacity comes after all else of its channel. Any number of processes can call
it at once. kind: offline, online, correction, over_capacity, capacity_ok or test; details: what receivers get as data.
family: the first of the family that made the channel. What waits for a channel that is core.is_channel_cut, and what
core.list_strays has, is cancelled instead, 1,000 at a time. The rows hold secrets.';
