-- A bound on the spaces that polls may make, as there is one on the DPUs that register themselves.

create table core.space_registration (
  is_only boolean not null default true constraint space_registration_pkey primary key constraint space_registration_is_only_check check (is_only),
  burst integer not null default 20000 constraint space_registration_burst_check check (burst >= 0),
  per_hour integer not null default 1000 constraint space_registration_per_hour_check check (per_hour >= 0),
  max_unnamed integer not null default 50000 constraint space_registration_max_unnamed_check check (max_unnamed >= 0),
  unnamed integer,
  counted_at timestamptz
);
comment on table core.space_registration is 'One row: how many unknown spaces polls may make. Its lock is held while they make some; those who store events never wait for it.';
comment on column core.space_registration.burst is 'Spaces that the polls of a token may make at once.';
comment on column core.space_registration.per_hour is 'Spaces that the polls of a token may make an hour beyond that.';
comment on column core.space_registration.max_unnamed is 'Spaces that polls may make while nobody has named, placed or set up those that they made.';
comment on column core.space_registration.unnamed is 'How many of these there are at most: those counted at counted_at, and those made since. Null: not counted yet.';

create table core.space_registrar (
  token_id integer not null constraint space_registrar_pkey primary key constraint space_registrar_token_id_fkey references core.token on delete cascade,
  remaining double precision not null,
  at timestamptz not null
);
comment on table core.space_registrar is 'How many spaces the polls of a token might still make at an instant. Since then core.space_registration.per_hour are added each hour, up to burst.';
