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
  v_bucket timestamptz;
  v_replaces_id integer;
begin
  recorded_at := core.lock_plan();
  v_space_id := core.find_space(record_reset.space);
  v_at := coalesce(record_reset.at, recorded_at);
  if v_at > recorded_at then
    perform core.refuse(422, 'at lies in the future.', 'at', 'Give an instant in the past, or leave it out for now.');
  end if;
  if v_count < 0 then
    perform core.refuse(422, 'count is negative.', 'count', 'Give how many people were there: 0 or more.');
  end if;
  v_bucket := public.time_bucket(interval '15 minutes', v_at);
  perform core.check_cut(
    array(
      select p.dpu_id
      from core.list_outer_placements(array[v_space_id]) p
      where p.during && tstzrange(v_bucket, v_bucket + interval '15 minutes')),
    v_at, 'at');
  update core.reset r set superseded_at = record_reset.recorded_at
  where r.space_id = v_space_id and r.at = v_at and r.superseded_at is null
  returning r.reset_id into v_replaces_id;
  insert into core.reset (space_id, at, count, recorded_at, replaces_id)
  values (v_space_id, v_at, v_count, record_reset.recorded_at, v_replaces_id);
  perform core.rederive_live(array[v_space_id]);
  at := v_at;
end
$$;
comment on function api.record_reset(text, integer, timestamptz) is
'Records a reset: exactly count people were in a space at an instant, and its count starts from there.

at null: now. An event exactly at that instant counts as before the reset. Another reset at the same instant supersedes
the first. Errors: PT404; PT422 for an instant in the future, within a quarter-hour whose events were dropped, or a
negative count.';
