create or replace function api.list_selections(selections jsonb)
returns table (
  spaces text[],
  error text,
  message text,
  place text,
  hint text
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_own text := current_setting('headcount.token', true);
  v_trees jsonb := core.list_requested_trees(selections);
  v_requested jsonb;
  v_number text;
  v_ids integer[];
begin
  for v_requested, v_number in
    select s.selection, s.ordinal::text from jsonb_array_elements(selections) with ordinality as s (selection, ordinal)
    order by s.ordinal
  loop
    spaces := case when v_trees ? v_number then array(select jsonb_array_elements_text(v_trees -> v_number)) end;
    error := null;
    message := null;
    place := null;
    hint := null;
    if spaces is null then
      perform set_config('headcount.token', coalesce(v_requested ->> 'token', ''), true);
      begin
        -- by itself: within a join with an empty table it might never be called, and never refuse
        v_ids := core.list_requested_spaces(
          case when jsonb_typeof(v_requested -> 'spaces') = 'array'
            then array(select jsonb_array_elements_text(v_requested -> 'spaces')) end,
          v_requested ->> 'under',
          coalesce((v_requested ->> 'known_only')::boolean, false));
        spaces := array(
          select s.id
          from unnest(v_ids) with ordinality as a (space_id, ordinal)
          join core.space s on s.space_id = a.space_id
          order by a.ordinal);
      exception when sqlstate 'PT404' or sqlstate 'PT422' then
        get stacked diagnostics
          error = returned_sqlstate, message = message_text, place = pg_exception_detail, hint = pg_exception_hint;
      end;
    end if;
    return next;
  end loop;
  perform set_config('headcount.token', coalesce(v_own, ''), true);
end
$$;
comment on function api.list_selections(jsonb) is
'The spaces of many selections at once, as the live stream needs them: one row each, in the order given.

selections: an array of {token, spaces, under, known_only}: on behalf of which limited token (null: of none), and what
api.list_counts would be asked for. spaces: their ids, in its order. error: the code of what api.list_counts would raise
(PT404, PT422), with its message, place and hint; spaces is null then. A token that is no longer valid has none.';
