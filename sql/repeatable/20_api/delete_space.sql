create or replace function api.delete_space(space text)
returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_space_id integer;
  v_user text;
begin
  perform core.lock_plan();
  v_space_id := core.find_space(space);
  select u.name into v_user from (
    select format('the space %s lies in it', quote_literal(s.id)) from core.space s where s.parent_id = v_space_id
    union all
    select format('the doorway %s leads into it', quote_literal(d.id)) from core.doorway d where v_space_id in (d.side_a_id, d.side_b_id)
    union all
    select 'it was reset' from core.reset r where r.space_id = v_space_id
    union all
    select format('the channel %s is for it', quote_literal(c.id)) from core.channel c where c.under_id = v_space_id and c.deleted_at is null
    union all
    select 'it was polled' from core.poll p where p.space_id = v_space_id
    union all
    select format('the token %s is limited to it', t.id) from core.token t
    where t.space_id = v_space_id and t.revoked_at is null and (t.expires_at is null or t.expires_at > clock_timestamp())
  ) as u (name)
  limit 1;
  if found then
    raise exception using errcode = 'PT409', message = format('%s is in use: %s.', quote_literal(space), v_user),
      detail = 'space', hint = 'Only a space that nothing refers to can be deleted.';
  end if;
  delete from core.space s where s.space_id = v_space_id;
  perform core.note_change(ids => array[space]);
end
$$;
comment on function api.delete_space(text) is
'Deletes a space that nothing refers to.

Errors: PT404; PT409 while a space lies in it, a doorway leads into it, it was ever reset or polled, or a channel or a token is limited to it.';
