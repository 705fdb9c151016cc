create or replace function api.delete_space(space text)
returns boolean
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now timestamptz;
  v_space_id integer;
begin
  v_now := core.lock_plan();
  v_space_id := core.find_space(space);
  perform core.check_retirable(v_space_id, space, 'space');
  if not exists (
    select from core.poll p where p.space_id = v_space_id
    union all
    select from core.channel c where c.under_id = v_space_id and c.deleted_at is null
  ) then
    begin
      delete from core.space s where s.space_id = v_space_id;
      perform core.note_change(ids => array[space]);
      return false;
    exception when foreign_key_violation then
      null;  -- it has facts
    end;
  end if;
  perform core.put_space(space, '{"retired": true}', v_now);
  perform core.rederive_changed();
  return true;
end
$$;
comment on function api.delete_space(text) is
'Retires a space that has facts (true), or removes one that has none (false).

Facts are doorways that lead into it, resets, polls, channels for it, tokens that were limited to it and whatever else
refers to it. They stay and count; lists, notices and reports of what is in use leave it out. api.put_space brings it
back. Errors: PT404; PT409 while a space that is in use lies in it, or a token is limited to it.';
