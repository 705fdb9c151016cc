-- Compressing chunks of events.

create or replace function core.try_compress(chunk regclass)
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- By default TimescaleDB compresses again what came late segment by segment, and then older snapshots miss rows of
  -- the chunk (seen on 2.28.3). What comes late stays beside the compressed rows until it is much; then the chunk is
  -- compressed anew as a whole, under a lock that readers wait for.
  perform set_config(s.name, 'off', true) from pg_settings s
    where s.name = 'timescaledb.enable_segmentwise_recompression';
  -- who waits for this lock holds up whoever comes after: better come again
  perform set_config('lock_timeout', '500ms', true);
  begin
    -- The rows are truncated in the end, while nobody reads the chunk. Whether somebody does is asked before the work
    -- too, and the lock is let go of at once: readers need not wait for the work.
    execute format('lock table %s in access exclusive mode', chunk);
    raise exception using errcode = 'PT000';
  exception when sqlstate 'PT000' then
    null;
  end;
  perform public.compress_chunk(chunk, if_not_compressed => true);
  return true;
exception
  when lock_not_available or deadlock_detected then
    return false;
  when duplicate_object then
    return true; -- another session has compressed it meanwhile
end
$$;
comment on function core.try_compress(regclass) is
'Compresses a chunk, unless others keep it busy for more than half a second; says whether it did. Late events for the
chunk wait until the transaction ends.';

create or replace procedure core.compress_due(
  inout failure text default null,
  seconds double precision default null
)
language plpgsql
as $$
declare
  v_begun_at timestamptz := clock_timestamp();
  v_chunk record;
begin
  perform core.forget_refreshed(v_begun_at);
  commit;
  -- Not by a policy of TimescaleDB's own: core.try_compress says why.
  for v_chunk in
    select
      format('%I.%I', c.chunk_schema, c.chunk_name)::regclass as name, c.range_start, c.range_end,
      a.view_name is not null as is_rollup
    from timescaledb_information.chunks c
    left join timescaledb_information.continuous_aggregates a
      on a.materialization_hypertable_schema = c.hypertable_schema
        and a.materialization_hypertable_name = c.hypertable_name
    where c.range_end < clock_timestamp() - interval '7 days'
      and ((a.view_schema = 'core' and a.view_name = 'dpu_flow_15m_v1' and not c.is_compressed)
        or (c.hypertable_schema = 'core' and c.hypertable_name = 'event'
          and (not c.is_compressed or pg_relation_size(format('%I.%I', c.chunk_schema, c.chunk_name))
            > 8 * 1024 * 1024)))
    -- what is not compressed at all takes most of the disk
    order by c.is_compressed, c.range_start
  loop
    begin
      -- one that is busy comes again in the next run, and keeps no other one waiting
      if not v_chunk.is_rollup then
        perform core.try_compress(v_chunk.name);
      elsif core.begin_rollup() then
        -- nobody refreshes meanwhile
        if core.may_be_compressed(v_chunk.range_start, v_chunk.range_end) then
          perform core.try_compress(v_chunk.name);
        end if;
        perform core.end_rollup();
      end if;
    exception when others then
      failure := coalesce(failure, format('%s: %s', v_chunk.name, sqlerrm));
    end;
    commit;
    exit when clock_timestamp() - v_begun_at > seconds * interval '1 second';
  end loop;
end
$$;
comment on procedure core.compress_due(text, double precision) is
'Compresses chunks that are more than 7 days old, those of rollups an hour after late marks went from there and when
nobody reads any more who may have seen these. Call it on its own, outside of a transaction.

seconds: it begins no further chunk after so many; null: it goes on until the last one. failure: why the first chunk
could not be compressed (that it is busy does not count); null: none failed.';
