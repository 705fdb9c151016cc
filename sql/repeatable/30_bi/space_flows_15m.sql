create or replace view bi.space_flows_15m as
select
  f.space, f.bucket, sum(f.entries)::bigint as entries, sum(f.exits)::bigint as exits,
  (sum(f.entries) - sum(f.exits))::bigint as net
from core.space_flow_15m f
group by f.space, f.bucket;
comment on view bi.space_flows_15m is
'How many people passed the outer doorways of a space: one row a quarter-hour in which a DPU there reported something.';
comment on column bi.space_flows_15m.space is 'Id of the space.';
comment on column bi.space_flows_15m.bucket is
'Start of the quarter-hour; events at or after it and before the next are in it.';
comment on column bi.space_flows_15m.entries is 'People who went in.';
comment on column bi.space_flows_15m.exits is 'People who went out.';
comment on column bi.space_flows_15m.net is 'Entries less exits.';
