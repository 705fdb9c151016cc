-- Which token made which, and who asked for a test.

alter table core.token add column created_by_id integer constraint token_created_by_id_fkey references core.token on delete set null;
create index token_created_by_id_idx on core.token (created_by_id);
comment on column core.token.created_by_id is 'The token on whose behalf it was made; null: a command, or a release that did not note it.';

alter table core.notice add column family_id integer;
comment on column core.notice.family_id is 'Of a test: the token_id of the first of the family that asked for it (core.list_makers). Counted within a minute, so no foreign key.';
