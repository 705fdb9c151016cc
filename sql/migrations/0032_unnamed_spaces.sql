-- A bound on the spaces that polls may make, as there is one on the DPUs that register themselves.

alter table core.registration
  add column max_unnamed_spaces integer not null default 50000 constraint registration_max_unnamed_spaces_check check (max_unnamed_spaces >= 0),
  add column unnamed_spaces integer,
  add column spaces_counted_at timestamptz;
comment on table core.registration is 'One row: how many unknown DPUs may register themselves by what they send, and how many unknown spaces polls may make. Its lock is held while some of them do.';
comment on column core.registration.burst is 'DPUs that a token may register at once, and spaces that its polls may make at once.';
comment on column core.registration.per_hour is 'DPUs that a token may register an hour beyond that, and spaces that its polls may make.';
comment on column core.registration.max_unnamed_spaces is 'Spaces that polls may make while nobody has named, placed or set up those that they made.';
comment on column core.registration.unnamed_spaces is 'How many of these there are at most: those counted at spaces_counted_at, and those made since. Null: not counted yet.';

create table core.space_registrar (
  token_id integer not null constraint space_registrar_pkey primary key constraint space_registrar_token_id_fkey references core.token on delete cascade,
  remaining double precision not null,
  at timestamptz not null
);
comment on table core.space_registrar is 'How many spaces the polls of a token might still make at an instant. Since then core.registration.per_hour are added each hour, up to burst.';
