-- Spaces as the API shows them.

create or replace function core.describe_spaces(spaces integer[])
returns table (
  id text,
  name text,
  parent text,
  time_zone text,
  capacity integer,
  reset_at text,
  opening_hours jsonb,
  effective_time_zone text,
  effective_reset_at text,
  offline_after_seconds integer,
  effective_offline_after_seconds integer,
  retired_at timestamptz
)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select s.id, s.name, p.id, h.time_zone, s.capacity, h.reset_at, s.opening_hours, e.time_zone, e.reset_at,
    s.offline_after_seconds, coalesce(a.seconds, core.get_offline_after()), s.retired_at
  from core.space s
  join core.list_schedules(spaces) e on e.space_id = s.space_id
  join core.list_offline_after(spaces) a on a.space_id = s.space_id
  left join core.space p on p.space_id = s.parent_id and s.space_id is distinct from (select core.get_reach())
  left join core.schedule h on h.space_id = s.space_id and h.superseded_at is null
  where s.space_id = any (spaces)
$$;
comment on function core.describe_spaces(integer[]) is
'Spaces as api.get_space gives them, in no order. To a limited token its own space has no parent.';
