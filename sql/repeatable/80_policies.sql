-- Background jobs and chunk sizes, all in one place. Runs only when this file changes.

select public.set_chunk_time_interval('core.event', interval '1 day');

-- core.run_upkeep compresses: a policy would compress again what came late in a way that
-- hides rows from older snapshots
call public.remove_columnstore_policy('core.event', if_exists => true);

select public.delete_job(j.job_id) from timescaledb_information.jobs j where j.proc_schema = 'core';
select public.add_job('core.run_upkeep', interval '1 minute', fixed_schedule => false);

-- Apart from the upkeep, which may wait for a lock. After a failure it comes again as soon.
select public.alter_job(
  public.add_job('core.end_long_reads', interval '2 seconds', fixed_schedule => false),
  retry_period => interval '2 seconds');
