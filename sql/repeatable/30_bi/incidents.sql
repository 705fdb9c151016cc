create or replace view bi.incidents as
select
  i.incident_id::text as incident, i.kind, s.id as space, d.id as dpu,
  (select count(*) from core.incident_dpu m where m.incident_id = i.incident_id)::integer as dpus,
  i.started_at, i.ended_at, i.corrected, i.absorbed_by::text as absorbed_by
from core.incident i
left join core.space s on s.space_id = i.space_id
left join core.dpu d on d.dpu_id = i.dpu_id;
comment on view bi.incidents is 'Incidents: outages that people are told of, one row each.';
comment on column bi.incidents.incident is 'Id.';
comment on column bi.incidents.kind is 'dpu_offline: of one sensor; site_offline: of most sensors of a site at once.';
comment on column bi.incidents.space is
'Id of the space in which the sensor was mounted; of the site. Null: it was placed nowhere.';
comment on column bi.incidents.dpu is 'Id of the DPU; null: several.';
comment on column bi.incidents.dpus is 'How many DPUs it concerns.';
comment on column bi.incidents.started_at is 'When the first of them went offline.';
comment on column bi.incidents.ended_at is 'When it was over; null: it lasts.';
comment on column bi.incidents.corrected is 'A late sign of life showed that there was no such outage.';
comment on column bi.incidents.absorbed_by is 'The incident of the site that took its place; null: none.';
