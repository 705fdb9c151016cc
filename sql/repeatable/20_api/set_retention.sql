create or replace function api.set_retention(days integer)
returns table (keep_days integer, events_from timestamptz)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if days not between 8 and 36500 then
    perform core.refuse(
      422, format('Events cannot be kept for %s days.', days), 'days',
      'Give 8 to 36500, or null to keep them for ever.');
  end if;
  update core.rollup_state s set keep_days = days;
  return query select r.keep_days, r.events_from from api.get_retention() r;
end
$$;
comment on function api.set_retention(integer) is
'Sets how long events are kept, in days. From the next run of the upkeep on, events of UTC days that ended longer ago
are dropped for good. Null: events are kept for ever; dropped ones do not come back.

Rollups are kept, and so are the events of quarter-hours that a placement or a reset cuts. Columns as api.get_retention.
Errors: PT422 unless days is null or 8 to 36500.';
