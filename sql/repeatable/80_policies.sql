-- Background jobs and chunk sizes, all in one place. Runs only when this file changes.

select public.set_chunk_time_interval('core.event', interval '1 day');

-- core.run_upkeep compresses: a policy would compress again what came late in a way that
-- hides rows from older snapshots
call public.remove_columnstore_policy('core.event', if_exists => true);

select public.delete_job(j.job_id) from timescaledb_information.jobs j where j.proc_schema = 'core';
-- What many old chunks take to compress must not keep late events from being rolled up.
-- After a failure it comes again as soon, and not after 5 minutes.
select public.alter_job(
  public.add_job(
    'core.run_upkeep', interval '1 minute', config => '{"compress_seconds": 20}', fixed_schedule => false),
  retry_period => interval '1 minute');

-- Apart from the upkeep, which may wait for a lock.
select public.alter_job(
  public.add_job('core.end_long_reads', interval '2 seconds', fixed_schedule => false),
  retry_period => interval '2 seconds');
