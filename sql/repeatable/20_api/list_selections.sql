create or replace function api.list_selections(
  selections jsonb,
  shared boolean default false
)
returns table (
  spaces text[],
  error text,
  message text,
  place text,
  hint text,
  same_as integer
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_own text := current_setting('headcount.token', true);
  v_roots jsonb := core.list_requested_trees(selections);
  v_trees jsonb := core.list_trees(array(select distinct r.value::integer from jsonb_each_text(v_roots) r));
  v_names jsonb := core.list_known_names(selections);
  v_firsts jsonb := '{}';   -- by root, the number of the selection that has its spaces
  v_requested jsonb;
  v_number text;
  v_root text;
  v_ids integer[];
begin
  for v_requested, v_number in
    select s.selection, s.ordinal::text from jsonb_array_elements(selections) with ordinality as s (selection, ordinal)
    order by s.ordinal
  loop
    v_root := v_roots ->> v_number;
    same_as := case when shared then (v_firsts ->> v_root)::integer end;
    spaces := null;
    error := null;
    message := null;
    place := null;
    hint := null;
    if same_as is not null then
      null;
    elsif v_root is not null then
      spaces := array(select jsonb_array_elements_text(coalesce(v_trees -> v_root, '[]')));
      v_firsts := v_firsts || jsonb_build_object(v_root, v_number);
    elsif v_names ? v_number then
      spaces := array(select jsonb_array_elements_text(v_names -> v_number));
    else
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
comment on function api.list_selections(jsonb, boolean) is
'The spaces of many selections at once, as the live stream needs them: one row each, in the order given.

selections: an array of {token, spaces, under, known_only}: on behalf of which limited token (null: of none), and what
api.list_counts would be asked for. spaces: their ids, in its order. error: the code of what api.list_counts would raise
(PT404, PT422), with its message, place and hint; spaces is null then. A token that is no longer valid has none.

shared: where selections have all of one space and what is below it alike, only the first of them has spaces. same_as:
for the others, the number (from 1) of that one.';
