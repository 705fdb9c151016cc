create or replace function api.set_horizon(from_at timestamptz)
returns timestamptz
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if from_at < core.get_oldest_time() or from_at > clock_timestamp() then
    perform core.refuse(
      422, format('Events cannot be accepted from %s on.', core.format_second(from_at)), 'HEADCOUNT_EVENTS_FROM',
      format('Give an instant between %s and now.', core.format_second(core.get_oldest_time())));
  end if;
  update core.rollup_state s set horizon_at = from_at where s.horizon_at <> from_at;
  return core.get_horizon();
end
$$;
comment on function api.set_horizon(timestamptz) is
'Sets from when on events, heartbeats and polls are accepted, for all processes; null leaves it as it is. Older ones are
refused as too_old. Returns the instant that holds.

What is stored already stays and counts. The default is 2010-01-01. Errors: PT422 for an instant before 2000-01-01 or in
the future.';
