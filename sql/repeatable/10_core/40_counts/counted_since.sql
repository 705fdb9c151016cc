-- Since when something counts for a space: its earliest event with a sign, or explicit reset (first_events.sql).

create or replace function core.derive_counted_since(
  spaces integer[],
  known_at timestamptz default 'infinity'
)
returns table (space_id integer, counted_since timestamptz)
language plpgsql stable rows 10
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  return query
  select s.space_id, least(nullif(e.at, 'infinity'), r.at)
  from unnest(spaces) as s (space_id)
  cross join lateral (
    select min(f.at) as at
    from core.boundary b
    -- offset 0, from the space on: planned while there are few placements, all of them would be read for each space
    cross join lateral (
      select p.placement_id from core.placement p
      where p.doorway_id = b.doorway_id
        and p.recorded_at <= derive_counted_since.known_at
        and (p.superseded_at is null or p.superseded_at > derive_counted_since.known_at)
      offset 0
    ) p
    join core.first_event f on f.placement_id = p.placement_id
    where b.space_id = s.space_id
      and f.recorded_at <= derive_counted_since.known_at
  ) e
  cross join lateral (
    select min(q.at) as at
    from core.reset q
    where q.space_id = s.space_id
      and q.recorded_at <= derive_counted_since.known_at
      and (q.superseded_at is null or q.superseded_at > derive_counted_since.known_at)
  ) r;
end
$$;
comment on function core.derive_counted_since(integer[], timestamptz) is
'Since when something counts for each space, over the facts recorded at or before known_at: its earliest event with a
sign, or explicit reset. Null: nothing does.';

create or replace function core.list_counted_since(
  spaces integer[],
  known_at timestamptz default 'infinity'
)
returns table (space_id integer, counted_since timestamptz)
language plpgsql stable rows 10
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  if known_at < 'infinity' then
    return query select d.space_id, d.counted_since
    from core.derive_counted_since(spaces, list_counted_since.known_at) d;
  else
    return query select l.space_id, l.counted_since from core.live_space l where l.space_id = any (spaces);
  end if;
end
$$;
comment on function core.list_counted_since(integer[], timestamptz) is
'As core.derive_counted_since, but from live rows where all facts are asked for.';
