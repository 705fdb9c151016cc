create or replace function api.list_deliveries(
  inout channel text default null,
  inout state text default null,
  before bigint default null,
  max_rows integer default 100,
  out id bigint,
  out notice text,
  out kind text,
  out space text,
  out occurred_at timestamptz,
  out details jsonb,
  out reason text,
  out created_at timestamptz,
  out settled_at timestamptz,
  out next_try_at timestamptz,
  out tries jsonb,
  max_tries integer default null
)
returns setof record
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_channels integer[];
  v_reach integer[] := core.list_reach();
begin
  if channel is not null or v_reach is not null then
    select array_agg(c.channel_id) into v_channels
    from core.channel c
    where (list_deliveries.channel is null or c.id = list_deliveries.channel) and core.is_channel_in_reach(c.under_id);
    if v_channels is null and channel is not null then
      perform core.refuse(
        404, format('There is no channel %s.', quote_literal(channel)), 'channel', 'Look at GET /v1/channels.');
    end if;
    v_channels := coalesce(v_channels, '{}');
  end if;
  return query
  select d.channel, d.state, d.id, d.notice, d.kind, d.space, d.occurred_at, d.details, d.reason, d.created_at,
    d.settled_at, d.next_try_at, d.tries
  from core.describe_deliveries(array(
    select n.delivery_id
    from (
      select newest.delivery_id,
        sum(newest.tries) over (order by newest.delivery_id desc) - newest.tries as tries_before
      from (
        select d.delivery_id, d.tries
        from core.delivery d
        where (v_channels is null or d.channel_id = any (v_channels))
          and (list_deliveries.state is null or d.state = list_deliveries.state)
          and (before is null or d.delivery_id < before)
          -- a channel may have been for other spaces before
          and (v_reach is null or exists (
            select from core.notice n
            where n.notice_id = d.notice_id and (
              n.kind = 'test' or n.space_id = any (v_reach) and exists (
                select from core.list_notice_places(array[n.notice_id]) p where p.space_id = any (v_reach)))))
        order by d.delivery_id desc
        limit max_rows
      ) newest
    ) n
    where max_tries is null or n.tries_before < max_tries
  )) d
  order by d.id desc;
end
$$;
comment on function api.list_deliveries(text, text, bigint, integer, integer) is
'Deliveries, the newest first, each with its tries: of one channel (deleted ones of that name too) or all, in one state
or any.

state: pending, delivered, failed (given up), suppressed (reason: muted, closed, not_told of the beginning, out_of_reach
or too_many) or cancelled (corrected, channel_deleted, out_of_reach: core.is_channel_cut). before: the id behind which
to go on. max_tries: no more deliveries come once the newer ones have so many tries together; null: all do. tries: array
of {at, duration_ms, delivered, status, answer, error}. A limited token sees deliveries of channels that it reaches,
about spaces that it reaches, and as far as it reads one of core.list_notice_places. Errors: PT404 for a channel that
never existed.';
