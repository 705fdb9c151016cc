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
