-- The feed of changes: noted by whatever changes a count, read by api.list_changes.

create or replace function core.note_change(
  dpus integer[] default null,
  latest_at timestamptz default null,
  spaces integer[] default null,
  ids text[] default null,
  flipped integer[] default null
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now timestamptz := clock_timestamp();
begin
  if dpus is null and spaces is null and ids is null and flipped is null then
    return;
  end if;
  insert into core.change (changed_at, dpu_ids, space_ids, spaces, ahead_until, flipped_ids)
  values (
    v_now,
    (select array_agg(distinct d.dpu_id) from unnest(dpus) as d (dpu_id)),
    note_change.spaces,
    ids,
    case when latest_at > v_now then least(latest_at, core.get_latest_time(v_now)) end,
    flipped);
end
$$;
comment on function core.note_change(integer[], timestamptz, integer[], text[], integer[]) is
'Notes for the feed what the running transaction changed: dpus whose events it stored, with the latest of their own
instants; spaces whose counts it derived anew; ids of spaces that it created, changed or deleted; flipped: DPUs that
went offline, came back or were heard from for the first time. Nulls everywhere: nothing.';

create or replace function core.get_history()
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_server bigint := (select s.system_identifier from pg_control_system() s);
  -- after a recovery to an instant of the past, transactions get the numbers again that others had
  v_timeline text := case when not pg_is_in_recovery() then left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) end;
  v_database oid := (select d.oid from pg_database d where d.datname = current_database());
begin
  return to_hex(hashtextextended(concat_ws('-', v_server, v_timeline, v_database), 0));
end
$$;
comment on function core.get_history() is
'Names the history of this database: the same as long as transaction numbers can be compared, another one after a
restore from any kind of backup.';

create or replace function core.read_cursor(
  cursor text,
  out snapshot pg_snapshot,
  out at timestamptz,
  out checked_at timestamptz
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_parts text[] := string_to_array(cursor, '@');
begin
  if cardinality(v_parts) = 4 and v_parts[4] = core.get_history() then
    snapshot := v_parts[1]::pg_snapshot;
    at := to_timestamp(0) + v_parts[2]::bigint * interval '1 microsecond';
    checked_at := to_timestamp(0) + v_parts[3]::bigint * interval '1 microsecond';
  end if;
exception when data_exception then
  snapshot := null;
end
$$;
comment on function core.read_cursor(text) is
'What core.write_cursor put into a cursor. snapshot is null for any other text, and for a cursor from before a restore.
Cursors come back from clients, so they may be anything.';

create or replace function core.write_cursor(
  snapshot pg_snapshot,
  at timestamptz,
  checked_at timestamptz
)
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return format(
    '%s@%s@%s@%s', snapshot, (extract(epoch from at) * 1000000)::bigint,
    (extract(epoch from checked_at) * 1000000)::bigint,
    core.get_history());
end
$$;
comment on function core.write_cursor(pg_snapshot, timestamptz, timestamptz) is
'A place in the feed as text: the snapshot up to which it was read, the instant of that, the instant up to which
placements were checked, and core.get_history.';

create or replace function core.is_far_behind(
  snapshot pg_snapshot,
  at timestamptz
)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set enable_seqscan = off
as $$
declare
  v_now pg_snapshot := pg_current_snapshot();
begin
  -- Each end by itself: a transaction that takes long holds back the beginning of all snapshots. Notes are counted, not
  -- transactions, since everybody who can log in can begin those.
  if exists (
    select from core.change c
    where c.xid >= pg_snapshot_xmin(snapshot) and c.xid < pg_snapshot_xmin(v_now)
    order by c.xid
    offset 20000 limit 1
  ) or exists (
    select from core.change c where c.xid >= pg_snapshot_xmax(snapshot) order by c.xid offset 20000 limit 1
  ) then
    return true;
  end if;
  return coalesce((
    select c.changed_at < is_far_behind.at - interval '2 minutes'
    from core.change c
    where c.xid >= pg_snapshot_xmin(snapshot) and not pg_visible_in_snapshot(c.xid, snapshot)
    order by c.xid
    limit 1), false);
end
$$;
comment on function core.is_far_behind(pg_snapshot, timestamptz) is
'Whether it is cheaper to count everything than to read what a snapshot could not see: more than 20,000 notes were made
since, or the first one after it is more than 2 minutes older than the instant of the cursor. In the second case the
cursor was made up, or a transaction took very long.';

create or replace function core.list_noted(
  snapshot pg_snapshot,
  at timestamptz
)
returns table (dpu_ids integer[], space_ids integer[], spaces text[], flipped_ids integer[])
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
-- a few rows at the end of an index, though statistics are always behind and promise more
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  return query
  select c.dpu_ids, c.space_ids, c.spaces, c.flipped_ids
  from core.change c
  where c.xid >= pg_snapshot_xmin(snapshot) and not pg_visible_in_snapshot(c.xid, snapshot)
  union all
  select c.dpu_ids, null, null, null
  from core.change c
  where c.ahead_until > list_noted.at;
end
$$;
comment on function core.list_noted(pg_snapshot, timestamptz) is
'What core.note_change noted in transactions that a snapshot could not see, and DPUs with events that were ahead of the
clock at an instant.';

create or replace function core.list_crossings(
  low timestamptz,
  high timestamptz
)
returns setof integer
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
begin
  return query
  select distinct b.space_id
  from core.placement p
  join core.boundary b on b.doorway_id = p.doorway_id
  where p.superseded_at is null
    and ((lower(p.during) > low and lower(p.during) <= high) or (upper(p.during) > low and upper(p.during) <= high));
end
$$;
comment on function core.list_crossings(timestamptz, timestamptz) is
'The spaces whose placements began or ended in (low, high].';
