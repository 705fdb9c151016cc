create or replace function api.record_reset(
  inout space text,
  inout count integer,
  inout at timestamptz default null,
  out recorded_at timestamptz
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_at timestamptz;
  v_count integer := count;
  v_space_id integer;
begin
  recorded_at := core.lock_plan();
  v_space_id := core.find_space(record_reset.space);
  v_at := coalesce(record_reset.at, recorded_at);
  if v_at > recorded_at then
    raise exception using errcode = 'PT422', message = 'at lies in the future.', detail = 'at',
      hint = 'A reset says what was counted; leave at out for now.';
  end if;
  if v_count < 0 then
    raise exception using errcode = 'PT422', message = 'count is negative.', detail = 'count', hint = 'Give how many people were there: 0 or more.';
  end if;
  update core.reset r set superseded_at = record_reset.recorded_at
  where r.space_id = v_space_id and r.at = v_at and r.superseded_at is null;
  insert into core.reset (space_id, at, count, recorded_at) values (v_space_id, v_at, v_count, record_reset.recorded_at);
  perform core.rebase_live(array[v_space_id]);
  perform core.note_change(spaces => array[v_space_id]);
  at := v_at;
end
$$;
comment on function api.record_reset(text, integer, timestamptz) is
'Records that a space held exactly count people at an instant: its count starts from there.

at null: now. An event exactly at that instant belongs to before it. Another reset at the same instant supersedes the first. Errors: PT404; PT422 for an instant in the future or a negative count.';
