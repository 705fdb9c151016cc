-- Differences of instants, and instants in words.

create or replace function core.to_microseconds(
  from_at timestamptz,
  until_at timestamptz
)
returns bigint
language sql immutable
as $$ select (extract(epoch from until_at - from_at) * 1000000)::bigint $$;
comment on function core.to_microseconds(timestamptz, timestamptz) is
'How long it is from one instant to another. Inlined by the planner: no search_path of its own.';

create or replace function core.get_lag_ms(
  "time" timestamptz,
  received_at timestamptz
)
returns bigint
language sql immutable
as $$ select floor(extract(epoch from received_at - "time") * 1000)::bigint $$;
comment on function core.get_lag_ms(timestamptz, timestamptz) is
'The lag_ms of an event in core.event. Rounded down: what was acknowledged by some instant counts as known at it.
Inlined by the planner: no search_path of its own.';

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

create or replace function core.format_instant(at timestamptz)
returns text
language sql stable
as $$ select to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') $$;
comment on function core.format_instant(timestamptz) is
'An instant as messages show it. Inlined by the planner: no search_path of its own.';
