-- The row of a token is never deleted: without it, what it made would belong to nobody, and what it sent would be anybody's. So a space to which a token was ever limited is retired, and not removed.
alter table core.token
  drop constraint token_space_id_fkey,
  add constraint token_space_id_fkey foreign key (space_id) references core.space,
  drop constraint token_created_by_id_fkey,
  add constraint token_created_by_id_fkey foreign key (created_by_id) references core.token;
alter table core.channel
  drop constraint channel_family_id_fkey,
  add constraint channel_family_id_fkey foreign key (family_id) references core.token;
