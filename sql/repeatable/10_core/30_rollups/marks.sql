-- Marks of late events: what they bring is added to the rollups until these have been refreshed.
--
-- core.dpu_total changes in the transaction that takes marks away, and by what they say. So it is always known what
-- running totals lack, whatever is being refreshed. Of quarter-hours it is not: see core.void_mark.

create or replace view core.void_mark as
select m.dpu_id, m.bucket
from core.late_mark m
where m.net is null or m.is_doubtful
union all
select m.dpu_id, m.bucket
from core.rollup_state s
join core.late_mark m on m.bucket >= s.refreshing_from and m.bucket < s.refreshing_until
where m.net is not null and not m.is_doubtful;
comment on view core.void_mark is
'Quarter-hours of DPUs, several rows each, of which nobody knows how much of what came late core.dpu_flow_15m_v1 holds:
they are read from events. All other marks bring what is missing.';

create or replace view core.added_flow as
select m.dpu_id, m.bucket, m.net, m.net_at_start, m.towards, m.away, m.moment
from core.late_mark m
where m.net is not null and not m.is_doubtful
  and (
    m.bucket < (select s.refreshing_from from core.rollup_state s)
    or m.bucket >= (select s.refreshing_until from core.rollup_state s))
  and not exists (
    select from core.late_mark v
    where (v.net is null or v.is_doubtful) and v.dpu_id = m.dpu_id and v.bucket = m.bucket);
comment on view core.added_flow is
'What late events add to the quarter-hours of core.dpu_flow_15m_v1, several rows each; none for those of
core.void_mark.';

