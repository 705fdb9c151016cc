create or replace function api.preview_change(
  change text,
  arguments jsonb,
  out result jsonb,
  out facts jsonb
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_spaces integer[];   -- whose counts it can change; null: those there are, before and after
  v_with_resets boolean := change in ('record_reset', 'undo_reset');
  v_before jsonb;
begin
  -- what is refused for its form keeps nobody from storing events
  if change = 'apply_site' then
    perform core.check_spaces(arguments->'spaces');
  elsif change = 'put_space' then
    perform core.check_spaces(jsonb_build_array(arguments->'patch' || jsonb_build_object('id', arguments->>'space')),
      '');
  end if;
  -- what this block locks and writes is let go of where it ends
  begin
    perform core.begin_dry_run();
    perform core.lock_plan();
    if v_with_resets then
      v_spaces := array[core.find_space(arguments->>'space')];
    elsif change in ('record_placement', 'undo_placement') then
      v_spaces := array(
        select distinct b.space_id
        from core.boundary b
        join core.doorway w on w.doorway_id = b.doorway_id
        where w.id = arguments->>'doorway' or w.doorway_id in (
          select p.doorway_id from core.placement p join core.dpu d on d.dpu_id = p.dpu_id
          where d.id = arguments->>'dpu'));
    end if;
    v_before := core.get_facts(coalesce(v_spaces, core.list_reach(), array(select s.space_id from core.space s)),
      v_with_resets);
    case change
      when 'apply_site' then
        select coalesce(jsonb_agg(r), '[]') into result from api.apply_site(arguments) r;
      when 'put_space' then
        select to_jsonb(r) into result from api.put_space(arguments->>'space', arguments->'patch') r;
      when 'record_placement' then
        select to_jsonb(r) into result
        from api.record_placement(
          arguments->>'dpu', arguments->>'doorway', arguments->>'mounted_in',
          (arguments->>'from_at')::timestamptz, (arguments->>'until_at')::timestamptz) r;
      when 'undo_placement' then
        perform api.undo_placement(arguments->>'dpu', (arguments->>'from_at')::timestamptz);
      when 'record_reset' then
        select to_jsonb(r) into result
        from api.record_reset(arguments->>'space', (arguments->>'count')::integer, (arguments->>'at')::timestamptz) r;
      when 'undo_reset' then
        perform api.undo_reset(arguments->>'space', (arguments->>'at')::timestamptz);
    end case;
    facts := jsonb_build_object(
      'now', clock_timestamp(),
      'spaces', core.list_changed_facts(
        v_before, core.get_facts(coalesce(v_spaces, core.list_reach(), array(select s.space_id from core.space s)),
          v_with_resets)));
    raise exception using errcode = 'HC001', message = 'This was a dry run.';
  exception when sqlstate 'HC001' then
    null;
  end;
end
$$;
comment on function api.preview_change(text, jsonb) is
'Makes a change of the floor plan and rolls it back. Returns its result, and, for api.compare_counts, the facts on which
counts depend, of the spaces for which they would change.

change: apply_site, put_space, record_placement, undo_placement, record_reset or undo_reset; arguments: those of that
function by their names, and for apply_site the site itself. result: its row (apply_site: a list of rows), null where it
returns none. Until it returns no other transaction changes the floor plan; events are stored meanwhile. Call it with a
short statement_timeout: events and polls of the DPUs and spaces that it would create wait for it. Errors: those of the
change.';
