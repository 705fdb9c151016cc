-- Whose channels are whose, so that one family of tokens has a part only of what is sent.

alter table core.channel add column family_id integer constraint channel_family_id_fkey references core.token on delete set null;
create index channel_family_id_idx on core.channel (family_id) where family_id is not null;
comment on column core.channel.family_id is 'The first of the family of tokens limited to a space that made it (core.list_makers). Null: another token, none, or a release that did not note it.';
