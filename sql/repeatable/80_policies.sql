-- Background jobs and chunk sizes, all in one place. Runs only when this file changes.

select public.set_chunk_time_interval('core.event', interval '1 day');

call public.remove_columnstore_policy('core.event', if_exists => true);
call public.add_columnstore_policy('core.event', after => interval '7 days');

select public.delete_job(j.job_id) from timescaledb_information.jobs j where j.proc_schema = 'core';
select public.add_job('core.run_upkeep', interval '1 minute', fixed_schedule => false);
