-- Limits that several files read.

create or replace function core.get_oldest_time()
returns timestamptz
language sql immutable
as $$ select timestamptz '2000-01-01 00:00:00+00' $$;
comment on function core.get_oldest_time() is
'The oldest instant that anything stored can have: where reading begins. What is accepted begins later, at
core.get_first_taken. Inlined by the planner: no search_path of its own.';

create or replace function core.get_horizon()
returns timestamptz
language sql stable
as $$ select s.horizon_at from core.rollup_state s $$;
comment on function core.get_horizon() is
'Heartbeats and polls before this instant are refused as too_old (HEADCOUNT_EVENTS_FROM). Inlined by the planner: no
search_path of its own.';

create or replace function core.get_first_taken()
returns timestamptz
language sql stable
as $$ select greatest(s.horizon_at, s.events_from) from core.rollup_state s $$;
comment on function core.get_first_taken() is
'Events before this instant are refused as too_old: the horizon of the installation, or that of retention where it is
later. Inlined by the planner: no search_path of its own.';

create or replace function core.is_clock_unset("time" timestamptz)
returns boolean
language sql immutable
as $$
  -- the first comparison settles it for everything of today
  select "time" <= timestamptz '2010-01-03 00:00:00+00' and (
    "time" >= timestamptz '2009-12-31 10:00:00+00'
    or "time" between timestamptz '1999-12-31 10:00:00+00' and timestamptz '2000-01-03 00:00:00+00'
    or "time" between timestamptz '1980-01-05 10:00:00+00' and timestamptz '1980-01-08 00:00:00+00'
    or "time" between timestamptz '1969-12-31 10:00:00+00' and timestamptz '1970-01-03 00:00:00+00')
$$;
comment on function core.is_clock_unset(timestamptz) is
'Whether a device time is one of a clock that was never set: from 14 hours before to 2 days after 1970-01-01,
1980-01-06, 2000-01-01 or 2010-01-01, at which such clocks start. The hours before allow for local times that are taken
for UTC. Inlined by the planner: no search_path of its own.';

create or replace function core.get_latest_time(received_at timestamptz)
returns timestamptz
language sql stable
as $$ select received_at + interval '5 minutes' $$;
comment on function core.get_latest_time(timestamptz) is
'Events after this instant are refused as in_future. Inlined by the planner: no search_path of its own.';

create or replace function core.get_near_time(received_at timestamptz)
returns timestamptz
language sql stable
as $$ select received_at + interval '2 seconds' $$;
comment on function core.get_near_time(timestamptz) is
'Up to this instant any number of events of a DPU is taken, and after it core.get_most_ahead. Inlined by the planner: no
search_path of its own.';

create or replace function core.get_most_ahead()
returns integer
language sql immutable
as $$ select 2000 $$;
comment on function core.get_most_ahead() is
'Events of a DPU that may lie after core.get_near_time: more than any doorway has in 5 minutes. Current counts read all
of them (core.look_ahead). Inlined by the planner: no search_path of its own.';

create or replace function core.get_compressible_until(at timestamptz)
returns timestamptz
language sql stable
as $$ select at - interval '6 days' $$;
comment on function core.get_compressible_until(timestamptz) is
'Chunks with events before this instant may be compressed, or are being compressed just now: a day before they are due
(core.compress_due). at: now. Inlined by the planner: no search_path of its own.';

create or replace function core.get_offline_after()
returns integer
language sql immutable
as $$ select 600 $$;
comment on function core.get_offline_after() is
'The default threshold: after so many seconds of silence a DPU is offline, or quiet. Inlined by the planner: no
search_path of its own.';

create or replace function core.get_least_offline_after()
returns integer
language sql immutable
as $$ select 60 $$;
comment on function core.get_least_offline_after() is
'The least threshold in seconds that a limited token can set. Inlined by the planner: no search_path of its own.';

create or replace function core.get_most_levels()
returns integer
language sql immutable
as $$ select 32 $$;
comment on function core.get_most_levels() is
'How many levels the tree of spaces has at most. Inlined by the planner: no search_path of its own.';

create or replace function core.get_most_of_limited()
returns integer
language sql immutable
as $$ select 2000 $$;
comment on function core.get_most_of_limited() is
'How many spaces a family of limited tokens can have at most: its space and all below it (core.list_family_reach),
whoever made them. Inlined by the planner: no search_path of its own.';

create or replace function core.get_most_doorways_of_limited()
returns integer
language sql immutable
as $$ select 4000 $$;
comment on function core.get_most_doorways_of_limited() is
'How many doorways a family of limited tokens can have at most, with a side in these spaces, whoever made them. Inlined
by the planner: no search_path of its own.';

create or replace function core.get_most_placements_of_limited()
returns integer
language sql immutable
as $$ select 1000 $$;
comment on function core.get_most_placements_of_limited() is
'Into how many placements that hold a limited token can cut the time of a DPU. Inlined by the planner: no search_path of
its own.';
