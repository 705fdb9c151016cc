create or replace function api.get_wal_position(
  out is_standby boolean,
  out wal_bytes bigint,
  out system_id bigint,
  out at timestamptz
)
returns record
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  select
    pg_is_in_recovery(),
    (case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_flush_lsn() end - '0/0')::bigint,
    hashtextextended(concat_ws('-',
      (select s.system_identifier from pg_control_system() s),
      -- of a standby that of its last restart point: after a change of the timeline it catches up within minutes
      case
        when pg_is_in_recovery() then (select lpad(upper(to_hex(c.timeline_id)), 8, '0') from pg_control_checkpoint() c)
        else left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)
      end), 0),
    clock_timestamp()
$$;
comment on function api.get_wal_position() is
'How far a server is in the write-ahead log. A standby that has reached the position that the primary had at an instant
shows all that was committed there before.

is_standby: it replays what a primary writes. wal_bytes: where in the write-ahead log, in bytes; what a primary has on
its disk (with synchronous_commit off more may be committed), what a standby has replayed (null: nothing yet).
system_id: the same for all servers that are copies of one another on one timeline, whose positions alone can be
compared: after a failover or a restore a server that went on with the old timeline has another one. at: its clock.';
