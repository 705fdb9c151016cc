-- What runs every minute.

create or replace procedure core.run_upkeep(
  job_id integer default null,
  config jsonb default null
)
language plpgsql
as $$
declare
  v_failure text;
begin
  call core.refresh_rollups();
  call core.rederive_due();
  delete from core.change c where c.changed_at < clock_timestamp() - interval '1 hour';
  perform core.drop_old_notices();
  perform core.drop_refused();
  commit;
  call core.compress_due(v_failure, (config->>'compress_seconds')::double precision);
  -- whatever became of compressing: a disk that is full needs it most
  call core.retire_due();
  call core.drop_retired_chunks();
  if v_failure is not null then
    raise exception 'A chunk could not be compressed. %', v_failure;
  end if;
end
$$;
comment on procedure core.run_upkeep(integer, jsonb) is
'The job of every minute. Answers are right without it, but it keeps them fast. Call it on its own, outside of a
transaction.

config.compress_seconds: it compresses for about so long, and the next run goes on; null: until all is compressed.';