create or replace function core.sum_added(
  parts bigint[],
  dpus integer[],
  froms timestamptz[],
  untils timestamptz[],
  has_void boolean,
  totals_until timestamptz
)
returns table (part bigint, net bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- from each DPU to its own marks, however many others have; no reason to compile
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_custom_plan
as $$
declare
  c_instant constant interval := interval '1 microsecond';
begin
  return query
  select
    s.part,
    sum(case
      when m.bucket < s.from_at then m.net - m.net_at_start
      when m.bucket = s.until_at - c_instant then m.net_at_start
      else m.net
    end)::bigint
  from unnest(parts, dpus, froms, untils) as s (part, dpu_id, from_at, until_at)
  join core.late_mark m on m.dpu_id = s.dpu_id and m.bucket >= s.from_at - c_instant and m.bucket < s.until_at
  where m.net is not null
    and not (has_void and exists (
      select from core.late_mark v
      where v.net is null and v.dpu_id = m.dpu_id and v.bucket = m.bucket))
    and not (m.bucket >= sum_added.totals_until and exists (
      select from core.void_mark v where v.dpu_id = m.dpu_id and v.bucket = m.bucket))
  group by s.part;
end
$$;
comment on function core.sum_added(bigint[], integer[], timestamptz[], timestamptz[], boolean, timestamptz) is
'As core.sum_flow_15m, over what marks add to running totals and, from totals_until on, to quarter-hours. has_void:
leave out those that core.list_void has. Its cost follows the number of marks, not that of the days that they are on.';

create or replace function core.begin_range(
  low timestamptz,
  high timestamptz
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- What a refresh that failed may have taken in: of marks, and of what older statements must not see.
  update core.late_mark m set is_doubtful = true
  from core.rollup_state s
  where m.bucket >= s.refreshing_from and m.bucket < s.refreshing_until and m.net is not null and not m.is_doubtful;
  perform core.note_refreshed(s.refreshing_from, s.refreshing_until)
  from core.rollup_state s
  where s.refreshing_from < s.refreshing_until;
  update core.rollup_state s set refreshing_from = low, refreshing_until = high;
end
$$;
comment on function core.begin_range(timestamptz, timestamptz) is
'Says that the quarter-hours of [low, high) are refreshed from the next commit on: marks there are void.';

create or replace function core.adopt_marks()
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  update core.late_mark m set xid = pg_current_xact_id(), first_xid = pg_current_xact_id()
  where not pg_visible_in_snapshot(m.xid, pg_current_snapshot())
    or not pg_visible_in_snapshot(m.first_xid, pg_current_snapshot())
$$;
comment on function core.adopt_marks() is
'Takes marks for our own that we see, though by their number they cannot have been committed yet: they are from another
server, and were there when its dump was restored.';

create or replace function core.end_range(
  snapshot pg_snapshot,
  low timestamptz,
  high timestamptz,
  totals_until timestamptz,
  made_until timestamptz
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_dpus integer[];
  v_buckets timestamptz[];
  v_nets bigint[];        -- null: nobody said what it was
  v_starts bigint[];
begin
  -- By the snapshot alone: where a row has been added to meanwhile, this is asked again of what it is then.
  with gone as (
    delete from core.late_mark m
    where m.bucket >= low and m.bucket < high and pg_visible_in_snapshot(m.xid, snapshot)
    returning m.dpu_id, m.bucket, m.net, m.net_at_start
  )
  select
    array_agg(g.dpu_id), array_agg(g.bucket), array_agg(case when g.bucket < end_range.totals_until then g.net end),
    array_agg(g.net_at_start)
  into v_dpus, v_buckets, v_nets, v_starts
  from gone g;
  if v_dpus is not null then
    perform core.add_to_totals(v_dpus, v_buckets, v_nets, v_starts, end_range.made_until);
  end if;
  -- Part of what was added to since was there before: that is in the quarter-hours now, and in totals made of them.
  update core.late_mark m set is_doubtful = true, net = case when m.bucket < end_range.totals_until then m.net end
  where m.bucket >= low and m.bucket < high and m.net is not null and pg_visible_in_snapshot(m.first_xid, snapshot);
  update core.rollup_state s set refreshing_from = '-infinity', refreshing_until = '-infinity';
end
$$;
comment on function core.end_range(pg_snapshot, timestamptz, timestamptz, timestamptz, timestamptz) is
'Takes away the marks in [low, high) that snapshot sees, which was taken before the quarter-hours were refreshed there,
adds them to core.dpu_total, and says that the refresh is over.

totals_until, made_until: where core.dpu_total ended when snapshot was taken, as far as it is read, and where it does.
What lies behind is made from quarter-hours; what a refresh that failed has made in between is worked out from events.';

create or replace function core.list_readers()
returns text[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(l.virtualtransaction), '{}')
  from pg_locks l
  join pg_stat_activity a on a.pid = l.pid
  where l.locktype = 'virtualxid' and l.granted and l.pid <> pg_backend_pid() and a.datname = current_database()
$$;
comment on function core.list_readers() is
'All transactions in this database that run, but our own: whoever sees what was there before is among them.';

create or replace function core.note_refreshed(
  low timestamptz,
  high timestamptz
)
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  insert into core.refreshed_range (from_at, until_at, refreshed_at) values (low, high, clock_timestamp())
$$;
comment on function core.note_refreshed(timestamptz, timestamptz) is
'Notes that marks in [low, high) went, or that a refresh there has failed, where quarter-hours were read already.';

create or replace function core.may_be_compressed(
  low timestamptz,
  high timestamptz
)
returns boolean
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select not exists (select from core.refreshed_range r where r.from_at < high and r.until_at > low)
    and not exists (select from core.rollup_state s where s.refreshing_from < high and s.refreshing_until > low)
$$;
comment on function core.may_be_compressed(timestamptz, timestamptz) is
'Whether the rollups of [low, high) can be compressed: nobody runs any more who may have seen marks that went from
there, and no refresh of them has failed. The caller holds core.begin_rollup.';

create or replace function core.forget_refreshed(now_at timestamptz)
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  update core.refreshed_range r set readers = core.list_readers() where r.readers is null;
  -- a clock that was set back must not keep them
  delete from core.refreshed_range r
  where (r.refreshed_at < now_at - interval '1 hour' or r.refreshed_at > now_at)
    and not r.readers && core.list_readers()
$$;
comment on function core.forget_refreshed(timestamptz) is
'Takes away what core.note_refreshed noted, after an hour, when nobody runs any more who may have seen the marks.';
