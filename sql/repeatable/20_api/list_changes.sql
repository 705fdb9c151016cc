create or replace function api.list_changes(
  inout cursor text default null,
  out is_all boolean,
  out counts text[],
  out spaces text[],
  out deleted text[],
  out dpus text[],
  is_resume boolean default false
)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
declare
  v_now timestamptz := clock_timestamp();
  v_old record := core.read_cursor(cursor);
  v_low timestamptz := least(v_old.at, v_now);       -- the clock may have been set back since
  v_high timestamptz := greatest(v_old.at, v_now);
  v_is_check boolean;
  v_dpus integer[];       -- whose events or states were noted
  v_spaces integer[];     -- whose counts were
  v_changed text[];       -- that were created, changed or deleted
  v_flipped integer[];
begin
  -- Rows are kept for an hour, so these are all there. To read those of more than two
  -- minutes costs more than all counts.
  is_all := v_old.snapshot is null
    or v_old.at < v_now - interval '2 minutes' or v_old.at > v_now + interval '1 minute'
    or v_old.checked_at < v_old.at - interval '1 minute' or v_old.checked_at > v_old.at
    or pg_snapshot_xmax(v_old.snapshot) > pg_snapshot_xmax(pg_current_snapshot())  -- made up
    or core.is_far_behind(v_old.snapshot, v_old.at);
  if is_all then
    cursor := core.write_cursor(pg_current_snapshot(), v_now, v_now);
    counts := '{}';
    spaces := '{}';
    deleted := '{}';
    dpus := '{}';
    return;
  end if;

  -- what changes with time alone is looked for every 5 seconds where no count depends on it
  v_is_check := is_resume or v_old.checked_at <= v_now - interval '5 seconds' or v_old.at > v_now;
  -- In two statements: how many were noted is known when what they name is looked for. A plan for thousands of names
  -- would read all spaces.
  with change as materialized (
    select c.* from core.list_noted(v_old.snapshot, v_low) c
  )
  select
    array(select distinct d.dpu_id from change c, unnest(c.dpu_ids || c.flipped_ids) as d (dpu_id)),
    array(select distinct s.space_id from change c, unnest(c.space_ids) as s (space_id)),
    array(select distinct s.id from change c, unnest(c.spaces) as s (id)),
    array(select distinct f.dpu_id from change c, unnest(c.flipped_ids) as f (dpu_id))
  into v_dpus, v_spaces, v_changed, v_flipped;
  counts := array(
    select s.id
    from (
      select f.space_id from core.live_flow f where f.dpu_id = any (v_dpus)
      union
      select n.space_id from unnest(v_spaces) as n (space_id)
      union
      select l.space_id from core.live_space l where l.until_at > v_low and l.until_at <= v_high
      union
      select l.space_id from core.live_space l where l.since > v_low and l.since <= v_high
    ) c
    join core.space s on s.space_id = c.space_id);
  dpus := array(select d.id from core.dpu d where d.dpu_id = any (v_flipped));
  if v_is_check then
    counts := array(
      select c.id from unnest(counts) as c (id)
      union
      select s.id from core.list_crossings(least(v_old.checked_at, v_now), v_high) t (space_id) join core.space s
        on s.space_id = t.space_id);
  end if;
  -- looked for by their names: "not in" would read all spaces, and from some 100,000 on again for each name
  select
    coalesce(array_agg(c.id) filter (where s.id is not null), '{}'),
    coalesce(array_agg(c.id) filter (where s.id is null), '{}')
  into spaces, deleted
  from unnest(v_changed) as c (id)
  left join core.space s on s.id = c.id;
  cursor := core.write_cursor(pg_current_snapshot(), v_now, case when v_is_check then v_now else v_old.checked_at end);
end
$$;
comment on function api.list_changes(text, boolean) is
'What may have changed since a cursor, and the next cursor: everything committed since, in whatever order, and what time
alone brought about.

cursor: from an earlier call; null to begin. is_resume: look for everything that time alone brought about, which is
otherwise looked for every 5 seconds. counts: spaces whose counts (api.list_counts) may have changed, also by
events that come due, daily resets, silent sensors and planned moves. dpus: DPUs that went offline, came back or were
heard for the first time. spaces: spaces that were created or changed themselves (name, parent, capacity ...). deleted:
spaces that are gone. is_all: anything may have changed, and the lists are empty: the cursor is null, unreadable, made
up, from before a restore, or older than 2 minutes or 20,000 transactions. A count read after this call is at least as
new as the cursor.';
