-- Limits that several files read.

create or replace function core.get_oldest_time()
returns timestamptz
language sql immutable
as $$ select timestamptz '2000-01-01 00:00:00+00' $$;
comment on function core.get_oldest_time() is
'Events before this instant, or before rollup_state.events_from, are refused as too_old. Inlined by the planner: no search_path of its own.';

create or replace function core.get_latest_time(received_at timestamptz)
returns timestamptz
language sql stable
as $$ select received_at + interval '5 minutes' $$;
comment on function core.get_latest_time(timestamptz) is
'Events after this instant are refused as in_future. Inlined by the planner: no search_path of its own.';

create or replace function core.get_offline_after()
returns integer
language sql immutable
as $$ select 600 $$;
comment on function core.get_offline_after() is
'After how many seconds of silence a DPU is offline where no space says otherwise. Inlined by the planner: no search_path of its own.';

create or replace function core.get_dpu_state(
  last_seen_at timestamptz,
  offline_at timestamptz
)
returns text
language sql immutable
as $$ select case when last_seen_at is null then 'never_seen' when offline_at is not null then 'offline' else 'online' end $$;
comment on function core.get_dpu_state(timestamptz, timestamptz) is
'online, offline or never_seen, now, by the columns of core.dpu_state. Inlined by the planner: no search_path of its own.';

create or replace function core.get_microseconds(
  from_at timestamptz,
  until_at timestamptz
)
returns bigint
language sql immutable
as $$ select (extract(epoch from until_at - from_at) * 1000000)::bigint $$;
comment on function core.get_microseconds(timestamptz, timestamptz) is
'How long it is from one instant to another. Inlined by the planner: no search_path of its own.';

create or replace function core.get_lag_ms(
  "time" timestamptz,
  received_at timestamptz
)
returns bigint
language sql immutable
as $$ select floor(extract(epoch from received_at - "time") * 1000)::bigint $$;
comment on function core.get_lag_ms(timestamptz, timestamptz) is
'core.event.lag_ms of an event: rounded down, so that what was acknowledged is known. Inlined by the planner: no search_path of its own.';

create or replace function core.get_received_at(
  "time" timestamptz,
  lag_ms bigint
)
returns timestamptz
language sql stable
as $$ select "time" + lag_ms * interval '1 millisecond' $$;
comment on function core.get_received_at(timestamptz, bigint) is
'When the service took an event in. Inlined by the planner: no search_path of its own.';

create or replace function core.format_second(at timestamptz)
returns text
language sql stable
as $$ select to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') $$;
comment on function core.format_second(timestamptz) is
'An instant on a whole second, as messages show it. Inlined by the planner: no search_path of its own.';
