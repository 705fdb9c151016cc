-- A clock of the database that is set back: what began in its future, and a refresh that is under way.

-- which counts begin at an instant that is still to come
create index live_space_since_idx on core.live_space (since);

alter table core.rollup_state add column goal_at timestamptz not null default '-infinity';
comment on column core.rollup_state.goal_at is 'Where the latest refresh wanted to get. Noted before it begins: what is stored from then on before this instant has a late mark, whatever the clock shows.';
