-- Who had what sent again, so that one token and one channel can do so a number of times only.

create table core.replay (
  channel_id integer not null constraint replay_channel_id_fkey references core.channel on delete cascade,
  family_id integer,
  at timestamptz not null
);
create index replay_at_idx on core.replay (at);
create index replay_channel_id_idx on core.replay (channel_id);
comment on table core.replay is 'Replays of deliveries within the last minute, and older ones until the next replay.';
comment on column core.replay.family_id is 'The token_id of the first of the family that asked for it (core.list_makers). Counted within a minute, so no foreign key.';
