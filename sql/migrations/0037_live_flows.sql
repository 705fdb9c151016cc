-- Late events of a DPU find the live rows of each of its parts (core.move_live_flows): a space above others may have many.
create index live_flow_dpu_id_from_at_idx on core.live_flow (dpu_id, from_at);
drop index core.live_flow_dpu_id_idx;
