-- How often spaces are told to be over their capacity, so that nobody makes notices without end; and the queue of a channel in which outages come first.

create table core.capacity_rate (
  space_id integer not null,
  is_part boolean not null,
  since timestamptz not null,
  beginnings integer not null,
  constraint capacity_rate_pkey primary key (space_id, is_part)
);
comment on table core.capacity_rate is 'How often it was told, within an hour, that a space is over its capacity (core.get_max_beginnings). A row goes after an hour, and then the space is looked at again.';
comment on column core.capacity_rate.space_id is 'No foreign key: counted within an hour, also of a space that was deleted meanwhile.';
comment on column core.capacity_rate.is_part is 'Whether it counts all spaces of a part of the tree (core.list_limited_parts), and not this one alone.';
comment on column core.capacity_rate.since is 'When it was told first; of a space that was put off, perhaps when that of its part was.';

create index delivery_channel_id_is_capacity_due_at_idx
  on core.delivery (channel_id, (coalesce(subject, '') like 'space %'), due_at, delivery_id)
  where state = 'pending';
