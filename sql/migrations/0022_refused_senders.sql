-- Who sent what was refused, and how much of it is kept.

alter table core.rejected_event add column token text;
alter table core.rejected_event add column is_within boolean not null default true;
comment on column core.rejected_event.token is 'The id of the token that sent it; null: none, or a release that did not note it. No foreign key: it outlives the token.';
comment on column core.rejected_event.is_within is 'False: a limited token sent it of a DPU that it does not reach. It is kept, but says nothing of that DPU.';
update core.rejected_event r set is_within = false
where r.code = 'unknown_dpu' and r.detail like '%within the reach of this token%';

create table core.refused_of_dpu (
  dpu text not null,
  hour timestamptz not null,
  count bigint not null,
  constraint refused_of_dpu_pkey primary key (dpu, hour)
);
comment on table core.refused_of_dpu is 'How many events of a DPU were refused and kept in an hour of receipt, and did not go in since; without those that say nothing of it (is_within). For a day.';
comment on column core.refused_of_dpu.dpu is 'Its id, registered or not.';
insert into core.refused_of_dpu (dpu, hour, count)
select r.dpu, date_trunc('hour', r.received_at, 'UTC'), count(*)
from core.rejected_event r
where r.dpu is not null and r.is_within and r.rerun_at is null and r.received_at > now() - interval '26 hours'
group by 1, 2;

create table core.refused_of_family (
  family_id integer not null,
  hour timestamptz not null,
  is_within boolean not null,
  count bigint not null,
  constraint refused_of_family_pkey primary key (family_id, hour, is_within)
);
comment on table core.refused_of_family is 'How many refused events of a family of tokens were kept in an hour of receipt. For a few hours.';
comment on column core.refused_of_family.family_id is 'The first of the family (core.get_family); 0: they came without a token. No foreign key: it outlives the token.';
comment on column core.refused_of_family.is_within is 'As in core.rejected_event.';

comment on table core.dropped_refusal is 'How many refused events and polls were dropped: because they were 30 days old, or beyond what is kept in an hour.';

-- their parameters change
drop function if exists core.refuse_events(timestamptz, text[], text[], text[], timestamptz[], integer[], smallint[], text[]);
drop function if exists core.count_refusals(timestamptz);
