-- When sensors were offline (docs/explanation/sensors.md).
--
-- A DPU is offline once it was silent for its threshold. Only silence that somebody could have heard counts: not time
-- in which no process of the service listened, nor time before the DPU was armed (core.dpu_state.armed_at), which is
-- never before it was first heard.
--
-- core.outage equals that definition over all signs of life, in whatever order they come. What an outage is depends on
-- two signs next to each other and on what lies between them in core.listening. A new sign therefore concerns one
-- stretch only: the outage that it falls into, the time before the first sign, or that after the last one.
-- A message can be two signs: at its device time and at its receipt.
-- Signs are recorded under the lock of the DPU's row in core.dpu_state. Up to the end of the latest row in
-- core.listening it is settled who listened. Whoever needs to know what comes after it takes core.lock_outage: that
-- table is written under this lock alone.

create or replace function core.get_listened(at timestamptz)
returns table (listened bigint)
language sql stable
as $$
  select coalesce((
    select p.heard_before + core.to_microseconds(p.from_at, least(get_listened.at, p.until_at))
    from core.listening p
    where p.from_at <= get_listened.at
    order by p.from_at desc
    limit 1), 0)
$$;
comment on function core.get_listened(timestamptz) is
'For how long the service has listened in total up to an instant, in microseconds: one row. Inlined by the planner: no
search_path of its own.';

create or replace function core.list_offline_at(
  heard_at timestamptz,
  seconds integer
)
returns table (offline_at timestamptz)
language sql stable
as $$
  select l.from_at + (g.goal - l.heard_before) * interval '1 microsecond'
  from (
    select h.listened + seconds * bigint '1000000' as goal from core.get_listened(heard_at) h
  ) g
  cross join lateral (
    select p.from_at, p.until_at, p.heard_before
    from core.listening p
    where p.heard_before < g.goal
    order by p.heard_before desc, p.from_at desc
    limit 1
  ) l
  where g.goal - l.heard_before <= core.to_microseconds(l.from_at, l.until_at)
$$;
comment on function core.list_offline_at(timestamptz, integer) is
'The first instant by which the service has listened for so many seconds since a sign of life; no row where it has not
yet. Inlined by the planner: no search_path of its own.';

create or replace function core.extend_listening(at timestamptz)
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  update core.listening l set until_at = greatest(l.until_at, extend_listening.at)
  where l.from_at = (select max(p.from_at) from core.listening p)
    and l.until_at >= extend_listening.at - interval '5 seconds';
  return found;
end
$$;
comment on function core.extend_listening(timestamptz) is
'Notes that the service listens at an instant, if it did in the 5 seconds before; says whether it did. The caller holds
core.lock_outage.';

create or replace function core.note_listening(at timestamptz)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if not core.extend_listening(at) then
    insert into core.listening (from_at, until_at, heard_before, ticked_at)
    select note_listening.at, note_listening.at, h.listened,
      coalesce((select max(p.ticked_at) from core.listening p), '-infinity')
    from core.get_listened(note_listening.at) h;
  end if;
end
$$;
comment on function core.note_listening(timestamptz) is
'Notes that the service listens at an instant: extends the latest row of core.listening, or begins a new one. The caller
holds core.lock_outage.';
