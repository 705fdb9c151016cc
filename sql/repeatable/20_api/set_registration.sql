create or replace function api.set_registration(
  burst integer,
  per_hour integer,
  max_unplaced integer
)
returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if burst < 0 or per_hour < 0 or max_unplaced < 0 then
    perform core.refuse(
      422, 'A bound on registration is negative.', 'burst, per_hour, max_unplaced', 'Give 0 or more.');
  end if;
  -- a server that cannot be written to is asked for nothing that it has already
  if not exists (
    select from core.registration r
    where (r.burst, r.per_hour, r.max_unplaced)
      = (set_registration.burst, set_registration.per_hour, set_registration.max_unplaced)
  ) and not pg_is_in_recovery() then
    insert into core.registration (burst, per_hour, max_unplaced)
    values (set_registration.burst, set_registration.per_hour, set_registration.max_unplaced)
    on conflict (is_only) do update
    set burst = excluded.burst, per_hour = excluded.per_hour, max_unplaced = excluded.max_unplaced;
  end if;
end
$$;
comment on function api.set_registration(integer, integer, integer) is
'Sets how many unknown DPUs may register themselves by their events and heartbeats, for all processes.

burst: how many a token can register at once; per_hour: how many more each hour; max_unplaced: how many there can be in
total that nobody has placed or named. Does nothing on a standby. Errors: PT422 for a negative value.';
