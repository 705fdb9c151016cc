-- The states of DPUs (docs/reference/states.md).

create or replace function core.get_dpu_state(
  last_seen_at timestamptz,
  offline_at timestamptz,
  armed_at timestamptz,
  seconds integer,
  at timestamptz,
  retired_at timestamptz
)
returns text
language sql stable
as $$
  select case
    when retired_at is not null then 'retired'
    when last_seen_at is null then 'never_seen'
    when offline_at is not null then 'offline'
    when armed_at is null and last_seen_at + seconds * interval '1 second' <= at then 'quiet'
    else 'online'
  end
$$;
comment on function core.get_dpu_state(timestamptz, timestamptz, timestamptz, integer, timestamptz, timestamptz) is
'online, offline, quiet, never_seen or retired, by the columns of core.dpu_state. Inlined by the planner: no search_path
of its own.

quiet: silent for its threshold, but not armed, so its silence means nothing. An armed DPU stays online until it has
been silent for its threshold (offline_at). seconds: its threshold; at: now.';

create or replace function core.get_state_since(
  state text,
  last_seen_at timestamptz,
  offline_at timestamptz,
  steady_from timestamptz,
  seconds integer
)
returns timestamptz
language sql stable
as $$
  select case state
    when 'offline' then offline_at
    when 'quiet' then last_seen_at + seconds * interval '1 second'
    when 'online' then steady_from
  end
$$;
comment on function core.get_state_since(text, timestamptz, timestamptz, timestamptz, integer) is
'Since when a DPU has been in a state (core.get_dpu_state), by the columns of core.dpu_state and its threshold; null for
never_seen and retired. A quiet time in between does not interrupt online. Inlined by the planner: no search_path of its
own.';

create or replace function core.list_sensor_page(
  dpus integer[],
  state text,
  at timestamptz,
  after_offline boolean,
  after_id text,
  max_rows integer
)
returns integer[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- in the order of ids up to the page's end, or from the few that are offline
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
  v_page integer[] := '{}';
  v_after text;
begin
  if coalesce(after_offline, true) and coalesce(list_sensor_page.state, 'offline') = 'offline' then
    v_page := array(
      select d.dpu_id
      from core.dpu d
      join core.dpu_state s on s.dpu_id = d.dpu_id
      where s.offline_at is not null and s.last_seen_at is not null and s.retired_at is null
        and (after_id is null or d.id > after_id)
        and (dpus is null or d.dpu_id = any (dpus))
      order by d.id
      limit max_rows);
  end if;
  if cardinality(v_page) < max_rows and list_sensor_page.state is distinct from 'offline' then
    v_after := case when not after_offline then after_id end;
    v_page := v_page || array(
      select d.dpu_id
      from core.dpu d
      join core.dpu_state s on s.dpu_id = d.dpu_id
      cross join lateral (
        select core.get_dpu_state(s.last_seen_at, s.offline_at, s.armed_at,
          coalesce(s.offline_after_seconds, core.get_offline_after()), list_sensor_page.at, s.retired_at) as state
      ) n
      where (s.offline_at is null or s.last_seen_at is null or s.retired_at is not null)
        and (list_sensor_page.state is null or n.state = list_sensor_page.state)
        and (s.retired_at is null or list_sensor_page.state = 'retired')
        and (v_after is null or d.id > v_after)
        and (dpus is null or d.dpu_id = any (dpus))
      order by d.id
      limit max_rows - cardinality(v_page));
  end if;
  return v_page;
end
$$;
comment on function core.list_sensor_page(integer[], text, timestamptz, boolean, text, integer) is
'The first so many DPUs behind one in the order of api.list_sensors: those that are offline, by id, then the others.
dpus: of these; null: of all.';
