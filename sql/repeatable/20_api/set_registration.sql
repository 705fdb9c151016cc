create or replace function api.set_registration(
  burst integer,
  per_hour integer,
  max_unplaced integer,
  max_unnamed_spaces integer default 50000
)
returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if burst < 0 or per_hour < 0 or max_unplaced < 0 or max_unnamed_spaces < 0 then
    perform core.refuse(
      422, 'A bound on registration is negative.', 'burst, per_hour, max_unplaced, max_unnamed_spaces',
      'Give 0 or more.');
  end if;
  -- a server that cannot be written to is asked for nothing that it has already
  if not exists (
    select from core.registration r
    join core.space_registration s
      on (s.burst, s.per_hour, s.max_unnamed)
        = (set_registration.burst, set_registration.per_hour, set_registration.max_unnamed_spaces)
    where (r.burst, r.per_hour, r.max_unplaced)
      = (set_registration.burst, set_registration.per_hour, set_registration.max_unplaced)
  ) and not pg_is_in_recovery() then
    insert into core.registration (burst, per_hour, max_unplaced)
    values (set_registration.burst, set_registration.per_hour, set_registration.max_unplaced)
    on conflict (is_only) do update
    set burst = excluded.burst, per_hour = excluded.per_hour, max_unplaced = excluded.max_unplaced;
    insert into core.space_registration (burst, per_hour, max_unnamed)
    values (set_registration.burst, set_registration.per_hour, set_registration.max_unnamed_spaces)
    on conflict (is_only) do update
    set burst = excluded.burst, per_hour = excluded.per_hour, max_unnamed = excluded.max_unnamed;
  end if;
end
$$;
comment on function api.set_registration(integer, integer, integer, integer) is
'Sets how many unknown DPUs may register themselves by their events and heartbeats, and how many unknown spaces polls
may make, for all processes.

burst: how many of each a token can register at once; per_hour: how many more each hour; max_unplaced: how many DPUs
there can be in total that nobody has placed or named; max_unnamed_spaces: how many spaces that polls made and nobody
has named. Does nothing on a standby. Errors: PT422 for a negative value.';
