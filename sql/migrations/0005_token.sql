-- Who may speak to the service.

create table core.token (
  token_id integer generated always as identity constraint token_pkey primary key,
  id text collate "C" not null constraint token_id_key unique,
  digest bytea not null constraint token_digest_key unique constraint token_digest_check check (length(digest) = 32),
  name text constraint token_name_check check (length(name) <= 200),
  scopes text[] not null constraint token_scopes_check check (cardinality(scopes) > 0 and scopes <@ array['ingest', 'read', 'admin']),
  space_id integer constraint token_space_id_fkey references core.space on delete cascade,
  events_per_second integer constraint token_events_per_second_check check (events_per_second > 0),
  requests_per_second integer constraint token_requests_per_second_check check (requests_per_second > 0),
  created_at timestamptz not null,
  expires_at timestamptz,
  revoked_at timestamptz,
  last_used_at timestamptz
);
create index token_space_id_idx on core.token (space_id);
comment on table core.token is 'Who may speak to the service. The token itself is known to its owner only. A revoked one stays, to tell whose it was.';
comment on column core.token.id is 'Its name in logs and lists; not secret.';
comment on column core.token.digest is 'SHA-256 of the token: 256 random bits, so there is nothing to guess and nothing that a slow hash would add.';
comment on column core.token.space_id is 'It reaches this space and all below it; null: everything.';
comment on column core.token.last_used_at is 'To the minute: written at most once a minute.';
