-- How many deliveries the channels of a family of limited tokens had within an hour, so that no family can fill the database or send mail without end.

create table core.delivery_rate (
  family_id integer not null constraint delivery_rate_family_id_fkey references core.token,
  purpose text not null constraint delivery_rate_purpose_check check (purpose in ('outages', 'capacity', 'unsent')),
  since timestamptz not null,
  deliveries bigint not null,
  full_channels integer[] not null,
  told_spaces integer[] not null,
  constraint delivery_rate_pkey primary key (family_id, purpose)
);
comment on table core.delivery_rate is 'What counts against core.get_max_deliveries, of each family of limited tokens. A row of an earlier hour stays until the next notice. Locked (exclusive) while deliveries are added.';
comment on column core.delivery_rate.family_id is 'The first of the family (core.list_makers).';
comment on column core.delivery_rate.purpose is 'Outages and capacity do not take each other''s room. unsent: what is suppressed or cancelled at once.';
comment on column core.delivery_rate.since is 'When the hour began.';
comment on column core.delivery_rate.deliveries is 'Deliveries of this hour, also those that were left out; an e-mail counts once for each recipient.';
comment on column core.delivery_rate.full_channels is 'The channels (channel_id) that have a delivery which says that some of this hour are left out.';
comment on column core.delivery_rate.told_spaces is 'The spaces (space_id) about which something was told in this hour.';
