-- Sensors whose rows somebody always holds, so that looking for outages waits for them once instead of passing them over for ever.

create table core.busy_dpu (
  dpu_id integer constraint busy_dpu_pkey primary key,
  since timestamptz not null
);
comment on table core.busy_dpu is 'DPUs that api.detect_outages passed over, because another transaction held their row of core.dpu_state, or one of core.outage. A row goes when it has got hold of the DPU.';
comment on column core.busy_dpu.dpu_id is 'No foreign key: core.dpu may be locked too.';
comment on column core.busy_dpu.since is 'When it was passed over first.';
