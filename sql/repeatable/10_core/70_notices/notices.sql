-- Notices: stored in the transaction of what they tell. Those on one subject are sent one after the other.

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
    (select core.get_week(v_hours) @> core.get_week_clock(is_open.at, h.time_zone)
      from core.list_schedules(array[v_holder_id]) h), true);
end
$$;
comment on function core.is_open(integer, timestamptz) is
'Whether a space is open at an instant: by its opening hours or those of the nearest space above that has some, in the
zone of whichever has them. Without any: open.

By the rule of uptime (core.list_weeks): clock times that a change of the clocks repeats or skips are taken as they are
shown.';

create or replace function core.cancel_unsent(
  corrections bigint[],
  at timestamptz
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  -- nobody needs to hear of what nobody has heard of
  update core.delivery d set state = 'cancelled', reason = 'corrected', settled_at = cancel_unsent.at
  from core.notice n
  where n.notice_id = any (corrections) and d.subject = 'incident ' || n.incident_id
    and d.channel_id in (select c.channel_id from core.channel c where c.deleted_at is null)
    and d.state = 'pending' and d.tries = 0 and d.claim is null
    and not exists (
      select from core.delivery o
      where o.channel_id = d.channel_id and o.subject = d.subject
        and (o.state in ('delivered', 'failed') or o.tries > 0 or o.claim is not null));
end
$$;
comment on function core.cancel_unsent(bigint[], timestamptz) is
'Cancels deliveries about incidents that notices correct, in channels to which nothing about the incident was sent
yet.';

create or replace function core.get_max_deliveries()
returns integer
language sql immutable
as $$ select 1000 $$;
comment on function core.get_max_deliveries() is
'How many deliveries of one purpose (core.delivery_rate) the channels of a family of limited tokens get within an hour;
an e-mail counts once for each recipient. Inlined by the planner: no search_path of its own.';

create or replace function core.list_notice_places(notices bigint[])
returns table (notice_id bigint, space_id integer)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  return query
  with hung as materialized (
    select n.notice_id, w.side_a_id, w.side_b_id
    from core.notice n
    join core.incident i on i.incident_id = n.incident_id
    cross join lateral (
      select p.doorway_id
      from core.placement p
      where p.dpu_id = i.dpu_id and p.superseded_at is null
        -- a beginning may be told late, when an incident that was absorbed goes on
        and lower(p.during) <= case n.kind when 'offline' then n.created_at else n.occurred_at end
      order by lower(p.during) desc
      limit 1
    ) p
    join core.doorway w on w.doorway_id = p.doorway_id
    where n.notice_id = any (notices) and n.kind in ('offline', 'online', 'correction')
  )
  select h.notice_id, s.space_id
  from hung h
  cross join lateral (values (h.side_a_id), (h.side_b_id)) as s (space_id)
  union all
  select n.notice_id, n.space_id
  from core.notice n
  where n.notice_id = any (notices) and n.notice_id not in (select h.notice_id from hung h);
end
$$;
comment on function core.list_notice_places(bigint[]) is
'Who may know what notices tell, but for who may know what they are about: whoever may know one of these spaces. Of an
incident of one DPU the sides of the doorway above which it hung just then, or hung last: it may have moved away
meanwhile. Of its end or correction when that was, of its beginning when that was told. Of others the space that they
are about.';

create or replace function core.list_interested(
  notices bigint[],
  kind text,
  event text,
  beginning text,
  at timestamptz
)
returns table (notice_id bigint, channel_id integer, subject text, state text, reason text, is_astray boolean)
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- by the index, also where few deliveries were there when it was planned
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  return query
  with notice as materialized (
    select n.notice_id, n.space_id, coalesce('incident ' || n.incident_id, 'space ' || n.space_id) as subject,
      w.space_id as site_id
    from core.notice n
    left join core.incident i on i.incident_id = n.incident_id
    left join core.incident w on w.incident_id = i.absorbed_by
    where n.notice_id = any (notices)
  ),
  hung as materialized (
    select h.notice_id, h.space_id from core.list_notice_places(notices) h
  ),
  above as (
    select a.space_id as of_id, a.above_id as space_id
    from core.list_above(array(
      select n.space_id from notice n union select n.site_id from notice n union select h.space_id from hung h)) a
  ),
  place as materialized (
    select n.space_id, n.space_id is null or core.is_open(n.space_id, list_interested.at) as is_open
    from (select distinct n.space_id from notice n) n
    where exists (select from core.channel c where c.only_in_opening_hours and c.deleted_at is null)
  )
  select
    n.notice_id, c.channel_id, n.subject,
    case
      when list_interested.kind = 'correction' then before.state
      when began.state is not null then began.state
      -- it wants to know what begins, and did not hear of this
      when beginning = any (c.events) then 'suppressed'
    end as state,
    case
      when c.muted_until > at then 'muted'
      when c.only_in_opening_hours and not p.is_open then 'closed'
    end as reason,
    c.family_id is not null and not (
      b.is_below and (
        exists (
          select from hung h
          join above a on a.of_id = h.space_id
          where h.notice_id = n.notice_id and a.space_id = c.under_id)
        or exists (
          select from hung h where h.notice_id = n.notice_id and not core.is_channel_cut(c.family_id, h.space_id)))
    ) as is_astray
  from notice n
  join core.channel c on c.deleted_at is null and event = any (c.events)
  cross join lateral (
    select exists (select from above a where a.of_id = n.space_id and a.space_id = c.under_id) as is_below
  ) b
  left join place p on p.space_id is not distinct from n.space_id
  left join lateral (
    -- of what it heard last; if that is an end, it did not hear of this beginning
    select case when b.kind = beginning then d.state end as state
    from core.delivery d
    join core.notice b on b.notice_id = d.notice_id and b.kind in (beginning, list_interested.kind)
    where d.channel_id = c.channel_id and d.subject = n.subject
    order by d.delivery_id desc
    limit 1
  ) began on beginning is not null
  left join lateral (
    select coalesce(min(d.state)
      filter (where d.state not in ('cancelled', 'suppressed')), min(d.state), 'suppressed') as state
    from core.delivery d
    where d.channel_id = c.channel_id and d.subject = n.subject
  ) before on list_interested.kind = 'correction'
  where (
      began.state is not null or before.state <> 'suppressed'
      or (c.under_id is null or b.is_below) and not (
        -- it is told of the whole site
        n.site_id is not null
        and (c.under_id is null or exists (
          select from above a where a.of_id = n.site_id and a.space_id = c.under_id))))
    -- what goes on after it was absorbed is told to those who did not hear of it
    and not (list_interested.kind = 'offline' and exists (
      select
      from core.delivery d
      join core.notice o on o.notice_id = d.notice_id and o.kind = 'offline'
      where d.channel_id = c.channel_id and d.subject = n.subject and d.state not in ('suppressed', 'cancelled')
        and d.notice_id <> n.notice_id));
end
$$;
comment on function core.list_interested(bigint[], text, text, text, timestamptz) is
'Channels that notices of one kind may go to, by their events, their under and what they were told. state: that of the
delivery of what it ends or corrects (null: none); reason: why nothing is told now (null: nothing is in the way);
is_astray: the channel has a family, and the space is not below its under by now, or the family reads none of
core.list_notice_places. The rules are those of core.add_notices.';

create or replace function core.list_addressees(
  notices bigint[],
  kind text,
  event text,
  beginning text,
  at timestamptz
)
returns table (notice_id bigint, channel_id integer, subject text, state text, reason text, is_told boolean)
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- by the index, also where few deliveries were there when it was planned
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  return query
  with notified as materialized (
    select i.*
    from core.list_interested(notices, list_addressees.kind, event, beginning, list_addressees.at) i
  ),
  cut as materialized (
    select c.channel_id
    from core.channel c
    where c.channel_id in (select t.channel_id from notified t) and core.is_channel_cut(c.family_id, c.under_id)
  )
  select t.notice_id, t.channel_id, t.subject, v.state, v.reason, t.state not in ('suppressed', 'cancelled') as is_told
  from notified t
  left join cut u on u.channel_id = t.channel_id
  cross join lateral (
    select
      case
        when t.state = 'cancelled' and list_addressees.kind = 'correction' then 'cancelled'
        when t.state in ('suppressed', 'cancelled') or t.is_astray or u.channel_id is not null then 'suppressed'
        when t.state is not null or t.reason is null then 'pending'
        else 'suppressed'
      end as state,
      case
        when t.state = 'cancelled' and list_addressees.kind = 'correction' then 'corrected'
        when t.is_astray or u.channel_id is not null then 'out_of_reach'
        when t.state in ('suppressed', 'cancelled') then 'not_told'
        when t.state is null then t.reason
      end as reason
  ) v;
end
$$;
comment on function core.list_addressees(bigint[], text, text, text, timestamptz) is
'To which channels notices of one kind go, and what becomes of each: state and reason of its delivery. event: by which
of its events a channel wants them; beginning: the kind that they end (null: none). is_told: the channel was sent what
began it. The rules are those of core.add_notices.';

create or replace function core.add_deliveries(
  notices bigint[],
  kind text,
  event text,
  beginning text,
  at timestamptz
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  with verdict as (
    select l.notice_id, l.channel_id, l.subject, l.state, l.reason, n.space_id, c.family_id,
      c.recipients is not null as is_mail,
      case
        when l.state <> 'pending' then 'unsent'
        when add_deliveries.kind in ('over_capacity', 'capacity_ok') then 'capacity'
        else 'outages'
      end as purpose,
      case
        -- what began it has counted
        when c.family_id is null or l.is_told and (beginning is not null or add_deliveries.kind = 'correction') then 0
        else greatest(cardinality(c.recipients), 1)
      end as cost
    from core.list_addressees(notices, add_deliveries.kind, event, beginning, at) l
    join core.channel c on c.channel_id = l.channel_id
    join core.notice n on n.notice_id = l.notice_id
  ),
  counted as (
    select v.*, coalesce(r.full_channels, '{}') as full_channels, coalesce(r.told_spaces, '{}') as told_spaces,
      v.cost > 0 and coalesce(r.deliveries, 0)
        + sum(v.cost) over (partition by v.family_id, v.purpose order by v.notice_id, v.channel_id)
        > core.get_max_deliveries() as is_beyond,
      v.notice_id = min(v.notice_id) over (partition by v.family_id, v.purpose, v.space_id) as is_first
    from verdict v
    left join core.delivery_rate r on r.family_id = v.family_id and r.purpose = v.purpose
  ),
  judged as (
    -- no space can use up what others need to be told of at all
    select c.*, c.is_beyond
      and (c.purpose = 'unsent' or c.is_mail or not c.is_first or c.space_id = any (c.told_spaces)) as is_left_out
    from counted c
  ),
  -- of what is left out, the first of each channel says so
  first_left_out as (
    select distinct on (j.channel_id, j.purpose) j.notice_id, j.channel_id, j.subject, j.family_id, j.purpose
    from judged j
    where j.is_left_out and not j.channel_id = any (j.full_channels)
    order by j.channel_id, j.purpose, j.notice_id
  ),
  noted as (
    insert into core.delivery_rate as r (family_id, purpose, since, deliveries, full_channels, told_spaces)
    select j.family_id, j.purpose, at, sum(j.cost),
      array(select f.channel_id from first_left_out f where f.family_id = j.family_id and f.purpose = j.purpose),
      coalesce(
        array_agg(distinct j.space_id) filter (where not j.is_left_out and not j.space_id = any (j.told_spaces)), '{}')
    from judged j
    where j.cost > 0
    group by j.family_id, j.purpose
    on conflict (family_id, purpose) do update set
      deliveries = r.deliveries + excluded.deliveries, full_channels = r.full_channels || excluded.full_channels,
      told_spaces = r.told_spaces || excluded.told_spaces
  )
  insert into core.delivery (notice_id, channel_id, subject, state, reason, created_at, settled_at, due_at, give_up_at)
  select
    a.notice_id, a.channel_id, a.subject, a.state, a.reason, add_deliveries.at,
    case when a.state <> 'pending' then add_deliveries.at end, add_deliveries.at,
    add_deliveries.at + core.get_give_up_after()
  from (
    select j.notice_id, j.channel_id, j.subject, j.state, j.reason from judged j where not j.is_left_out
    union all
    select f.notice_id, f.channel_id, f.subject, 'suppressed', 'too_many' from first_left_out f
  ) a
  order by a.notice_id, a.channel_id;
end
$$;
comment on function core.add_deliveries(bigint[], text, text, text, timestamptz) is
'Adds the deliveries of notices of one kind, of the channels of limited tokens only as many as their family may have.
event: by which of its events a channel wants them; beginning: the kind that they end (null: none). The rules are those
of core.add_notices. The caller holds core.delivery_rate.';

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
  -- one after the other, so that none is left out of what a family had
  lock table core.delivery_rate in exclusive mode;
  -- also those from ahead: the clock was set back since
  delete from core.delivery_rate r where r.since <= v_now - interval '1 hour' or r.since > v_now;
  -- what ends comes after what began, also within one call
  foreach v_kind in array array['offline', 'over_capacity', 'online', 'capacity_ok', 'correction'] loop
    continue when not v_kind = any (kinds);
    v_event := case v_kind when 'correction' then 'offline' when 'capacity_ok' then 'over_capacity' else v_kind end;
    v_beginning := case v_kind when 'online' then 'offline' when 'capacity_ok' then 'over_capacity' end;

    with made as (
      insert into core.notice (id, kind, incident_id, space_id, occurred_at, created_at, details)
      select 'msg_' || replace(gen_random_uuid()::text, '-', ''), g.kind, g.incident_id, g.space_id, g.occurred_at,
        v_now, coalesce(g.details, '{}')
      from unnest(kinds, incident_ids, space_ids, occurred_ats, details) with ordinality as g (kind, incident_id,
        space_id, occurred_at, details, place)
      where g.kind = v_kind
      order by g.place
      returning notice_id
    )
    select array_agg(m.notice_id order by m.notice_id) into v_notices from made m;

    if v_kind = 'correction' then
      perform core.cancel_unsent(v_notices, v_now);
    end if;
    perform core.add_deliveries(v_notices, v_kind, v_event, v_beginning, v_now);
    -- what nobody is told would fill the database for nothing
    delete from core.notice n
    where n.notice_id = any (v_notices)
      and not exists (select from core.delivery d where d.notice_id = n.notice_id);
  end loop;
end
$$;
comment on function core.add_notices(text[], bigint[], integer[], timestamptz[], jsonb[]) is
'Stores notices, and for each channel that wants one its delivery, in the caller''s transaction. The arrays are
parallel.

kinds: offline, online, correction (of an incident, incident_ids), over_capacity, capacity_ok (of a space). space_ids:
what it is about; null: no space, for channels without under. details: what receivers get as data.

An incident of a DPU that was absorbed is told only to channels that are not told of the whole site, and those that were
told of it get its end. One that goes on afterwards is told to those who did not hear of it.

Which channels get a notice follows from their events (offline includes corrections, over_capacity includes capacity_ok)
and their under. While a channel is muted, or its space is closed, the delivery is suppressed. The end of something goes
to the channels that were told of its beginning, also where they are muted or closed by then; otherwise it is suppressed
(not_told). To a channel that is core.is_channel_cut nothing is sent (out_of_reach), nor to one of a family of limited
tokens what is about a space that is not below its under by now, not even the end of what it was told; nor what becomes
of an outage of a DPU that was moved beyond their reach (core.list_notice_places). A channel that does not want
beginnings gets ends like any other notice. A correction cancels deliveries that were not tried yet, and then is
cancelled itself.

The channels of one family of limited tokens get core.get_max_deliveries about outages within an hour, as many about
capacity, the ends and corrections of what they were told, and, but for e-mail, the first of each space. What is beyond
is left out: of each channel the first is suppressed (too_many), the others leave no delivery. As many deliveries are
kept that are not sent for another reason. A notice that nobody is told is not stored.';

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

create or replace function core.get_max_beginnings(is_part boolean)
returns integer
language sql immutable
as $$ select case when is_part then 1000 else 12 end $$;
comment on function core.get_max_beginnings(boolean) is
'How often it is told within an hour that a space is over its capacity, and that any space of a part of the tree
(core.list_limited_parts) is. Inlined by the planner: no search_path of its own.';

create or replace function core.list_limited_parts(spaces integer[])
returns table (space_id integer, part_id integer)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  with part as materialized (
    select distinct t.space_id
    from core.token t
    left join core.token m on m.token_id = t.created_by_id
    where t.space_id is not null and m.space_id is null
  )
  select distinct on (a.space_id) a.space_id, a.above_id
  from core.list_above(spaces) a
  join part p on p.space_id = a.above_id
  order by a.space_id, a.steps;
end
$$;
comment on function core.list_limited_parts(integer[]) is
'Of spaces the nearest at or above them to which a token was limited by one without a space. No row: there is none.

What limited tokens make for themselves is no part: with a space for each of them they would have more than one.';

create or replace function core.end_capacity_hours(at timestamptz)
returns integer[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_spaces integer[];
begin
  with gone as (
    -- also those from ahead: the clock was set back since
    delete from core.capacity_rate r
    where r.since <= end_capacity_hours.at - interval '1 hour' or r.since > end_capacity_hours.at
    returning r.space_id
  )
  select array_agg(g.space_id) into v_spaces from gone g;
  return coalesce(v_spaces, '{}');
end
$$;
comment on function core.end_capacity_hours(timestamptz) is
'Forgets what was told of capacity more than an hour ago. Returns the spaces, which may have been put off.';

create or replace function core.put_off_beginnings(
  spaces integer[],
  at timestamptz
)
returns integer[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_put_off integer[];
begin
  with asked as materialized (
    select s.space_id, coalesce(r.beginnings, 0) >= core.get_max_beginnings(false) as is_full, p.part_id
    from unnest(spaces) as s (space_id)
    left join core.capacity_rate r on r.space_id = s.space_id and not r.is_part
    left join core.list_limited_parts(spaces) p on p.space_id = s.space_id
  ),
  judged as materialized (
    select a.space_id, a.part_id, coalesce(r.since, put_off_beginnings.at) as since,
      not a.is_full and (a.part_id is null
        or coalesce(r.beginnings, 0) + row_number() over (partition by a.part_id, a.is_full order by a.space_id)
          <= core.get_max_beginnings(true)) as is_told
    from asked a
    left join core.capacity_rate r on r.space_id = a.part_id and r.is_part
  ),
  noted as (
    insert into core.capacity_rate as r (space_id, is_part, since, beginnings)
    select j.space_id, false, case when j.is_told then put_off_beginnings.at else j.since end, j.is_told::integer
    from judged j
    union all
    select j.part_id, true, put_off_beginnings.at, count(*)
    from judged j
    where j.is_told and j.part_id is not null
    group by j.part_id
    on conflict (space_id, is_part) do update set beginnings = r.beginnings + excluded.beginnings
    where excluded.beginnings > 0
  )
  select array_agg(j.space_id) into v_put_off from judged j where not j.is_told;
  return coalesce(v_put_off, '{}');
end
$$;
comment on function core.put_off_beginnings(integer[], timestamptz) is
'Which of these spaces, now over their capacity, are not told to be: it was told core.get_max_beginnings times within an
hour of the space itself, or of all in its part of the tree. Counts the others as told. Those that are put off are among
core.end_capacity_hours when the hour is over. The caller holds core.lock_capacity.';

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
