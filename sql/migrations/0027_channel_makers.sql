-- A channel belongs to whoever chose where it sends, which need not be who made it.

comment on column core.channel.family_id is 'The first of the family of tokens limited to a space that gave its kind, url or recipients last (core.list_makers). Null: another token, none, or a release that did not note it.';
