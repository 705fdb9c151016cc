create or replace function api.undo_reset(
  space text,
  at timestamptz
)
returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_now timestamptz;
  v_space_id integer;
  v_reset core.reset;
begin
  v_now := core.lock_plan();
  v_space_id := core.find_space(undo_reset.space);
  update core.reset r set superseded_at = v_now
  where r.space_id = v_space_id and r.at = undo_reset.at and r.superseded_at is null
  returning r.* into v_reset;
  if not found then
    perform core.refuse(
      404, format('No reset of %s was recorded at that instant.', quote_literal(space)), 'at',
      'GET /v1/spaces/{id}/resets lists them. A daily reset follows from reset_at of the space.');
  end if;
  insert into core.reset (space_id, at, count, recorded_at, replaces_id)
  select r.space_id, r.at, r.count, v_now, r.replaces_id
  from core.reset r
  where r.reset_id = v_reset.replaces_id;
  perform core.rederive_live(array[v_space_id]);
end
$$;
comment on function api.undo_reset(text, timestamptz) is
'Takes back a reset that was recorded. The one that it replaced at that instant holds again; without one the count goes
on as if there was none.

Nothing is erased: known_at still answers as before. Errors: PT404 for an unknown space, or where no reset was recorded
at that instant; PT422 where the current count would need events that were dropped.';
